/**
 * Models that were downloaded, in the private file system of the page's origin: a folder per address with the files and a
 * record. A file that is not complete is marked as such and resumed. Only the worker writes, one load of a model at a time.
 */
import { ShiftAddError } from '../errors.js';

const folderName = 'shiftadd-models';
const recordName = 'shiftadd-record.json';

/** What only workers have, and so the types of pages lack. */
interface SyncAccessHandle {
  truncate(size: number): void;
  write(bytes: Uint8Array, options: { at: number }): number;
  flush(): void;
  close(): void;
}
type WritableFile = FileSystemFileHandle & { createSyncAccessHandle(): Promise<SyncAccessHandle> };

async function openForWriting(folder: FileSystemDirectoryHandle, name: string): Promise<SyncAccessHandle> {
  return ((await folder.getFileHandle(name, { create: true })) as WritableFile).createSyncAccessHandle();
}

interface FileRecord {
  bytes: number;
  version: string | null;
  isComplete: boolean;
}

interface CacheRecord {
  url: string;
  files: Record<string, FileRecord>;
  /** Names that the server does not have. */
  missing: string[];
  /** Whether a model was loaded from these files: until then they may be some of them, or the wrong ones. */
  isWhole: boolean;
}

/** A model that this origin keeps. */
export interface CachedModel {
  /** The address that it was loaded from. */
  url: string;
  /** Of all its files, partial ones included. */
  bytes: number;
  /** Whether it can be loaded without a network. */
  isComplete: boolean;
}

/** Why nothing can be kept here, or null. */
export function cacheProblem(): string | null {
  if (typeof navigator === 'undefined' || navigator.storage?.getDirectory === undefined) return 'this browser has no private file system, or the page is not served over https';
  return null;
}

/** Null where nothing was ever kept, or can be: private windows may refuse. */
async function modelsFolder(): Promise<FileSystemDirectoryHandle | null> {
  if (cacheProblem() !== null) return null;
  return navigator.storage
    .getDirectory()
    .then((root) => root.getDirectoryHandle(folderName))
    .catch(() => null);
}

