/**
 * The files of the model that a worker loads, by path. Small files are texts; weight files go straight into the memory of the
 * WebAssembly instance, once, while they are downloaded, and into the cache at the same time.
 */
import { ShiftAddError } from '../errors.js';
import type { Block, WasmInstance } from '../wasm/instance.js';
import type { CacheWriter, ModelCache } from './model-cache.js';
import type { Source, SourceFile } from './sources.js';

export interface DownloadProgress {
  /** Bytes of weight files so far, and of those that have been begun. */
  done: number;
  total: number;
}

/** Whether the model will load without a network next time. */
export interface CacheState {
  isKept: boolean;
  /** Why it is not. */
  reason: string | null;
}

const configName = 'config.json';

export class ModelStore {
  private readonly blocks = new Map<string, Promise<Block>>();
  private readonly found = new Map<string, Promise<SourceFile | null>>();
  private progress: DownloadProgress = { done: 0, total: 0 };
  /** Whether the cache holds what the server has, as far as config.json tells; null until that was read. */
  private isFresh: boolean | null = null;
  state: CacheState;

  constructor(
    private readonly source: Source,
    private readonly cache: ModelCache | null,
    private readonly instance: WasmInstance,
    private readonly signal: AbortSignal,
    private readonly onProgress: (progress: DownloadProgress) => void,
    whyNoCache: string | null,
  ) {
    this.state = { isKept: cache !== null, reason: whyNoCache };
  }

  get root(): string {
    return this.source.root;
  }

  async names(folder: string): Promise<string[]> {
    return folder === this.root ? this.source.names() : [];
  }

  /** The text of a file. Rejects with an error whose code is ENOENT when there is none. */
  async text(path: string): Promise<string> {
    const name = this.nameOf(path);
    if (this.cache === null) return (await this.mustFind(path)).text();
    if (name !== configName) {
      const kept = this.isFresh === true ? await this.cache.read(name) : null;
      if (kept !== null) return kept.text();
      if (this.isFresh === true && this.cache.isMissing(name)) throw missing(path);
      const text = await (await this.mustFind(path)).text();
      await this.keep(() => this.cache!.keepText(name, text));
      return text;
    }
    // config.json of a packed model has the checksums of all its weights: while it is the same, so is the model.
    const kept = await this.cache.read(name).then((file) => file?.text() ?? null);
    const text = await this.mustFind(path).then((file) => file.text()).catch((error: unknown) => {
      if (kept !== null && error instanceof ShiftAddError && error.code === 'ERR_DOWNLOAD') return kept; // no network
      throw error;
    });
    this.isFresh = text === kept;
    if (!this.isFresh) {
      await this.keep(async () => {
        await this.cache!.forget();
        await this.cache!.keepText(name, text);
      });
    }
    return text;
  }

  /** The size of a file; ENOENT as `text`. */
  async size(path: string): Promise<number> {
    const name = this.nameOf(path);
    if (this.isFresh === true && this.cache !== null) {
      const record = this.cache.describe(name);
      if (record?.isComplete === true) return record.bytes;
      if (this.cache.isMissing(name)) throw missing(path);
    }
    const { bytes } = await this.mustFind(path);
    if (!Number.isSafeInteger(bytes)) throw new ShiftAddError('ERR_DOWNLOAD', `The server does not say how many bytes ${path} has (Content-Length).`);
    return bytes;
  }

  /** The bytes of a file in the memory of the instance; valid until that grows. */
  async bytes(path: string): Promise<Uint8Array> {
    return this.instance.view(await this.block(path));
  }

  block(path: string): Promise<Block> {
    let block = this.blocks.get(path);
    if (block === undefined) this.blocks.set(path, (block = this.fill(path)));
    return block;
  }

  /** After a checksum was wrong: what is kept must not be used again. */
  async forget(): Promise<void> {
    await this.cache?.forget();
  }

  private nameOf(path: string): string {
    if (path === this.root) return path.slice(path.lastIndexOf('/') + 1);
    return path.startsWith(`${this.root}/`) ? path.slice(this.root.length + 1) : path;
  }

