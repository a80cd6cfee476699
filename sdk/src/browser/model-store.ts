/**
 * The files of the model that a worker loads, by path. Small files are texts; weight files go straight into the memory of the
 * WebAssembly instance, once, while they are downloaded, and into the cache at the same time.
 */
import { ShiftAddError, fromEngine } from '../errors.js';
import { engineError, memoryLimitBytes, type Block, type WasmInstance } from '../wasm/instance.js';
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
  /** Whether the cache holds a whole model with the config.json of the server; false until that was read. */
  private isCurrent = false;
  /** Whether config.json has the checksums of all weights: while it is the same, so are they. */
  private hasChecksums = false;
  private readonly writers = new Set<CacheWriter>();
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
    const text = name === configName ? await this.config(path) : await this.textOf(path, name);
    if (name.endsWith('.index.json')) checkTotal(text, path);
    return text;
  }

  /** The size of a file; ENOENT as `text`. */
  async size(path: string): Promise<number> {
    if (this.isCurrent && this.cache!.isMissing(this.nameOf(path))) throw missing(path);
    const kept = await this.kept(path);
    if (kept !== null) return kept.size;
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

  /** The model was loaded: what is kept is all that the next load needs. */
  async finish(): Promise<void> {
    await this.keep(() => this.cache!.finish());
  }

  /** The files are not what they should be: what is kept must not be used again. */
  async forget(): Promise<void> {
    await this.keep(() => this.cache!.forget());
  }

  private nameOf(path: string): string {
    if (path === this.root) return path.slice(path.lastIndexOf('/') + 1);
    return path.startsWith(`${this.root}/`) ? path.slice(this.root.length + 1) : path;
  }

  private async config(path: string): Promise<string> {
    if (this.cache === null) return (await this.mustFind(path)).text();
    const kept = await this.cache.read(configName).then((file) => file?.text() ?? null);
    const text = await this.reach(path, async (file) => file.text()).then((found) => found ?? kept);
    if (text === null) throw missing(path);
    this.hasChecksums = text.includes('"quantization_config"');
    this.isCurrent = text === kept && this.cache.isWhole;
    if (text !== kept) {
      await this.keep(async () => {
        await this.cache!.forget();
        await this.cache!.keepText(configName, text);
      });
    }
    return text;
  }

  private async textOf(path: string, name: string): Promise<string> {
    if (this.isCurrent) {
      const kept = await this.cache!.read(name);
      if (kept !== null) return kept.text();
      if (this.cache!.isMissing(name)) throw missing(path);
    }
    const text = await (await this.mustFind(path)).text();
    await this.keep(() => this.cache!.keepText(name, text));
    return text;
  }

  /** A whole file of the cache that is the one of the server; null without. */
  private async kept(path: string): Promise<File | null> {
    const name = this.nameOf(path);
    const kept = (await this.cache?.read(name)) ?? null;
    if (kept === null || (this.isCurrent && this.hasChecksums)) return kept;
    const record = this.cache!.describe(name)!;
    const { isWhole } = this.cache!;
    // Where servers tell no versions, a model that was loaded before has to do with the size.
    const isSame = await this.reach(path, async ({ version, bytes }) => bytes === record.bytes && version === record.version && (version !== null || isWhole));
    return isSame === false ? null : kept;
  }

  /** Asks the server about a file; null when it does not answer and the whole model is kept. */
  private async reach<T>(path: string, ask: (file: SourceFile) => Promise<T>): Promise<T | null> {
    try {
      return await ask(await this.mustFind(path));
    } catch (error) {
      if (this.cache?.isWhole === true && error instanceof ShiftAddError && error.code === 'ERR_DOWNLOAD') return null;
      throw error;
    }
  }

  private async mustFind(path: string): Promise<SourceFile> {
    const name = this.nameOf(path);
    let found = this.found.get(name);
    if (found === undefined) this.found.set(name, (found = this.source.find(name)));
    const file = await found;
    if (file !== null) return file;
    if (name !== configName) await this.keep(() => this.cache!.keepMissing(name));
    throw missing(path);
  }

  private async fill(path: string): Promise<Block> {
    const kept = await this.kept(path);
    const bytes = kept?.size ?? (await this.size(path));
    const block = this.allocate(bytes, path);
    this.progress.total += bytes;
    try {
      if (kept !== null) await this.copy(kept.stream() as ReadableStream<Uint8Array>, block, 0, path, null);
      else await this.download(this.nameOf(path), path, block);
      return block;
    } catch (error) {
      this.instance.release(block);
      this.blocks.delete(path);
      throw error;
    }
  }

  /** ERR_OUT_OF_MEMORY, before anything is downloaded. */
  private allocate(bytes: number, path: string): Block {
    try {
      return this.instance.allocate(bytes, path);
    } catch (error) {
      throw fromEngine(error, `Loading ${path}`);
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
    const writer = await this.write(name, block.bytes, file.version, from);
    try {
      done = await this.copy(body, block, from, path, writer);
      if (done < block.bytes) throw new ShiftAddError('ERR_DOWNLOAD', `${path} ended after ${done} of ${block.bytes} bytes. Load it again: it goes on where it stopped.`);
      if (writer !== null) await this.keep(() => writer.finish());
    } finally {
      writer?.close(); // what has come is resumed next time
    }
  }

  private async write(name: string, bytes: number, version: string | null, from: number): Promise<CacheWriter | null> {
    let writer: CacheWriter | null = null;
    await this.keep(async () => {
      writer = await this.cache!.write(name, bytes, version, from);
      this.writers.add(writer);
    });
    return writer;
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
        if (done + value.length > block.bytes) throw new ShiftAddError('ERR_DOWNLOAD', `The server sends more than the ${block.bytes} bytes of ${path} that it announced. It must not compress weight files.`);
        this.instance.view(block, done, done + value.length).set(value);
        if (writer !== null) await this.keep(async () => writer.append(value));
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
      this.state = { isKept: false, reason: refusal(error) };
      for (const writer of this.writers) writer.close();
      // A part of a model is of no use where the rest has no room.
      await this.cache.remove().catch(() => undefined);
    }
  }
}

/** Why the private file system does not keep something. */
export function refusal(error: unknown): string {
  const { name, message } = error as DOMException;
  if (name === 'QuotaExceededError') return 'the browser gives this page no more space; remove other models (removeCachedModel) or free space on the device';
  return `the private file system refused (${message})`;
}

/** Refuses shards that cannot all be in memory before the first of them is downloaded. */
function checkTotal(index: string, path: string): void {
  const total = /"total_size"\s*:\s*(\d+)/.exec(index)?.[1];
  if (Number(total) > memoryLimitBytes) {
    throw fromEngine(engineError('out_of_memory', `the weights have ${total} bytes, but WebAssembly addresses ${2 ** 32}; take fewer bits per weight or a smaller model`), `Loading ${path}`);
  }
}

function missing(path: string): Error {
  return Object.assign(new Error(`${path} does not exist`), { code: 'ENOENT' });
}
