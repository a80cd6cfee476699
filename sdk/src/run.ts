/** A running generation: an async iterable of text, and promises of the whole. Generation starts at once. */
import type { BackendInfo } from './model.js';
import type { GeneratedLogprob } from './token-logprobs.js';
import type { ToolCall } from './tools/tools.js';

/** A piece of text that is final. */
export interface TextChunk {
  type: 'text';
  text: string;
  /** The ids that were generated since the last chunk. */
  tokens: number[];
  /** One for each of `tokens`, with the option `logprobs`. */
  logprobs?: GeneratedLogprob[];
}

/** 'toolCalls': the answer is calls of tools, whose results are to be sent. */
export type FinishReason = 'stop' | 'length' | 'aborted' | 'toolCalls';

/** Tokens that were read and generated. */
export interface Usage {
  promptTokens: number;
  /** Of the prompt tokens, those that were not computed, because the session held them already. */
  cachedPromptTokens: number;
  completionTokens: number;
}

/** Of one generation, in milliseconds and tokens per second. */
export interface Timings {
  loadMs: number;
  promptMs: number;
  /** From the call to the first generated token; null without one. */
  firstTokenMs: number | null;
  /** All decode steps after the first token. */
  decodeMs: number;
  /** Over the prompt tokens that were computed; null when there was nothing to measure. */
  promptTokensPerSecond: number | null;
  tokensPerSecond: number | null;
}

/** What the backend allocated for the model and this generation. KV cache and scratch are reserved at once; their pages become resident as they are used. */
export interface MemoryUse {
  /** All of the weights: those in mapped files, and those held. */
  weightsBytes: number;
  /** Of the weights, what is read in place from mapped files; the system can drop and read again such pages. */
  mappedBytes: number;
  kvCacheBytes: number;
  scratchBytes: number;
  /** KV cache and scratch of the sessions that the option `prefixCache` keeps and nobody uses. */
  prefixCacheBytes: number;
  /** Of the above, what is on the GPU: all of it with the backend cuda. Null with other backends. */
  gpuBytes: number | null;
  /** The memory of the WebAssembly module, which holds all of the above and never shrinks. Null with other backends. */
  wasmMemoryBytes: number | null;
  /** Of the whole process; null in a browser, which does not tell. */
  peakRssBytes: number | null;
  /** What the system showed during this run, with `measure`; else null. */
  growth: MemoryGrowth | null;
}

/** Over one run; null where the system does not tell. Other work in the process, or on the machine, is in it. */
export interface MemoryGrowth {
  residentPeakBytes: number | null;
  /** Of the peak above the start. */
  residentGrowthBytes: number | null;
  /** By how much less the machine could give. */
  availableDropBytes: number | null;
  /** Why times and energies of the run do not count, such as swapping. */
  problem: string | null;
}

/** Of the whole run, prompt included, and of everything within the scope of the meter: idle power and other work too. */
export interface EnergyUse {
  /** Null when it was not measured or cannot be resolved; `problem` says why. */
  joules: number | null;
  /** Over the generated tokens. */
  joulesPerToken: number | null;
  meter: string | null;
  method: 'counter' | 'sampled' | 'estimated' | null;
  scope: string | null;
  /** Half of the 95 % interval of `joules`. */
  uncertainty: number | null;
  problem: string | null;
}

/** What a generation gave, and what it took. */
export interface GenerationResult {
  text: string;
  /** The generated ids, without the end token. */
  tokens: number[];
  finishReason: FinishReason;
  /** With a schema: the value of the whole answer. Not there when the run was left early. */
  json?: unknown;
  /** With finishReason 'toolCalls'. The text then is what came before them. */
  toolCalls?: ToolCall[];
  /** One for each of `tokens`, with the option `logprobs`. */
  logprobs?: GeneratedLogprob[];
  /** Of a chat with the overflow policy 'drop-oldest-turns': how many turns it forgot so that this one fits. */
  droppedTurns?: number;
  usage: Usage;
  timings: Timings;
  memory: MemoryUse;
  energy: EnergyUse;
  backend: BackendInfo;
}

export function unmeasured(problem: string): EnergyUse {
  return { joules: null, joulesPerToken: null, meter: null, method: null, scope: null, uncertainty: null, problem };
}

/** Of a run whose model was loaded without `measure`. */
export const noEnergy: EnergyUse = unmeasured('the model was loaded without measure: true');

export interface RunControls {
  emit(chunk: TextChunk): void;
  /** Drops what nobody has read yet and everything that comes later. */
  discard(): void;
}

/**
 * One generation. Iterate it once for text as it comes (leaving the loop stops the work), or await `text()` or
 * `result()`; both may be combined. A failure rejects all of them; it is no unhandled rejection when nobody asks.
 */
export class Run implements AsyncIterable<TextChunk> {
  private readonly chunks: TextChunk[] = [];
  private wake: (() => void) | null = null;
  private done = false;
  private taken = false;
  private discarded = false;
  private readonly outcome: Promise<GenerationResult>;

  /** For `generate.ts`: `start` does the work, `stop` ends it early with finishReason 'aborted'. */
  constructor(
    start: (controls: RunControls) => Promise<GenerationResult>,
    private readonly stop: () => void,
  ) {
    const discard = (): void => {
      this.discarded = true;
      this.chunks.length = 0;
    };
    this.outcome = start({ emit: (chunk) => this.emit(chunk), discard }).finally(() => {
      this.done = true;
      this.wake?.();
    });
    this.outcome.catch(() => undefined);
  }

  /** The whole text. Rejects as `result()` does. */
  async text(): Promise<string> {
    return (await this.outcome).text;
  }

  /** Text, counts, times and memory once the generation has ended. Rejects with ShiftAddError or the signal's reason. */
  async result(): Promise<GenerationResult> {
    return this.outcome;
  }

  /** The text as it comes, for one consumer: a second iteration throws TypeError. */
  [Symbol.asyncIterator](): AsyncIterator<TextChunk, undefined> {
    if (this.taken) throw new TypeError('A run can be iterated once; keep its chunks or use text()');
    this.taken = true;
    let ended = false;
    const leave = async (): Promise<void> => {
      ended = true;
      this.stop();
      await this.outcome.catch(() => undefined);
    };
    return {
      next: async () => {
        while (!ended && this.chunks.length === 0 && !this.done) {
          await new Promise<void>((resolve) => (this.wake = resolve));
        }
        const chunk = ended ? undefined : this.chunks.shift();
        if (chunk !== undefined) return { done: false, value: chunk };
        if (!ended) {
          ended = true;
          await this.outcome;
        }
        return { done: true, value: undefined };
      },
      return: async () => {
        await leave();
        return { done: true, value: undefined };
      },
      throw: async (error: unknown) => {
        await leave();
        throw error;
      },
    };
  }

  private emit(chunk: TextChunk): void {
    if (this.discarded) return;
    this.chunks.push(chunk);
    this.wake?.();
  }
}
