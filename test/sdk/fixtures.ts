// Paths of the fixtures, and edited copies of them.
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { readSafetensors } from '../../sdk/src/checkpoint/safetensors.js';

export const root = resolve('test/fixtures');
export const stories = join(root, 'stories-260k');
export const families = join(root, 'families');
export const llama = join(root, 'families', 'llama');
export const llamaOdd = join(root, 'families', 'llama-odd');

interface Teardown {
  teardown(run: () => Promise<void>): void;
}

export async function temporaryFolder(t: Teardown): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'shiftadd-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** A copy that may be changed; it goes when the test ends. */
export async function copyOf(t: Teardown, fixture: string): Promise<string> {
  const folder = join(await temporaryFolder(t), 'model');
  await cp(fixture, folder, { recursive: true });
  return folder;
}

export async function editJson(path: string, edit: (value: any) => void): Promise<void> {
  const value = JSON.parse(await readFile(path, 'utf8'));
  edit(value);
  await writeFile(path, JSON.stringify(value));
}

/** Overwrites bytes of one tensor in a safetensors file. */
export async function patchTensor(path: string, name: string, offset: number, bytes: Uint8Array): Promise<void> {
  const entry = (await readSafetensors(path)).tensors.get(name)!;
  const file = await readFile(path);
  file.set(bytes, entry.offset + offset);
  await writeFile(path, file);
}

/** Numbers of an I64 or F32 tensor. */
export async function readNumbers(path: string, name: string): Promise<number[]> {
  const entry = (await readSafetensors(path)).tensors.get(name)!;
  const file = readFileSync(path);
  const view = new DataView(file.buffer, file.byteOffset + entry.offset, entry.bytes);
  const count = entry.shape.reduce((a, b) => a * b, 1);
  return Array.from({ length: count }, (_, i) =>
    entry.dtype === 'I64' ? Number(view.getBigInt64(i * 8, true)) : view.getFloat32(i * 4, true),
  );
}

/** The bytes of a safetensors file with this header (an object, or its exact text) and this many data bytes. */
export function safetensorsBytes(header: object | string, dataBytes: number): Uint8Array {
  const text = new TextEncoder().encode(typeof header === 'string' ? header : JSON.stringify(header));
  const bytes = new Uint8Array(8 + text.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  return bytes;
}

/** A tokenizer.json of byte-level BPE without merges: the printable stand-ins of the bytes by code point, ids 0 to 255. */
export function byteTokenizer(): any {
  const points = [];
  for (let byte = 0x21; byte <= 0x7e; byte++) points.push(byte);
  for (let byte = 0xa1; byte <= 0xac; byte++) points.push(byte);
  for (let byte = 0xae; byte <= 0xff; byte++) points.push(byte);
  for (let stand = 0x100; points.length < 256; stand++) points.push(stand);
  return {
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel' },
    model: {
      type: 'BPE',
      vocab: Object.fromEntries(points.map((point, id) => [String.fromCharCode(point), id])),
      merges: [],
    },
  };
}

export { dirname, join };
