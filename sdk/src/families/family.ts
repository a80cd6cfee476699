/** What a model family is: a mapping from config.json to hyperparameters and tensor names. */
import type { JsonObject } from '../checkpoint/json-file.js';

/** Numbers of `Role` in core/model_spec.h. */
export const Role = {
  embedding: 0,
  head: 1,
  positionEmbedding: 2,
  embeddingNorm: 3,
  embeddingNormBias: 4,
  projectIn: 5,
  projectOut: 6,
  finalNorm: 7,
  finalNormBias: 8,
  attentionNorm: 9,
  attentionNormBias: 10,
  query: 11,
  key: 12,
  value: 13,
  attentionOutput: 14,
  queryBias: 15,
  keyBias: 16,
  valueBias: 17,
  attentionOutputBias: 18,
  queryNorm: 19,
  keyNorm: 20,
  postAttentionNorm: 21,
  feedForwardNorm: 22,
  feedForwardNormBias: 23,
  gate: 24,
  up: 25,
  down: 26,
  gateBias: 27,
  upBias: 28,
  downBias: 29,
  postFeedForwardNorm: 30,
} as const;

/** Numbers of `Activation` in core/float_math.h. */
export const Activation = { silu: 0, geluTanh: 1, gelu: 2, relu: 3 } as const;

/** Which rows of a stored tensor make up a matrix; `RowMap` in core/tensor.h. */
export interface RowMap {
  first: number;
  inner: number;
  innerStride: number;
  middle: number;
  middleStride: number;
  outerStride: number;
}

/** A matrix or vector that is not stored alone or not stored row by row. */
export interface StoredPart {
  /** Of the tensor in the files. */
  name: string;
  shape: number[];
  rows: RowMap;
  /** The rows of the matrix are columns of the stored tensor. */
  transposed: boolean;
}

export interface FamilyTensor {
  /** In packed folders and reports; also in the files, unless `stored` says otherwise. */
  name: string;
  role: number;
  /** 0 for roles outside the blocks. */
  layer: number;
  /** One entry for a vector, [rows, columns] for a matrix. */
  shape: number[];
  /** The rule behind the shape, for error messages: "num_attention_heads x head_dim, hidden_size". */
  shapeRule: string;
  stored?: StoredPart;
  /** Added to every element of a vector: the gains of Gemma are stored minus 1. Default 0. */
  added?: number;
}

/** Rotary positions of some layers: a factor on cosine and sine, and rotarySize / 2 angles per position in radians. */
export interface RotarySet {
  factor: number;
  frequencies: number[];
}

export interface LayerSpec {
  /** Positions that a token sees, itself included; 0: all. */
  window: number;
  /** Index of the rotary set; -1: no rotary positions. */
  rotary: number;
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
  /** Layer norm in the place of root mean square norm. */
  layerNorm: boolean;
  /** The norms work on the sums behind the layers instead of on the layers' inputs. */
  normBehind: boolean;
  /** Attention and feed-forward layers read the same hidden states. */
  parallelBlocks: boolean;
  activation: number;
  gated: boolean;
  embeddingSize: number;
  embeddingFactor: number;
  /** Soft caps; 0: none. */
  attentionCap: number;
  logitCap: number;
  /** Row of the position embedding for position 0. */
  firstPosition: number;
  /** Numbers of a head that are rotated. */
  rotarySize: number;
  rotarySets: RotarySet[];
  /** Length beyond which every layer takes the rotary set after its own; 0: never. */
  rotarySwitch: number;
  /** One per head, or none. */
  alibiSlopes: number[];
  layerSpecs: LayerSpec[];
  tiedHead: boolean;
  tensors: FamilyTensor[];
  /** In front of every name but the head's; some files leave it out. */
  prefix: string;
  /** Tensors that may be in the file and are not used. */
  ignored: RegExp[];
}

export interface Family {
  modelTypes: string[];
  /** ERR_UNSUPPORTED_MODEL and ERR_BAD_MODEL_FILE name the field of config.json. */
  describe(config: JsonObject, configPath: string): FamilySpec;
}

/** Whether the tuner has the gradients: blocks like Llama's. As `llama_like` in core/model_spec.h. */
export function isTunable(family: FamilySpec): boolean {
  const known: number[] = [Role.embedding, Role.head, Role.finalNorm, Role.attentionNorm, Role.query, Role.key, Role.value];
  known.push(Role.attentionOutput, Role.feedForwardNorm, Role.gate, Role.up, Role.down);
  return (
    family.tensors.every(({ role }) => known.includes(role)) &&
    family.layerSpecs.every(({ window, rotary }) => window === 0 && rotary === 0) &&
    !(family.layerNorm || family.normBehind || family.parallelBlocks) &&
    family.gated &&
    family.activation === Activation.silu &&
    family.embeddingFactor === 1 &&
    family.attentionCap === 0 &&
    family.logitCap === 0 &&
    family.rotarySize === family.headSize &&
    family.rotarySwitch === 0
  );
}

/**
 * Whether a rotation of the residual stream can be folded into the weights: all that reads the stream is a root mean square
 * norm, and nothing but linear layers without bias writes it.
 */
export function isRotatable(family: FamilySpec): boolean {
  const inTheWay: number[] = [
    Role.positionEmbedding,
    Role.embeddingNorm,
    Role.projectIn,
    Role.attentionOutputBias,
    Role.postAttentionNorm,
    Role.downBias,
    Role.postFeedForwardNorm,
  ];
  return !family.layerNorm && !family.normBehind && !family.tensors.some(({ role }) => inTheWay.includes(role));
}
