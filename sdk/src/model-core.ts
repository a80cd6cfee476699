/** What the parts of a loaded model share; not public. */
import type { ChatTemplate } from './chat-template.js';
import type { EngineModel, EngineSession } from './engine.js';
import type { WorkPlace } from './devices/meter-choice.js';
import { ShiftAddError, fromEngine } from './errors.js';
import type { Measure } from './measure.js';
import type { LoadedWeights } from './model-bytes.js';
import type { BackendInfo } from './model.js';
import { PrefixCache, type PrefixCacheOptions } from './prefix-cache.js';
import type { MemoryUse } from './run.js';
import { AnswerForms } from './structured/answer-forms.js';
import type { Tokenizer } from './tokenizer.js';

/** Transformer::kMaxRows of core/transformer.h. */
const stepTokens = 128;

export class ModelCore {
  closed = false;
  /** Ends what is running, each with ERR_CLOSED. */
  readonly running = new Set<() => void>();
  readonly forms: AnswerForms;
  readonly prefixes: PrefixCache;
  private identity: Promise<string> | null = null;

  constructor(
    readonly engineModel: EngineModel,
    readonly tokenizer: Tokenizer,
    readonly template: ChatTemplate,
    readonly backend: BackendInfo,
    /** What a meter must cover to tell of this model's work. */
    readonly worksOn: WorkPlace,
    readonly endIds: ReadonlySet<number>,
    readonly vocabularySize: number,
    readonly contextLimit: number,
    readonly contextSize: number,
    readonly loadMs: number,
    readonly weights: LoadedWeights,
    /** Null unless generations are to be measured. */
    readonly measure: Measure | null,
    readonly name: string,
    /** Numbers of what the head reads of a position. */
    readonly embeddingSize: number,
    /** A position of a prompt has the same bits however many are computed with it. */
    sameBits: boolean,
    /** Sessions that are kept between runs. */
    prefixCache: Required<PrefixCacheOptions>,
    private readonly readIdentity: () => Promise<string>,
  ) {
    this.forms = new AnswerForms(engineModel, tokenizer, endIds, vocabularySize);
    this.prefixes = new PrefixCache((contextSize) => this.openSession(contextSize), prefixCache, sameBits ? 1 : stepTokens);
  }

  /** ERR_CLOSED once the model is closed. */
  checkOpen(): void {
    if (this.closed) throw closedError('model');
  }

  /** A context size that was asked for, or the model's. RangeError above the model's limit. */
  contextSizeFor(asked: number | undefined): number {
    if (asked === undefined) return this.contextSize;
    return checkContextSize(asked, this.contextLimit);
  }

  async openSession(contextSize: number): Promise<EngineSession> {
    this.checkOpen();
    try {
      return await this.engineModel.openSession(contextSize);
    } catch (error) {
      this.checkOpen();
      throw fromEngine(error, `Opening a context of ${contextSize} tokens`);
    }
  }

  /** What the model computes, as `identifyModel` tells. */
  identify(): Promise<string> {
    this.identity ??= this.readIdentity();
    this.identity.catch(() => (this.identity = null)); // the files may be there again next time
    return this.identity;
  }

  memory(session: EngineSession | null): MemoryUse {
    const { kvCacheBytes, scratchBytes } = session?.describe() ?? { kvCacheBytes: 0, scratchBytes: 0 };
    const peakRssBytes = typeof process === 'undefined' ? null : process.resourceUsage().maxRSS * 1024;
    const weightsBytes = this.weights.mapped + this.weights.held;
    const prefixCacheBytes = this.closed ? 0 : this.prefixes.bytes;
    const gpuBytes = this.backend.name === 'cuda' ? weightsBytes + kvCacheBytes + scratchBytes + prefixCacheBytes : null;
    const wasmMemoryBytes = this.backend.name !== 'wasm' || this.closed ? null : (this.engineModel.describe().wasmMemoryBytes ?? null);
    return { weightsBytes, mappedBytes: this.weights.mapped, kvCacheBytes, scratchBytes, prefixCacheBytes, gpuBytes, wasmMemoryBytes, peakRssBytes, growth: null };
  }
}

const cores = new WeakMap<object, ModelCore>();

/** Lets functions outside of `model.ts` reach the inside of a model, which the class keeps to itself. */
export function shareCore(model: object, core: ModelCore): void {
  cores.set(model, core);
}

/** Undefined for what is no model. */
export function coreOf(model: unknown): ModelCore | undefined {
  return typeof model === 'object' && model !== null ? cores.get(model) : undefined;
}

export function checkContextSize(asked: number, limit: number): number {
  if (asked > limit)
    throw new RangeError(
      `Expected an integer from 1 to ${limit} for contextSize (the model's limit) but received ${asked}`,
    );
  return asked;
}

export function closedError(what: string): ShiftAddError {
  return new ShiftAddError('ERR_CLOSED', `This ${what} is closed. Load or create it again.`);
}
