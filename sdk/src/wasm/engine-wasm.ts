/**
 * `Engine` over a WebAssembly module. Calls compute on the thread that makes them: a page puts the whole SDK into a worker
 * (`sdk/src/browser`), and in Node every step blocks for as long as it takes. Between the parts of a long call the event loop
 * runs, so that an abort arrives.
 */
import type {
  CancelFlag,
  Engine,
  EngineDevice,
  EngineFollow,
  EngineGrammar,
  EngineModel,
  EngineModelInfo,
  EngineModelOptions,
  EngineQuantizer,
  EngineSampling,
  EngineSession,
  EngineSessionInfo,
  EngineTuner,
  EngineVocabulary,
  KvType,
  Precision,
} from '../engine.js';
import { apiVersion, kvTypes } from '../engine.js';
import { letEventsRun } from '../event-loop.js';
import { hasRelaxedSimd } from './glue.js';
import { engineError, memoryLimitBytes, type Block, type WasmInstance } from './instance.js';

/** Where instances and the bytes of weight files come from: Node or a page. */
export interface WasmPlatform {
  /** Threads unless told otherwise, and the most there can be: 1 where memory cannot be shared. */
  cores(): number;
  limit(): number;
  /** An instance that can give a model this many threads. */
  instance(threads: number, isa: string | undefined): Promise<WasmInstance>;
  /** Puts a file into the memory of the instance. */
  load(instance: WasmInstance, path: string): Promise<Block>;
  size(path: string): Promise<number>;
}

// Tokens between two looks at the cancel flag: all that the core computes at once, or fewer where that takes long.
const partOfSmall = 128;
const partOfLarge = 16;
const largeBytes = 300e6;
// Where the vocabulary size stands in a model description (core/model_spec.h).
const vocabularyField = 1;
const embeddingField = 20;

function checkCancel(cancel: CancelFlag | undefined): void {
  if (cancel !== undefined && Atomics.load(cancel, 0) !== 0) throw engineError('cancelled', 'cancelled');
}

const onlyNative = 'the WebAssembly backend only runs models; quantize with the backend cpu';

export class WasmEngine implements Engine {
  readonly version = apiVersion;

  constructor(private readonly platform: WasmPlatform) {}

  describeDevice(isa?: string): EngineDevice {
    const best = hasRelaxedSimd() ? 'relaxedsimd' : 'simd128';
    if (isa !== undefined && !['portable', 'simd128', best].includes(isa)) {
      throw engineError('not_found', `WebAssembly here does not have the instruction set '${isa}'`);
    }
    return { backend: 'wasm', isa: isa ?? best, cores: this.platform.cores() };
  }

  async openModel(spec: Float64Array, paths: string[], options: EngineModelOptions): Promise<EngineModel> {
    const { isa } = this.describeDevice(options.isa);
    const threads = Math.min(options.threads === 0 ? this.platform.cores() : options.threads, this.platform.limit());
    const sizes = await Promise.all(paths.map((path) => this.platform.size(path)));
    const total = sizes.reduce((sum, size) => sum + size, 0);
    if (total > memoryLimitBytes) {
      throw engineError('out_of_memory', `the weights have ${total} bytes, but WebAssembly addresses ${2 ** 32}; take fewer bits per weight or a smaller model`);
    }
    const instance = await this.platform.instance(threads, options.isa);
    const blocks: Block[] = [];
    try {
      for (const path of paths) blocks.push(await this.platform.load(instance, path));
      const handle = instance.call((glue) =>
        glue.open_model(
          spec,
          paths,
          Uint32Array.from(blocks, ({ address }) => address),
          Uint32Array.from(blocks, ({ bytes }) => bytes),
          threads,
          options.precision === 'exact' ? 0 : 1,
          kvTypes.indexOf(options.kvCache),
          isa === 'portable' ? isa : undefined, // a module has one table besides
        ),
      );
      return new WasmModel(instance, handle >>> 0, blocks, spec[vocabularyField]!, spec[embeddingField]!);
    } catch (error) {
      for (const block of blocks) instance.release(block);
      throw error;
    }
  }
}

class WasmModel implements EngineModel {
  private readonly info: EngineModelInfo;
  private readonly sessions = new Set<WasmSession>();
  private readonly grammars = new Set<WasmGrammar>();
  private isClosed = false;

  constructor(
    private readonly instance: WasmInstance,
    private readonly handle: number,
    private readonly blocks: Block[],
    private readonly vocabulary: number,
    private readonly embedding: number,
  ) {
    this.info = instance.call((glue) => {
      const info = glue.describe_model(handle);
      const { isa, threads, precision, kv_type, mapped_bytes: mappedBytes, heap_bytes: heapBytes } = info;
      info.free();
      const named: { precision: Precision; kvCache: KvType } = { precision: precision === 0 ? 'exact' : 'fast', kvCache: kvTypes[kv_type]! };
      return { isa, threads, ...named, mappedBytes, heapBytes };
    });
  }

