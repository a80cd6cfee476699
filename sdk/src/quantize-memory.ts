/** An estimate of the memory that a quantization takes, from the shapes alone. */
import { calibrationSamples } from './calibration.js';
import { Role, type FamilySpec, type FamilyTensor } from './families/index.js';
import { packedBytes } from './packed-bytes.js';
import { isMixed, type QuantizeOptions, type QuantizeStep } from './quantize-settings.js';
import { tuneSamples, tuneStepsOf } from './quantize-tune.js';
import { partOf } from './weight-bytes.js';

/** Rows of logits that measuring keeps of every 128 tokens, and that tuning computes at a time (core). */
const measuredRows = 32;
const measuredStep = 128;
const tunedLogitRows = 128;

export const weightsOf = ({ shape }: Pick<FamilyTensor, 'shape'>): number => shape[0]! * shape[1]!;
export const sum = (numbers: number[]): number => numbers.reduce((a, b) => a + b, 0);

/**
 * Bytes besides the mapped checkpoint and the program: the larger of what quantizing a block and what tuning need. `packed`:
 * of the result.
 */
export function workingBytes(family: FamilySpec, steps: readonly QuantizeStep[], options: QuantizeOptions, packed: number): number {
  return Math.max(quantizingBytes(family, steps, options), tuningBytes(family, options, packed));
}

/**
 * The hidden states of all calibration tokens, the second moments of the widest block, the work on its largest matrix (weights,
 * codes, error products and the factor of its moment in double precision), the candidates of a block and what the addon hands
 * over of them, and the dense model's logits where divergences are measured.
 */
function quantizingBytes(family: FamilySpec, steps: readonly QuantizeStep[], options: QuantizeOptions): number {
  const { window = 512, measureTokens = 1024 } = options;
  const states = calibrationSamples(options) * window * family.hiddenSize * 4;
  const moments = Math.max(...steps.map(({ tensors }) => sum(distinctInputs(tensors).map((columns) => columns ** 2 * 4))));
  const largest = Math.max(
    ...steps.flatMap(({ tensors }) => tensors.map((tensor) => weightsOf(tensor) * (4 + 1 + 1) + tensor.shape[1]! ** 2 * (8 + 4 + 4))),
  );
  const candidates = Math.max(...steps.map((step) => sum(step.tensors.flatMap((tensor, i) => step.candidates[i]!.map((settings) => packedBytes(tensor, settings))))));
  const measures = isMixed(options) && (options.sensitivity ?? 'kl').startsWith('kl');
  const logits = measures ? Math.ceil(measureTokens / measuredStep) * measuredRows * family.vocabularySize * 4 : 0;
  return states + moments + largest + 2 * candidates + logits;
}

/** Columns of the distinct inputs of a block: q, k and v share one, gate and up another. */
export function distinctInputs(tensors: readonly FamilyTensor[]): number[] {
  const gated = tensors.some(({ role }) => role === Role.gate);
  const shared: number[] = [Role.key, Role.value, ...(gated ? [Role.up] : [])];
  return tensors.filter(({ role }) => !shared.includes(role)).map(({ shape }) => shape[1]!);
}

/**
 * The packed weights here and in the tuner, five numbers per scale, a decoded block with its gradients, the block's activations,
 * the inputs of all blocks, and logits with the decoded head.
 */
function tuningBytes(family: FamilySpec, options: QuantizeOptions, packed: number): number {
  if (tuneStepsOf(options) === 0) return packed;
  const { window = 512, tuneWindows = 2, tune, rowGroup = 96 } = options;
  const tokens = tuneWindows * window;
  const { hiddenSize: hidden, feedForwardSize: feedForward, layers, vocabularySize: vocabulary } = family;
  const heads = family.heads * family.headSize;
  const matrices = family.tensors.filter(({ role }) => partOf(role) === 'linearLayers');
  const block = sum(matrices.filter(({ layer }) => layer === 0).map(weightsOf)) * 4;
  const scales = (packed * 8) / (rowGroup * (options.mode === 'acc' ? 1 : 8)); // one of a plane's group for its bits
  const activations = tokens * (8 * hidden + 8 * heads + 6 * feedForward) * 4;
  const shared = 2 * packed + scales * 20 + 2 * block + activations;
  if (tune === 'blocks') return shared + 4 * tuneSamples(options) * window * hidden * 4;
  const head = vocabulary * hidden * 4 + 2 * tunedLogitRows * vocabulary * 4;
  return shared + (layers + 3) * tokens * hidden * 4 + head;
}
