/**
 * The file of a saved session: what `docs/sessions.md` describes. It is written under another name and renamed when it is whole;
 * it is read part by part, and no part is given away before its checksum agreed.
 */
import { createHash, randomBytes } from 'node:crypto';
import { open, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { isJsonObject, type Json, type JsonObject } from './checkpoint/json-file.js';
import { ShiftAddError, fromFileSystem, fromWriting } from './errors.js';

/** No text begins so; the line ends and the end of file of old systems show transfers that changed them. */
const magic = Uint8Array.of(0x89, 0x53, 0x41, 0x53, 0x0d, 0x0a, 0x1a, 0x0a);
const version = 1;
const preambleBytes = 32;
const sumBytes = 32;
const headerLimit = 64 * 1024 * 1024;
const tokenLimit = 2 ** 24; // far above every model's context
/** Of one chunk of positions, unless one position is larger. */
const chunkBytes = 1024 * 1024;

export interface StateContent {
  header: JsonObject;
  tokens: Int32Array;
  /** Of one position of the KV cache; 0 where there are no tokens. */
  positionBytes: number;
}

/** Bytes of positions first to first + count - 1. */
export type ReadPositions = (first: number, count: number) => Promise<Uint8Array>;

const chunksOf = (count: number, positions: number): number => Math.ceil(count / positions);

/** Writes a state file and returns its full path. ERR_WRITE, ERR_NOT_FOUND, ERR_OUTPUT_EXISTS (a file of another kind is there). */
export async function writeStateFile(file: string, { header, tokens, positionBytes }: StateContent, read: ReadPositions): Promise<string> {
  const path = resolve(file);
  await checkTarget(path);
  const partial = `${path}.partial-${process.pid}-${randomBytes(4).toString('hex')}`;
  try {
    const out = await open(partial, 'wx', 0o600); // conversations are their owner's
    try {
      const chain = new Chain();
      const text = new TextEncoder().encode(JSON.stringify(header));
      const positions = Math.max(1, Math.floor(chunkBytes / Math.max(1, positionBytes)));
      await writeAll(out, chain.seal([preamble(text.length, tokens.length, positions, positionBytes), text, littleEndian(tokens)]));
      for (let first = 0; first < tokens.length; first += positions)
        await writeAll(out, chain.seal([await read(first, Math.min(positions, tokens.length - first))]));
      await out.sync();
    } finally {
      await out.close();
    }
    await rename(partial, path);
  } catch (error) {
    await rm(partial, { force: true }).catch(() => undefined); // the first failure is the one to report
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') throw fromFileSystem(error, dirname(path), 'Make the folder first, or choose another one.');
    throw fromWriting(error, path);
  }
  return path;
}

/** An open state file whose header has been checked. */
export class StateFile implements StateContent {
  private constructor(
    readonly path: string,
    private readonly file: FileHandle,
    private readonly chain: Chain,
    readonly header: JsonObject,
    readonly tokens: Int32Array,
    readonly positionBytes: number,
    private readonly chunkPositions: number,
    private at: number,
  ) {}

  /** ERR_NOT_FOUND, ERR_STATE_FILE (no state file, another version, damaged, or its sizes do not agree with its length). */
  static async open(given: string): Promise<StateFile> {
    const path = resolve(given);
    const fix = 'Pass the path of a file that saveState wrote.';
    const file = await open(path, 'r').catch((error: unknown) => {
      throw fromFileSystem(error, path, fix);
    });
    try {
      const { size } = await file.stat();
      const head = await readAt(file, path, 0, Math.min(size, preambleBytes)).catch((error: unknown) => {
        throw error instanceof ShiftAddError ? error : fromFileSystem(error, path, fix);
      });
      if (head.length < magic.length || magic.some((byte, i) => head[i] !== byte)) throw damaged(path, 'is not a saved session');
      if (head.length < preambleBytes) throw damaged(path, 'ends within its first bytes');
      const view = new DataView(head.buffer, head.byteOffset);
      if (view.getUint32(8, true) !== version) throw damaged(path, `has version ${view.getUint32(8, true)} of the format, this package reads version ${version}`);
      const [headerBytes, count, positions] = [view.getUint32(12, true), view.getUint32(16, true), view.getUint32(20, true)];
      const positionBytes = Number(view.getBigUint64(24, true));
      if (headerBytes > headerLimit || count > tokenLimit || positions === 0) throw damaged(path, 'has sizes that no saved session has');
      const sealed = preambleBytes + headerBytes + 4 * count;
      const wanted = sealed + sumBytes + count * positionBytes + chunksOf(count, positions) * sumBytes;
      if (wanted !== size) throw damaged(path, `has ${size} bytes but its sizes ask for ${wanted}`);
      if (Math.min(count, positions) * positionBytes > Math.max(chunkBytes, positionBytes)) throw damaged(path, 'has sizes that no saved session has');
      const chain = new Chain();
      const first = chain.open(await readAt(file, path, 0, sealed + sumBytes), path);
      const header = parseHeader(first.subarray(preambleBytes, preambleBytes + headerBytes), path);
      const tokens = fromLittleEndian(first.subarray(preambleBytes + headerBytes));
      return new StateFile(path, file, chain, header, tokens, positionBytes, positions, sealed + sumBytes);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** The chunks of the KV cache from the first position on, each with its tokens. ERR_STATE_FILE. */
  async *chunks(): AsyncGenerator<{ tokens: Int32Array; saved: Uint8Array }> {
    for (let first = 0; first < this.tokens.length; first += this.chunkPositions) {
      const tokens = this.tokens.slice(first, first + this.chunkPositions);
      const bytes = tokens.length * this.positionBytes + sumBytes;
      const saved = this.chain.open(await readAt(this.file, this.path, this.at, bytes), this.path);
      this.at += bytes;
      yield { tokens, saved };
    }
  }

  async close(): Promise<void> {
    await this.file.close();
  }
}

export function damaged(path: string, what: string): ShiftAddError {
  return new ShiftAddError('ERR_STATE_FILE', `${path} ${what}. Save the session again.`);
}

/** Every part ends with the SHA-256 of the checksum before it and its own bytes, so that parts neither move nor are left out. */
class Chain {
  private last = new Uint8Array(sumBytes);

  seal(parts: Uint8Array[]): Uint8Array[] {
    this.last = this.sum(parts);
    return [...parts, this.last];
  }

  /** The bytes of a part without its checksum. */
  open(part: Uint8Array, path: string): Uint8Array {
    const bytes = part.subarray(0, part.length - sumBytes);
    const sum = this.sum([bytes]);
    if (sum.some((byte, i) => byte !== part[bytes.length + i])) throw damaged(path, 'is damaged: a checksum does not agree');
    this.last = sum;
    return bytes;
  }

  private sum(parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
    const hash = createHash('sha256').update(this.last);
    for (const part of parts) hash.update(part);
    return new Uint8Array(hash.digest());
  }
}

function preamble(headerBytes: number, tokens: number, positions: number, positionBytes: number): Uint8Array {
  const bytes = new Uint8Array(preambleBytes);
  const view = new DataView(bytes.buffer);
  bytes.set(magic);
  [version, headerBytes, tokens, positions].forEach((value, i) => view.setUint32(8 + 4 * i, value, true));
  view.setBigUint64(24, BigInt(positionBytes), true);
  return bytes;
}

function littleEndian(tokens: Int32Array): Uint8Array {
  const view = new DataView(new ArrayBuffer(4 * tokens.length));
  tokens.forEach((token, i) => view.setInt32(4 * i, token, true));
  return new Uint8Array(view.buffer);
}

function fromLittleEndian(bytes: Uint8Array): Int32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Int32Array.from({ length: bytes.length / 4 }, (_, i) => view.getInt32(4 * i, true));
}

function parseHeader(bytes: Uint8Array, path: string): JsonObject {
  let header: Json;
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)) as Json;
  } catch {
    throw damaged(path, 'has a header that is no JSON');
  }
  if (!isJsonObject(header)) throw damaged(path, 'has a header that is no JSON object');
  return header;
}

