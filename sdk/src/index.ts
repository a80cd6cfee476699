/// <reference lib="esnext.disposable" preserve="true" />
/** The public face of shiftadd. The reference lets its types compile in projects that do not ask for that library. */
export { ShiftAddError, type ErrorCode } from './errors.js';
export {
  loadModel,
  type BackendInfo,
  type LoadOptions,
  type LoadProgress,
  type Model,
  type ModelInfo,
} from './model.js';
export type { KvType, Precision } from './engine.js';
export type { Chat, ChatOptions, SendOptions } from './chat.js';
export type { ChatMessage, RenderOptions } from './chat-template.js';
export type { GenerateOptions, SamplingOptions } from './generate.js';
export type { SchemaSource, StandardJsonSchema } from './structured/schema-source.js';
export type { ToolCall, ToolChoice, ToolDefinition } from './tools/tools.js';
export type { EnergyUse, FinishReason, GenerationResult, MemoryUse, Run, TextChunk, Timings, Usage } from './run.js';
export type { EvaluateOptions, EvaluateProgress, EvaluateResult } from './evaluate.js';
export type { BenchmarkCase, BenchmarkOptions, BenchmarkProgress, BenchmarkResult } from './benchmark.js';
export type { CompareOptions, CompareProgress, CompareResult } from './compare.js';
export type { ChoiceItem, LastWordItem, PairItem, TaskItem, TaskOptions, TaskProgress, TaskResult } from './tasks.js';
export { taskPresets, type TaskPreset } from './task-presets.js';
export { evaluatePerplexity } from './model.js';
export { quantizeModel, type QuantizedTensor, type QuantizeResult } from './quantize.js';
export { importModel, type ImportedTensor, type ImportOptions, type ImportProgress, type ImportResult } from './import.js';
export { pullModel, type PullOptions, type PullProgress, type PullResult } from './hub/pull.js';
export type { CalibrationRecord } from './calibration.js';
export { planQuantization, type PlannedTensor, type QuantizePlan } from './quantize-plan.js';
export { estimateQuantizationTime, type QuantizeTime } from './quantize-time.js';
export type { QuantizeOptions, QuantizeProgress } from './quantize-settings.js';
export { inspectModel, type InspectedTensor, type InspectResult } from './inspect.js';
export type { BlockRole, InspectedBlock, TensorRole } from './inspect-blocks.js';
export { auditModel, type AuditedModel, type AuditedPart, type AuditResult, type KernelOperations } from './audit.js';
export type { OperationCounts } from './audit-counts.js';
export type { EnergyEstimate, UnitCosts } from './audit-energy.js';
export { listBackends, type BackendAttempt, type BackendName, type BackendReport } from './select-backend.js';
export { defaultModelName, resolveModel } from './resolve-model.js';
export type { DecodeOptions, EncodeOptions, Tokenizer } from './tokenizer.js';
export type { TokenStream, TokenStreamOptions } from './token-stream.js';
export type { WeightBytes } from './weight-bytes.js';
