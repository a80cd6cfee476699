/**
 * Reads the header of a safetensors file and checks everything it says against the file, so that later code may use
 * offsets without a second look. Tensor data is not read here.
 */
import { open, type FileHandle } from 'node:fs/promises';
import { ShiftAddError, fromFileSystem } from '../errors.js';
import { show } from '../options.js';
import { isJsonObject } from './json-file.js';

/** Headers above 100 MB are refused before anything is allocated (the limit of the safetensors library). */
export const headerLimitBytes = 100_000_000;

/** Bytes per element. */
export const dtypeBytes: Readonly<Record<string, number>> = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  F8_E8M0: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
};

export interface TensorEntry {
  name: string;
  dtype: string;
  shape: number[];
  /** From the start of the file. */
  offset: number;
  bytes: number;
}

export interface SafetensorsFile {
  path: string;
  fileBytes: number;
  tensors: Map<string, TensorEntry>;
  metadata: Record<string, string>;
}

/** Opens, reads and checks the header. ERR_NOT_FOUND, ERR_BAD_MODEL_FILE. */
export async function readSafetensors(path: string): Promise<SafetensorsFile> {
  let file: FileHandle;
  try {
    file = await open(path, 'r');
  } catch (error) {
    throw fromFileSystem(error, path, 'Download or copy the model folder again.');
  }
  try {
    const { size, isFile } = await file.stat().then((stat) => ({ size: stat.size, isFile: stat.isFile() }));
    if (!isFile) throw bad(path, 'is not a file');
    return await readHeader(file, path, size);
  } catch (error) {
    throw error instanceof ShiftAddError
      ? error
      : fromFileSystem(error, path, 'Download or copy the model folder again.');
  } finally {
    await file.close();
  }
}

/** The same, but null when the file is missing or its header does not fit it. */
export async function readSafetensorsIfWhole(path: string): Promise<SafetensorsFile | null> {
  return readSafetensors(path).catch((error: unknown) => {
    if (error instanceof ShiftAddError && (error.code === 'ERR_NOT_FOUND' || error.code === 'ERR_BAD_MODEL_FILE')) return null;
    throw error;
  });
}

function bad(path: string, what: string): ShiftAddError {
  return new ShiftAddError('ERR_BAD_MODEL_FILE', `${path} ${what}. Download or copy the file again.`);
}

async function readHeader(file: FileHandle, path: string, fileBytes: number): Promise<SafetensorsFile> {
  if (fileBytes < 8)
    throw bad(path, `is too short for a safetensors file: wanted at least 8 bytes, found ${fileBytes}`);
  const prefix = new DataView((await readExactly(file, path, 0, 8)).buffer);
  const length = prefix.getBigUint64(0, true);
  if (length > BigInt(headerLimitBytes)) {
    throw bad(
      path,
      `claims a header of ${length} bytes; the limit is ${headerLimitBytes}. It may not be a safetensors file`,
    );
  }
  const headerBytes = Number(length);
  if (8 + headerBytes > fileBytes) {
    throw bad(path, `is cut inside its header: wanted ${8 + headerBytes} bytes, found ${fileBytes}`);
  }
  const bytes = await readExactly(file, path, 8, headerBytes);
  const { tensors, metadata } = parseHeader(path, bytes, 8 + headerBytes, fileBytes);
  return { path, fileBytes, tensors, metadata };
}

async function readExactly(file: FileHandle, path: string, offset: number, bytes: number): Promise<Uint8Array> {
  const buffer = new Uint8Array(bytes);
  let done = 0;
  while (done < bytes) {
    const { bytesRead } = await file.read(buffer, done, bytes - done, offset + done);
    if (bytesRead === 0) throw bad(path, `ended at byte ${offset + done}: wanted ${bytes} bytes at ${offset}`);
    done += bytesRead;
  }
  return buffer;
}

