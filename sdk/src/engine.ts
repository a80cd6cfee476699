/**
 * The transport between TypeScript and the C ABI (`core/c_api.h`). Tokens and numbers cross it, never text. Every
 * transport (the native addon, WebAssembly) implements these interfaces and passes the same tests.
 *
 * Every method that can fail rejects with an `EngineError`; the layers above turn it into a `ShiftAddError` that also
 * names what the user passed.
 */

/** Status codes of `core/c_api.h`. */
export type EngineStatus =
  | 'invalid_argument'
  | 'not_found'
  | 'bad_format'
  | 'unsupported'
  | 'out_of_memory'
  | 'device_failed'
  | 'cancelled';

/** A failure inside the engine: a status of the C ABI and one sentence. */
export interface EngineError extends Error {
  readonly status: EngineStatus;
}

/**
 * A flag that a running call polls: set element 0 to 1 (`Atomics.store`) to stop it. Backed by a SharedArrayBuffer where there
 * is one; elsewhere (a page that is not cross-origin isolated) the engine runs on the thread that sets it.
 */
export type CancelFlag = Int32Array;

export function makeCancelFlag(): CancelFlag {
  return new Int32Array(typeof SharedArrayBuffer === 'undefined' ? new ArrayBuffer(4) : new SharedArrayBuffer(4));
}

/** Of packed products: how many bits a table entry fills. */
export type Precision = 'exact' | 'fast';

/** Element type of cached keys and values; `int8` (8.5 bits each, with their scales) is of the backend cuda. */
export type KvType = 'f32' | 'f16' | 'int8';
/** In the order of the C interface's numbers. */
export const kvTypes = ['f32', 'f16', 'int8'] as const satisfies readonly KvType[];

export interface EngineDevice {
  /** `cpu` for the CPU backend. */
  backend: string;
  /** `portable`, `avx2`, `avx512`, `avx512vnni`, `neon`, `neondot`. */
  isa: string;
  /** Cores that this process may use. */
  cores: number;
}

/** A GPU as `sa_gpu_describe` says. */
export interface EngineGpu {
  /** GPUs of this machine. */
  count: number;
  name: string;
  /** `GPU-...`, as NVIDIA's tools write it. */
  uuid: string;
  /** 87 is compute capability 8.7. */
  capability: number;
  multiprocessors: number;
  /** Shares its memory with the processor, as on Jetson boards. */
  integrated: boolean;
}

export interface EngineModelOptions {
  /** Of the native engine; default cpu. */
  backend?: 'cpu' | 'cuda';
  /** Index of the GPU for `cuda`. */
  device?: number;
  /** 1 to 64; 0 means one per core. */
  threads: number;
  precision: Precision;
  kvCache: KvType;
  /** Forces an instruction set; undefined chooses the widest. */
  isa?: string;
}

export interface EngineModelInfo {
  isa: string;
  threads: number;
  precision: Precision;
  kvCache: KvType;
  /** Weights read straight from the mapped files; a stored tensor counts once for every matrix that is a part of it. */
  mappedBytes: number;
  /** Weights held in memory: decoded scales, norms. */
  heapBytes: number;
  /** Of WebAssembly alone: the present size of the module's memory, which holds everything. */
  wasmMemoryBytes?: number;
}

export interface EngineSampling {
  /** 0 is greedy. */
  temperature: number;
  /** 0 is off. */
  topK: number;
  /** 1 is off. */
  topP: number;
  /** 0 is off. */
  minP: number;
  /** 1 is off. */
  repetitionPenalty: number;
  /** How many of the latest tokens the penalty looks at. */
  repetitionWindow: number;
}

export interface EngineSessionInfo {
  position: number;
  contextSize: number;
  kvCacheBytes: number;
  scratchBytes: number;
  /** Of one position of the KV cache, as `save` gives it. */
  positionBytes: number;
  /** The cached keys have the second of the model's two sets of rotary frequencies. */
  beyondSwitch: boolean;
}

/** How the states of a text's tokens become one vector; the numbers of `sa_session_embed`. */
export const enginePooling = { mean: 0, last: 1, first: 2 } as const;

