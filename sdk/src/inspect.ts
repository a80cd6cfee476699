/** Describes a model folder without running it. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { openModelFolder } from './checkpoint/model-folder.js';
import type { JsonObject } from './checkpoint/json-file.js';
import type { TensorReport } from './checkpoint/packed-report.js';
import { tokenizerFileNames } from './checkpoint/tokenizer-files.js';
import { describeFamily, Role } from './families/index.js';
import { inspectBlocks, roleName, type InspectedBlock, type TensorRole } from './inspect-blocks.js';
import { buildModelSpec, type ModelTensor } from './model-spec.js';
import { resolveModel } from './resolve-model.js';
import { measureWeights, tensorBytes, type WeightBytes } from './weight-bytes.js';

/** One matrix in the files of a model. */
export interface InspectedTensor {
  name: string;
  role: TensorRole;
  /** From 0; null for a tensor outside the blocks. */
  block: number | null;
  rows: number;
  /** 1 x n for a vector. */
  columns: number;
  /** `packed`, or the element type of a dense tensor. */
  type: string;
  /** Null for a dense tensor, like the other fields of a packed one. */
  planes: number | null;
  groupRows: number | null;
  groupColumns: number | null;
  bytes: { planes: number; scales: number; rowScales: number; dense: number; total: number };
  bitsPerWeight: number;
  /** |W - W_packed|^2 / |W|^2; null for a dense tensor and where the folder does not record it, like the next two. */
  weightError: number | null;
  /** tr(E H E^T) / tr(W H W^T): the share of the output's energy that is lost on the calibration text. */
  outputError: number | null;
  /** How far the model's predictions move when this tensor alone is packed, in nats per token. */
  kl: number | null;
}

/** What is in the files of a model: layers, widths, bytes, and the errors that its quantization noted. */
export interface InspectResult {
  path: string;
  architecture: string;
  packed: boolean;
  /** 'lat' (block-wise groups) or 'acc' (column-wise); null for a dense model. */
  mode: 'lat' | 'acc' | null;
  parameters: number;
  layers: number;
  hiddenSize: number;
  heads: number;
  keyValueHeads: number;
  headSize: number;
  feedForwardSize: number;
  contextLimit: number;
  vocabularySize: number;
  tiedHead: boolean;
  /** Whether the weights hold a rotation of the residual stream. */
  rotated: boolean;
  /** Over the linear layers, all scales and padding counted; null for a dense model. */
  bitsPerWeight: number | null;
  /** Of the tensors; files are larger by their headers. */
  bytes: WeightBytes & { tokenizer: number; weightFiles: number };
  tensors: InspectedTensor[];
  /** The linear layers by block: bits per matrix, and what quantizing them cost. */
  blocks: InspectedBlock[];
  /** As recorded by the quantizer; null for a dense model. */
  calibration: JsonObject | null;
  source: JsonObject | null;
}

/** Needs no backend. ERR_NOT_FOUND, ERR_BAD_MODEL_FILE, ERR_UNSUPPORTED_MODEL. */
export async function inspectModel(folderOrName?: string | URL): Promise<InspectResult> {
  const folder = await openModelFolder(await resolveModel(folderOrName));
  const family = describeFamily(folder.config, folder.configPath);
  const { tensors } = buildModelSpec(folder, family);
  const { bytes, bitsPerWeight } = measureWeights(tensors);
  let tokenizer = 0;
  for (const name of tokenizerFileNames) {
    tokenizer += await stat(join(folder.path, name)).then(
      (entry) => entry.size,
      () => 0,
    );
  }
  const inspected = tensors.map((tensor) => inspectTensor(tensor, folder.quantization?.report.get(tensor.wanted.name)));
  return {
    path: folder.path,
    architecture: family.modelType,
    packed: folder.quantization !== null,
    mode: folder.quantization?.mode ?? null,
    parameters: inspected.reduce((sum, tensor) => sum + tensor.rows * tensor.columns, 0),
    layers: family.layers,
    hiddenSize: family.hiddenSize,
    heads: family.heads,
    keyValueHeads: family.keyValueHeads,
    headSize: family.headSize,
    feedForwardSize: family.feedForwardSize,
    contextLimit: family.contextLimit,
    vocabularySize: family.vocabularySize,
    tiedHead: family.tiedHead,
    rotated: folder.rotation !== null,
    bitsPerWeight: folder.quantization === null ? null : bitsPerWeight,
    bytes: { ...bytes, tokenizer, weightFiles: folder.files.reduce((sum, file) => sum + file.fileBytes, 0) },
    tensors: inspected,
    blocks: inspectBlocks(inspected),
    calibration: folder.quantization?.calibration ?? null,
    source: folder.quantization?.source ?? null,
  };
}

function inspectTensor(tensor: ModelTensor, report: TensorReport | undefined): InspectedTensor {
  const { wanted, dense, packed } = tensor;
  const [rows, columns] = wanted.shape.length === 1 ? [1, wanted.shape[0]!] : [wanted.shape[0]!, wanted.shape[1]!];
  const total = tensorBytes(tensor);
  const role = roleName(wanted.role);
  return {
    name: wanted.name,
    role,
    block: wanted.role >= Role.attentionNorm ? wanted.layer : null,
    rows,
    columns,
    type: packed === null ? dense!.dtype : 'packed',
    planes: packed?.planes ?? null,
    groupRows: packed?.groupRows ?? null,
    groupColumns: packed?.groupColumns ?? null,
    bytes: {
      planes: packed?.planeData.bytes ?? 0,
      scales: packed?.scales.bytes ?? 0,
      rowScales: packed?.rowScales?.bytes ?? 0,
      dense: dense?.bytes ?? 0,
      total,
    },
    bitsPerWeight: (total * 8) / (rows * columns),
    weightError: report?.weightError ?? null,
    outputError: report?.outputError ?? null,
    kl: report?.kl ?? null,
  };
}
