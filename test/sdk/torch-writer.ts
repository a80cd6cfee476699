// Writes files as torch.save does, independently of the reader: pickle protocol 2 and a zip of stored entries with data
// descriptors, padding and zip64 records. And Lat. folders made of such files.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

export const crc32 = (bytes: Uint8Array): number => {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let i = 0; i < 8; i++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return ~crc >>> 0;
};

/** Little-endian numbers of these widths in bytes, and texts. */
export function pack(...parts: (string | Uint8Array | [width: number, value: number])[]): Buffer {
  return Buffer.concat(
    parts.map((part) => {
      if (typeof part === 'string') return Buffer.from(part, 'latin1');
      if (part instanceof Uint8Array) return part;
      const [width, value] = part;
      const bytes = Buffer.alloc(width);
      let rest = BigInt(value);
      for (let i = 0; i < width; i++, rest >>= 8n) bytes[i] = Number(rest & 255n);
      return bytes;
    }),
  );
}

export interface EntryToZip {
  name: string;
  data: Uint8Array;
  // What a hostile file changes:
  flags?: number;
  method?: number;
  crc?: number;
  /** In the directory. */
  size?: number;
  storedSize?: number;
  localOffset?: number;
  nameInHeader?: string;
}

export interface ZipOptions {
  /** Sizes and offsets in 64-bit fields, as for entries above 4 GiB. */
  wide?: boolean;
  comment?: string;
  count?: number;
  directoryBytes?: number;
  /** Without the 64-bit end record, as other writers leave it out. */
  short?: boolean;
}

export function zip(entries: EntryToZip[], options: ZipOptions = {}): Buffer {
  const parts: Buffer[] = [];
  let at = 0;
  const add = (...bytes: Parameters<typeof pack>): void => {
    parts.push(pack(...bytes));
    at += parts.at(-1)!.length;
  };
  const directory: Buffer[] = [];
  for (const { name, data, ...odd } of entries) {
    const start = at;
    const flags = odd.flags ?? 0x0808; // sizes follow the data; UTF-8
    const method = odd.method ?? 0;
    const crc = odd.crc ?? crc32(data);
    const inHeader = odd.nameInHeader ?? name;
    const padding = 64 - ((at + 30 + inHeader.length + 4) % 64); // torch aligns the data
    add('PK\x03\x04', [2, 0], [2, flags], [2, method], [4, 0], [4, 0], [4, 0], [4, 0], [2, inHeader.length], [2, padding + 4]);
    add(inHeader, 'FB', [2, padding], 'Z'.repeat(padding), data);
    add('PK\x07\x08', [4, crc], [4, data.length], [4, data.length]);
    const [size, stored, offset] = [odd.size ?? data.length, odd.storedSize ?? odd.size ?? data.length, odd.localOffset ?? start];
    const extra = options.wide ? pack([2, 99], [2, 2], 'ab', [2, 1], [2, 24], [8, size], [8, stored], [8, offset]) : pack();
    const narrow = (value: number): [number, number] => [4, options.wide ? 0xffffffff : value];
    directory.push(
      pack('PK\x01\x02', [2, 0], [2, 0], [2, flags], [2, method], [4, 0], [4, crc], narrow(stored), narrow(size)),
      pack([2, name.length], [2, extra.length], [2, 0], [2, 0], [2, 0], [4, 0], narrow(offset), name, extra),
    );
  }
  const start = at;
  add(...directory);
  const count = options.count ?? entries.length;
  const bytes = options.directoryBytes ?? at - start;
  const end64 = at;
  if (options.short !== true) {
    add('PK\x06\x06', [8, 44], [2, 45], [2, 45], [4, 0], [4, 0], [8, count], [8, count], [8, bytes], [8, start]);
    add('PK\x06\x07', [4, 0], [8, end64], [4, 1]);
  }
  const inShort = (width: number, value: number): [number, number] => [width, options.wide ? 2 ** (8 * width) - 1 : value];
  add('PK\x05\x06', [2, 0], [2, 0], inShort(2, count), inShort(2, count), inShort(4, bytes), inShort(4, start));
  add([2, options.comment?.length ?? 0], options.comment ?? '');
  return Buffer.concat(parts);
}

export const text = (value: string): Buffer => pack('X', [4, Buffer.byteLength(value)], Buffer.from(value));
export const integer = (value: number): Buffer =>
  value < 256 ? pack('K', [1, value]) : value < 65536 ? pack('M', [2, value]) : value < 2 ** 31 ? pack('J', [4, value]) : pack('\x8a', [1, 6], [6, value]);