/** One token sequence: a KV cache, a position and the logits of the last position. One call at a time. */
export interface EngineSession {
  describe(): EngineSessionInfo;
  /** Starts the random stream of `sample` anew. */
  seed(seed: bigint): void;
  /** Appends tokens (at least one) and computes the logits of the last. Cancelled: the position is as before the call, or 0 within a change of rotary frequencies. */
  prefill(tokens: Int32Array, cancel?: CancelFlag): Promise<void>;
  /** The same, and returns the logits of every token: tokens x vocabulary. */
  prefillLogits(tokens: Int32Array, cancel?: CancelFlag): Promise<Float32Array>;
  /** Picks a token from the logits of the last position, without appending it. */
  sample(sampling: EngineSampling): Promise<number>;
  /** Appends one token and samples the next: one decode step. */
  decode(token: number, sampling: EngineSampling, cancel?: CancelFlag): Promise<number>;
  /**
   * Greedy decoding with a guess of at most 7 tokens: appends `token`, then those of the draft that greedy sampling picks
   * too. Returns the accepted tokens and the one after them, which is not appended: what single steps would give.
   */
  decodeDraft(token: number, draft: Int32Array, cancel?: CancelFlag): Promise<Int32Array>;
  /**
   * From now on `sample` and `decode` pick only tokens with which the answer is one of the grammar within `budget` tokens besides
   * the end token. Rejects when the shortest answer is longer. Null: no constraint.
   */
  constrain(grammar: EngineGrammar | null, budget: number): Promise<void>;
  /** The constrained answer is whole, and nothing but the end may follow. */
  isComplete(): boolean;
  /** Forgets everything after the first `position` tokens; the logits are gone until the next prefill. */
  rewind(position: number): void;
  /** The logits of the last position, one per vocabulary entry. */
  logits(): Float32Array;
  /** Rewinds to 0 and returns `tokens.length - 1` natural log-probabilities: of token i + 1 after tokens 0..i. */
  evaluate(tokens: Int32Array, cancel?: CancelFlag): Promise<Float32Array>;
  /** The KV cache of positions first to first + count - 1, `positionBytes` each, in the layout of `sa_session_save`. */
  save(first: number, count: number): Promise<Uint8Array>;
  /** Appends tokens whose positions were saved by a session of the same model and options. The logits are gone until the next prefill. */
  restore(tokens: Int32Array, saved: Uint8Array, beyondSwitch: boolean): Promise<void>;
  /** Takes over `tokens`, with which the other session must begin (else it rejects), in the place of what there was. */
  copy(from: EngineSession, tokens: Int32Array): Promise<void>;
  /** Rewinds to 0, reads the tokens and pools their states after the final norm, in the basis of the checkpoint. */
  embed(tokens: Int32Array, pooling: number, cancel?: CancelFlag): Promise<Float32Array>;
  /** Waits for a running call, then frees the memory. Idempotent. */
  close(): Promise<void>;
}

/** The bytes of all tokens of a model: those of token i end at ends[i]. */
export interface EngineVocabulary {
  bytes: Uint8Array;
  ends: Uint32Array;
  /** Tokens that end an answer. */
  endTokens: Int32Array;
}

/** What a grammar says about the beginning of an answer. */
export interface EngineFollow {
  /** No answer begins so; one does; it is one; it is one and nothing may follow. */
  verdict: 'refused' | 'open' | 'accepted' | 'final';
  /** Tokens to the end, at most; -1 where the vocabulary cannot reach it. */
  least: number;
  /** One bit per token that may come next and leaves a way to the end within the budget. */
  tokens: Uint32Array;
}

/** The form of an answer, for any number of sessions. */
export interface EngineGrammar {
  follow(text: Uint8Array, budget: number): Promise<EngineFollow>;
  /** Sessions that it still constrains keep what they need. Idempotent. */
  close(): Promise<void>;
}

/** How one matrix is quantized; the fields of `sa_quantize_settings` in `core/c_api.h`. */
export interface EngineQuantizeSettings {
  planes: number;
  groupRows: number;
  groupColumns: 1 | 8;
  rowScales: boolean;
  scaleTerms: number;
  fitRounds: number;
  refits: number;
  sweeps: number;
  damping: number;
  identity: number;
}

/** A packed matrix as the model file stores it. */
export interface EnginePackedMatrix {
  rows: number;
  columns: number;
  planes: number;
  groupRows: number;
  groupColumns: number;
  scaleExponent: number;
  planeData: Uint8Array;
  scales: Uint16Array;
  rowScales?: Uint16Array;
  /** |W - W_packed|^2 / |W|^2 */
  weightError: number;
  /** tr(E H E^T) / tr(W H W^T) */
  outputError: number;
  /** The sensitivity criterion of ShiftAddLLM (`core/quantizer/pipeline.h`); 0 without a Hessian. */
  criterion: number;
  /** Columns whose Hessian diagonal is zero. */
  deadColumns: number;
  /** That made the Hessian positive definite. */
  damping: number;
  /** No Hessian was given, all of its columns are dead, or no damping made it positive definite. */
  plainFit: boolean;
}

/**
 * Quantizes a dense model block by block; holds one block's statistics at a time. The message of an error about one
 * matrix begins with `matrix` and its index in the settings.
 */
