/**
 * Fills the binary description of core/model_spec.h from a model folder and its family, after checking every tensor's
 * shape and type against the hyperparameters.
 */
import type { ModelFolder, StoredTensor } from './checkpoint/model-folder.js';
import type { PackedTensor } from './checkpoint/packed-tensors.js';
import { ShiftAddError } from './errors.js';
import { Role, type FamilySpec, type FamilyTensor } from './families/index.js';

const specVersion = 1;
const headerNumbers = 16;
const tensorNumbers = 20;
const denseTypes = ['F32', 'F16', 'BF16'];

/** A tensor that the model uses: where the family wants it and where the folder has it. */
export interface ModelTensor {
  wanted: FamilyTensor;
  dense: StoredTensor | null;
  packed: PackedTensor | null;
}

export interface ModelSpec {
  numbers: Float64Array;
  paths: string[];
  tensors: ModelTensor[];
}

/** ERR_BAD_MODEL_FILE and ERR_UNSUPPORTED_MODEL name file and tensor. */
export function buildModelSpec(folder: ModelFolder, family: FamilySpec): ModelSpec {
  const tensors = family.tensors.map((wanted) => findTensor(folder, wanted));
  refuseUnused(folder, family);
  const rope = family.ropeFrequencies;
  const { rotation } = folder;
  const signs = rotation === null ? [] : [...rotation.signs, ...rotation.matrix];
  const numbers = new Float64Array(headerNumbers + rope.length + signs.length + tensors.length * tensorNumbers);
  numbers.set([
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
    rope.length,
    tensors.length,
    rotation?.size ?? 0,
  ]);
  numbers.set([...rope, ...signs], headerNumbers);
  tensors.forEach((tensor, index) => {
    numbers.set(tensorFields(tensor), headerNumbers + rope.length + signs.length + index * tensorNumbers);
  });
  return { numbers, paths: folder.files.map((file) => file.path), tensors };
}

function bad(path: string, what: string): ShiftAddError {
  return new ShiftAddError('ERR_BAD_MODEL_FILE', `${path}: ${what}`);
}

function findTensor(folder: ModelFolder, wanted: FamilyTensor): ModelTensor {
  const packed = folder.packed.get(wanted.name) ?? null;
  const dense = folder.stored.get(wanted.name) ?? null;
  if (packed !== null && dense !== null) throw bad(dense.path, `tensor ${wanted.name} is there both packed and dense.`);
  const found = packed !== null ? [packed.rows, packed.columns] : dense?.shape;
  if (found === undefined) {
    const untied =
      wanted.role === Role.head
        ? ' tie_word_embeddings is false or absent in config.json; set it to true if the head is the embedding.'
        : '';
    throw bad(folder.path, `tensor ${wanted.name} is missing.${untied} Download or copy the model folder again.`);
  }
  if (found.length !== wanted.shape.length || found.some((size, i) => size !== wanted.shape[i])) {
    throw bad(
      dense?.path ?? folder.configPath,
      `tensor ${wanted.name} has shape [${found.join(', ')}] but config.json gives [${wanted.shape.join(', ')}] (${wanted.shapeRule}).`,
    );
  }
  if (packed !== null && wanted.shape.length !== 2)
    throw bad(folder.configPath, `tensor ${wanted.name} is a vector and cannot be packed.`);
  if (dense !== null && !denseTypes.includes(dense.dtype)) {
    throw new ShiftAddError(
      'ERR_UNSUPPORTED_MODEL',
      `${dense.path}: tensor ${wanted.name} is ${dense.dtype}; dense weights must be F32, F16 or BF16.`,
    );
  }
  return { wanted, dense, packed };
}

function refuseUnused(folder: ModelFolder, family: FamilySpec): void {
  const used = new Set(family.tensors.map((tensor) => tensor.name));
  for (const tensor of folder.stored.values()) {
    const base = folder.packed.size > 0 ? tensor.name.replace(/\.(planes|scales|row_scales)$/, '') : tensor.name;
    if (used.has(base) || family.ignored.some((pattern) => pattern.test(tensor.name))) continue;
    throw new ShiftAddError(
      'ERR_UNSUPPORTED_MODEL',
      `${tensor.path}: tensor ${tensor.name} (${tensor.dtype}) has no place in a ${family.modelType} model with this config.json.`,
    );
  }
}

function tensorFields({ wanted, dense, packed }: ModelTensor): number[] {
  const [rows, columns] = wanted.shape.length === 1 ? [1, wanted.shape[0]!] : [wanted.shape[0]!, wanted.shape[1]!];
  if (dense !== null) {
    const data = [denseTypes.indexOf(dense.dtype), rows, columns, dense.file, dense.offset, dense.bytes];
    return [wanted.role, wanted.layer, 0, ...data, 0, 0, 0, 0, 0, 0, 0, -1, 0, 0, 0];
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
