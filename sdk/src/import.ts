/** Imports a published Lat. checkpoint: signs and scales bit for bit, everything else from the checkpoint it was made from. */
import { readdir } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { describeLatMatrix, parseLatName, readLatPlanes, readLatScales, type LatMatrix } from './checkpoint/lat-tensors.js';
import { openModelFolder, type ModelFolder } from './checkpoint/model-folder.js';
import { checkOutput, writeFolder } from './checkpoint/output-folder.js';
import { planeBytes, type ScaleType } from './checkpoint/packed-tensors.js';
import { writePackedFolder, type MatrixToWrite } from './checkpoint/packed-writer.js';
import { exactScales } from './checkpoint/scale-codes.js';
import { openTorchFile } from './checkpoint/torch-file.js';
import { ShiftAddError, fromFileSystem } from './errors.js';
import { describeFamily, type FamilySpec, type FamilyTensor } from './families/index.js';
import { buildModelSpec, type ModelTensor } from './model-spec.js';
import { distinctTensors } from './packed-bytes.js';
import { importRules, nearest, readOptions } from './options.js';
import { resolveModel } from './resolve-model.js';
import { partOf, type WeightBytes } from './weight-bytes.js';

/** Where the rest of the model comes from, and how it is written. */
export interface ImportOptions {
  /** The dense checkpoint that the Lat. checkpoint was made from: a folder or a name. Required. */
  base?: string;
  /** Of one weight file, unless a single tensor is larger. Default 2,000,000,000. */
  maxShardBytes?: number;
  /** Replace an existing model folder. Default false. */
  overwrite?: boolean;
  signal?: AbortSignal | undefined;
  /** Called as the work goes on. */
  onProgress?: (progress: ImportProgress) => void;
}

/** How far an import is, in matrices. */
export interface ImportProgress {
  /** `check` reads shapes and scales of all files, `write` converts the signs. */
  phase: 'check' | 'write';
  /** Of the whole import: 0 to 1. */
  done: number;
}

/** One matrix as it was imported. */
export interface ImportedTensor {
  name: string;
  planes: number;
  groupRows: number;
  /** U16: the scales are stored as 16-bit codes, which express them exactly; F32: as 32-bit floats. */
  scaleType: ScaleType;
  bytes: number;
  bitsPerWeight: number;
}

/** The packed folder and its matrices. */
export interface ImportResult {
  path: string;
  /** Over the linear layers, all scales and padding counted. */
  bitsPerWeight: number;
  bytes: WeightBytes;
  tensors: ImportedTensor[];
  seconds: number;
}

interface Imported {
  name: string;
  matrix: MatrixToWrite & { scaleType: ScaleType };
}

/** Reading the scales takes about a tenth of the time. */
const checkShare = 0.1;

/**
 * Rejects with ERR_OUTPUT_EXISTS, ERR_NOT_FOUND, ERR_BAD_MODEL_FILE, ERR_UNSUPPORTED_MODEL, TypeError, RangeError or the
 * signal's reason. Nothing is left behind then.
 */
export async function importModel(latFolder: string, outFolder: string, options?: ImportOptions): Promise<ImportResult> {
  const checked = readOptions<ImportOptions>(importRules, options, 'importModel');
  const started = performance.now();
  const { signal, onProgress } = checked;
  signal?.throwIfAborted();
  if (checked.base === undefined)
    throw new TypeError('Expected the checkpoint that the model was made from for base but received undefined');
  const out = resolve(outFolder);
  const base = await openModelFolder(await resolveModel(checked.base));
  await checkOutput(out, [base.path, resolve(latFolder)], checked.overwrite!);
  if (base.quantization !== null)
    throw new ShiftAddError(
      'ERR_UNSUPPORTED_MODEL',
      `${base.path} is packed. Pass the dense checkpoint that the Lat. checkpoint was made from.`,
    );
  const family = describeFamily(base.config, base.configPath);
  const kept = distinctTensors(buildModelSpec(base, family).tensors.filter(({ wanted }) => partOf(wanted.role) !== 'linearLayers'));
  const files = await findFiles(latFolder, family);

  const report = (phase: ImportProgress['phase'], done: number): void => onProgress?.({ phase, done });
  const matrices: Imported[] = [];
  let written = 0;
  const onPlanes = (): void => report('write', checkShare + ((1 - checkShare) * 0.99 * ++written) / files.size);
  for (const [{ name, shape }, file] of files) {
    signal?.throwIfAborted();
    report('check', (checkShare * matrices.length) / files.size);
    const [rows, columns] = shape as [number, number];
    const lat = describeLatMatrix(await openTorchFile(file.path), rows, columns, file.planes);
    matrices.push({ name, matrix: await toMatrix(lat, signal, onPlanes) });
  }
  report('write', checkShare);
  await write(out, latFolder, base, kept, matrices, checked);
  report('write', 1);
  return { path: out, ...summarize(kept, matrices), seconds: (performance.now() - started) / 1000 };
}

interface LatFile {
  path: string;
  planes: number;
}

