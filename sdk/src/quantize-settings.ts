/** Options of the quantizer, and what they mean for each matrix. */
import type { EngineQuantizeSettings } from './engine.js';
import { Role, type FamilySpec, type FamilyTensor } from './families/index.js';
import { nearest, show } from './options.js';

export interface QuantizeOptions {
  /** Planes of the linear layers, 1 to 8. Default 4. */
  bits?: number;
  /**
   * Other planes for some tensors: whole parts of a tensor's name, such as {"k_proj": 5, "layers.0.mlp": 5}. Where
   * several match, the last one counts.
   */
  overrides?: Record<string, number>;
  /** Planes of the embedding, which is also the head when tied. Default 6. */
  embeddingBits?: number;
  /** Planes of an untied head. Default embeddingBits. */
  headBits?: number;
  /** Rows that share a set of scales. Default 96. */
  rowGroup?: number;
  /** 'lat' (default): groups of 8 columns, faster; 'acc': of 1 column, more exact per plane and larger. */
  mode?: 'lat' | 'acc';
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
   * Path of a text file, or of a .jsonl file of {"messages": [...]}. Default 'self': the model writes chats itself, or
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
  /** No weight file becomes larger. Default 45,000,000. */
  maxShardBytes?: number;
  /** Replace an existing output folder. Default false. */
  overwrite?: boolean;
  /** Aborting rejects with the signal's reason and removes what was written. */
  signal?: AbortSignal;
  onProgress?: (progress: QuantizeProgress) => void;
}

export interface QuantizeProgress {
  phase: 'calibrate' | 'quantize' | 'write';
  /** 0 to 1 over the whole job. */
  done: number;
  /** The block in work, from 1; blocks + 1 is the embedding and head. 0 outside the quantize phase. */
  block: number;
  blocks: number;
  /** Null until it can be estimated. */
  remainingMs: number | null;
}

/** Share of the identity in the Hessian of an embedding that is also the head: best of three (design/quality.md, 6). */
const embeddingIdentity = 0.3;

/** The order in which the engine takes the matrices of a block. */
const blockOrder: number[] = [Role.query, Role.key, Role.value, Role.attentionOutput, Role.gate, Role.up, Role.down];

/** Every matrix in the order of quantization: the blocks, the embedding, an untied head. */
export interface QuantizeStep {
  /** The block, or null for embedding and head. */
  layer: number | null;
  tensors: FamilyTensor[];
  settings: EngineQuantizeSettings[];
  /** Share of the work of all steps. */
  share: number;
}

/** RangeError and TypeError name the override. */
export function planSteps(family: FamilySpec, options: QuantizeOptions): QuantizeStep[] {
  checkOverrides(family, options.overrides ?? {});
  const steps: QuantizeStep[] = [];
  const add = (layer: number | null, tensors: FamilyTensor[]): void => {
    steps.push({ layer, tensors, settings: tensors.map((tensor) => settingsOf(tensor, options)), share: 0 });
  };
  for (let layer = 0; layer < family.layers; layer++) {
    const inLayer = family.tensors.filter((tensor) => tensor.layer === layer);
    add(
      layer,
      blockOrder.map((role) => inLayer.find((tensor) => tensor.role === role)!),
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

function settingsOf(tensor: FamilyTensor, options: QuantizeOptions): EngineQuantizeSettings {
  const { bits = 4, embeddingBits = 6, rowGroup = 96 } = options;
  let planes = bits;
  if (tensor.role === Role.embedding) planes = embeddingBits;
  if (tensor.role === Role.head) planes = options.headBits ?? embeddingBits;
  for (const [part, value] of Object.entries(options.overrides ?? {})) if (hasPart(tensor.name, part)) planes = value;
  return {
    planes,
    groupRows: Math.min(rowGroup, tensor.shape[0]!),
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
  const matrices = family.tensors.filter((tensor) => tensor.shape.length === 2).map((tensor) => tensor.name);
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
