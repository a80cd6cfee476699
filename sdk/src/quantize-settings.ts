/** Options of the quantizer, and what they mean for each matrix. */
import type { EngineQuantizeSettings } from './engine.js';
import { ShiftAddError } from './errors.js';
import { isRotatable, isTunable, Role, type FamilySpec, type FamilyTensor } from './families/index.js';
import { nearest, show } from './options.js';
import { makeRotation, type Rotation } from './rotation.js';
import { partOf } from './weight-bytes.js';

/** How a checkpoint is packed; every option has a default. */
export interface QuantizeOptions {
  /** Planes of the linear layers, 1 to 8. Default 4. In mode 'mixed' their mean over all weights, such as 2.5. */
  bits?: number;
  /**
   * Other planes for some tensors: whole parts of a tensor's name, such as {"k_proj": 5, "layers.0.mlp": 5}. Where
   * several match, the last one counts.
   */
  overrides?: Record<string, number>;
  /**
   * Mode 'mixed': bytes that all tensors together may take. The widths of the linear layers and, unless given, of the
   * embedding and head are chosen under it. Takes the place of `bits`.
   */
  budget?: number;
  /**
   * What mode 'mixed' minimises. 'kl' (default): KL divergence of the dense model from itself with one matrix packed,
   * measured at 2 planes and taken to other widths by their output errors; 'kl-all': measured at every width, four times
   * as long; 'output': output errors; 'criterion': the criterion of ShiftAddLLM, for comparison.
   */
  sensitivity?: 'kl' | 'kl-all' | 'output' | 'criterion';
  /** Tokens of the calibration on which divergences are measured. Default 1024. */
  measureTokens?: number;
  /**
   * Tunes scales and norm gains against the dense model afterwards, signs stay: 'full' end to end, on the divergence of
   * the model's output; 'blocks' block by block, which takes less memory and gives less. Default 'off'.
   */
  tune?: 'off' | 'blocks' | 'full';
  /** Tuning steps: of the model with 'full' (default 128), of each block with 'blocks' (default 32). */
  tuneSteps?: number;
  /** Calibration windows of one tuning step. Default 2. */
  tuneWindows?: number;
  /** Planes of the embedding, which is also the head when tied. Default 6, or what fits the budget. */
  embeddingBits?: number;
  /** Planes of an untied head. Default embeddingBits. */
  headBits?: number;
  /** Rows that share a set of scales. Default 96. */
  rowGroup?: number;
  /**
   * 'lat' (default): groups of 8 columns, faster; 'acc': of 1 column, more exact per plane and larger; 'mixed' (default
   * with a budget): as 'lat', each matrix with a width of its own, 1 to 5 planes.
   */
  mode?: 'lat' | 'acc' | 'mixed';
  /**
   * 'on' (default): the residual stream is rotated, so that large weights spread over all columns; the weights hold the
   * rotation, and the model does it twice per predicted token. Where the model's family or width allows it.
   */
  rotation?: 'on' | 'off';
  /** One more scale per row. Default true. */
  rowScales?: boolean;
  /** Powers of two per scale, 1 to 4. Default 4. */
  scaleTerms?: number;
  /** Alternations of one binary-coding fit. Default 30. */
  fitRounds?: number;
  /** Refits inside the compensated loop. Default 2. */
  refits?: number;
  /** Refinement passes after it. Default 3. */
  sweeps?: number;
  /** Of the Hessian, as a share of its mean diagonal. Default 0.01. */
  damping?: number;
  /**
   * Path of a text file, or of a .jsonl file of {"messages": [...]} and {"text": ...}. Default 'self': the model writes chats itself, or
   * plain text when it has no chat template. That takes as long as generating samples x window tokens with the dense model.
   */
  calibration?: string;
  /** Windows of calibration tokens. Default 64, or 16 when the model writes the text itself. */
  samples?: number;
  /** Tokens per window. Default 512. */
  window?: number;
  /** Chooses the windows, or what the model writes. Default 1. */
  seed?: number;
  /** 1 to 64. Default one per core. */
  threads?: number;
  /** No weight file becomes larger, except for one that holds a single larger matrix. Default 2,000,000,000. */
  maxShardBytes?: number;
  /** Replace an existing output folder. Default false. */
  overwrite?: boolean;
  /** Goes on with the finished layers that a stopped job of the same options left beside the output folder. Default false. */
  resume?: boolean;
  /**
   * Leaves the layers and what was measured on them in `<out>.partial`, so that another `bits` or `budget` of mode 'mixed'
   * takes seconds with `resume` and `overwrite`. Default false.
   */
  keepMeasurements?: boolean;
  /** Aborting rejects with the signal's reason; the finished layers stay for `resume`. */
  signal?: AbortSignal;
  /** Called as the work goes on. */
  onProgress?: (progress: QuantizeProgress) => void;
}

