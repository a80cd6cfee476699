/** A model in a worker, as the page sees it: what `Model` offers, with promises where an answer has to come back. */
import type { BenchmarkOptions, BenchmarkProgress, BenchmarkResult } from '../benchmark.js';
import type { ChatOptions, SendOptions } from '../chat.js';
import { readHistory, readTurns } from '../chat-turns.js';
import type { ChatMessage } from '../chat-template.js';
import type { EvaluateOptions, EvaluateResult } from '../evaluate.js';
import { ShiftAddError } from '../errors.js';
import type { GenerateOptions } from '../generate.js';
import { checkContextSize } from '../model-core.js';
import type { BackendInfo, LoadOptions, LoadProgress } from '../model.js';
import type { ModelInfo } from '../model-info.js';
import { chatRules, generateRules, loadRules, readOptions, sendRules, show } from '../options.js';
import type { Run } from '../run.js';
import type { CacheState } from './model-store.js';
import type { LoadedModel, MemoryOfWorker } from './protocol.js';
import { sendableOptions } from './sendable-options.js';
import { sendableSource, type ModelSource } from './sources.js';
import { WorkerLink } from './worker-link.js';

/** As `LoadOptions` of Node, with what only a page has. */
export interface BrowserLoadOptions extends Omit<LoadOptions, 'backend' | 'onProgress' | 'isa' | 'measure'> {
  /** Says on every result why there is no energy: a browser has no meter. Default false. */
  measure?: boolean;
  /** Keep what is downloaded for the next time, in the private file system of the page's origin. Default true. */
  cache?: boolean;
  /** The folder of worker.js and the .wasm files. Default where this module is. */
  assets?: string | URL;
  /** Forces an instruction set: portable, simd128, relaxedsimd. Default what the browser has. */
  isa?: 'portable' | 'simd128' | 'relaxedsimd';
  /** Called as the work goes on. */
  onProgress?: (progress: LoadProgress) => void;
}

const rules = {
  ...loadRules,
  isa: { kind: 'choice', among: ['portable', 'simd128', 'relaxedsimd'] } as const,
  cache: { kind: 'flag', initial: true } as const,
  assets: { kind: 'address' } as const,
  measure: { kind: 'flag', initial: false } as const,
};

/**
 * Loads a model folder from an address, from files that the user chose, or from a folder handle, in a worker of its own.
 * Rejects as `loadModel` does in Node, and with ERR_DOWNLOAD and ERR_WORKER.
 */
export async function loadModel(source: ModelSource, options?: BrowserLoadOptions): Promise<BrowserModel> {
  const { backend, signal, onProgress, assets, cache, ...rest } = readOptions<BrowserLoadOptions & { backend?: string }>(rules, options, 'loadModel');
  if (backend !== 'auto' && backend !== 'wasm') throw new ShiftAddError('ERR_NO_BACKEND', `A browser has no backend '${backend}'. Use 'wasm' or leave it away.`);
  const sent = sendableSource(source, globalThis.location.href);
  signal?.throwIfAborted();
  const link = new WorkerLink(assets === undefined ? null : folderAt(assets));
  const given = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined));
  const aborted = (): void => link.end(signal!.reason instanceof Error ? signal!.reason : new DOMException('The load was aborted', 'AbortError'));
  signal?.addEventListener('abort', aborted, { once: true });
  try {
    const loaded = (await link.call({ method: 'load', source: sent, options: { ...given, cache: cache! } }, { onProgress: onProgress as never })) as LoadedModel;
    return new BrowserModel(link, loaded);
  } catch (error) {
    link.end(null);
    throw signal?.aborted === true ? signal.reason : error;
  } finally {
    signal?.removeEventListener('abort', aborted);
  }
}

