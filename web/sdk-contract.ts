/**
 * What the page uses of the SDK's browser build. Types only: the page imports `shiftadd`, which the build leaves as the
 * module `./shiftadd/index.js` beside it.
 */
import type { Run } from '../sdk/src/run.js';

/** A text or URL is the base address of a model folder. */
export type ModelSource = string | URL | readonly File[] | FileList | FileSystemDirectoryHandle;

export interface LoadProgress {
  /** `download` and `verify` count bytes. */
  phase: 'open' | 'download' | 'verify' | 'load';
  done: number;
  total: number;
}

export interface BrowserLoadOptions {
  threads?: number;
  precision?: 'fast' | 'exact';
  contextSize?: number;
  cache?: boolean;
  verify?: boolean;
  signal?: AbortSignal;
  onProgress?: (p: LoadProgress) => void;
  /** The folder with worker.js and the .wasm files. Default: beside the SDK's module. */
  assets?: string | URL;
}

export declare function loadModel(source: ModelSource, options?: BrowserLoadOptions): Promise<BrowserModel>;

export interface BrowserModel {
  readonly info: {
    name: string;
    architecture: string;
    parameters: number;
    layers: number;
    contextLimit: number;
    vocabularySize: number;
    packed: boolean;
    bitsPerWeight: number | null;
    bytes: { total: number };
  };
  readonly backend: {
    name: string;
    isa: string;
    threads: number;
    precision: string;
    kvCache: string;
    attempts: { name: string; ok: boolean; reason: string | null }[];
  };
  readonly contextSize: number;
  createChat(options?: {
    system?: string;
    temperature?: number;
    repetitionPenalty?: number;
    topP?: number;
    topK?: number;
    seed?: number;
    maxTokens?: number;
    contextSize?: number;
  }): BrowserChat;
  generate(prompt: string, options?: object): Run;
  memory(): Promise<{ wasmBytes: number; weightsBytes: number }>;
  /** Resolves when the model is closed: null, or the ShiftAddError of a crashed worker. */
  readonly closed: Promise<Error | null>;
  close(): Promise<void>;
}

export interface BrowserChat {
  readonly history: { role: string; content: string | null }[];
  send(text: string, options?: { maxTokens?: number; temperature?: number; seed?: number; signal?: AbortSignal }): Run;
  reset(): Promise<void>;
  close(): Promise<void>;
}

export declare function listCachedModels(): Promise<{ url: string; bytes: number }[]>;
export declare function removeCachedModel(url: string): Promise<boolean>;
export declare const ShiftAddError: typeof import('../sdk/src/errors.js').ShiftAddError;

type Offers<T extends typeof import('./sdk-contract.js')> = T;
/** Does not compile when the SDK offers something else. */
export type SdkOffers = Offers<typeof import('../sdk/src/browser/index.js')>;