/** How far a quantization is. */
export interface QuantizeProgress {
  phase: 'calibrate' | 'rotate' | 'quantize' | 'tune' | 'write';
  /** 0 to 1 over the whole job. */
  done: number;
  /** The block in work, from 1; blocks + 1 is the embedding and head. 0 outside the quantize phase. */
  block: number;
  blocks: number;
  /** Of the tuning step: nats per token, or the mean squared error of a block's output; null in other phases. */
  loss: number | null;
  /** Null until it can be estimated. */
  remainingMs: number | null;
}

/** Share of the identity in the Hessian of an embedding that is also the head: best of three (design/quality.md, 6). */
const embeddingIdentity = 0.3;

/** The order in which the engine takes the matrices of a block. */
const blockOrder: number[] = [Role.query, Role.key, Role.value, Role.attentionOutput, Role.gate, Role.up, Role.down];

/** The rotation of a job; null when it is off or not possible. */
export function rotationOf(family: FamilySpec, { rotation }: QuantizeOptions): Rotation | null {
  return rotation === 'off' || !isRotatable(family) ? null : makeRotation(family.hiddenSize);
}

/** Every matrix in the order of quantization: the blocks, the embedding, an untied head. */
export interface QuantizeStep {
  /** The block, or null for embedding and head. */
  layer: number | null;
  tensors: FamilyTensor[];
  /** Of each tensor: one, or in mode 'mixed' the widths to choose from, as many for all tensors of the step. */
  candidates: EngineQuantizeSettings[][];
  /** Share of the work of all steps. */
  share: number;
}

/** RangeError and TypeError name the override; ERR_UNSUPPORTED_MODEL when the model cannot be tuned. */
export function planSteps(family: FamilySpec, options: QuantizeOptions): QuantizeStep[] {
  checkMode(options);
  if ((options.tune ?? 'off') !== 'off' && !isTunable(family))
    throw new ShiftAddError('ERR_UNSUPPORTED_MODEL', `Tuning knows models like Llama alone, not ${family.modelType} with this config.json. Leave tune off.`);
  checkOverrides(family, options.overrides ?? {});
  const steps: QuantizeStep[] = [];
  const add = (layer: number | null, tensors: FamilyTensor[]): void => {
    steps.push({ layer, tensors, candidates: candidatesOf(tensors, options), share: 0 });
  };
  for (let layer = 0; layer < family.layers; layer++) {
    const inLayer = family.tensors.filter((tensor) => tensor.layer === layer);
    add(
      layer,
      blockOrder.flatMap((role) => inLayer.filter((tensor) => tensor.role === role)),
    );
  }
  add(
    null,
    family.tensors.filter((tensor) => tensor.role === Role.embedding || tensor.role === Role.head),
  );
  const weights = steps.map((step) => step.tensors.reduce((sum, { shape }) => sum + shape[0]! * shape[1]!, 0));
  const total = weights.reduce((a, b) => a + b, 0);
  steps.forEach((step, i) => (step.share = weights[i]! / total));
  return steps;
}

/** The widths that mode 'mixed' chooses from. */
const linearWidths = [1, 2, 3, 4, 5];
const embeddingWidths = [3, 4, 5, 6];

