/**
 * How many bytes of memory a model takes before it is loaded: the same sums as the engine's (`core/transformer.cpp`,
 * `core/model.cpp` and the weights of each backend), which tests hold against what it reports. Bytes throughout.
 */
import type { KvType } from './engine.js';
import type { FamilySpec } from './families/index.js';
import { denseTypes, type ModelTensor } from './model-spec.js';
import type { BackendName } from './select-backend.js';
import { tensorBytes } from './weight-bytes.js';

/** Of core/transformer.h and core/transformer.cpp: rows of one step, rows of logits at once. */
const stepRows = 128;
const logitRows = 64;
/** Of backends/cpu/kernels.h: positions of a key panel, columns of a quad; of core/packed_matrix.h: those of a k-block. */
const keyPanel = 16;
const quadColumns = 16;
const kBlockColumns = 128;
const tileRows = 32;

/** Of backends/cuda/parameters.h and kv_layout.h: numbers that share a scale of the int8 cache; where its scales and layers begin. */
const scaleGroup = 32;
const cacheAlignment = 16;

const padded = (count: number, to: number): number => Math.ceil(count / to) * to;
const product = (shape: number[]): number => shape.reduce((a, b) => a * b, 1);

/** Keys and values of every layer for a whole context. */
export function kvCacheBytes(family: FamilySpec, contextSize: number, kvCache: KvType, backend: BackendName): number {
  const positions = backend === 'cuda' ? contextSize : padded(contextSize, keyPanel);
  const lines = family.keyValueHeads * positions;
  if (kvCache !== 'int8') return 2 * family.layers * lines * family.headSize * (kvCache === 'f32' ? 4 : 2);
  const scales = lines * Math.ceil(family.headSize / scaleGroup) * 2;
  return 2 * family.layers * padded(padded(lines * family.headSize, cacheAlignment) + scales, cacheAlignment);
}

/** What a forward pass works in, whatever the context: reserved at once, resident as far as it has been used. */
export function scratchBytes(family: FamilySpec): number {
  const { hiddenSize, embeddingSize, heads, keyValueHeads, headSize, feedForwardSize, gated, rotarySets, rotarySize, vocabularySize } = family;
  const states = 3 * hiddenSize + (embeddingSize === hiddenSize ? 0 : embeddingSize);
  const attention = 2 * (heads + keyValueHeads) * headSize;
  const row = states + attention + feedForwardSize * (gated ? 2 : 1) + rotarySets.length * rotarySize;
  return 4 * (stepRows * row + (logitRows + 1) * vocabularySize);
}

export interface LoadedWeights {
  /** Read in place from the mapped files, whose pages the system may drop and read again; 0 where they are copied. */
  mapped: number;
  /** Held in memory: decoded scales and norms; all of the weights on a GPU. */
  held: number;
}

export function loadedWeights(tensors: readonly ModelTensor[], backend: BackendName): LoadedWeights {
  let [stored, held] = [0, 0];
  for (const tensor of tensors) {
    const copied = copiedBytes(tensor);
    held += copied;
    stored += copied > 0 ? 0 : tensorBytes(tensor);
    if (tensor.wanted.shape.length === 1) held += 4 * product(tensor.wanted.shape);
    else held += backend === 'cuda' ? gpuBytes(tensor) : decodedBytes(tensor);
  }
  if (backend === 'cuda') return { mapped: 0, held };
  // WebAssembly maps nothing: the files are in its memory.
  return backend === 'wasm' ? { mapped: 0, held: stored + held } : { mapped: stored, held };
}

/** A dense tensor that does not lie at a multiple of its element's size is copied. */
function copiedBytes({ dense }: ModelTensor): number {
  if (dense === null) return 0;
  const alignment = dense.dtype === 'F32' ? 4 : denseTypes.indexOf(dense.dtype) <= 2 ? 2 : 1;
  return dense.offset % alignment === 0 ? 0 : dense.bytes;
}

/** Decoded scales of the CPU kernels: 16 bits per plane and group, a float per scale block, a float per row. */
function decodedBytes({ packed }: ModelTensor): number {
  if (packed === null) return 0;
  const { rows, columns, planes, groupRows, groupColumns, rowScales } = packed;
  const [rowGroups, quads] = [Math.ceil(rows / groupRows), Math.ceil(columns / quadColumns)];
  const blockQuads = planes <= 4 ? 8 : groupColumns === 8 ? 4 : 1;
  const scales = rowGroups * quads * planes * (quadColumns / groupColumns) * 2;
  return scales + rowGroups * Math.ceil(quads / blockQuads) * 4 + (rowScales === null ? 0 : rows * 4);
}

/** A GPU holds a dense matrix as its 16 or 32 bits, a packed one in whole tiles and k-blocks with its scales as floats. */
function gpuBytes({ wanted, dense, packed }: ModelTensor): number {
  if (packed === null) return product(wanted.shape) * (dense !== null && (dense.dtype === 'F16' || dense.dtype === 'BF16') ? 2 : 4);
  const { rows, columns, planes, groupRows, groupColumns, rowScales } = packed;
  const rowGroups = Math.ceil(rows / groupRows);
  const kBlocks = Math.ceil(columns / kBlockColumns);
  const tilesIn = (count: number): number => Math.ceil(count / tileRows);
  const tiles = (rowGroups - 1) * tilesIn(groupRows) + tilesIn(rows - (rowGroups - 1) * groupRows);
  const planeData = (tiles * kBlocks * planes * tileRows * kBlockColumns) / 8;
  return planeData + rowGroups * kBlocks * planes * (kBlockColumns / groupColumns) * 4 + (rowScales === null ? 0 : rows * 4);
}

/** Of the CPU backend and WebAssembly: what all threads hold for one item of work (`scratch_` of cpu_backend.cpp); about. */
export function threadBytes(family: FamilySpec, contextSize: number, threads: number): number {
  const attention = 12 * padded(contextSize, keyPanel) * 4;
  const product = Math.max(8 * 8192 + 16 * 16 * tileRows * 4, 17 * 4 * Math.max(family.hiddenSize, family.feedForwardSize));
  return threads * Math.max(attention, product);
}
