/**
 * The packed part of a model folder: `quantization_config` of config.json and the tensors `<name>.planes`,
 * `<name>.scales` and `<name>.row_scales`. Sizes follow core/packed_matrix.h; every disagreement is ERR_BAD_MODEL_FILE.
 */
import { ShiftAddError } from '../errors.js';
import { nearest, show } from '../options.js';
import { isJsonObject, type Json, type JsonObject } from './json-file.js';
import type { StoredTensor } from './model-folder.js';
import { largestRotation, signsFromHex, type Rotation } from '../rotation.js';
import { parseReport, type TensorReport } from './packed-report.js';

/** 2 with a rotation, which a reader of version 1 would leave out. */
export function formatVersion(rotated: boolean): number {
  return rotated ? 2 : 1;
}
export const scaleEncoding = 'e4g3x3';

const tileRows = 32;
const quadColumns = 16;
const blockBytes = 64;

/** Of the stored scales: 16-bit codes, or floats where no codes express all scales of a matrix exactly. */
export type ScaleType = 'U16' | 'F32';

/** Shape and grouping of one packed matrix, as `quantization_config.tensors` states it. */
export interface PackedShape {
  rows: number;
  columns: number;
  planes: number;
  groupRows: number;
  groupColumns: number;
  scaleExponent: number;
}

export interface PackedTensor extends PackedShape {
  /** Without the suffix: the name that a dense tensor would have. */
  name: string;
  planeData: StoredTensor;
  scales: StoredTensor;
  rowScales: StoredTensor | null;
}

export interface QuantizationConfig {
  mode: 'lat' | 'acc';
  rowGroup: number;
  /** Of the residual stream, in the weights; null without. */
  rotation: Rotation | null;
  tensors: Map<string, PackedShape>;
  checksums: Map<string, string>;
  /** By tensor; empty when the folder has none. */
  report: Map<string, TensorReport>;
  calibration: JsonObject;
  source: JsonObject;
}

/** Bytes of all bit-planes: every row group is padded to whole tiles, columns to whole quads. */
export function planeBytes(shape: PackedShape): number {
  const wholeGroups = Math.floor(shape.rows / shape.groupRows);
  const rest = shape.rows % shape.groupRows;
  const tiles = wholeGroups * Math.ceil(shape.groupRows / tileRows) + Math.ceil(rest / tileRows);
  return tiles * Math.ceil(shape.columns / quadColumns) * shape.planes * blockBytes;
}

/** The `quantization_config` of a packed folder, checked; null for a dense checkpoint. */
export function parseQuantizationConfig(config: JsonObject, configPath: string): QuantizationConfig | null {
  const field = config['quantization_config'];
  if (field === undefined || field === null) return null;
  const bad = (what: string): ShiftAddError =>
    new ShiftAddError(
      'ERR_BAD_MODEL_FILE',
      `${configPath}: quantization_config${what}. Quantize the model again with this version.`,
    );
  if (!isJsonObject(field)) throw bad(' must be an object');
  if (field['quant_method'] !== 'shiftadd') {
    throw bad(`.quant_method is ${show(field['quant_method'])}; only 'shiftadd' and dense checkpoints can be loaded`);
  }
  const version = field['format_version'];
  if (version !== 1 && version !== 2) throw bad(`.format_version is ${show(version)}; this version reads 1 and 2`);
  const mode = field['mode'];
  if (mode !== 'lat' && mode !== 'acc') throw bad(`.mode is ${show(mode)}; it must be 'lat' or 'acc'`);
  if (field['scale_encoding'] !== scaleEncoding) {
    throw bad(`.scale_encoding is ${show(field['scale_encoding'])}; this version reads '${scaleEncoding}'`);
  }
  const rowGroup = field['row_group'];
  if (!isWhole(rowGroup, 1, 2 ** 31 - 1)) throw bad(`.row_group is ${show(rowGroup)}; it must be a positive integer`);
  const rotation = version === 1 ? null : parseRotation(field['rotation'], config['hidden_size'], bad);
  const listed = field['tensors'];
  if (!isJsonObject(listed)) throw bad('.tensors must be an object');
  const tensors = new Map<string, PackedShape>();
  for (const [name, entry] of Object.entries(listed)) {
    tensors.set(
      name,
      parseShape(entry, (what) => bad(`.tensors[${show(name)}]${what}`)),
    );
  }
  const checksums = new Map<string, string>();
  const sums = field['checksums'];
  if (!isJsonObject(sums)) throw bad('.checksums must be an object');
  for (const [name, sum] of Object.entries(sums)) {
    if (typeof sum !== 'string' || !/^[0-9a-f]{64}$/.test(sum))
      throw bad(`.checksums[${show(name)}] is not a SHA-256 in hexadecimal`);
    checksums.set(name, sum);
  }
  const report = parseReport(field['report'], bad);
  const part = (value: Json | undefined): JsonObject => (isJsonObject(value) ? value : {});
  return { mode, rowGroup, rotation, tensors, checksums, report, calibration: part(field['calibration']), source: part(field['source']) };
}