async function readAt(file: FileHandle, path: string, from: number, bytes: number): Promise<Uint8Array> {
  const buffer = new Uint8Array(bytes);
  for (let done = 0; done < bytes; ) {
    const { bytesRead } = await file.read(buffer, done, bytes - done, from + done);
    if (bytesRead === 0) throw damaged(path, 'ended while it was read');
    done += bytesRead;
  }
  return buffer;
}

async function writeAll(out: FileHandle, parts: Uint8Array[]): Promise<void> {
  for (const part of parts)
    for (let done = 0; done < part.length; ) done += (await out.write(part, done, part.length - done)).bytesWritten;
}

/** Only a state file is replaced. */
async function checkTarget(path: string): Promise<void> {
  const there = await stat(path).catch(() => null);
  if (there === null) return;
  if (!there.isFile()) throw new ShiftAddError('ERR_OUTPUT_EXISTS', `${path} is ${there.isDirectory() ? 'a folder' : 'no file'}. Choose the name of a file, such as chat.state.`);
  const file = await open(path, 'r').catch(() => null);
  if (file === null) return; // writing says why
  try {
    const { buffer, bytesRead } = await file.read(new Uint8Array(magic.length), 0, magic.length, 0);
    if (bytesRead > 0 && magic.some((byte, i) => buffer[i] !== byte)) throw new ShiftAddError('ERR_OUTPUT_EXISTS', `${path} exists and is no saved session. Choose another name.`);
  } finally {
    await file.close();
  }
}
