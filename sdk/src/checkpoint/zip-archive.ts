/**
 * Reads the zip archives that torch.save writes: stored entries, zip64, data descriptors. Everything the central
 * directory says is checked against the file when the archive is opened; an entry is read, with its CRC, when asked for.
 */
import { open, type FileHandle } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { ShiftAddError, fromFileSystem } from '../errors.js';
import { show } from '../options.js';

/** Both far above what a checkpoint has; they bound what a hostile directory makes us allocate. */
const entryLimit = 100_000;
const directoryLimitBytes = 32 * 1024 * 1024;

const partBytes = 4 * 1024 * 1024;
const endBytes = 22;
const commentLimit = 0xffff;
const end64LocatorBytes = 20;
const end64Bytes = 56;
const centralBytes = 46;
const localBytes = 30;
const flagEncrypted = 1 | (1 << 6) | (1 << 13);

export interface ZipEntry {
  name: string;
  /** Of the data, from the start of the file. */
  offset: number;
  bytes: number;
  crc: number;
}

export interface ZipArchive {
  path: string;
  entries: Map<string, ZipEntry>;
}

interface DirectoryEntry extends Omit<ZipEntry, 'offset'> {
  localOffset: number;
}

const fix = 'Download or copy the file again.';

export function badFile(path: string, what: string, cause?: unknown): ShiftAddError {
  return new ShiftAddError('ERR_BAD_MODEL_FILE', `${path} ${what}. ${fix}`, cause);
}

/** ERR_NOT_FOUND, ERR_BAD_MODEL_FILE. */
export async function openZip(path: string): Promise<ZipArchive> {
  return withFile(path, async (file) => {
    const stat = await file.stat();
    if (!stat.isFile()) throw badFile(path, 'is not a file');
    const reader = new Reader(file, path, stat.size);
    const { start, bytes, count } = await readEnd(reader);
    const directory = parseDirectory(path, await reader.read(start, bytes), count);
    return { path, entries: await readLocalHeaders(reader, directory, start) };
  });
}

/**
 * The bytes [from, to) of an entry. All of it is read for its CRC, in parts. ERR_NOT_FOUND, ERR_BAD_MODEL_FILE where the
 * CRC is wrong.
 */
export async function readEntry(archive: ZipArchive, entry: ZipEntry, from = 0, to = entry.bytes): Promise<Uint8Array> {
  const { path } = archive;
  return withFile(path, async (file) => {
    const reader = new Reader(file, path, (await file.stat()).size);
    const wanted = new Uint8Array(to - from);
    let crc = 0;
    for (let at = 0; at < entry.bytes; at += partBytes) {
      const part = await reader.read(entry.offset + at, Math.min(partBytes, entry.bytes - at));
      crc = crc32(part, crc);
      const [first, last] = [Math.max(from - at, 0), Math.min(to - at, part.length)];
      if (first < last) wanted.set(part.subarray(first, last), at + first - from);
    }
    if (crc !== entry.crc) throw badFile(path, `is damaged: the entry ${show(entry.name)} has a wrong CRC`);
    return wanted;
  });
}

async function withFile<T>(path: string, use: (file: FileHandle) => Promise<T>): Promise<T> {
  let file: FileHandle | undefined;
  try {
    file = await open(path, 'r');
    return await use(file);
  } catch (error) {
    throw error instanceof ShiftAddError ? error : fromFileSystem(error, path, fix);
  } finally {
    await file?.close();
  }
}

class Reader {
  constructor(
    private readonly file: FileHandle,
    readonly path: string,
    readonly size: number,
  ) {}