/** Mode 'mixed' chooses widths; a budget alone means it too. */
export function isMixed({ mode, budget }: QuantizeOptions): boolean {
  return (mode ?? (budget === undefined ? 'lat' : 'mixed')) === 'mixed';
}

function checkMode(options: QuantizeOptions): void {
  const { bits, budget, mode } = options;
  if (!isMixed(options)) {
    if (budget !== undefined) throw new RangeError(`Expected mode 'mixed' with a budget but received ${show(mode)}`);
    if (bits !== undefined && !Number.isInteger(bits))
      throw new RangeError(`Expected an integer from 1 to 8 for bits (a mean needs mode 'mixed') but received ${bits}`);
  } else if (budget !== undefined && bits !== undefined) {
    throw new RangeError('Expected bits or budget in mode mixed, not both');
  } else if (bits !== undefined && bits > linearWidths.at(-1)!) {
    throw new RangeError(`Expected a number from 1 to ${linearWidths.at(-1)} for bits in mode 'mixed' but received ${bits}`);
  }
}

/** Lists of one length: a tensor with fewer widths than another repeats its last. */
function candidatesOf(tensors: FamilyTensor[], options: QuantizeOptions): EngineQuantizeSettings[][] {
  const widths = tensors.map((tensor) => widthsOf(tensor, options));
  const most = Math.max(...widths.map((list) => list.length));
  return tensors.map((tensor, i) =>
    Array.from({ length: most }, (_, j) => settingsOf(tensor, widths[i]![j] ?? widths[i]!.at(-1)!, options)),
  );
}

function widthsOf(tensor: FamilyTensor, options: QuantizeOptions): number[] {
  const { bits = 4, budget, embeddingBits, headBits = embeddingBits } = options;
  const override = Object.entries(options.overrides ?? {}).findLast(([part]) => hasPart(tensor.name, part));
  if (override !== undefined) return [override[1]];
  if (tensor.role === Role.embedding || tensor.role === Role.head) {
    const fixed = tensor.role === Role.embedding ? embeddingBits : headBits;
    return fixed !== undefined ? [fixed] : budget === undefined ? [6] : embeddingWidths;
  }
  return isMixed(options) ? linearWidths : [bits];
}

function settingsOf(tensor: FamilyTensor, planes: number, options: QuantizeOptions): EngineQuantizeSettings {
  return {
    planes,
    groupRows: Math.min(options.rowGroup!, tensor.shape[0]!),
    groupColumns: options.mode === 'acc' ? 1 : 8,
    rowScales: options.rowScales!,
    scaleTerms: options.scaleTerms!,
    fitRounds: options.fitRounds!,
    refits: options.refits!,
    sweeps: options.sweeps!,
    damping: options.damping!,
    identity: tensor.role === Role.embedding ? embeddingIdentity : 0,
  };
}

/** True when `part` is one or more whole dotted parts of the name: `layers.1` is no part of `layers.10.mlp`. */
function hasPart(name: string, part: string): boolean {
  return `.${name}.`.includes(`.${part}.`);
}

function checkOverrides(family: FamilySpec, overrides: Record<string, number>): void {
  const matrices = family.tensors.filter(({ role }) => partOf(role) !== 'norms').map(({ name }) => name);
  for (const [part, planes] of Object.entries(overrides)) {
    if (typeof planes !== 'number')
      throw new TypeError(`Expected an integer from 1 to 8 for overrides[${show(part)}] but received ${show(planes)}`);
    if (!Number.isInteger(planes) || planes < 1 || planes > 8) {
      throw new RangeError(`Expected an integer from 1 to 8 for overrides[${show(part)}] but received ${planes}`);
    }
    if (!matrices.some((name) => hasPart(name, part))) {
      const near = nearest(part, [...new Set(matrices.flatMap((name) => name.split('.')))]);
      throw new RangeError(
        `overrides[${show(part)}] matches no matrix of this model.${near === null ? '' : ` Did you mean '${near}'?`}`,
      );
    }
  }
}