/** Checks a header; `dataStart` is where the data section begins. Exported for tests. */
export function parseHeader(
  path: string,
  bytes: Uint8Array,
  dataStart: number,
  fileBytes: number,
): Pick<SafetensorsFile, 'tensors' | 'metadata'> {
  if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) {
    throw bad(path, 'has a header that begins with a byte order mark; it must begin with {');
  }
  if (bytes.at(-1) === 0) throw bad(path, 'has a header padded with NUL bytes; only spaces may pad it');
  if (bytes[0] !== 0x7b) throw bad(path, 'has a header that does not begin with {: it must be a JSON object');
  let text: string;
  let header: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    header = JSON.parse(text);
  } catch (error) {
    throw bad(path, `has a header that is not valid JSON (${(error as Error).message})`);
  }
  if (!isJsonObject(header)) throw bad(path, `has a header that is not a JSON object but ${show(header)}`);
  const twice = duplicateKey(text);
  if (twice !== null) throw bad(path, `has a header with the duplicate key ${show(twice)}`);

  const metadata: Record<string, string> = {};
  const tensors = new Map<string, TensorEntry>();
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') {
      if (!isJsonObject(entry)) throw bad(path, 'has a __metadata__ that is not an object of strings');
      for (const [key, value] of Object.entries(entry)) {
        if (typeof value !== 'string') throw bad(path, `has __metadata__ ${show(key)} that is not a string`);
        metadata[key] = value;
      }
    } else {
      tensors.set(name, checkEntry(path, name, entry, dataStart, fileBytes));
    }
  }
  checkCoverage(path, tensors, dataStart, fileBytes);
  return { tensors, metadata };
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function checkEntry(path: string, name: string, entry: unknown, dataStart: number, fileBytes: number): TensorEntry {
  const wrong = (what: string): ShiftAddError => bad(path, `has a bad entry for tensor ${name}: ${what}`);
  if (!isJsonObject(entry)) throw wrong('it must be an object with dtype, shape and data_offsets');
  const { dtype, shape, data_offsets: range } = entry;
  if (typeof dtype !== 'string') throw wrong(`dtype must be a string but is ${show(dtype)}`);
  const elementBytes = Object.hasOwn(dtypeBytes, dtype) ? dtypeBytes[dtype]! : null;
  if (elementBytes === null) throw wrong(`dtype ${show(dtype)} is not known`);
  if (!Array.isArray(shape) || !shape.every(isCount)) throw wrong('shape must be a list of whole numbers');
  if (!Array.isArray(range) || range.length !== 2 || !range.every(isCount)) {
    throw wrong('data_offsets must be two whole numbers');
  }
  const [begin, end] = range as [number, number];
  if (end < begin) throw wrong(`data_offsets end (${end}) lies before begin (${begin})`);
  // Exact in doubles up to 2^53, and anything above that is refused: no product can wrap.
  const wanted = shape.includes(0) ? 0 : (shape as number[]).reduce((product, size) => product * size, elementBytes);
  if (!Number.isSafeInteger(wanted)) throw wrong(`shape [${shape.join(', ')}] is too large`);
  if (end - begin !== wanted) {
    throw wrong(`shape [${shape.join(', ')}] of ${dtype} wants ${wanted} bytes, data_offsets give ${end - begin}`);
  }
  if (dataStart + end > fileBytes) {
    throw wrong(`it wants the bytes up to ${dataStart + end}, the file has ${fileBytes}`);
  }
  return { name, dtype, shape: shape as number[], offset: dataStart + begin, bytes: wanted };
}

/** The tensors must fill the data section without holes or overlaps. */
function checkCoverage(path: string, tensors: Map<string, TensorEntry>, dataStart: number, fileBytes: number): void {
  const sorted = [...tensors.values()].sort((a, b) => a.offset - b.offset || a.bytes - b.bytes);
  let end = dataStart;
  for (const tensor of sorted) {
    if (tensor.offset < end)
      throw bad(path, `has a tensor ${tensor.name} that overlaps the one before it by ${end - tensor.offset} bytes`);
    if (tensor.offset > end) throw bad(path, `has a hole of ${tensor.offset - end} bytes before tensor ${tensor.name}`);
    end = tensor.offset + tensor.bytes;
  }
  if (end !== fileBytes) {
    throw bad(path, `has ${fileBytes - end} bytes behind its last tensor: wanted ${end} bytes, found ${fileBytes}`);
  }
}

/** The first key that an object of this valid JSON text holds twice, or null: JSON.parse would keep only the last. */
function duplicateKey(text: string): string | null {
  const open: (Set<string> | null)[] = []; // null for arrays
  let key: string | null = null;
  for (let i = 0; i < text.length; i++) {
    const char = text[i];
    if (char === '{') open.push(new Set());
    else if (char === '[') open.push(null);
    else if (char === '}' || char === ']') open.pop();
    else if (char === ':' && key !== null) {
      const keys = open.at(-1);
      if (keys?.has(key) === true) return key;
      keys?.add(key);
    } else if (char === '"') {
      const start = i++;
      while (text[i] !== '"') i += text[i] === '\\' ? 2 : 1;
      key = JSON.parse(text.slice(start, i + 1)) as string;
    }
  }
  return null;
}
