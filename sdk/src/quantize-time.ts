/** An estimate of how long a quantization takes on this machine: operations counted, speed measured on the dense model. */
import { calibrationSamples, isSelfCalibration } from './calibration.js';
import { openModelFolder } from './checkpoint/model-folder.js';
import { withDenseModel } from './dense-model.js';
import { describeFamily, Role, type FamilySpec } from './families/index.js';
import { quantizeRules, readOptions } from './options.js';
import { alreadyPacked } from './quantize-plan.js';
import { distinctInputs, sum, weightsOf } from './quantize-memory.js';
import { isMixed, planSteps, type QuantizeOptions, type QuantizeStep } from './quantize-settings.js';
import { tuneStepsOf } from './quantize-tune.js';
import { resolveModel } from './resolve-model.js';
import { partOf } from './weight-bytes.js';
import { isOpen } from './width-plan.js';

/** How long a quantization will take here, in seconds, measured on a part of it. */
export interface QuantizeTime {
  /** Of the whole job. An estimate: rely on its order of magnitude. */
  seconds: number;
  /** Of the parts: the model writing its calibration text; calibration and fits; measuring divergences; tuning. */
  parts: { selfCalibration: number; quantizing: number; measuring: number; tuning: number };
  /** What was measured for it. */
  denseTokensPerSecond: { prefill: number; decode: number };
}

/**
 * Runs the dense model for a moment and counts from there. Rejects with what opening it rejects with, or as
 * `planQuantization` does.
 */
export async function estimateQuantizationTime(checkpointFolder: string | URL, options?: QuantizeOptions): Promise<QuantizeTime> {
  const checked = readOptions<QuantizeOptions>(quantizeRules, options, 'estimateQuantizationTime');
  const source = await openModelFolder(await resolveModel(checkpointFolder));
  if (source.quantization !== null) throw alreadyPacked(source.path);
  const family = describeFamily(source.config, source.configPath);
  const steps = planSteps(family, checked);
  const speed = await withDenseModel(source, family, checked, 'Timing', async (engineModel, cancel) => {
    const length = Math.min(family.contextLimit, probeTokens);
    const tokens = Int32Array.from({ length }, (_, i) => (i * 31) % family.vocabularySize);
    const session = await engineModel.openSession(length);
    const tokensPerSecond = async (calls: Int32Array[]): Promise<number> => {
      session.rewind(0);
      const started = performance.now();
      for (const part of calls) await session.prefill(part, cancel);
      return (1000 * sum(calls.map((part) => part.length))) / (performance.now() - started);
    };
    await tokensPerSecond([tokens]); // brings the weights into memory
    const prefill = await tokensPerSecond([tokens]);
    const decode = await tokensPerSecond(Array.from(tokens.subarray(0, probeSteps), (token) => Int32Array.of(token)));
    await session.close();
    return { prefill, decode };
  });
  const parts = countSeconds(family, steps, checked, speed);
  return { seconds: sum(Object.values(parts)), parts, denseTokensPerSecond: speed };
}

const probeTokens = 128;
const probeSteps = 8;

/** Of what the calibration text costs that the model writes: turns that are dropped. */
const writtenTwice = 1.2;

/**
 * Costs in weights of a prefill, measured on SmolLM2-135M with two cores of an AMD EPYC (AVX-512): of one number of a second
 * moment per token; of a weight times its columns in the fit, for b planes a + b (b + 1) c; of a tuned weight and of one of
 * the head per token.
 */
const cost = { moment: 1, fit: 10, fitPerPlanes: 0.7, tunedWeight: 3, tunedHeadWeight: 3.4 };


function countSeconds(family: FamilySpec, steps: readonly QuantizeStep[], options: QuantizeOptions, speed: { prefill: number; decode: number }): QuantizeTime['parts'] {
  const { window = 512, measureTokens = 1024, tuneWindows = 2, tune } = options;
  const tokens = calibrationSamples(options) * window;
  const matrices = family.tensors.filter(({ role }) => partOf(role) !== 'norms');
  const linear = sum(matrices.filter(({ role }) => partOf(role) === 'linearLayers').map(weightsOf));
  const head = weightsOf(matrices.find(({ role }) => role === (family.tiedHead ? Role.embedding : Role.head))!);
  const weightsPerSecond = speed.prefill * linear;

  const moments = sum(steps.flatMap(({ tensors }) => distinctInputs(tensors).map((columns) => columns ** 2 / 2)));
  const fits = steps.flatMap(({ tensors, candidates }) =>
    tensors.flatMap((tensor, i) => distinct(candidates[i]!.map(({ planes }) => planes)).map((planes) => weightsOf(tensor) * tensor.shape[1]! * (cost.fit + cost.fitPerPlanes * planes * (planes + 1)))),
  );
  const measured = isMixed(options) && (options.sensitivity ?? 'kl').startsWith('kl') ? steps : [];
  const passes = measured.flatMap(({ layer, tensors, candidates }) =>
    tensors.map((_, i) => {
      const widths = distinct(candidates[i]!.map(({ planes }) => planes)).length;
      const rest = layer === null ? 1 : 1 - layer / family.layers;
      return !isOpen(candidates[i]!) ? 0 : (options.sensitivity === 'kl-all' ? widths : 1) * (linear * rest + head / 4);
    }),
  );
  const tunedTokens = tuneStepsOf(options) * tuneWindows * window;
  return {
    selfCalibration: isSelfCalibration(options.calibration) ? (writtenTwice * tokens) / speed.decode : 0,
    quantizing: (tokens * (linear + cost.moment * moments) + sum(fits)) / weightsPerSecond,
    measuring: (measureTokens * sum(passes)) / weightsPerSecond,
    tuning: (tunedTokens * (cost.tunedWeight * linear + (tune === 'full' ? cost.tunedHeadWeight * head : 0))) / weightsPerSecond,
  };
}

const distinct = (values: number[]): number[] => [...new Set(values)];
