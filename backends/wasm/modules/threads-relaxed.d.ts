/* tslint:disable */
/* eslint-disable */

/**
 * A status of the C interface other than 0, and its sentence.
 */
export class Failure {
    private constructor();
    free(): void;
    [Symbol.dispose](): void;
    readonly message: string;
    status: number;
}

export class ModelInfo {
    private constructor();
    free(): void;
    [Symbol.dispose](): void;
    heap_bytes: number;
    kv_type: number;
    mapped_bytes: number;
    precision: number;
    threads: number;
    readonly isa: string;
}

export class SessionInfo {
    private constructor();
    free(): void;
    [Symbol.dispose](): void;
    beyond_switch: number;
    context_size: number;
    kv_cache_bytes: number;
    position_bytes: number;
    position: number;
    scratch_bytes: number;
}

/**
 * Room for the bytes of a file, aligned to 64; 0 when there is none. `release` frees it.
 */
export function allocate(bytes: number): number;

export function append(session: number, tokens: Int32Array): void;

export function close_grammar(grammar: number): void;

export function close_model(model: number): void;

export function close_session(session: number): void;

/**
 * `grammar` 0: no constraint.
 */
export function constrain(session: number, grammar: number, budget: number): void;

export function copy_session(session: number, from: number, tokens: Int32Array): void;

export function decode_draft(session: number, token: number, draft: Int32Array): Int32Array;

export function describe_model(model: number): ModelInfo;

export function describe_session(session: number): SessionInfo;

export function embed(session: number, tokens: Int32Array, pooling: number, embedding: number): Float32Array;

export function evaluate(session: number, tokens: Int32Array): Float32Array;

/**
 * The verdict, the tokens to the end and the words of the mask, in this order.
 */
export function follow_grammar(grammar: number, text: Uint8Array, budget: number, vocabulary: number): Uint32Array;

/**
 * The instruction set that `isa` names, or the one that is chosen without.
 */
export function instruction_set(isa?: string | null): string;

export function is_complete(session: number): boolean;

/**
 * Works for the models of other threads and never returns.
 */
export function lend_thread(): void;

/**
 * How many threads have been lent.
 */
export function lent_threads(): number;

export function logits(session: number, vocabulary: number): Float32Array;

export function open_grammar(model: number, numbers: Int32Array): number;

/**
 * `addresses` and `sizes` say where the files of `paths` are in this memory; they stay there until the model is closed.
 */
export function open_model(spec: Float64Array, paths: string[], addresses: Uint32Array, sizes: Uint32Array, threads: number, precision: number, kv_type: number, isa?: string | null): number;

export function open_session(model: number, context_size: number): number;

export function prefill(session: number, tokens: Int32Array): void;

export function prefill_logits(session: number, tokens: Int32Array, vocabulary: number): Float32Array;

/**
 * Reads all weights once and returns their bytes: what limits a decode step.
 */
export function read_files(model: number): number;

export function release(address: number): void;

export function restore_positions(session: number, tokens: Int32Array, saved: Uint8Array, beyond_switch: boolean): void;

export function rewind(session: number, position: number): void;

export function sample(session: number, temperature: number, top_k: number, top_p: number, min_p: number, repetition_penalty: number, repetition_window: number): number;

export function save_positions(session: number, first: number, count: number): Uint8Array;

export function seed(session: number, seed: bigint): void;

export function set_vocabulary(model: number, bytes: Uint8Array, ends: Uint32Array, end_tokens: Int32Array): void;

export function version(): number;

export type InitInput = RequestInfo | URL | Response | BufferSource | WebAssembly.Module;

