/** A running generation: an async iterable of text, and promises of the whole. Generation starts at once. */
import type { BackendInfo } from './model.js';
import type { ToolCall } from './tools/tools.js';

/** A piece of text that is final. */
export interface TextChunk {
  type: 'text';
  text: string;
  /** The ids that were generated since the last chunk. */
  tokens: number[];
}

/** 'toolCalls': the answer is calls of tools, whose results are to be sent. */
export type FinishReason = 'stop' | 'length' | 'aborted' | 'toolCalls';

export interface Usage {
  promptTokens: number;
  completionTokens: number;
}

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

export interface MemoryUse {
  weightsBytes: number;
  kvCacheBytes: number;
  scratchBytes: number;
  /** Of the whole process; null in a browser, which does not tell. */
  peakRssBytes: number | null;
}

/** Null throughout until a meter is read. */
export interface EnergyUse {
  joules: number | null;
  joulesPerToken: number | null;
  meter: string | null;
  method: 'counter' | 'sampled' | 'estimated' | null;
  scope: string | null;
  uncertainty: number | null;
}

export interface GenerationResult {
  text: string;
  /** The generated ids, without the end token. */
  tokens: number[];
  finishReason: FinishReason;
  /** With a schema: the value of the whole answer. Not there when the run was left early. */
  json?: unknown;
  /** With finishReason 'toolCalls'. The text then is what came before them. */
  toolCalls?: ToolCall[];
  usage: Usage;
  timings: Timings;
  memory: MemoryUse;
  energy: EnergyUse;
  backend: BackendInfo;
}

/** No meter is read yet. */
export const noEnergy: EnergyUse = {
  joules: null,
  joulesPerToken: null,
  meter: null,
  method: null,
  scope: null,
  uncertainty: null,
};

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