  describe(): EngineModelInfo {
    this.checkOpen();
    return { ...this.info, wasmMemoryBytes: this.instance.memoryBytes };
  }

  async openSession(contextSize: number): Promise<EngineSession> {
    this.checkOpen();
    const handle = this.instance.call((glue) => glue.open_session(this.handle, contextSize)) >>> 0;
    const part = this.info.mappedBytes + this.info.heapBytes > largeBytes ? partOfLarge : partOfSmall;
    const session = new WasmSession(this.instance, handle, part, this.vocabulary, this.embedding, () => this.sessions.delete(session));
    this.sessions.add(session);
    return session;
  }

  async setVocabulary({ bytes, ends, endTokens }: EngineVocabulary): Promise<void> {
    this.checkOpen();
    this.instance.call((glue) => glue.set_vocabulary(this.handle, bytes, ends, endTokens));
  }

  async openGrammar(numbers: Int32Array): Promise<EngineGrammar> {
    this.checkOpen();
    const handle = this.instance.call((glue) => glue.open_grammar(this.handle, numbers)) >>> 0;
    const grammar = new WasmGrammar(this.instance, handle, this.vocabulary, () => this.grammars.delete(grammar));
    this.grammars.add(grammar);
    return grammar;
  }

  openQuantizer(): Promise<EngineQuantizer> {
    return Promise.reject(engineError('unsupported', onlyNative));
  }
  openTuner(): Promise<EngineTuner> {
    return Promise.reject(engineError('unsupported', onlyNative));
  }
  rotated(): Promise<Uint16Array> {
    return Promise.reject(engineError('unsupported', onlyNative));
  }

  async measureRead(): Promise<number> {
    this.checkOpen();
    let best = 0;
    for (let pass = 0; pass < 5; pass++) {
      const started = performance.now();
      const bytes = this.instance.call((glue) => glue.read_files(this.handle));
      const seconds = (performance.now() - started) / 1000;
      if (seconds > 0) best = Math.max(best, bytes / seconds);
      await letEventsRun();
    }
    return best;
  }

  async close(): Promise<void> {
    if (this.isClosed) return;
    this.isClosed = true;
    await Promise.all([...this.sessions].map((session) => session.close()));
    await Promise.all([...this.grammars].map((grammar) => grammar.close()));
    if (!this.instance.isBroken) this.instance.call((glue) => glue.close_model(this.handle));
    for (const block of this.blocks) this.instance.release(block);
  }

  private checkOpen(): void {
    if (this.isClosed) throw engineError('invalid_argument', 'this object is closed');
  }
}

const verdicts = ['refused', 'open', 'accepted', 'final'] as const;

class WasmGrammar implements EngineGrammar {
  private isClosed = false;

  constructor(
    private readonly instance: WasmInstance,
    private readonly handle: number,
    private readonly vocabulary: number,
    private readonly onClose: () => void,
  ) {}

  /** For `constrain`; throws when the grammar is closed. */
  get openHandle(): number {
    if (this.isClosed) throw engineError('invalid_argument', 'this object is closed');
    return this.handle;
  }

  async follow(text: Uint8Array, budget: number): Promise<EngineFollow> {
    const words = this.instance.call((glue) => glue.follow_grammar(this.openHandle, text, budget, this.vocabulary));
    return { verdict: verdicts[words[0]!]!, least: words[1]! | 0, tokens: words.slice(2) };
  }

  async close(): Promise<void> {
    if (this.isClosed) return;
    this.isClosed = true;
    if (!this.instance.isBroken) this.instance.call((glue) => glue.close_grammar(this.handle));
    this.onClose();
  }
}

class WasmSession implements EngineSession {
  private isClosed = false;
  /** The calls that are queued. */
  private last: Promise<unknown> = Promise.resolve();
  private pending = 0;

  constructor(
    private readonly instance: WasmInstance,
    private readonly handle: number,
    private readonly part: number,
    private readonly vocabulary: number,
    private readonly embedding: number,
    private readonly onClose: () => void,
  ) {}

  describe(): EngineSessionInfo {
    this.checkOpen();
    return this.describeNow();
  }

  seed(seed: bigint): void {
    this.checkIdle();
    this.instance.call((glue) => glue.seed(this.handle, seed));
  }

  rewind(position: number): void {
    this.checkIdle();
    this.instance.call((glue) => glue.rewind(this.handle, position));
  }

  logits(): Float32Array {
    this.checkIdle();
    return this.instance.call((glue) => glue.logits(this.handle, this.vocabulary));
  }

  prefill(tokens: Int32Array, cancel?: CancelFlag): Promise<void> {
    return this.queue(() => this.prefillInParts(tokens, cancel));
  }

  prefillLogits(tokens: Int32Array, cancel?: CancelFlag): Promise<Float32Array> {
    // In one part: the logits of all tokens are in memory at once anyway.
    return this.queue(async () => {
      checkCancel(cancel);
      return this.instance.call((glue) => glue.prefill_logits(this.handle, tokens, this.vocabulary));
    });
  }

