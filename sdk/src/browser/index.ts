/// <reference lib="esnext.disposable" preserve="true" />
/** The public face of shiftadd in a browser. */
export { ShiftAddError, type ErrorCode } from '../errors.js';
export { loadModel, type BrowserChat, type BrowserLoadOptions, type BrowserModel } from './browser-model.js';
export { listCachedModels, removeCachedModel, type CachedModel } from './model-cache.js';
export type { CacheState } from './model-store.js';
export type { MemoryOfWorker } from './protocol.js';
export type { ModelSource } from './sources.js';
export type { BackendInfo, LoadProgress } from '../model.js';
export type { ModelInfo } from '../model-info.js';
export type { KvType, Precision } from '../engine.js';
export type { ChatOptions, SendOptions } from '../chat.js';
export type { ChatMessage } from '../chat-template.js';
export type { GenerateOptions, SamplingOptions } from '../generate.js';
export type { FinishReason, GenerationResult, MemoryUse, Run, TextChunk, Timings, Usage } from '../run.js';
export type { EvaluateOptions, EvaluateProgress, EvaluateResult } from '../evaluate.js';
export type { BenchmarkCase, BenchmarkOptions, BenchmarkProgress, BenchmarkResult } from '../benchmark.js';