export interface EngineQuantizer {
  /** Before the first block: prepares `measure` with the first `window` tokens of the first `windows` windows. */
  openSensitivity(windows: number, window: number, cancel?: CancelFlag): Promise<void>;
  /**
   * The next block: `candidates` (1 to 8) settings for each of q, k, v, o, gate, up, down, and as many results in the
   * same order. `onProgress` gets 0 to 1 within the call.
   */
  block(
    settings: EngineQuantizeSettings[],
    candidates: number,
    onProgress?: (done: number) => void,
    cancel?: CancelFlag,
  ): Promise<EnginePackedMatrix[]>;
  /** Passes over the next block: for a job that goes on where another one stopped. */
  skip(onProgress?: (done: number) => void, cancel?: CancelFlag): Promise<void>;
  /** After the last block: the embedding and, when it is not tied, the head; settings as for a block. */
  head(
    settings: EngineQuantizeSettings[],
    candidates: number,
    onProgress?: (done: number) => void,
    cancel?: CancelFlag,
  ): Promise<EnginePackedMatrix[]>;
  /** Mean KL divergence, in nats, of the dense model from itself with result `index` of the last call in its place. */
  measure(index: number, cancel?: CancelFlag): Promise<number>;
  close(): Promise<void>;
}

/** Learning rates of one tuning step; 0 to 1. */
export interface EngineTuneRates {
  scales: number;
  rowScales: number;
  gains: number;
}

/**
 * Tunes scales and norm gains of a packed model against its dense one; the signs stay. `role` and `layer` are those of the
 * model description. `tokens` holds windows x window ids. A failed or cancelled step changes nothing.
 */
export interface EngineTuner {
  /** A packed matrix, copied. Each once, before the first step; matrices that are not set stay dense. */
  set(role: number, layer: number, matrix: EnginePackedMatrix): Promise<void>;
  /** One step end to end. Resolves to the loss before it: nats per token between the dense and the packed model. */
  step(
    tokens: Int32Array,
    windows: number,
    window: number,
    rates: EngineTuneRates,
    cancel?: CancelFlag,
  ): Promise<number>;
  loss(tokens: Int32Array, windows: number, window: number, cancel?: CancelFlag): Promise<number>;
  /** Block by block, with less memory: all the windows that `blockStep` chooses from. */
  beginBlocks(tokens: Int32Array, windows: number, window: number): Promise<void>;
  /** One step of the present block on the chosen windows. Resolves to the mean squared error of its output before it. */
  blockStep(chosen: Int32Array, rates: EngineTuneRates, cancel?: CancelFlag): Promise<number>;
  nextBlock(cancel?: CancelFlag): Promise<void>;
  /** The present scales of a matrix that was set. */
  scales(role: number, layer: number): { scales: Uint16Array; rowScales?: Uint16Array };
  /** The present gains of a norm; `count` is the hidden size. */
  gains(role: number, layer: number, count: number): Float32Array;
  /** What another tuner with the same matrices needs to go on with the same bits. */
  saveState(): Float32Array;
  loadState(state: Float32Array): void;
  close(): Promise<void>;
}

export interface EngineModel {
  describe(): EngineModelInfo;
  openSession(contextSize: number): Promise<EngineSession>;
  /** Once, before the first grammar. */
  setVocabulary(vocabulary: EngineVocabulary): Promise<void>;
  /** `numbers` are laid out as `core/grammar/grammar.h` says. */
  openGrammar(numbers: Int32Array): Promise<EngineGrammar>;
  /** `tokens` holds windows x window ids. The model must be dense. */
  openQuantizer(tokens: Int32Array, windows: number, window: number): Promise<EngineQuantizer>;
  /** The model must be dense. */
  openTuner(): Promise<EngineTuner>;
  /**
   * A matrix of the dense model, `count` fp16 numbers, with a rotation of the residual stream folded in, and the gains of the
   * norm in front of it, which then are 1.
   */
  rotated(rotation: { size: number; signs: Int8Array; matrix: Int8Array }, role: number, layer: number, count: number): Promise<Uint16Array>;
  /** Bytes per second at which the weight files can be read with the model's threads. */
  measureRead(): Promise<number>;
  /** Closes its sessions, grammars, quantizers and tuners, waits for running calls, then frees the memory. Idempotent. */
  close(): Promise<void>;
}

/** `SA_API_VERSION` of core/c_api.h, for which this is written. */
export const apiVersion = 4;

export interface Engine {
  /** `SA_API_VERSION` of the engine. */
  readonly version: number;
  describeDevice(isa?: string): EngineDevice;
  /** Of the native engine alone: throws what is missing (the library, the driver, the GPU). */
  describeGpu?(index: number): EngineGpu;
  /** `spec` is laid out as `core/model_spec.h` says; `paths` are the files that it refers to. */
  openModel(spec: Float64Array, paths: string[], options: EngineModelOptions): Promise<EngineModel>;
}
