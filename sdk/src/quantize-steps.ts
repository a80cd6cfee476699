/** The engine's part of a quantization: every block, the embedding and the head, each into the journal when it is done. */
import type { Calibration } from './calibration.js';
import type { ModelFolder } from './checkpoint/model-folder.js';
import { withDenseModel } from './dense-model.js';
import type { CancelFlag, EngineQuantizer } from './engine.js';
import type { FamilySpec } from './families/index.js';
import type { Candidate, QuantizeJournal } from './quantize-journal.js';
import { isMixed, type QuantizeOptions, type QuantizeProgress, type QuantizeStep } from './quantize-settings.js';
import { isOpen, measuredCandidate } from './width-plan.js';

/** Tokens of the windows on which divergences are measured. */
const measuredWindow = 256;

/** Everything that a quantization is made from. */
export interface Job {
  /** The dense model, rotated where the options say so. */
  source: ModelFolder;
  family: FamilySpec;
  steps: QuantizeStep[];
  calibration: Calibration;
  options: QuantizeOptions;
  report: Report;
}

export type Report = (phase: QuantizeProgress['phase'], done: number, block: number, loss?: number) => void;

/** Quantizes every step that the journal does not hold yet. */
export async function quantizeSteps(
  { source, family, steps, calibration, options, report }: Job,
  journal: QuantizeJournal,
): Promise<void> {
  const finished = await Promise.all(steps.map((_, index) => journal.has(index)));
  const last = finished.lastIndexOf(false);
  if (last < 0) return;
  await withDenseModel(source, family, options, 'Quantizing', async (engineModel, flag) => {
    const quantizer = await engineModel.openQuantizer(calibration.tokens, calibration.samples, calibration.window);
    const measures = isMixed(options) && (options.sensitivity ?? 'kl').startsWith('kl');
    if (measures) {
      const window = Math.min(calibration.window, measuredWindow);
      const windows = Math.min(calibration.samples, Math.ceil(options.measureTokens! / window));
      await quantizer.openSensitivity(windows, window, flag);
    }
    let before = 0;
    for (const [index, step] of steps.slice(0, last + 1).entries()) {
      options.signal?.throwIfAborted();
      const onDone = (done: number): void => report('quantize', before + step.share * done, index + 1);
      onDone(0);
      if (!finished[index]) await journal.write(index, await runStep(quantizer, step, options, measures, onDone, flag));
      else if (step.layer !== null) await quantizer.skip(onDone, flag);
      before += step.share;
    }
    await quantizer.close();
  });
}

/** The candidates of one step, tensor by tensor, measured where that is wanted. */
async function runStep(
  quantizer: EngineQuantizer,
  { layer, tensors, candidates }: QuantizeStep,
  { sensitivity }: QuantizeOptions,
  measures: boolean,
  onDone: (done: number) => void,
  flag: CancelFlag,
): Promise<Candidate[]> {
  const count = candidates[0]!.length;
  const settings = candidates.flat();
  const quantized = (done: number): void => onDone(measures ? done / 2 : done);
  const matrices = await (layer === null
    ? quantizer.head(settings, count, quantized, flag)
    : quantizer.block(settings, count, quantized, flag)
  ).catch((error: unknown) => {
    throw withTensorName(error, tensors);
  });
  const wanted = candidates.flatMap((list, tensor) => {
    if (!measures || !isOpen(list)) return [];
    const indices = sensitivity === 'kl-all' ? list.keys() : [measuredCandidate(list)];
    return [...indices].map((index) => tensor * count + index);
  });
  const kl = new Map<number, number>();
  for (const index of wanted) {
    kl.set(index, await quantizer.measure(index, flag));
    onDone(0.5 + (0.5 * kl.size) / wanted.length);
  }
  return matrices.map((matrix, index) => ({ matrix, kl: kl.get(index) ?? null }));
}

/** The engine counts matrices; people know tensors. */
function withTensorName(error: unknown, tensors: QuantizeStep['tensors']): unknown {
  if (error instanceof Error)
    error.message = error.message.replace(/^matrix (\d+)\b/, (word, index: string) => tensors[Number(index)]?.name ?? word);
  return error;
}
