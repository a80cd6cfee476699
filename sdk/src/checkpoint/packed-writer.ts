/** Writes a packed model folder: weight shards with aligned planes, config.json with its metadata, copied files. */
import { createHash } from 'node:crypto';
import { copyFile, open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fromFileSystem, ShiftAddError } from '../errors.js';
import type { JsonObject } from './json-file.js';
import type { RowMap } from '../families/index.js';
import type { ModelFolder, StoredTensor } from './model-folder.js';
import { reportEntry, type TensorReport } from './packed-report.js';
import {
  formatVersion,
  planeBytes,
  scaleEncoding,
  type PackedShape,
  type ScaleType,
} from './packed-tensors.js';
import { dtypeBytes } from './safetensors.js';
import { signsToHex, type Rotation } from '../rotation.js';
import { headerBytes, writeSafetensors, type TensorToWrite } from './safetensors-writer.js';
import { tokenizerFileNames } from './tokenizer-files.js';

const copyBytes = 4 * 1024 * 1024;

/** Data that is there, or made when it is written. */
type Data<T> = T | (() => Promise<T>);

export interface MatrixToWrite extends PackedShape {
  planeData: Data<Uint8Array>;
  /** U16 (codes) unless said otherwise. */
  scaleType?: ScaleType;
  scales: Data<Uint16Array | Float32Array>;
  rowScales?: Uint16Array;
}

export interface PackedFolderContents {
  source: ModelFolder;
  packed: { name: string; matrix: MatrixToWrite; report?: TensorReport }[];
  /** Copied from the source, or with other fp32 `values`. */
  dense: (StoredTensor & { values?: Float32Array })[];
  /** Of the residual stream, already in the weights; null without. */
  rotation: Rotation | null;
  /** Of quantization_config, besides what the matrices themselves say. */
  record: { mode: 'lat' | 'acc'; rowGroup: number; calibration: object; source: object; settings: object };
  maxShardBytes: number;
  signal?: AbortSignal | undefined;
  /** 0 to 1. */
  onProgress: (done: number) => void;
}

/** Fills an existing empty folder. Throws what the file system throws, or the signal's reason. */
export async function writePackedFolder(folder: string, contents: PackedFolderContents): Promise<void> {
  const { source, packed, dense, record, signal } = contents;
  const checksums: Record<string, string> = {};
  const units = [
    ...packed.map(({ name, matrix }) => matrixTensors(name, matrix)),
    ...dense.map((tensor) => [denseTensor(tensor)]),
  ];
  const shards = planShards(
    units.map((unit) => unit.map((tensor) => withChecksum(tensor, checksums))),
    contents.maxShardBytes,
  );
  const weightMap: Record<string, string> = {};
  for (const [index, tensors] of shards.entries()) {
    signal?.throwIfAborted();
    const number = (n: number): string => String(n).padStart(5, '0');
    const name =
      shards.length === 1 ? 'model.safetensors' : `model-${number(index + 1)}-of-${number(shards.length)}.safetensors`;
    await writeSafetensors(join(folder, name), tensors, { format: 'pt' });
    for (const tensor of tensors) weightMap[tensor.name] = name;
    contents.onProgress((index + 1) / shards.length);
  }
  if (shards.length > 1) {
    const total = shards.flat().reduce((sum, tensor) => sum + tensor.bytes, 0);
    await writeJson(join(folder, 'model.safetensors.index.json'), {
      metadata: { total_size: total },
      weight_map: weightMap,
    });
  }
  const tensors = Object.fromEntries(
    packed.map(({ name, matrix }) => [
      name,
      {
        rows: matrix.rows,
        columns: matrix.columns,
        planes: matrix.planes,
        group_rows: matrix.groupRows,
        group_columns: matrix.groupColumns,
        scale_exponent: matrix.scaleExponent,
      },
    ]),
  );
  const report = Object.fromEntries(
    packed.flatMap(({ name, report: measured }) => {
      const entry = measured === undefined ? null : reportEntry(measured);
      return entry === null ? [] : [[name, entry]];
    }),
  );
  const { mode, rowGroup, calibration, settings } = record;
  await writeJson(join(folder, 'config.json'), {
    ...source.config,
    quantization_config: {
      quant_method: 'shiftadd',
      format_version: formatVersion(contents.rotation !== null),
      mode,
      scale_encoding: scaleEncoding,
      row_group: rowGroup,
      ...(contents.rotation === null ? {} : { rotation: rotationEntry(contents.rotation) }),
      tensors,
      report,
      calibration,
      settings,
      source: record.source,
      checksums,
    },
  });
  if (source.tokenizer !== null) {
    await writeJson(join(folder, 'generation_config.json'), source.generationConfig);
    await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(source.tokenizer.tokenizer));
    return writeJson(join(folder, 'tokenizer_config.json'), source.tokenizer.config);
  }
  for (const name of ['generation_config.json', ...tokenizerFileNames]) {
    await copyFile(join(source.path, name), join(folder, name)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw fromFileSystem(error, join(source.path, name), 'Check the checkpoint folder.');
    });
  }
}

function rotationEntry({ size, signs, matrix }: Rotation): object {
  return { size, signs: signsToHex(signs), matrix: signsToHex(matrix) };
}

async function writeJson(path: string, value: JsonObject | object): Promise<void> {
  await writeFile(path, `${JSON.stringify(value, null, 2)}\n`);
}

