/** How far a model is from another on a text: divergence of the next-token distributions, and agreement on the best. */
import { makeCancelFlag } from './engine.js';
import { ShiftAddError, fromEngine } from './errors.js';
import { closedError, type ModelCore } from './model-core.js';
import { compareRules, readOptions, show } from './options.js';

/** How much of a text two models are compared on. */
export interface CompareOptions {
  /** Tokens per window; windows do not overlap. Default 512. */
  window?: number;
  /** Use only this many tokens from the start of the text. Default 4096. */
  maxTokens?: number;
  /** Aborting rejects with the signal's reason. */
  signal?: AbortSignal;
  /** Called as the work goes on. */
  onProgress?: (progress: CompareProgress) => void;
}

/** How far a comparison is, in tokens. */
export interface CompareProgress {
  /** Tokens. */
  done: number;
  total: number;
}

/** How far a model is from its reference, over the tokens of a text. */
export interface CompareResult {
  /** Mean over positions of the Kullback-Leibler divergence of this model from the reference, in nats. */
  divergence: number;
  /** Share of positions where both find the same token most likely. */
  topAgreement: number;
  perplexity: number;
  referencePerplexity: number;
  /** Positions compared: windows x (window - 1). */
  positions: number;
  windows: number;
  window: number;
}

export async function compareModels(
  core: ModelCore,
  reference: ModelCore,
  text: string,
  options?: CompareOptions,
): Promise<CompareResult> {
  if (typeof text !== 'string') throw new TypeError(`Expected a string for text but received ${show(text)}`);
  const { window = 512, maxTokens = 4096, signal, onProgress } = readOptions<CompareOptions>(compareRules, options, 'compare');
  core.checkOpen();
  reference.checkOpen();
  if (core.vocabularySize !== reference.vocabularySize) {
    throw new RangeError(
      `Expected a reference with the same vocabulary (${core.vocabularySize} tokens) but received one with ${reference.vocabularySize}`,
    );
  }
  const tokens = await core.tokenizer.encodeLong(text, { maxTokens, ...(signal === undefined ? {} : { signal }) });
  if (tokens.length < 2) throw new RangeError(`Expected a text of at least 2 tokens but received ${tokens.length}`);
  const size = Math.min(window, tokens.length);
  const limit = Math.min(core.contextLimit, reference.contextLimit);
  if (size > limit) {
    throw new ShiftAddError(
      'ERR_CONTEXT_OVERFLOW',
      `A window of ${size} tokens does not fit into the ${limit} positions of these models. Use a smaller window.`,
    );
  }
  const flag = makeCancelFlag();
  const stop = (): void => void Atomics.store(flag, 0, 1);
  signal?.addEventListener('abort', stop, { once: true });
  for (const one of [core, reference]) one.running.add(stop);
  const windows = Math.floor(tokens.length / size);
  const positions = windows * (size - 1);
  const sums = { divergence: 0, agreement: 0, own: 0, reference: 0 };
  try {
    const session = await core.openSession(size);
    try {
      const other = await reference.openSession(size);
      try {
        for (let index = 0; index < windows; index++) {
          session.rewind(0);
          other.rewind(0);
          const end = (index + 1) * size - 1;
          for (let at = index * size; at < end; at += chunk) {
            signal?.throwIfAborted();
            const part = tokens.slice(at, Math.min(at + chunk, end));
            const [own, theirs] = await Promise.all([session.prefillLogits(part, flag), other.prefillLogits(part, flag)]);
            for (let row = 0; row < part.length; row++) {
              const from = row * core.vocabularySize, to = from + core.vocabularySize;
              addPosition(own.subarray(from, to), theirs.subarray(from, to), tokens[at + row + 1]!, sums);
            }
            onProgress?.({ done: at + part.length, total: windows * size });
          }
        }
      } finally {
        await other.close();
      }
    } finally {
      await session.close();
    }
  } catch (error) {
    signal?.throwIfAborted();
    if (core.closed || reference.closed) throw closedError('model');
    throw fromEngine(error, 'Comparing');
  } finally {
    signal?.removeEventListener('abort', stop);
    for (const one of [core, reference]) one.running.delete(stop);
  }
  return {
    divergence: sums.divergence / positions,
    topAgreement: sums.agreement / positions,
    perplexity: Math.exp(-sums.own / positions),
    referencePerplexity: Math.exp(-sums.reference / positions),
    positions,
    windows,
    window: size,
  };
}

/** Tokens read at once: their logits are in memory. */
const chunk = 32;

function addPosition(
  own: Float32Array,
  reference: Float32Array,
  next: number,
  sums: { divergence: number; agreement: number; own: number; reference: number },
): void {
  const mine = normalizer(own);
  const theirs = normalizer(reference);
  let divergence = 0;
  for (let i = 0; i < own.length; i++) {
    const expected = reference[i]! - theirs.logSum;
    divergence += Math.exp(expected) * (expected - (own[i]! - mine.logSum));
  }
  sums.divergence += divergence;
  if (mine.best === theirs.best) sums.agreement++;
  sums.own += own[next]! - mine.logSum;
  sums.reference += reference[next]! - theirs.logSum;
}

/** ln of the sum of e^logit, and the index of the largest logit. */
export function normalizer(logits: Float32Array): { logSum: number; best: number } {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  const largest = logits[best]!;
  let sum = 0;
  for (let i = 0; i < logits.length; i++) sum += Math.exp(logits[i]! - largest);
  return { logSum: largest + Math.log(sum), best };
}
