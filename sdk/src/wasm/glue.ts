/** The surface of a WebAssembly module as wasm-bindgen makes it of backends/wasm/src/lib.rs; every flavour has the same one. */

/** A failure that the module throws: a status of `core/c_api.h` and its sentence, in the module's memory until freed. */
export interface WasmFailure {
  readonly status: number;
  readonly message: string;
  free(): void;
}

export interface WasmMemory {
  readonly buffer: ArrayBufferLike;
}

export interface WasmGlue {
  /** Creates the instance. `memory` is given to threads that join another one's. */
  initSync(options: { module: unknown; memory?: WasmMemory; thread_stack_size?: number }): { readonly memory: WasmMemory };
  version(): number;
  instruction_set(isa?: string): string;
  allocate(bytes: number): number;
  release(address: number): void;
  lend_thread(): void;
  lent_threads(): number;
  open_model(
    spec: Float64Array,
    paths: string[],
    addresses: Uint32Array,
    sizes: Uint32Array,
    threads: number,
    precision: number,
    kvType: number,
    isa?: string,
  ): number;
  describe_model(model: number): {
    readonly isa: string;
    readonly threads: number;
    readonly precision: number;
    readonly kv_type: number;
    readonly mapped_bytes: number;
    readonly heap_bytes: number;
    free(): void;
  };
  read_files(model: number): number;
  close_model(model: number): void;
  open_session(model: number, contextSize: number): number;
  close_session(session: number): void;
  seed(session: number, seed: bigint): void;
  append(session: number, tokens: Int32Array): void;
  prefill(session: number, tokens: Int32Array): void;
  prefill_logits(session: number, tokens: Int32Array, vocabulary: number): Float32Array;
  sample(
    session: number,
    temperature: number,
    topK: number,
    topP: number,
    minP: number,
    repetitionPenalty: number,
    repetitionWindow: number,
  ): number;
  decode_draft(session: number, token: number, draft: Int32Array): Int32Array;
  constrain(session: number, grammar: number, budget: number): void;
  is_complete(session: number): boolean;
  set_vocabulary(model: number, bytes: Uint8Array, ends: Uint32Array, endTokens: Int32Array): void;
  open_grammar(model: number, numbers: Int32Array): number;
  close_grammar(grammar: number): void;
  /** The verdict, the tokens to the end and the words of the mask. */
  follow_grammar(grammar: number, text: Uint8Array, budget: number, vocabulary: number): Uint32Array;
  rewind(session: number, position: number): void;
  logits(session: number, vocabulary: number): Float32Array;
  evaluate(session: number, tokens: Int32Array): Float32Array;
  describe_session(session: number): {
    readonly position: number;
    readonly context_size: number;
    readonly kv_cache_bytes: number;
    readonly scratch_bytes: number;
    readonly position_bytes: number;
    readonly beyond_switch: number;
    free(): void;
  };
  save_positions(session: number, first: number, count: number): Uint8Array;
  restore_positions(session: number, tokens: Int32Array, saved: Uint8Array, beyondSwitch: boolean): void;
  copy_session(session: number, from: number, tokens: Int32Array): void;
  embed(session: number, tokens: Int32Array, pooling: number, embedding: number): Float32Array;
}

/** The modules there are: with and without threads, with and without relaxed SIMD. */
export const flavours = ['single', 'single-relaxed', 'threads', 'threads-relaxed'] as const;
export type Flavour = (typeof flavours)[number];

/** The global, or the part of it that is used; its types belong to those of a page. */
export const webAssembly = (
  globalThis as { WebAssembly?: { validate(bytes: Uint8Array): boolean; compile(bytes: Uint8Array): Promise<unknown> } }
).WebAssembly;

// The smallest modules that use an instruction of the proposal: i8x16.swizzle, i8x16.relaxed_swizzle.
const probe = (...body: number[]): Uint8Array =>
  Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, body.length + 4, 1, body.length + 2, 0, ...body, 11);
const constant = [253, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const validates = (bytes: Uint8Array): boolean => webAssembly?.validate(bytes) === true;

/** Whether this JavaScript engine has the instructions that every module needs. */
export const hasSimd = (): boolean => validates(probe(...constant, ...constant, 253, 14));
export const hasRelaxedSimd = (): boolean => validates(probe(...constant, ...constant, 253, 128, 2));

/**
 * The module for a number of threads. `isa` 'simd128' and 'portable' ask for the strict instructions. Results are the same
 * bits with both: indexes never leave the range in which the relaxed instructions are defined.
 */
export function chooseFlavour(threads: number, isa: string | undefined): Flavour {
  const relaxed = isa === 'relaxedsimd' || (isa === undefined && hasRelaxedSimd());
  return `${threads > 1 ? 'threads' : 'single'}${relaxed ? '-relaxed' : ''}`;
}