  private async mustFind(path: string): Promise<SourceFile> {
    const name = this.nameOf(path);
    let found = this.found.get(name);
    if (found === undefined) this.found.set(name, (found = this.source.find(name)));
    const file = await found;
    if (file !== null) return file;
    if (name !== configName && this.cache !== null) await this.keep(() => this.cache!.keepMissing(name));
    throw missing(path);
  }

  private async fill(path: string): Promise<Block> {
    const name = this.nameOf(path);
    const bytes = await this.size(path);
    const block = this.instance.allocate(bytes, path);
    this.progress.total += bytes;
    try {
      const kept = this.isFresh === true && this.cache !== null ? await this.cache.read(name) : null;
      if (kept !== null) await this.copy(kept.stream() as ReadableStream<Uint8Array>, block, 0, path, null);
      else await this.download(name, path, block);
      return block;
    } catch (error) {
      this.instance.release(block);
      this.blocks.delete(path);
      throw error;
    }
  }

  private async download(name: string, path: string, block: Block): Promise<void> {
    const file = await this.mustFind(path);
    let done = 0;
    const left = this.cache === null ? null : await this.cache.partial(name, block.bytes, file.version);
    if (left !== null) done = await this.copy(left.stream() as ReadableStream<Uint8Array>, block, 0, path, null);
    if (done === block.bytes && left !== null) return this.keep(async () => (await this.cache!.write(name, block.bytes, file.version, done)).finish());
    const { from, body } = await file.stream(done, this.signal);
    this.progress.done -= done - from;
    let writer: CacheWriter | null = null;
    await this.keep(async () => void (writer = await this.cache!.write(name, block.bytes, file.version, from)));
    try {
      done = await this.copy(body, block, from, path, writer);
    } catch (error) {
      (writer as CacheWriter | null)?.close(); // what has come is resumed next time
      throw error;
    }
    if (done < block.bytes) {
      (writer as CacheWriter | null)?.close();
      throw new ShiftAddError('ERR_DOWNLOAD', `${path} ended after ${done} of ${block.bytes} bytes. Load it again: it goes on where it stopped.`);
    }
    if (writer !== null && this.state.isKept) await this.keep(() => (writer as unknown as CacheWriter).finish());
  }

  /** Returns the position behind the last byte. */
  private async copy(body: ReadableStream<Uint8Array>, block: Block, from: number, path: string, writer: CacheWriter | null): Promise<number> {
    let done = from;
    const reader = body.getReader();
    try {
      for (;;) {
        this.signal.throwIfAborted();
        const { done: ended, value } = await reader.read().catch((error: unknown) => {
          this.signal.throwIfAborted();
          throw new ShiftAddError('ERR_DOWNLOAD', `The download of ${path} broke off after ${done} of ${block.bytes} bytes (${(error as Error).message}). Load it again: it goes on where it stopped.`, error);
        });
        if (ended) return done;
        if (done + value.length > block.bytes) throw new ShiftAddError('ERR_DOWNLOAD', `The server sends more than the ${block.bytes} bytes of ${path} that it announced.`);
        this.instance.view(block, done, done + value.length).set(value);
        if (writer !== null && this.state.isKept) await this.keep(async () => writer.append(value));
        done += value.length;
        this.progress.done += value.length;
        this.onProgress({ ...this.progress });
      }
    } finally {
      await reader.cancel().catch(() => undefined); // of a stream that failed
    }
  }

  /** Does something to the cache; a failure, such as a full quota, ends the keeping and not the loading. */
  private async keep(action: () => Promise<void>): Promise<void> {
    if (this.cache === null || !this.state.isKept) return;
    try {
      await action();
    } catch (error) {
      const { name, message } = error as DOMException;
      const reason =
        name === 'QuotaExceededError'
          ? 'the browser gives this page no more space; remove other models (removeCachedModel) or free space on the device'
          : name === 'NoModificationAllowedError'
            ? 'another tab is downloading the same model'
            : `the private file system refused (${message})`;
      this.state = { isKept: false, reason };
    }
  }
}

function missing(path: string): Error {
  return Object.assign(new Error(`${path} does not exist`), { code: 'ENOENT' });
}