/** The engine checks that the matrix is orthogonal. */
function parseRotation(entry: unknown, hiddenSize: unknown, bad: (what: string) => ShiftAddError): Rotation {
  if (!isJsonObject(entry)) throw bad('.rotation must be an object');
  const size = entry['size'];
  if (!isWhole(size, 1, largestRotation)) throw bad(`.rotation.size is ${show(size)}; it must be an integer from 1 to ${largestRotation}`);
  const signs = isWhole(hiddenSize, 1, 2 ** 20) ? signsFromHex(entry['signs'], hiddenSize) : null;
  if (signs === null) throw bad('.rotation.signs must have one bit per hidden number, in hexadecimal');
  const matrix = signsFromHex(entry['matrix'], size * size);
  if (matrix === null) throw bad('.rotation.matrix must have size x size bits, in hexadecimal');
  return { size, signs, matrix };
}

function isWhole(value: unknown, least: number, most: number): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most;
}

function parseShape(entry: unknown, bad: (what: string) => ShiftAddError): PackedShape {
  if (!isJsonObject(entry)) throw bad(' must be an object');
  const read = (field: string, least: number, most: number): number => {
    const value = entry[field];
    if (!isWhole(value, least, most))
      throw bad(`.${field} is ${show(value)}; it must be an integer from ${least} to ${most}`);
    return value;
  };
  const groupColumns = entry['group_columns'];
  if (groupColumns !== 1 && groupColumns !== 8) throw bad(`.group_columns is ${show(groupColumns)}; it must be 1 or 8`);
  return {
    rows: read('rows', 1, 2 ** 31 - 1),
    columns: read('columns', 1, 2 ** 31 - 1),
    planes: read('planes', 1, 8),
    groupRows: read('group_rows', 1, 2 ** 31 - 1),
    groupColumns,
    scaleExponent: read('scale_exponent', -1000, 1000),
  };
}

const suffixes = ['.planes', '.scales', '.row_scales'];

/** Finds and checks the stored tensors of every packed matrix. */
export function collectPackedTensors(
  quantization: QuantizationConfig,
  stored: Map<string, StoredTensor>,
  configPath: string,
): Map<string, PackedTensor> {
  const packed = new Map<string, PackedTensor>();
  for (const [name, shape] of quantization.tensors) {
    const find = (suffix: string, dtypes: string[], dimensions: number[]): StoredTensor => {
      const tensor = stored.get(name + suffix);
      if (tensor === undefined) {
        throw new ShiftAddError(
          'ERR_BAD_MODEL_FILE',
          `${configPath} lists the packed tensor ${name}, but ${name}${suffix} is in no safetensors file. Download or copy the model folder again.`,
        );
      }
      checkTensor(tensor, dtypes, dimensions);
      return tensor;
    };
    const planeData = find('.planes', ['U8'], [planeBytes(shape)]);
    if (planeData.offset % blockBytes !== 0) {
      throw new ShiftAddError(
        'ERR_BAD_MODEL_FILE',
        `${planeData.path}: tensor ${planeData.name} begins at byte ${planeData.offset}, which is no multiple of ${blockBytes}. Write the file again with shiftadd quantize.`,
      );
    }
    const groups = [Math.ceil(shape.rows / shape.groupRows), Math.ceil(shape.columns / shape.groupColumns)];
    const scales = find('.scales', ['U16', 'F32'] satisfies ScaleType[], [...groups, shape.planes]);
    const rowScales = stored.has(`${name}.row_scales`) ? find('.row_scales', ['F16'], [shape.rows]) : null;
    packed.set(name, { ...shape, name, planeData, scales, rowScales });
  }
  for (const tensor of stored.values()) {
    const suffix = suffixes.find((end) => tensor.name.endsWith(end));
    if (suffix !== undefined && !quantization.tensors.has(tensor.name.slice(0, -suffix.length))) {
      const near = nearest(tensor.name.slice(0, -suffix.length), [...quantization.tensors.keys()]);
      throw new ShiftAddError(
        'ERR_BAD_MODEL_FILE',
        `${tensor.path}: tensor ${tensor.name} is not listed in quantization_config.tensors of ${configPath}${near === null ? '' : ` (is ${near} meant?)`}.`,
      );
    }
    if (!quantization.checksums.has(tensor.name)) {
      throw new ShiftAddError(
        'ERR_BAD_MODEL_FILE',
        `${configPath}: quantization_config.checksums has no entry for tensor ${tensor.name}.`,
      );
    }
  }
  for (const name of quantization.report.keys()) {
    if (quantization.tensors.has(name)) continue;
    const near = nearest(name, [...quantization.tensors.keys()]);
    throw new ShiftAddError(
      'ERR_BAD_MODEL_FILE',
      `${configPath}: quantization_config.report[${show(name)}] is about no packed tensor${near === null ? '' : ` (is ${near} meant?)`}.`,
    );
  }
  return packed;
}

function checkTensor(tensor: StoredTensor, dtypes: string[], shape: number[]): void {
  const same =
    dtypes.includes(tensor.dtype) && tensor.shape.length === shape.length && tensor.shape.every((n, i) => n === shape[i]);
  if (same) return;
  throw new ShiftAddError(
    'ERR_BAD_MODEL_FILE',
    `${tensor.path}: tensor ${tensor.name} is ${tensor.dtype} [${tensor.shape.join(', ')}] but quantization_config asks for ${dtypes.join(' or ')} [${shape.join(', ')}].`,
  );
}
