/// <reference lib="esnext.disposable" preserve="true" />
/** The public face of shiftadd. The reference lets its types compile in projects that do not ask for that library. */
export { ShiftAddError, type ErrorCode } from './errors.js';
export {
  loadModel,
  type BackendInfo,
  type LoadOptions,
  type LoadProgress,
  type Model,
} from './model.js';
export type { ModelInfo } from './model-info.js';
export type { KvType, Precision } from './engine.js';
export type { Chat, ChatOptions, RestoreOptions, SendOptions } from './chat.js';
export type { OverflowPolicy } from './chat-overflow.js';
export type { PrefixCacheOptions } from './prefix-cache.js';
export type { ChatMessage, RenderOptions } from './chat-template.js';
export type { GenerateOptions, SamplingOptions } from './generate.js';
export type { SchemaSource, StandardJsonSchema } from './structured/schema-source.js';
export type { ToolCall, ToolChoice, ToolDefinition } from './tools/tools.js';
export type { EnergyUse, FinishReason, GenerationResult, MemoryGrowth, MemoryUse, Run, TextChunk, Timings, Usage } from './run.js';
export type { EmbedOptions, EmbedResult, Pooling } from './embed.js';
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
export type { BoardProfile } from './devices/board-profile.js';
export { boardProfile, loadBoardProfiles } from './devices/profile-folder.js';
export { monotonicMs, type EnergyMeter, type EnergyMethod, type EnergyRail, type EnergyRecorder, type EnergyScope, type EnergyWindow, type PowerSample, type RailLoad, type UnreadableMeter } from './devices/energy-meter.js';
export { detectBoard, type DetectedBoard, type DetectOptions } from './devices/board.js';
export type { BoardState, ClockState, PowerMode, ProcessorState, Temperature, Throttling } from './devices/board-state.js';
export type { JetsonRelease } from './devices/jetson-release.js';
export type { WorkPlace } from './devices/meter-choice.js';
export { findEnergyMeters, openEnergyRecorder, type FindMetersOptions, type MeterList, type RecorderOptions } from './devices/find-meters.js';
export { profileModel, type ProfileOptions, type ProfileProgress } from './devices/profile-model.js';
export type { IdlePower, MemoryFigures, PhaseEnergy, PhaseName, ProfilePhase, ProfileResult, ProfileTimeline, ProfileWindow, WindowEnergy } from './devices/profile-result.js';
export type { Comparison, Figure } from './devices/interval.js';
export { readMemory, type MemoryNumber, type MemoryReading, type ReadMemoryOptions } from './devices/memory-reading.js';
export { openMemoryRecorder, type MemoryChange, type MemoryRecorder, type MemoryRecorderOptions, type MemoryTimeline } from './devices/memory-recorder.js';
export { createProfiler, type Measurement, type Profiler, type ProfilerOptions } from './devices/profiler.js';
export { compareProfiles, type ComparedFigure, type ProfileComparison } from './devices/profile-compare.js';
export { toPrometheus } from './devices/prometheus.js';
export { planMemory, type MemoryParts, type MemoryPlan, type PlanMemoryOptions, type SpeedEstimate } from './memory-plan.js';