  sample(sampling: EngineSampling): Promise<number> {
    return this.queue(async () => this.sampleNow(sampling));
  }

  decode(token: number, sampling: EngineSampling, cancel?: CancelFlag): Promise<number> {
    return this.queue(async () => {
      checkCancel(cancel);
      this.instance.call((glue) => glue.prefill(this.handle, Int32Array.of(token)));
      return this.sampleNow(sampling);
    });
  }

  constrain(grammar: EngineGrammar | null, budget: number): Promise<void> {
    return this.queue(async () => {
      const handle = grammar === null ? 0 : (grammar as WasmGrammar).openHandle;
      this.instance.call((glue) => glue.constrain(this.handle, handle, budget));
    });
  }

  isComplete(): boolean {
    this.checkIdle();
    return this.instance.call((glue) => glue.is_complete(this.handle));
  }

  decodeDraft(token: number, draft: Int32Array, cancel?: CancelFlag): Promise<Int32Array> {
    return this.queue(async () => {
      checkCancel(cancel);
      return this.instance.call((glue) => glue.decode_draft(this.handle, token, draft));
    });
  }

  evaluate(tokens: Int32Array, cancel?: CancelFlag): Promise<Float32Array> {
    return this.queue(async () => {
      checkCancel(cancel);
      return this.instance.call((glue) => glue.evaluate(this.handle, tokens));
    });
  }

  save(first: number, count: number): Promise<Uint8Array> {
    return this.queue(async () => this.instance.call((glue) => glue.save_positions(this.handle, first, count)));
  }

  restore(tokens: Int32Array, saved: Uint8Array, beyondSwitch: boolean): Promise<void> {
    return this.queue(async () => this.instance.call((glue) => glue.restore_positions(this.handle, tokens, saved, beyondSwitch)));
  }

  /** Runs at once on the thread of the caller, so that the other session cannot change meanwhile. */
  copy(from: EngineSession, tokens: Int32Array): Promise<void> {
    return this.queue(async () => {
      const other = from as WasmSession;
      if (other === this) throw engineError('invalid_argument', 'a session copies another one of the same model');
      if (other.instance !== this.instance) throw engineError('invalid_argument', 'the session belongs to another model');
      other.checkIdle();
      this.instance.call((glue) => glue.copy_session(this.handle, other.handle, tokens));
    });
  }

  embed(tokens: Int32Array, pooling: number, cancel?: CancelFlag): Promise<Float32Array> {
    return this.queue(async () => {
      checkCancel(cancel);
      return this.instance.call((glue) => glue.embed(this.handle, tokens, pooling, this.embedding));
    });
  }

  async close(): Promise<void> {
    if (this.isClosed) return;
    this.isClosed = true;
    await this.last.catch(() => undefined);
    if (!this.instance.isBroken) this.instance.call((glue) => glue.close_session(this.handle));
    this.onClose();
  }

  private sampleNow({ temperature, topK, topP, minP, repetitionPenalty, repetitionWindow }: EngineSampling): number {
    return this.instance.call((glue) => glue.sample(this.handle, temperature, topK, topP, minP, repetitionPenalty, repetitionWindow));
  }

  /** Reads tokens in parts; on a failure the position is what it was. */
  private async prefillInParts(tokens: Int32Array, cancel: CancelFlag | undefined): Promise<void> {
    const { position } = this.describeNow();
    let done = 0;
    try {
      for (; tokens.length - done > this.part; done += this.part) {
        checkCancel(cancel);
        const part = tokens.subarray(done, done + this.part);
        this.instance.call((glue) => glue.append(this.handle, part));
        await letEventsRun();
      }
      checkCancel(cancel);
      this.instance.call((glue) => glue.prefill(this.handle, tokens.subarray(done)));
    } catch (error) {
      if (done > 0 && !this.instance.isBroken) this.instance.call((glue) => glue.rewind(this.handle, position));
      throw error;
    }
  }

  private queue<T>(work: () => Promise<T>): Promise<T> {
    this.checkOpen();
    this.pending++;
    const result = this.last
      .catch(() => undefined) // the failure of an earlier call is that call's
      .then(letEventsRun)
      .then(work)
      .finally(() => this.pending--);
    this.last = result.catch(() => undefined);
    return result;
  }

  private describeNow(): EngineSessionInfo {
    return this.instance.call((glue) => {
      const info = glue.describe_session(this.handle);
      const { position, context_size: contextSize, kv_cache_bytes: kvCacheBytes, scratch_bytes: scratchBytes } = info;
      const { position_bytes: positionBytes, beyond_switch: beyondSwitch } = info;
      info.free();
      return { position, contextSize, kvCacheBytes, scratchBytes, positionBytes, beyondSwitch: beyondSwitch !== 0 };
    });
  }

  private checkOpen(): void {
    if (this.isClosed) throw engineError('invalid_argument', 'this object is closed');
  }

  private checkIdle(): void {
    this.checkOpen();
    if (this.pending > 0) throw engineError('invalid_argument', 'a call on this object is still running');
  }
}
