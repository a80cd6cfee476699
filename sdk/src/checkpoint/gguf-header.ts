/**
 * Reads the header of a GGUF file and checks everything it says against the file. Source: the GGUF specification of ggml,
 * versions 2 and 3, little-endian.
 */
import { open, type FileHandle } from 'node:fs/promises';
import { ShiftAddError, fromFileSystem } from '../errors.js';
import type { TensorEntry } from './safetensors.js';

export type GgufScalar = string | number | boolean;
export type GgufValue = GgufScalar | GgufScalar[];

export interface GgufFile {
  path: string;
  fileBytes: number;
  metadata: Map<string, GgufValue>;
  /** Shapes as [rows, columns], the other way round than in the file; types by their names in ggml. */
  tensors: Map<string, TensorEntry>;
}

/** Numbers of tensor types in ggml: name, elements and bytes of a block. */
const tensorTypes: Readonly<Record<number, readonly [name: string, elements: number, bytes: number]>> = {
  0: ['F32', 1, 4],
  1: ['F16', 1, 2],
  2: ['Q4_0', 32, 18],
  3: ['Q4_1', 32, 20],
  6: ['Q5_0', 32, 22],
  7: ['Q5_1', 32, 24],
  8: ['Q8_0', 32, 34],
  10: ['Q2_K', 256, 84],
  11: ['Q3_K', 256, 110],
  12: ['Q4_K', 256, 144],
  13: ['Q5_K', 256, 176],
  14: ['Q6_K', 256, 210],
  20: ['IQ4_NL', 32, 18],
  30: ['BF16', 1, 2],
};

/** Bytes of the scalar types of metadata, by their numbers; 8 is a string (its length), 9 an array (type and count). */
const scalarBytes = [1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8];
const arrayType = 9;
const firstRead = 1 << 20;
/** Headers above this are refused; the largest vocabularies take about 10 MB. */
const headerLimit = 1 << 28;
const mostDimensions = 4;

/** ERR_NOT_FOUND, ERR_BAD_MODEL_FILE, ERR_UNSUPPORTED_MODEL. */
export async function readGguf(path: string): Promise<GgufFile> {
  let file: FileHandle;
  try {
    file = await open(path, 'r');
  } catch (error) {
    throw fromFileSystem(error, path, 'Download or copy the file again.');
  }
  try {
    const stat = await file.stat();
    if (!stat.isFile()) throw bad(path, 'is not a file');
    // Longer and longer parts, until the header is whole.
    for (let length = Math.min(firstRead, stat.size); ; length = Math.min(length * 4, stat.size)) {
      const bytes = new Uint8Array(length);
      const { bytesRead } = await file.read(bytes, 0, length, 0);
      if (bytesRead < length) throw bad(path, `ends at byte ${bytesRead}, while it was read`);
      const parsed = new HeaderReader(path, bytes, stat.size).header();
      if (parsed !== null) return parsed;
      if (length === stat.size) throw bad(path, `ends at byte ${stat.size}, inside its header`);
      if (length >= headerLimit) throw bad(path, `has a header of more than ${headerLimit} bytes`);
    }
  } finally {
    await file.close();
  }
}

function bad(path: string, what: string): ShiftAddError {
  return new ShiftAddError('ERR_BAD_MODEL_FILE', `${path} ${what}. Download or copy the file again.`);
}

/** Thrown inside when the bytes at hand end before the header does. */
class NeedsMore extends Error {}

class HeaderReader {
  private at = 0;
  private readonly view: DataView;
  private readonly decoder = new TextDecoder();

  constructor(
    private readonly path: string,
    private readonly bytes: Uint8Array,
    private readonly fileBytes: number,
  ) {
    this.view = new DataView(bytes.buffer);
  }

  /** Null when the bytes at hand end inside the header. */
  header(): GgufFile | null {
    try {
      return this.read();
    } catch (error) {
      if (error instanceof NeedsMore) return null;
      throw error;
    }
  }

  private read(): GgufFile {
    if (this.fileBytes < 24 || String.fromCharCode(...this.bytes.subarray(0, 4)) !== 'GGUF') throw bad(this.path, 'is no GGUF file');
    this.at = 4;
    const version = this.unsigned();
    if (version === 0x02000000 || version === 0x03000000) {
      throw new ShiftAddError('ERR_UNSUPPORTED_MODEL', `${this.path} is a big-endian GGUF file; convert the checkpoint to little-endian.`);
    }
    if (version !== 2 && version !== 3) {
      throw new ShiftAddError('ERR_UNSUPPORTED_MODEL', `${this.path} has GGUF version ${version}; this version reads 2 and 3. Convert the checkpoint again.`);
    }
    // The least that a tensor and a key take: a name of one byte and one dimension; a key of one byte and a scalar.
    const tensorCount = this.count('tensors', 8 + 1 + 4 + 8 + 4 + 8);
    const keyCount = this.count('keys', 8 + 1 + 4 + 1);
    const metadata = new Map<string, GgufValue>();
    for (let i = 0; i < keyCount; i++) {
      const key = this.string('a key');
      if (key === '') throw bad(this.path, `has an empty key (number ${i + 1})`);
      if (metadata.has(key)) throw bad(this.path, `has the key ${key} twice`);
      metadata.set(key, this.value(key, this.unsigned()));
    }
    const alignment = metadata.get('general.alignment') ?? 32;
    if (typeof alignment !== 'number' || alignment < 8 || alignment > 1 << 20 || (alignment & (alignment - 1)) !== 0) {
      throw bad(this.path, `has general.alignment ${String(alignment)}; it must be a power of two from 8 to ${1 << 20}`);
    }
    const entries = Array.from({ length: tensorCount }, () => this.tensor());
    const start = Math.ceil(this.at / alignment) * alignment;
    return { path: this.path, fileBytes: this.fileBytes, metadata, tensors: this.place(entries, start, alignment) };
  }

