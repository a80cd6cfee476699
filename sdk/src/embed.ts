/** Vectors of texts: what a decoder model holds of them after its final norm, pooled. */
import { enginePooling, makeCancelFlag } from './engine.js';
import { ShiftAddError, fromEngine } from './errors.js';
import { closedError, type ModelCore } from './model-core.js';
import { embedRules, readOptions, show } from './options.js';

/** The mean over all tokens, the last token, or the first one (of a causal model, which sees nothing else there, a constant or a word). */
export type Pooling = 'mean' | 'last' | 'cls';

/** How texts become vectors. */
export interface EmbedOptions {
  /** Default 'mean'. */
  pooling?: Pooling;
  /** Scales vectors to length 1. Default true. */
  normalize?: boolean;
  /** Cuts texts that are longer than the context in the place of failing. Default false. */
  truncate?: boolean;
  /** Puts the begin token in front of texts where the tokenizer does so. Default true. */
  addSpecialTokens?: boolean;
  /** Aborting rejects with the signal's reason. */
  signal?: AbortSignal;
}

/** Vectors of texts. */
export interface EmbedResult {
  /** One per text, in their order. */
  vectors: Float32Array[];
  /** Numbers of a vector. */
  dimensions: number;
  usage: {
    /** Over all texts, as far as they were read. */
    promptTokens: number;
    /** Texts that were cut. */
    truncatedTexts: number;
  };
}

/** As `Model.embed`. */
export async function embedTexts(core: ModelCore, texts: readonly (string | ArrayLike<number>)[], options?: EmbedOptions): Promise<EmbedResult> {
  if (!Array.isArray(texts)) throw new TypeError(`Expected a list of texts but received ${show(texts)}`);
  const { pooling, normalize, truncate, addSpecialTokens, signal } = readOptions<EmbedOptions>(embedRules, options, 'embed');
  core.checkOpen();
  signal?.throwIfAborted();
  let truncatedTexts = 0;
  const inputs = texts.map((text: unknown, i) => {
    const tokens = tokensOf(core, text, i, addSpecialTokens!);
    if (tokens.length <= core.contextSize) return tokens;
    if (!truncate)
      throw new ShiftAddError('ERR_CONTEXT_OVERFLOW', `Text ${i} has ${tokens.length} tokens but the context holds ${core.contextSize}. Split it, pass truncate: true, or load the model with a larger contextSize (the model's limit is ${core.contextLimit}).`);
    truncatedTexts++;
    return tokens.slice(0, core.contextSize);
  });
  const vectors: Float32Array[] = [];
  const promptTokens = inputs.reduce((sum, { length }) => sum + length, 0);
  if (inputs.length === 0) return { vectors, dimensions: core.embeddingSize, usage: { promptTokens, truncatedTexts } };
  const flag = makeCancelFlag();
  const stop = (): void => void Atomics.store(flag, 0, 1);
  signal?.addEventListener('abort', stop, { once: true });
  core.running.add(stop);
  const session = await core.openSession(Math.max(...inputs.map(({ length }) => length))).catch((error: unknown) => {
    core.running.delete(stop);
    throw error;
  });
  try {
    for (const tokens of inputs) {
      signal?.throwIfAborted();
      core.checkOpen();
      const vector = await session.embed(tokens, enginePooling[pooling === 'cls' ? 'first' : pooling!], flag);
      vectors.push(normalize ? normalized(vector) : vector);
    }
    return { vectors, dimensions: core.embeddingSize, usage: { promptTokens, truncatedTexts } };
  } catch (error) {
    signal?.throwIfAborted();
    if (core.closed) throw closedError('model');
    throw fromEngine(error, 'Embedding');
  } finally {
    signal?.removeEventListener('abort', stop);
    core.running.delete(stop);
    await session.close();
  }
}

function tokensOf(core: ModelCore, text: unknown, index: number, addSpecialTokens: boolean): Int32Array {
  const isTokens = typeof text === 'object' && text !== null && typeof (text as ArrayLike<number>).length === 'number';
  if (typeof text !== 'string' && !isTokens) throw new TypeError(`Expected a text or token ids for texts[${index}] but received ${show(text)}`);
  const ids = typeof text === 'string' ? core.tokenizer.encode(text, { addSpecialTokens }) : Array.from(text as ArrayLike<number>);
  if (ids.length === 0) throw new RangeError(`Expected a text of at least one token for texts[${index}] but received an empty one`);
  const bad = ids.find((id) => !Number.isInteger(id) || id < 0 || id >= core.vocabularySize);
  if (bad !== undefined) throw new RangeError(`Expected token ids from 0 to ${core.vocabularySize - 1} for texts[${index}] but received ${bad}`);
  return Int32Array.from(ids);
}

/** A vector of zeros stays as it is. */
function normalized(vector: Float32Array): Float32Array {
  let sum = 0;
  for (const number of vector) sum += number * number;
  const length = Math.sqrt(sum);
  return length > 0 ? vector.map((number) => number / length) : vector;
}