export interface InitOutput {
    readonly __wbg_failure_free: (a: number, b: number) => void;
    readonly __wbg_get_failure_status: (a: number) => number;
    readonly __wbg_get_modelinfo_heap_bytes: (a: number) => number;
    readonly __wbg_get_modelinfo_kv_type: (a: number) => number;
    readonly __wbg_get_modelinfo_mapped_bytes: (a: number) => number;
    readonly __wbg_get_modelinfo_precision: (a: number) => number;
    readonly __wbg_get_modelinfo_threads: (a: number) => number;
    readonly __wbg_get_sessioninfo_beyond_switch: (a: number) => number;
    readonly __wbg_get_sessioninfo_context_size: (a: number) => number;
    readonly __wbg_get_sessioninfo_kv_cache_bytes: (a: number) => number;
    readonly __wbg_get_sessioninfo_position: (a: number) => number;
    readonly __wbg_get_sessioninfo_position_bytes: (a: number) => number;
    readonly __wbg_get_sessioninfo_scratch_bytes: (a: number) => number;
    readonly __wbg_modelinfo_free: (a: number, b: number) => void;
    readonly __wbg_sessioninfo_free: (a: number, b: number) => void;
    readonly __wbg_set_failure_status: (a: number, b: number) => void;
    readonly __wbg_set_modelinfo_heap_bytes: (a: number, b: number) => void;
    readonly __wbg_set_modelinfo_kv_type: (a: number, b: number) => void;
    readonly __wbg_set_modelinfo_mapped_bytes: (a: number, b: number) => void;
    readonly __wbg_set_modelinfo_precision: (a: number, b: number) => void;
    readonly __wbg_set_modelinfo_threads: (a: number, b: number) => void;
    readonly __wbg_set_sessioninfo_beyond_switch: (a: number, b: number) => void;
    readonly __wbg_set_sessioninfo_context_size: (a: number, b: number) => void;
    readonly __wbg_set_sessioninfo_kv_cache_bytes: (a: number, b: number) => void;
    readonly __wbg_set_sessioninfo_position: (a: number, b: number) => void;
    readonly __wbg_set_sessioninfo_position_bytes: (a: number, b: number) => void;
    readonly __wbg_set_sessioninfo_scratch_bytes: (a: number, b: number) => void;
    readonly allocate: (a: number) => number;
    readonly append: (a: number, b: number, c: number) => [number, number];
    readonly close_grammar: (a: number) => void;
    readonly close_model: (a: number) => void;
    readonly close_session: (a: number) => void;
    readonly constrain: (a: number, b: number, c: number) => [number, number];
    readonly copy_session: (a: number, b: number, c: number, d: number) => [number, number];
    readonly decode_draft: (a: number, b: number, c: number, d: number) => [number, number, number, number];
    readonly describe_model: (a: number) => [number, number, number];
    readonly describe_session: (a: number) => [number, number, number];
    readonly embed: (a: number, b: number, c: number, d: number, e: number) => [number, number, number, number];
    readonly evaluate: (a: number, b: number, c: number) => [number, number, number, number];
    readonly failure_message: (a: number) => [number, number];
    readonly follow_grammar: (a: number, b: number, c: number, d: number, e: number) => [number, number, number, number];
    readonly instruction_set: (a: number, b: number) => [number, number, number, number];
    readonly is_complete: (a: number) => [number, number, number];
    readonly lend_thread: () => void;
    readonly lent_threads: () => number;
    readonly logits: (a: number, b: number) => [number, number, number, number];
    readonly modelinfo_isa: (a: number) => [number, number];
    readonly open_grammar: (a: number, b: number, c: number) => [number, number, number];
    readonly open_model: (a: number, b: number, c: number, d: number, e: number, f: number, g: number, h: number, i: number, j: number, k: number, l: number, m: number) => [number, number, number];
    readonly open_session: (a: number, b: number) => [number, number, number];
    readonly prefill: (a: number, b: number, c: number) => [number, number];
    readonly prefill_logits: (a: number, b: number, c: number, d: number) => [number, number, number, number];
    readonly read_files: (a: number) => [number, number, number];
    readonly release: (a: number) => void;
    readonly shiftadd_rust_alloc: (a: number, b: number) => number;
    readonly shiftadd_rust_alloc_zeroed: (a: number, b: number) => number;
    readonly shiftadd_rust_free: (a: number) => void;
    readonly restore_positions: (a: number, b: number, c: number, d: number, e: number, f: number) => [number, number];
    readonly rewind: (a: number, b: number) => [number, number];
    readonly sample: (a: number, b: number, c: number, d: number, e: number, f: number, g: number) => [number, number, number];
    readonly save_positions: (a: number, b: number, c: number) => [number, number, number, number];
    readonly seed: (a: number, b: bigint) => [number, number];
    readonly set_vocabulary: (a: number, b: number, c: number, d: number, e: number, f: number, g: number) => [number, number];
    readonly start: () => void;
    readonly version: () => number;
    readonly memory: WebAssembly.Memory;
    readonly __wbindgen_malloc: (a: number, b: number) => number;
    readonly __wbindgen_realloc: (a: number, b: number, c: number, d: number) => number;
    readonly __wbindgen_externrefs: WebAssembly.Table;
    readonly __externref_table_dealloc: (a: number) => void;
    readonly __wbindgen_free: (a: number, b: number, c: number) => void;
    readonly __externref_table_alloc: () => number;
    readonly __wbindgen_thread_destroy: (a?: number, b?: number, c?: number) => void;
    readonly __wbindgen_start: (a: number) => void;
}

export type SyncInitInput = BufferSource | WebAssembly.Module;

/**
 * Instantiates the given `module`, which can either be bytes or
 * a precompiled `WebAssembly.Module`.
 *
 * @param {{ module: SyncInitInput, memory?: WebAssembly.Memory, thread_stack_size?: number }} module - Passing `SyncInitInput` directly is deprecated.
 * @param {WebAssembly.Memory} memory - Deprecated.
 *
 * @returns {InitOutput}
 */
export function initSync(module: { module: SyncInitInput, memory?: WebAssembly.Memory, thread_stack_size?: number } | SyncInitInput, memory?: WebAssembly.Memory): InitOutput;

/**
 * If `module_or_path` is {RequestInfo} or {URL}, makes a request and
 * for everything else, calls `WebAssembly.instantiate` directly.
 *
 * @param {{ module_or_path: InitInput | Promise<InitInput>, memory?: WebAssembly.Memory, thread_stack_size?: number }} module_or_path - Passing `InitInput` directly is deprecated.
 * @param {WebAssembly.Memory} memory - Deprecated.
 *
 * @returns {Promise<InitOutput>}
 */
export default function __wbg_init (module_or_path?: { module_or_path: InitInput | Promise<InitInput>, memory?: WebAssembly.Memory, thread_stack_size?: number } | InitInput | Promise<InitInput>, memory?: WebAssembly.Memory): Promise<InitOutput>;