function bytesOf(array: Uint8Array | Uint16Array | Float32Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

function matrixTensors(name: string, matrix: MatrixToWrite): TensorToWrite[] {
  const { rows, planes, scaleType = 'U16', rowScales } = matrix;
  const tensor = (
    suffix: string,
    dtype: string,
    shape: number[],
    data: Data<Uint8Array | Uint16Array | Float32Array>,
  ): TensorToWrite => ({
    name: name + suffix,
    dtype,
    shape,
    bytes: shape.reduce((product, size) => product * size, dtypeBytes[dtype]!),
    data: async function* () {
      yield bytesOf(typeof data === 'function' ? await data() : data);
    },
  });
  const groups = [Math.ceil(rows / matrix.groupRows), Math.ceil(matrix.columns / matrix.groupColumns)];
  const tensors = [
    tensor('.planes', 'U8', [planeBytes(matrix)], matrix.planeData),
    tensor('.scales', scaleType, [...groups, planes], matrix.scales),
  ];
  if (rowScales !== undefined) tensors.push(tensor('.row_scales', 'F16', [rows], rowScales));
  return tensors;
}

/** A dense tensor as it is stored, or with other fp32 values. */
export function denseTensor(stored: StoredTensor & { values?: Float32Array }): TensorToWrite {
  if (dtypeBytes[stored.dtype] === undefined)
    throw new ShiftAddError('ERR_UNSUPPORTED_MODEL', `${stored.path}: tensor ${stored.name} is ${stored.dtype}, which a packed folder cannot hold. Take a checkpoint that has it in floats.`);
  const { values } = stored;
  return {
    name: stored.name,
    dtype: stored.dtype,
    shape: stored.shape,
    bytes: stored.bytes,
    data: async function* () {
      if (values !== undefined) return yield new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
      if (stored.holdsAdded !== undefined || stored.rowOrder !== undefined) return yield await asFamilyStores(stored);
      const file = await open(stored.path, 'r');
      try {
        for (let done = 0; done < stored.bytes;) {
          const buffer = new Uint8Array(Math.min(copyBytes, stored.bytes - done));
          const { bytesRead } = await file.read(buffer, 0, buffer.length, stored.offset + done);
          if (bytesRead === 0) throw new Error(`${stored.path} ended inside tensor ${stored.name}`);
          yield buffer.subarray(0, bytesRead);
          done += bytesRead;
        }
      } finally {
        await file.close();
      }
    },
  };
}

/** The numbers of a tensor of a GGUF file as the family stores them: rows in its order, without what it adds. */
async function asFamilyStores({ path, name, dtype, shape, offset, bytes, rowOrder, holdsAdded = 0 }: StoredTensor): Promise<Uint8Array> {
  if (dtype !== 'F32') throw new ShiftAddError('ERR_UNSUPPORTED_MODEL', `${path}: tensor ${name} is ${dtype}; it must be F32.`);
  const file = await open(path, 'r');
  try {
    const { buffer, bytesRead } = await file.read(new Uint8Array(bytes), 0, bytes, offset);
    if (bytesRead < bytes) throw new Error(`${path} ended inside tensor ${name}`);
    const values = new Float32Array(buffer.buffer);
    const columns = shape[1] ?? 1;
    return bytesOf(values.map((_, i) => values[storedRow(rowOrder, Math.floor(i / columns)) * columns + (i % columns)]! - holdsAdded));
  } finally {
    await file.close();
  }
}

/** `RowMap::stored` of core/tensor.h. */
function storedRow(order: RowMap | undefined, row: number): number {
  if (order === undefined) return row;
  const { first, inner, innerStride, middle, middleStride, outerStride } = order;
  const [c, b, a] = [row % inner, Math.floor(row / inner) % middle, Math.floor(row / inner / middle)];
  return first + a * outerStride + b * middleStride + c * innerStride;
}

/** Records the SHA-256 of the data as it is written. */
function withChecksum(tensor: TensorToWrite, checksums: Record<string, string>): TensorToWrite {
  checksums[tensor.name] = ''; // keeps the order of the tensors
  return {
    ...tensor,
    data: async function* () {
      const hash = createHash('sha256');
      for await (const chunk of tensor.data()) {
        hash.update(chunk);
        yield chunk;
      }
      checksums[tensor.name] = hash.digest('hex');
    },
  };
}

/** Fills files in order, each at most `limit` bytes unless one matrix alone is larger; planes come first in each. */
function planShards(units: TensorToWrite[][], limit: number): TensorToWrite[][] {
  const shards: TensorToWrite[][] = [];
  let current: TensorToWrite[] = [];
  let bytes = 0;
  for (const unit of units) {
    const unitBytes = unit.reduce((sum, tensor) => sum + tensor.bytes, 0);
    if (current.length > 0 && bytes + unitBytes + headerBytes([...current, ...unit], { format: 'pt' }) > limit) {
      shards.push(current);
      [current, bytes] = [[], 0];
    }
    current.push(...unit);
    bytes += unitBytes;
  }
  if (current.length > 0) shards.push(current);
  // Planes are multiples of 64 bytes; the rest by falling element size, so that every element is aligned.
  const rank = (tensor: TensorToWrite): number =>
    tensor.name.endsWith('.planes') ? 0 : 16 - dtypeBytes[tensor.dtype]!;
  return shards.map((shard) => shard.sort((a, b) => rank(a) - rank(b)));
}
