/**
 * Fills the binary description of core/model_spec.h from a model folder and its family, after checking every tensor's
 * shape and type against the hyperparameters.
 */
import type { ModelFolder, StoredTensor } from './checkpoint/model-folder.js';
import type { PackedTensor } from './checkpoint/packed-tensors.js';
import { ShiftAddError } from './errors.js';
import { Role, type FamilySpec, type FamilyTensor, type StoredPart } from './families/index.js';

const specVersion = 2;
const headerNumbers = 32;
/** By their numbers of `DType` in core/tensor.h. */
export const denseTypes = ['F32', 'F16', 'BF16', 'Q8_0', 'Q4_0', 'Q4_1', 'Q5_0', 'Q5_1', 'Q2_K', 'Q3_K', 'Q4_K', 'Q5_K', 'Q6_K', 'IQ4_NL'];
const inOrder = { first: 0, inner: 1, innerStride: 0, middle: 1, middleStride: 0, outerStride: 1 };

/** A tensor that the model uses: where the family wants it and where the folder has it. */
export interface ModelTensor {
  wanted: FamilyTensor;
  dense: StoredTensor | null;
  /** Where `wanted` lies in `dense`; null when that is all of it, row by row. */
  part: StoredPart | null;
  packed: PackedTensor | null;
}

export interface ModelSpec {
  numbers: Float64Array;
  paths: string[];
  tensors: ModelTensor[];
}

/** ERR_BAD_MODEL_FILE and ERR_UNSUPPORTED_MODEL name file and tensor. */
export function buildModelSpec(folder: ModelFolder, family: FamilySpec): ModelSpec {
  const tensors = family.tensors.map((wanted) => findTensor(folder, family, wanted));
  refuseUnused(folder, family);
  const { rotation } = folder;
  const header = new Array<number>(headerNumbers).fill(0);
  header.splice(0, 27, ...[
    specVersion,
    family.vocabularySize,
    family.hiddenSize,
    family.layers,
    family.heads,
    family.keyValueHeads,
    family.headSize,
    family.feedForwardSize,
    family.contextLimit,
    family.normEpsilon,
    family.attentionScale,
    family.rotarySets.length,
    tensors.length,
    rotation?.size ?? 0,
    family.rotarySize,
    Number(family.layerNorm),
    Number(family.normBehind),
    Number(family.parallelBlocks),
    family.activation,
    Number(family.gated),
    family.embeddingSize,
    family.embeddingFactor,
    family.attentionCap,
    family.logitCap,
    family.firstPosition,
    Number(family.alibiSlopes.length > 0),
    family.rotarySwitch,
  ]);
  const numbers = Float64Array.from([
    ...header,
    ...family.rotarySets.flatMap(({ factor, frequencies }) => [factor, ...frequencies]),
    ...family.alibiSlopes,
    ...family.layerSpecs.flatMap(({ window, rotary }) => [window, rotary]),
    ...(rotation === null ? [] : [...rotation.signs, ...rotation.matrix]),
    ...tensors.flatMap(tensorFields),
  ]);
  return { numbers, paths: folder.files.map((file) => file.path), tensors };
}

function bad(path: string, what: string): ShiftAddError {
  return new ShiftAddError('ERR_BAD_MODEL_FILE', `${path}: ${what}`);
}

/** As the files have it: alone, or as a part of another tensor, with or without the family's prefix. */
function findStored(folder: ModelFolder, family: FamilySpec, wanted: FamilyTensor): { stored: StoredTensor; part: StoredPart | null } | null {
  const find = (name: string): StoredTensor | undefined =>
    folder.stored.get(name) ?? (name.startsWith(family.prefix) ? folder.stored.get(name.slice(family.prefix.length)) : undefined);
  const part = wanted.stored ?? null;
  const alone = find(wanted.name);
  // Under one name, only a tensor that brings its own order is not laid out as the family says.
  if (alone !== undefined && (part?.name !== wanted.name || alone.rowOrder !== undefined)) return { stored: alone, part: null };
  const whole = part === null ? undefined : find(part.name);
  return whole === undefined ? null : { stored: whole, part };
}

