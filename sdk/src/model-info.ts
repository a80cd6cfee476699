/** What a model is, as its folder says. */
import type { ModelFolder } from './checkpoint/model-folder.js';
import type { FamilySpec } from './families/index.js';
import type { ModelTensor } from './model-spec.js';
import { measureWeights, type WeightBytes } from './weight-bytes.js';

/** What a model is. */
export interface ModelInfo {
  /** The last part of the folder's path. */
  name: string;
  /** `model_type` of config.json. */
  architecture: string;
  /** Weights, a tied head counted once. */
  parameters: number;
  layers: number;
  /** Positions that the model was trained for. */
  contextLimit: number;
  vocabularySize: number;
  packed: boolean;
  /** Over the linear layers, all scales and padding counted; null for a dense model. */
  bitsPerWeight: number | null;
  /** In the files. */
  bytes: WeightBytes;
}

/** The last part of a path. */
export function nameOf(path: string): string {
  const parts = path.split(/[/\\]/).filter((part) => part !== '');
  return parts.at(-1) ?? path;
}

export function describeModel(folder: ModelFolder, family: FamilySpec, tensors: ModelTensor[]): ModelInfo {
  const { bytes, bitsPerWeight } = measureWeights(tensors);
  return {
    name: nameOf(folder.path),
    architecture: family.modelType,
    parameters: family.tensors.reduce((sum, tensor) => sum + tensor.shape.reduce((a, b) => a * b, 1), 0),
    layers: family.layers,
    contextLimit: family.contextLimit,
    vocabularySize: family.vocabularySize,
    packed: folder.quantization !== null,
    bitsPerWeight: folder.quantization === null ? null : bitsPerWeight,
    bytes,
  };
}
