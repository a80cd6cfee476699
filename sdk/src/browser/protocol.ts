/** The messages between a page and its worker. */
import type { BenchmarkOptions } from '../benchmark.js';
import type { ChatOptions, SendOptions } from '../chat.js';
import type { ChatMessage } from '../chat-template.js';
import type { EvaluateOptions } from '../evaluate.js';
import type { GenerateOptions } from '../generate.js';
import type { BackendInfo, LoadProgress } from '../model.js';
import type { ModelInfo } from '../model-info.js';
import type { TextChunk } from '../run.js';
import type { Precision, KvType } from '../engine.js';
import type { CacheState } from './model-store.js';
import type { SentSource } from './sources.js';

export interface WorkerLoadOptions {
  threads?: number;
  precision?: Precision;
  kvCache?: KvType;
  contextSize?: number;
  verify?: boolean;
  isa?: string;
  cache: boolean;
}

export interface LoadedModel {
  info: ModelInfo;
  backend: BackendInfo;
  contextSize: number;
  path: string;
  cache: CacheState;
}

/** Bytes in the worker of a model. */
export interface MemoryOfWorker {
  /** Of the WebAssembly instance: weights, caches, scratch. */
  wasmBytes: number;
  weightsBytes: number;
}

type Sendable<T> = Omit<T, 'signal' | 'onProgress'>;

/** What can be asked of the worker, each with the id that its answer carries. */
export type Request =
  | { method: 'load'; source: SentSource; options: WorkerLoadOptions }
  | { method: 'createChat'; chat: number; options: Sendable<ChatOptions> }
  | { method: 'send'; chat: number; messages: ChatMessage[]; options: Sendable<SendOptions> }
  | { method: 'reset'; chat: number }
  | { method: 'closeChat'; chat: number }
  | { method: 'generate'; prompt: string | number[]; options: Sendable<GenerateOptions> }
  | { method: 'evaluate'; text: string; options: Sendable<EvaluateOptions> }
  | { method: 'benchmark'; options: Sendable<BenchmarkOptions> }
  | { method: 'encode'; text: string }
  | { method: 'decode'; ids: number[] }
  | { method: 'encodeChat'; messages: ChatMessage[] }
  | { method: 'memory' };

export type ToWorker =
  | { kind: 'request'; id: number; request: Request }
  /** Ends the run of that request: `left` when nobody reads it any more, else as an abort. */
  | { kind: 'stop'; id: number; left: boolean };

export interface SentError {
  name: string;
  message: string;
  code?: string;
}

export type FromWorker =
  | { kind: 'result'; id: number; value: unknown; history?: ChatMessage[] }
  | { kind: 'failure'; id: number; error: SentError }
  | { kind: 'chunk'; id: number; chunk: TextChunk }
  | { kind: 'progress'; id: number; progress: LoadProgress | object };