function findTensor(folder: ModelFolder, family: FamilySpec, wanted: FamilyTensor): ModelTensor {
  const packed = folder.packed.get(wanted.name) ?? null;
  const found = findStored(folder, family, wanted);
  const dense = found?.stored ?? null;
  if (packed !== null && dense !== null) throw bad(dense.path, `tensor ${wanted.name} is there both packed and dense.`);
  const name = packed === null ? (wanted.stored?.name ?? wanted.name) : wanted.name;
  const shape = packed !== null ? [packed.rows, packed.columns] : dense?.shape;
  if (shape === undefined) {
    const untied =
      wanted.role === Role.head
        ? ' tie_word_embeddings is false or absent in config.json; set it to true if the head is the embedding.'
        : '';
    throw bad(folder.path, `tensor ${name} is missing.${untied} Download or copy the model folder again.`);
  }
  const expected = found?.part?.shape ?? wanted.shape;
  if (shape.length !== expected.length || shape.some((size, i) => size !== expected[i])) {
    throw bad(
      dense?.path ?? folder.configPath,
      `tensor ${name} has shape [${shape.join(', ')}] but config.json gives [${expected.join(', ')}] (${wanted.shapeRule}).`,
    );
  }
  if (packed !== null && wanted.shape.length !== 2)
    throw bad(folder.configPath, `tensor ${wanted.name} is a vector and cannot be packed.`);
  if (dense !== null && !denseTypes.includes(dense.dtype)) {
    throw new ShiftAddError(
      'ERR_UNSUPPORTED_MODEL',
      `${dense.path}: tensor ${name} is ${dense.dtype}; dense weights must be ${denseTypes.slice(0, 3).join(', ')} or a quantized type of GGUF (${denseTypes.slice(3).join(', ')}).`,
    );
  }
  return { wanted, dense, part: found?.part ?? null, packed };
}

function refuseUnused(folder: ModelFolder, family: FamilySpec): void {
  const names = new Set(family.tensors.flatMap(({ name, stored }) => (stored === undefined ? [name] : [name, stored.name])));
  const isUsed = (name: string): boolean => names.has(name) || names.has(family.prefix + name);
  for (const tensor of folder.stored.values()) {
    const base = folder.packed.size > 0 ? tensor.name.replace(/\.(planes|scales|row_scales)$/, '') : tensor.name;
    if (isUsed(base) || family.ignored.some((pattern) => pattern.test(tensor.name))) continue;
    throw new ShiftAddError(
      'ERR_UNSUPPORTED_MODEL',
      `${tensor.path}: tensor ${tensor.name} (${tensor.dtype}) has no place in a ${family.modelType} model with this config.json.`,
    );
  }
}

/**
 * Whether, in exact precision, a position of a prompt has the same bits however many are computed with it: products of packed matrices
 * have. Of an embedding a row is read, and the head reads one position.
 */
export function hasSameBits(tensors: readonly ModelTensor[]): boolean {
  const outside: readonly number[] = [Role.embedding, Role.positionEmbedding, Role.head];
  return tensors.every(({ wanted, packed }) => packed !== null || wanted.shape.length === 1 || outside.includes(wanted.role));
}

function tensorFields({ wanted, dense, part, packed }: ModelTensor): number[] {
  const [rows, columns] = [wanted.shape[0]!, wanted.shape[1] ?? 1];
  if (dense !== null) {
    const { first, inner, innerStride, middle, middleStride, outerStride } = part?.rows ?? dense.rowOrder ?? inOrder;
    const stored = [dense.shape[0]!, dense.shape[1] ?? 1, Number(part?.transposed ?? false)];
    const map = [first, inner, innerStride, middle, middleStride, outerStride];
    const place = [dense.file, dense.offset, dense.bytes];
    const added = (wanted.added ?? 0) - (dense.holdsAdded ?? 0);
    return [wanted.role, wanted.layer, 0, denseTypes.indexOf(dense.dtype), rows, columns, ...place, ...stored, ...map, added, 0];
  }
  const { planeData, scales, rowScales, planes, groupRows, groupColumns, scaleExponent } = packed!;
  return [
    wanted.role,
    wanted.layer,
    1,
    0,
    rows,
    columns,
    planeData.file,
    planeData.offset,
    planeData.bytes,
    planes,
    groupRows,
    groupColumns,
    scaleExponent,
    scales.file,
    scales.offset,
    scales.bytes,
    rowScales?.file ?? -1,
    rowScales?.offset ?? 0,
    rowScales?.bytes ?? 0,
    scales.dtype === 'F32' ? 1 : 0,
  ];
}