  private place(entries: TensorEntry[], start: number, alignment: number): Map<string, TensorEntry> {
    const tensors = new Map<string, TensorEntry>();
    for (const entry of entries) {
      if (tensors.has(entry.name)) throw bad(this.path, `has two tensors named ${entry.name}`);
      if (entry.offset % alignment !== 0) throw bad(this.path, `puts tensor ${entry.name} at offset ${entry.offset}, which is no multiple of ${alignment}`);
      const end = start + entry.offset + entry.bytes;
      if (end > this.fileBytes) throw bad(this.path, `ends at byte ${this.fileBytes}, but tensor ${entry.name} needs bytes up to ${end}`);
      tensors.set(entry.name, { ...entry, offset: start + entry.offset });
    }
    const sorted = [...tensors.values()].filter(({ bytes }) => bytes > 0).sort((a, b) => a.offset - b.offset);
    sorted.forEach((entry, i) => {
      const next = sorted[i + 1];
      if (next !== undefined && entry.offset + entry.bytes > next.offset) throw bad(this.path, `has overlapping tensors ${entry.name} and ${next.name}`);
    });
    return tensors;
  }

  private tensor(): TensorEntry {
    const name = this.string('the name of a tensor');
    if (name === '') throw bad(this.path, 'has a tensor without a name');
    const dimensions = this.unsigned();
    if (dimensions < 1 || dimensions > mostDimensions) throw bad(this.path, `gives tensor ${name} ${dimensions} dimensions`);
    const shape = Array.from({ length: dimensions }, () => this.long(`a dimension of tensor ${name}`)).reverse();
    const typeNumber = this.unsigned();
    const offset = this.long(`the offset of tensor ${name}`);
    const type = tensorTypes[typeNumber];
    if (type === undefined) {
      const known = Object.values(tensorTypes).map(([known]) => known).join(', ');
      throw new ShiftAddError('ERR_UNSUPPORTED_MODEL', `${this.path}: tensor ${name} has the type number ${typeNumber}; this version reads ${known}.`);
    }
    const [dtype, blockElements, blockBytes] = type;
    const columns = shape.at(-1)!;
    if (columns % blockElements !== 0) throw bad(this.path, `gives tensor ${name} rows of ${columns} elements, no multiple of the ${blockElements} of a ${dtype} block`);
    const elements = shape.reduce((product, size) => product * size, 1);
    const bytes = (elements / blockElements) * blockBytes;
    if (!Number.isSafeInteger(elements) || !Number.isSafeInteger(bytes) || bytes > this.fileBytes)
      throw bad(this.path, `gives tensor ${name} the shape [${shape.join(', ')}], more than the file holds`);
    return { name, dtype, shape, offset, bytes };
  }

  private value(key: string, type: number): GgufValue {
    if (type !== arrayType) return this.scalar(key, type);
    const elementType = this.unsigned();
    if (elementType === arrayType || scalarBytes[elementType] === undefined) throw bad(this.path, `has an array of the unknown type ${elementType} for the key ${key}`);
    const count = this.count(`elements of ${key}`, scalarBytes[elementType]!);
    const values: GgufScalar[] = [];
    for (let i = 0; i < count; i++) values.push(this.scalar(key, elementType));
    return values;
  }

  private scalar(key: string, type: number): GgufScalar {
    if (type === 8) return this.string(key);
    const bytes = scalarBytes[type];
    if (bytes === undefined || type === arrayType) throw bad(this.path, `has the unknown type ${type} for the key ${key}`);
    const at = this.take(bytes);
    switch (type) {
      case 0: return this.view.getUint8(at);
      case 1: return this.view.getInt8(at);
      case 2: return this.view.getUint16(at, true);
      case 3: return this.view.getInt16(at, true);
      case 4: return this.view.getUint32(at, true);
      case 5: return this.view.getInt32(at, true);
      case 6: return Number(this.view.getFloat32(at, true).toPrecision(7)); // the decimal that was meant
      case 7: return this.view.getUint8(at) !== 0;
      case 10: return Number(this.view.getBigUint64(at, true));
      case 11: return Number(this.view.getBigInt64(at, true));
      default: return this.view.getFloat64(at, true);
    }
  }

  private string(what: string): string {
    const length = this.count(`bytes of ${what}`, 1);
    const at = this.take(length);
    return this.decoder.decode(this.bytes.subarray(at, at + length));
  }

  /** A number of things of at least `each` bytes, which the rest of the file must hold. */
  private count(what: string, each: number): number {
    const value = this.view.getBigUint64(this.take(8), true);
    if (value * BigInt(each) > BigInt(this.fileBytes - this.at)) throw bad(this.path, `says that it has ${value} ${what}, more than it holds`);
    return Number(value);
  }

  private long(what: string): number {
    const value = this.view.getBigUint64(this.take(8), true);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw bad(this.path, `has ${value} for ${what}`);
    return Number(value);
  }

  private unsigned(): number {
    return this.view.getUint32(this.take(4), true);
  }

  private take(bytes: number): number {
    const at = this.at;
    if (bytes > this.bytes.length - at) throw new NeedsMore();
    this.at = at + bytes;
    return at;
  }
}