/** One file for every linear layer of the family, in the order of the family. */
async function findFiles(folder: string, family: FamilySpec): Promise<Map<FamilyTensor, LatFile>> {
  const wanted = new Map(
    family.tensors.filter(({ role }) => partOf(role) === 'linearLayers').map((tensor) => [moduleOf(tensor), tensor]),
  );
  const bad = (what: string): ShiftAddError => new ShiftAddError('ERR_BAD_MODEL_FILE', `${folder} ${what}`);
  const names = await readdir(folder).catch((error: unknown) => {
    throw fromFileSystem(error, folder, 'Pass a folder with one .pt file per linear layer.');
  });
  const found = new Map<string, LatFile>();
  let model: string | null = null;
  for (const name of names.filter((entry) => entry.endsWith('.pt')).sort()) {
    const parsed = parseLatName(name);
    if (parsed === null)
      throw bad(`has the file ${name}, but Lat. checkpoints name theirs {model}_{layer}.{module}_{bits}bit.pt.`);
    const { module, planes } = parsed;
    if (!wanted.has(module)) {
      const near = nearest(module, [...wanted.keys()]);
      throw bad(
        `has the file ${name}, but the base has no linear layer ${module}${near === null ? '' : ` (is ${near} meant?)`}. Pass the checkpoint it was made from.`,
      );
    }
    if (model !== null && model !== parsed.model) throw bad(`has files of two models: ${model} and ${parsed.model}.`);
    model = parsed.model;
    const other = found.get(module);
    if (other !== undefined)
      throw bad(`has two files for ${module}: ${basename(other.path)} and ${name}. Remove the one that does not belong to it.`);
    if (planes < 1 || planes > 8) throw bad(`has the file ${name}, but only 1 to 8 bits can be packed.`);
    found.set(module, { path: join(folder, name), planes });
  }
  if (found.size === 0) throw nothingThere(folder, names);
  const missing = [...wanted.keys()].filter((module) => !found.has(module));
  if (missing.length > 0)
    throw bad(
      `has no file for ${missing[0]}${missing.length > 1 ? ` and ${missing.length - 1} more of the base's ${wanted.size} linear layers` : ''}. Download the missing files.`,
    );
  return new Map([...wanted].map(([module, tensor]) => [tensor, found.get(module)!]));
}

/** `3.self_attn.q_proj` of model.layers.3.self_attn.q_proj.weight. */
function moduleOf({ name, layer }: FamilyTensor): string {
  return name.slice(name.indexOf(`.${layer}.`) + 1, -'.weight'.length);
}

function nothingThere(folder: string, names: string[]): ShiftAddError {
  if (names.some((name) => name.endsWith('.safetensors')))
    return new ShiftAddError(
      'ERR_UNSUPPORTED_MODEL',
      `${folder} holds safetensors, as Acc. checkpoints do: they are dense. Turn it into a packed model with quantize (quantizeModel).`,
    );
  return new ShiftAddError(
    'ERR_NOT_FOUND',
    `${folder} has no .pt files. Pass the folder of a Lat. checkpoint, with one {model}_{layer}.{module}_{bits}bit.pt per linear layer.`,
  );
}

/** Planes and scales are read again when they are written, so that one matrix at a time is in memory. */
async function toMatrix(lat: LatMatrix, signal: AbortSignal | undefined, onPlanes: () => void): Promise<Imported['matrix']> {
  const scaleExponent = exactScales(await readLatScales(lat))?.scaleExponent; // undefined: no codes are exact
  return {
    ...lat.shape,
    scaleExponent: scaleExponent ?? 0,
    scaleType: scaleExponent === undefined ? 'F32' : 'U16',
    planeData: async () => {
      signal?.throwIfAborted();
      const planes = await readLatPlanes(lat);
      onPlanes();
      return planes;
    },
    scales: async () => {
      const values = await readLatScales(lat);
      return scaleExponent === undefined ? values : exactScales(values)!.codes;
    },
  };
}

async function write(
  out: string,
  latFolder: string,
  base: ModelFolder,
  kept: ModelTensor[],
  matrices: Imported[],
  { maxShardBytes, signal }: ImportOptions,
): Promise<void> {
  const dense = kept.map((tensor) => tensor.dense!);
  await writeFolder(out, signal, (partial) =>
    writePackedFolder(partial, {
      source: base,
      packed: matrices,
      dense,
      rotation: null,
      record: {
        mode: 'lat',
        rowGroup: matrices[0]!.matrix.groupRows,
        calibration: {},
        source: {
          name: basename(base.path),
          weight_bytes: base.files.reduce((sum, file) => sum + file.fileBytes, 0),
        },
        settings: { imported: basename(resolve(latFolder)) },
      },
      maxShardBytes: maxShardBytes!,
      signal,
      onProgress: () => undefined,
    }),
  );
}

function summarize(
  kept: ModelTensor[],
  matrices: Imported[],
): Pick<ImportResult, 'bitsPerWeight' | 'bytes' | 'tensors'> {
  const bytes: WeightBytes = { linearLayers: 0, embedding: 0, head: 0, norms: 0, total: 0 };
  let linearWeights = 0;
  const tensors = matrices.map(({ name, matrix }): ImportedTensor => {
    const { rows, columns, planes, groupRows, groupColumns, scaleType } = matrix;
    const scales = Math.ceil(rows / groupRows) * Math.ceil(columns / groupColumns) * planes;
    const size = planeBytes(matrix) + scales * (scaleType === 'F32' ? 4 : 2);
    bytes.linearLayers += size;
    bytes.total += size;
    linearWeights += rows * columns;
    return { name, planes, groupRows, scaleType, bytes: size, bitsPerWeight: (size * 8) / (rows * columns) };
  });
  for (const { wanted, dense } of kept) {
    const size = dense!.bytes;
    bytes[partOf(wanted.role)] += size;
    bytes.total += size;
  }
  return { bitsPerWeight: (bytes.linearLayers * 8) / linearWeights, bytes, tensors };
}