async function keyOf(url: string): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(url)));
  return Array.from(digest.subarray(0, 16), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

async function readRecord(folder: FileSystemDirectoryHandle): Promise<CacheRecord | null> {
  try {
    const text = await (await (await folder.getFileHandle(recordName)).getFile()).text();
    const record = JSON.parse(text) as CacheRecord;
    const isRecord = typeof record.url === 'string' && typeof record.files === 'object' && Array.isArray(record.missing) && typeof record.isWhole === 'boolean';
    return isRecord ? record : null;
  } catch {
    return null; // there is none, or a write was cut short: as if nothing were cached
  }
}

async function fileIn(folder: FileSystemDirectoryHandle, name: string): Promise<File | null> {
  return folder.getFileHandle(name).then(
    (handle) => handle.getFile(),
    () => null,
  );
}

/** What is kept on this device. */
export async function listCachedModels(): Promise<CachedModel[]> {
  const models = await modelsFolder();
  if (models === null) return [];
  const found: CachedModel[] = [];
  for await (const handle of models.values()) {
    if (handle.kind !== 'directory') continue;
    const record = await readRecord(handle as FileSystemDirectoryHandle);
    if (record === null) continue;
    let bytes = 0;
    for await (const file of (handle as FileSystemDirectoryHandle).values()) {
      if (file.kind === 'file') bytes += (await (file as FileSystemFileHandle).getFile()).size;
    }
    found.push({ url: record.url, bytes, isComplete: record.isWhole });
  }
  return found;
}

/** Forgets a model. False when it was not kept; ERR_BUSY while it is being downloaded. */
export async function removeCachedModel(url: string | URL): Promise<boolean> {
  const address = new URL(url, globalThis.location?.href).href.replace(/\/+$/, '');
  const models = await modelsFolder();
  if (models === null) return false;
  try {
    await models.removeEntry(await keyOf(address), { recursive: true });
    return true;
  } catch (error) {
    if ((error as DOMException).name === 'NotFoundError') return false;
    throw new ShiftAddError('ERR_BUSY', `${address} cannot be removed while it is being downloaded (${(error as Error).message}). Wait for that load or abort it.`, error);
  }
}

/** Resolves to the function that gives the lock back; the end of the worker does so too. */
function lock(name: string): Promise<() => void> {
  return new Promise((resolve, reject) => {
    navigator.locks.request(name, () => new Promise<void>((release) => resolve(release))).catch(reject);
  });
}

/** The files of one address. For the worker. */
export class ModelCache {
  private constructor(
    private readonly models: FileSystemDirectoryHandle,
    private readonly folder: FileSystemDirectoryHandle,
    private readonly record: CacheRecord,
    /** Lets the next load of this model begin. */
    readonly release: () => void,
  ) {}

  /** Waits for other loads of the same address, in other tabs too. Throws what the browser says where nothing can be kept. */
  static async open(url: string): Promise<ModelCache> {
    const key = await keyOf(url);
    const release = await lock(`${folderName}/${key}`);
    try {
      const models = await (await navigator.storage.getDirectory()).getDirectoryHandle(folderName, { create: true });
      const folder = await models.getDirectoryHandle(key, { create: true });
      return new ModelCache(models, folder, (await readRecord(folder)) ?? { url, files: {}, missing: [], isWhole: false }, release);
    } catch (error) {
      release();
      throw error;
    }
  }

  /** Whether a model was loaded from these files, all of them. */
  get isWhole(): boolean {
    return this.record.isWhole;
  }

  isMissing(name: string): boolean {
    return this.record.missing.includes(name);
  }

  describe(name: string): FileRecord | null {
    return this.record.files[name] ?? null;
  }

  /** A complete file; null without one, or when it does not have the size that was written. */
  async read(name: string): Promise<File | null> {
    const record = this.record.files[name];
    if (record?.isComplete !== true) return null;
    const file = await fileIn(this.folder, name);
    return file !== null && file.size === record.bytes ? file : null;
  }

  async keepMissing(name: string): Promise<void> {
    if (this.isMissing(name)) return;
    this.record.missing.push(name);
    await this.save();
  }

  async keepText(name: string, text: string): Promise<void> {
    const bytes = new TextEncoder().encode(text);
    const file = await this.write(name, bytes.length, null, 0);
    file.append(bytes);
    await file.finish();
  }

  /** The beginning of this version of a file that an earlier download left; null without. */
  async partial(name: string, bytes: number, version: string | null): Promise<File | null> {
    const record = this.record.files[name];
    // Without a version nothing says that the rest belongs to the same file.
    if (record === undefined || record.isComplete || version === null || record.version !== version || record.bytes !== bytes) return null;
    const file = await fileIn(this.folder, name);
    return file !== null && file.size <= bytes ? file : null;
  }

  /** Writes a file from `position` on. Throws what the browser says, QuotaExceededError among it. */
  async write(name: string, bytes: number, version: string | null, position: number): Promise<CacheWriter> {
    this.record.files[name] = { bytes, version, isComplete: false };
    this.record.missing = this.record.missing.filter((missing) => missing !== name);
    this.record.isWhole = false;
    await this.save();
    const handle = await openForWriting(this.folder, name);
    return new CacheWriter(handle, position, async () => {
      this.record.files[name]!.isComplete = true;
      await this.save();
    });
  }

  /** A model was loaded from what is kept. */
  async finish(): Promise<void> {
    if (this.record.isWhole) return;
    this.record.isWhole = true;
    await this.save();
  }

  /** Forgets all files, to begin anew. */
  async forget(): Promise<void> {
    for (const name of Object.keys(this.record.files)) await this.folder.removeEntry(name).catch(() => undefined);
    this.record.files = {};
    this.record.missing = [];
    this.record.isWhole = false;
    await this.save();
  }

  /** Leaves nothing behind, not even a record. */
  async remove(): Promise<void> {
    await this.models.removeEntry(this.folder.name, { recursive: true });
  }

  private async save(): Promise<void> {
    const handle = await openForWriting(this.folder, recordName);
    try {
      const bytes = new TextEncoder().encode(JSON.stringify(this.record));
      handle.truncate(0);
      handle.write(bytes, { at: 0 });
    } finally {
      handle.close();
    }
  }
}

export class CacheWriter {
  constructor(
    private readonly handle: SyncAccessHandle,
    private position: number,
    private readonly complete: () => Promise<void>,
  ) {
    handle.truncate(position);
  }

  append(bytes: Uint8Array): void {
    const written = this.handle.write(bytes, { at: this.position });
    this.position += written;
    if (written < bytes.length) throw new DOMException('the private file system is full', 'QuotaExceededError');
  }

  /** Keeps what there is for a later download. */
  close(): void {
    this.handle.close();
  }

  async finish(): Promise<void> {
    this.handle.flush();
    this.handle.close();
    await this.complete();
  }
}