export const tuple = (...items: Uint8Array[]): Buffer => pack('(', ...items, 't');
export const global = (name: string): Buffer => pack('c', name.slice(0, name.lastIndexOf('.')), '\n', name.slice(name.lastIndexOf('.') + 1), '\n');
export const pickle = (...body: Uint8Array[]): Buffer => pack('\x80\x02', ...body, '.');

export interface TensorToPickle {
  shape: number[];
  stride?: number[];
  offset?: number;
  /** `Int`, `Float`, ... */
  type: string;
  key: string;
  elements?: number;
}

export function tensor({ shape, type, key, ...odd }: TensorToPickle): Buffer {
  const stride = odd.stride ?? shape.map((_, i) => shape.slice(i + 1).reduce((a, b) => a * b, 1));
  const elements = odd.elements ?? shape.reduce((a, b) => a * b, 1);
  const storage = pack(tuple(text('storage'), global(`torch.${type}Storage`), text(key), text('cuda:0'), integer(elements)), 'Q');
  const hooks = pack(global('collections.OrderedDict'), ')R');
  const sizes = (list: number[]): Buffer => tuple(...list.map(integer));
  return pack(
    global('torch._utils._rebuild_tensor_v2'),
    tuple(storage, integer(odd.offset ?? 0), sizes(shape), sizes(stride), pack('\x89'), hooks),
    'R',
  );
}

/** {name: value}, every value put into the memo as torch's pickler does. */
export function dict(values: Record<string, Uint8Array>): Buffer {
  const items = Object.entries(values).map(([name, value], i) => pack(text(name), 'q', [1, 2 * i], value, 'r', [4, 2 * i + 1]));
  return pack('}q', [1, 255], '(', ...items, 'u');
}

export function bytesOf(array: Int32Array | Uint32Array | Float32Array | Uint16Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

export function torchFile(data: Uint8Array, storages: Uint8Array[], options: ZipOptions & { root?: string } = {}): Buffer {
  const root = options.root ?? 'archive';
  return zip(
    [
      { name: `${root}/data.pkl`, data },
      { name: `${root}/byteorder`, data: Buffer.from('little') },
      ...storages.map((storage, i) => ({ name: `${root}/data/${i}`, data: storage })),
      { name: `${root}/version`, data: Buffer.from('3\n') },
    ],
    options,
  );
}

export interface LatMatrix {
  module: string;
  rows: number;
  columns: number;
  planes: number;
  groupRows: number;
  /** 1 for +1: [column][row][plane]. */
  bits: Uint8Array;
  /** [column / 8][row group][plane] */
  alpha: Float32Array;
}

/** The file of one matrix, as published. */
export function latFile({ rows, columns, planes, groupRows, bits, alpha }: LatMatrix, options?: ZipOptions & { root?: string }): Buffer {
  const words = new Uint32Array((columns * rows * planes) / 32);
  for (let k = 0; k < columns; k++)
    for (let n = 0; n < rows; n++)
      for (let i = 0; i < planes; i++) {
        const at = (k * (rows / 32) + Math.floor(n / 32)) * planes + i;
        words[at] = (words[at]! | (bits[(k * rows + n) * planes + i]! << (n % 32))) >>> 0;
      }
  const data = dict({
    bWeight: tensor({ type: 'Int', key: '0', shape: [columns, rows / 32, planes] }),
    alpha: tensor({ type: 'Float', key: '1', shape: [columns / 8, rows / groupRows, planes] }),
  });
  return torchFile(pickle(data), [bytesOf(words), bytesOf(alpha)], options);
}

/** W[row][column] = sum over planes of alpha * (2 bit - 1), in double precision. */
export function latWeights({ rows, columns, planes, groupRows, bits, alpha }: LatMatrix): Float64Array {
  const weights = new Float64Array(rows * columns);
  for (let n = 0; n < rows; n++)
    for (let k = 0; k < columns; k++)
      for (let i = 0; i < planes; i++) {
        const scale = alpha[(Math.floor(k / 8) * (rows / groupRows) + Math.floor(n / groupRows)) * planes + i]!;
        weights[n * columns + k]! += scale * (2 * bits[(k * rows + n) * planes + i]! - 1);
      }
  return weights;
}

export const latName = ({ module, planes }: LatMatrix, model = 'Tiny_2.5-llama'): string => `${model}_${module}_${planes}bit.pt`;

export async function writeLatFolder(folder: string, matrices: LatMatrix[]): Promise<void> {
  await mkdir(folder);
  await writeFile(join(folder, 'README.md'), 'a model card');
  for (const [i, matrix] of matrices.entries())
    await writeFile(join(folder, latName(matrix)), latFile(matrix, { root: i % 2 ? 'archive' : latName(matrix).slice(0, -3), wide: i % 3 === 2 }));
}