  async read(offset: number, bytes: number): Promise<Uint8Array> {
    if (offset < 0 || bytes < 0 || offset + bytes > this.size)
      throw badFile(this.path, `is cut: wanted bytes ${offset} to ${offset + bytes}, it has ${this.size}`);
    const buffer = new Uint8Array(bytes);
    for (let done = 0; done < bytes;) {
      const { bytesRead } = await this.file.read(buffer, done, bytes - done, offset + done);
      if (bytesRead === 0) throw badFile(this.path, `ended at byte ${offset + done} while it was read`);
      done += bytesRead;
    }
    return buffer;
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

interface End {
  start: number;
  bytes: number;
  count: number;
}

/** Finds the central directory: the record at the end of the file and, where it is there, its 64-bit form. */
async function readEnd(reader: Reader): Promise<End> {
  const { path, size } = reader;
  const tailBytes = Math.min(size, endBytes + commentLimit);
  const tail = await reader.read(size - tailBytes, tailBytes);
  const view = viewOf(tail);
  let at = tailBytes - endBytes;
  // The comment, which is usually empty, must reach exactly to the end of the file.
  while (at >= 0 && !(view.getUint32(at, true) === 0x06054b50 && at + endBytes + view.getUint16(at + 20, true) === tailBytes))
    at--;
  if (at < 0) throw badFile(path, 'is not a zip archive, as torch.save writes them, or is cut');
  const endOffset = size - tailBytes + at;
  let end = { start: view.getUint32(at + 16, true), bytes: view.getUint32(at + 12, true), count: view.getUint16(at + 10, true) };
  if (view.getUint16(at + 4, true) !== 0 || view.getUint16(at + 6, true) !== 0 || view.getUint16(at + 8, true) !== end.count)
    throw badFile(path, 'is one part of a zip archive in several files');
  const end64 = await readEnd64(reader, endOffset);
  if (end64 !== null) {
    // The short record holds the same numbers, or all ones where they do not fit.
    const agree = (short: number, long: number, ones: number): boolean => short === ones || short === long;
    if (!agree(end.start, end64.start, 0xffffffff) || !agree(end.bytes, end64.bytes, 0xffffffff) || !agree(end.count, end64.count, 0xffff))
      throw badFile(path, 'has two end records that disagree');
    end = end64;
  }
  if (end.count > entryLimit) throw badFile(path, `claims ${end.count} zip entries; the limit is ${entryLimit}`);
  if (end.bytes > directoryLimitBytes)
    throw badFile(path, `claims a zip directory of ${end.bytes} bytes; the limit is ${directoryLimitBytes}`);
  if (end.start + end.bytes > endOffset) throw badFile(path, 'has a zip directory that lies outside the file');
  return end;
}

async function readEnd64(reader: Reader, endOffset: number): Promise<End | null> {
  const { path } = reader;
  if (endOffset < end64LocatorBytes) return null;
  const locator = viewOf(await reader.read(endOffset - end64LocatorBytes, end64LocatorBytes));
  if (locator.getUint32(0, true) !== 0x07064b50) return null;
  const at = long(path, locator, 8);
  if (at + end64Bytes > endOffset - end64LocatorBytes) throw badFile(path, 'has a zip64 record that lies outside the file');
  const record = viewOf(await reader.read(at, end64Bytes));
  if (record.getUint32(0, true) !== 0x06064b50) throw badFile(path, 'has no zip64 record where it says');
  const count = long(path, record, 32);
  if (locator.getUint32(4, true) !== 0 || record.getUint32(16, true) !== 0 || record.getUint32(20, true) !== 0 || long(path, record, 24) !== count)
    throw badFile(path, 'is one part of a zip archive in several files');
  return { count, bytes: long(path, record, 40), start: long(path, record, 48) };
}

function long(path: string, view: DataView, at: number): number {
  const value = view.getBigUint64(at, true);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw badFile(path, `holds a zip offset or size of ${value}`);
  return Number(value);
}

function parseDirectory(path: string, bytes: Uint8Array, count: number): DirectoryEntry[] {
  const view = viewOf(bytes);
  const entries: DirectoryEntry[] = [];
  const names = new Set<string>();
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + centralBytes > bytes.length || view.getUint32(at, true) !== 0x02014b50)
      throw badFile(path, `has a damaged zip directory: entry ${i + 1} of ${count} is not there`);
    const nameBytes = view.getUint16(at + 28, true);
    const extraBytes = view.getUint16(at + 30, true);
    const end = at + centralBytes + nameBytes + extraBytes + view.getUint16(at + 32, true);
    if (end > bytes.length) throw badFile(path, `has a damaged zip directory: entry ${i + 1} of ${count} is cut`);
    const name = nameOf(bytes.subarray(at + centralBytes, at + centralBytes + nameBytes));
    const wrong = (what: string): ShiftAddError => badFile(path, `has the zip entry ${show(name)}, which ${what}`);
    if (names.has(name)) throw wrong('is there twice');
    names.add(name);
    if ((view.getUint16(at + 8, true) & flagEncrypted) !== 0) throw wrong('is encrypted');
    if (view.getUint16(at + 10, true) !== 0) throw wrong('is compressed, which torch.save never does');
    const sizes = {
      bytes: view.getUint32(at + 24, true),
      stored: view.getUint32(at + 20, true),
      localOffset: view.getUint32(at + 42, true),
    };
    readExtra(path, view, at + centralBytes + nameBytes, extraBytes, sizes, wrong);
    if (sizes.stored !== sizes.bytes) throw wrong('has two sizes that differ though it is not compressed');
    entries.push({ name, crc: view.getUint32(at + 16, true), bytes: sizes.bytes, localOffset: sizes.localOffset });
    at = end;
  }
  if (at !== bytes.length) throw badFile(path, `has ${bytes.length - at} bytes behind its zip directory`);
  return entries;
}

