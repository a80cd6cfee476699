/** What a model family is: a mapping from config.json to hyperparameters and tensor names. */
import type { JsonObject } from '../checkpoint/json-file.js';

/** Numbers of `Role` in core/model_spec.h. */
export const Role = {
  embedding: 0,
  head: 1,
  finalNorm: 2,
  attentionNorm: 3,
  query: 4,
  key: 5,
  value: 6,
  attentionOutput: 7,
  feedForwardNorm: 8,
  gate: 9,
  up: 10,
  down: 11,
} as const;

export interface FamilyTensor {
  name: string;
  role: number;
  /** 0 for roles outside the blocks. */
  layer: number;
  /** One entry for a vector, [rows, columns] for a matrix. */
  shape: number[];
  /** The rule behind the shape, for error messages: "num_attention_heads x head_dim, hidden_size". */
  shapeRule: string;
}

export interface FamilySpec {
  modelType: string;
  vocabularySize: number;
  hiddenSize: number;
  layers: number;
  heads: number;
  keyValueHeads: number;
  headSize: number;
  feedForwardSize: number;
  /** In positions. */
  contextLimit: number;
  normEpsilon: number;
  attentionScale: number;
  /** headSize / 2 angles per position, in radians. */
  ropeFrequencies: number[];
  tiedHead: boolean;
  /** Whether all that reads the residual stream is a root mean square norm, so that a rotation can be folded into the weights. */
  rotatable: boolean;
  tensors: FamilyTensor[];
  /** Tensors that may be in the file and are not used. */
  ignored: RegExp[];
}

export interface Family {
  modelTypes: string[];
  /** ERR_UNSUPPORTED_MODEL and ERR_BAD_MODEL_FILE name the field of config.json. */
  describe(config: JsonObject, configPath: string): FamilySpec;
}