/** An address that names resolve against, with or without a slash at its end. */
function folderAt(address: string | URL): URL {
  return new URL(String(address).replace(/\/*$/, '/'), globalThis.location.href);
}

/** A loaded model. Made by `loadModel`. */
export class BrowserModel {
  readonly info: ModelInfo;
  readonly backend: BackendInfo;
  /** Tokens that a generation or chat holds unless told otherwise. */
  readonly contextSize: number;
  /** The address or the name of the folder. */
  readonly path: string;
  /** Whether the model loads without a network next time, or why not. */
  readonly cache: CacheState;
  /** Resolves when the model has ended: null when it was closed, or ERR_WORKER. */
  readonly closed: Promise<Error | null>;
  readonly #link: WorkerLink;
  #chats = 0;

  constructor(link: WorkerLink, { info, backend, contextSize, path, cache }: LoadedModel) {
    this.#link = link;
    this.closed = link.closed;
    this.info = info;
    this.backend = backend;
    this.contextSize = contextSize;
    this.path = path;
    this.cache = cache;
  }

  /** As `Model.generate`. */
  generate(prompt: string | ArrayLike<number>, options?: GenerateOptions): Run {
    const isTokens = typeof prompt === 'object' && prompt !== null && typeof prompt.length === 'number';
    if (typeof prompt !== 'string' && !isTokens) throw new TypeError(`Expected a text or token ids for prompt but received ${show(prompt)}`);
    const { signal, ...rest } = readOptions<GenerateOptions>(generateRules, options, 'generate');
    return this.#link.run({ method: 'generate', prompt: typeof prompt === 'string' ? prompt : Array.from(prompt), options: sendableOptions(rest) }, signal);
  }

  /** As `Model.createChat`. */
  createChat(options?: ChatOptions): BrowserChat {
    const checked = readOptions<ChatOptions>(chatRules, options, 'createChat');
    if (checked.contextSize !== undefined) checkContextSize(checked.contextSize, this.info.contextLimit);
    return new BrowserChat(this.#link, ++this.#chats, checked);
  }

  /** As `Model.evaluate`. */
  async evaluate(text: string, options: EvaluateOptions = {}): Promise<EvaluateResult> {
    const { signal, onProgress, ...rest } = options;
    return (await this.#link.call({ method: 'evaluate', text, options: rest }, { signal, onProgress: onProgress as never })) as EvaluateResult;
  }

  /** As `Model.benchmark`. */
  async benchmark(options: BenchmarkOptions = {}): Promise<BenchmarkResult> {
    const { signal, onProgress, ...rest } = options;
    return (await this.#link.call({ method: 'benchmark', options: rest }, { signal, onProgress: onProgress as ((progress: BenchmarkProgress) => void) as never })) as BenchmarkResult;
  }

  /** Token ids of a text. */
  async encode(text: string): Promise<number[]> {
    return (await this.#link.call({ method: 'encode', text })) as number[];
  }

  /** The text of token ids. */
  async decode(ids: ArrayLike<number>): Promise<string> {
    return (await this.#link.call({ method: 'decode', ids: Array.from(ids) })) as string;
  }

  /** The prompt ids of messages as a chat would send them. */
  async encodeChat(messages: ChatMessage[]): Promise<number[]> {
    return (await this.#link.call({ method: 'encodeChat', messages })) as number[];
  }

  /** Bytes of the WebAssembly instance, and of the weights in it. */
  async memory(): Promise<MemoryOfWorker> {
    return (await this.#link.call({ method: 'memory' })) as MemoryOfWorker;
  }

  /** Ends what runs (ERR_CLOSED) and the worker, whose memory goes back to the browser. Idempotent. */
  async close(): Promise<void> {
    this.#link.end(null);
  }

  /** The same as `close`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** A conversation. Made by `model.createChat()`. */
export class BrowserChat {
  readonly #link: WorkerLink;
  readonly #id: number;
  readonly #ready: Promise<unknown>;
  readonly #first: ChatMessage[];
  #history: ChatMessage[];

  constructor(link: WorkerLink, id: number, options: ChatOptions) {
    this.#link = link;
    this.#id = id;
    this.#first = options.system === undefined ? [] : [{ role: 'system', content: options.system }];
    this.#history = [...this.#first, ...readHistory(options.history)];
    const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
    this.#ready = link.call({ method: 'createChat', chat: id, options: sendableOptions<ChatOptions & { schema?: never }>(given) });
    this.#ready.catch(() => undefined); // the first turn rejects with it
  }

  /** As `Chat.history`. */
  get history(): ChatMessage[] {
    return this.#history.map((message) => ({ ...message }));
  }

  /** As `Chat.send`. */
  send(message: string | ChatMessage | ChatMessage[], options?: SendOptions): Run {
    const messages = readTurns(message, this.#history.length > this.#first.length);
    // Only what was given: the rest are the chat's own defaults.
    readOptions<SendOptions>(sendRules, options, 'send');
    const { signal, ...rest } = Object.fromEntries(Object.entries(options ?? {}).filter(([, value]) => value !== undefined)) as SendOptions;
    return this.#link.run({ method: 'send', chat: this.#id, messages, options: sendableOptions(rest) }, signal, (history) => (this.#history = history));
  }

  /** Forgets the history except the system message. ERR_BUSY while a turn runs. */
  async reset(): Promise<void> {
    await this.#link.call({ method: 'reset', chat: this.#id });
    this.#history = this.#first;
  }

  /** Ends a running turn and frees the memory. Idempotent. */
  async close(): Promise<void> {
    await this.#link.call({ method: 'closeChat', chat: this.#id }).catch((error: unknown) => {
      if (!(error instanceof ShiftAddError && (error.code === 'ERR_CLOSED' || error.code === 'ERR_WORKER'))) throw error; // gone with its worker
    });
  }

  /** The same as `close`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