/** One byte is one character: torch writes ASCII, and other names only have to be told apart. */
function nameOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('latin1');
}

/** Takes the sizes that are all ones from the zip64 field, in the order in which the field holds them. */
function readExtra(
  path: string,
  view: DataView,
  start: number,
  bytes: number,
  sizes: Record<'bytes' | 'stored' | 'localOffset', number>,
  wrong: (what: string) => ShiftAddError,
): void {
  const missing = (['bytes', 'stored', 'localOffset'] as const).filter((field) => sizes[field] === 0xffffffff);
  if (missing.length === 0) return;
  for (let at = start; at + 4 <= start + bytes;) {
    const field = view.getUint16(at, true);
    const next = at + 4 + view.getUint16(at + 2, true);
    if (next > start + bytes) throw wrong('has a damaged extra field');
    if (field === 1) {
      if (at + 4 + 8 * missing.length > next) throw wrong('has a damaged zip64 field');
      missing.forEach((name, i) => (sizes[name] = long(path, view, at + 4 + 8 * i)));
      return;
    }
    at = next;
  }
  throw wrong('lacks its zip64 field');
}

/** Finds the data of every entry; no two may share a byte and none may reach into the directory. */
async function readLocalHeaders(reader: Reader, directory: DirectoryEntry[], limit: number): Promise<Map<string, ZipEntry>> {
  const { path } = reader;
  const entries = new Map<string, ZipEntry>();
  let free = 0;
  for (const { name, crc, bytes, localOffset } of directory.sort((a, b) => a.localOffset - b.localOffset)) {
    const wrong = (what: string): ShiftAddError => badFile(path, `has the zip entry ${show(name)}, which ${what}`);
    if (localOffset < free) throw wrong('overlaps the one before it');
    if (localOffset + localBytes + name.length > limit) throw wrong('lies outside the file');
    const header = await reader.read(localOffset, localBytes + name.length);
    const view = viewOf(header);
    const same = view.getUint32(0, true) === 0x04034b50 && view.getUint16(26, true) === name.length && nameOf(header.subarray(localBytes)) === name;
    if (!same) throw wrong('has no header where the directory says');
    if ((view.getUint16(6, true) & flagEncrypted) !== 0 || view.getUint16(8, true) !== 0) throw wrong('is encrypted or compressed');
    const offset = localOffset + localBytes + name.length + view.getUint16(28, true);
    if (offset + bytes > limit) throw wrong(`wants the bytes ${offset} to ${offset + bytes} but the directory begins at ${limit}`);
    entries.set(name, { name, offset, bytes, crc });
    free = offset + bytes;
  }
  return entries;
}
