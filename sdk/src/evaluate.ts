/** Perplexity of a text: how well a model predicts it. */
import { makeCancelFlag } from './engine.js';
import { ShiftAddError, fromEngine } from './errors.js';
import { closedError, type ModelCore } from './model-core.js';
import type { BackendInfo } from './model.js';
import { evaluateRules, readOptions, show } from './options.js';
import type { MemoryUse } from './run.js';

/** How much of a text is read, in which windows. */
export interface EvaluateOptions {
  /** Tokens per window; windows do not overlap. Default 1024. */
  window?: number;
  /** Use only this many tokens from the start of the text. Default all. */
  maxTokens?: number;
  /** Aborting rejects with the signal's reason. */
  signal?: AbortSignal;
  /** Called as the work goes on. */
  onProgress?: (progress: EvaluateProgress) => void;
}

/** How far an evaluation is, in tokens. */
export interface EvaluateProgress {
  phase: 'tokenize' | 'evaluate';
  /** Windows. */
  done: number;
  total: number;
  /** Of the windows so far; null before the first. */
  perplexity: number | null;
}

/** Perplexity of a text, and what it was computed from. */
export interface EvaluateResult {
  perplexity: number;
  /** Mean over predicted tokens, in nats. */
  negativeLogLikelihood: number;
  windows: number;
  window: number;
  /** windows x (window - 1). */
  predictedTokens: number;
  /** Tokens of the text, at most maxTokens. */
  tokens: number;
  timings: { tokenizeMs: number; evaluateMs: number; tokensPerSecond: number | null };
  memory: MemoryUse;
  backend: BackendInfo;
}

export async function evaluateText(core: ModelCore, text: string, options?: EvaluateOptions): Promise<EvaluateResult> {
  if (typeof text !== 'string') throw new TypeError(`Expected a string for text but received ${show(text)}`);
  const {
    window = 1024,
    maxTokens,
    signal,
    onProgress,
  } = readOptions<EvaluateOptions>(evaluateRules, options, 'evaluate');
  core.checkOpen();
  signal?.throwIfAborted();
  const started = performance.now();
  onProgress?.({ phase: 'tokenize', done: 0, total: 1, perplexity: null });
  const tokens = await core.tokenizer.encodeLong(text, {
    ...(maxTokens === undefined ? {} : { maxTokens }),
    ...(signal === undefined ? {} : { signal }),
  });
  if (tokens.length < 2) throw new RangeError(`Expected a text of at least 2 tokens but received ${tokens.length}`);
  const size = Math.min(window, tokens.length);
  if (size > core.contextLimit) {
    throw new ShiftAddError(
      'ERR_CONTEXT_OVERFLOW',
      `A window of ${size} tokens does not fit into the ${core.contextLimit} positions of this model. Use a smaller window.`,
    );
  }
  const tokenizeMs = performance.now() - started;
  const flag = makeCancelFlag();
  const stop = (): void => void Atomics.store(flag, 0, 1);
  signal?.addEventListener('abort', stop, { once: true });
  core.running.add(stop);
  const session = await core.openSession(size);
  try {
    const windows = Math.floor(tokens.length / size);
    let sum = 0;
    for (let index = 0; index < windows; index++) {
      signal?.throwIfAborted();
      core.checkOpen();
      const logProbabilities = await session.evaluate(tokens.slice(index * size, (index + 1) * size), flag);
      for (const value of logProbabilities) sum -= value;
      const perplexity = Math.exp(sum / ((index + 1) * (size - 1)));
      onProgress?.({ phase: 'evaluate', done: index + 1, total: windows, perplexity });
    }
    const predictedTokens = windows * (size - 1);
    const mean = sum / predictedTokens;
    if (!Number.isFinite(mean))
      throw new ShiftAddError(
        'ERR_NON_FINITE',
        'The model gave a probability that is not finite. Its weights may be damaged.',
      );
    const evaluateMs = performance.now() - started - tokenizeMs;
    return {
      perplexity: Math.exp(mean),
      negativeLogLikelihood: mean,
      windows,
      window: size,
      predictedTokens,
      tokens: tokens.length,
      timings: {
        tokenizeMs,
        evaluateMs,
        tokensPerSecond: evaluateMs > 0 ? (windows * size * 1000) / evaluateMs : null,
      },
      memory: core.memory(session),
      backend: core.backend,
    };
  } catch (error) {
    signal?.throwIfAborted();
    if (core.closed) throw closedError('model');
    throw fromEngine(error, 'Evaluating');
  } finally {
    signal?.removeEventListener('abort', stop);
    core.running.delete(stop);
    await session.close();
  }
}
