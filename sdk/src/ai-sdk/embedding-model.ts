/** A loaded model as an embedding model of the AI SDK. */
import type { EmbeddingModelV4, SharedV4Warning } from '@ai-sdk/provider' with { 'resolution-mode': 'import' };
import { ShiftAddError } from '../errors.js';
import type { Model } from '../model.js';
import { show } from '../options.js';

/** How texts become vectors; the defaults are those of `model.embed`. */
export interface EmbeddingSettings {
  /** Which hidden states make the vector: the mean of all, the last token's, or the first one's. */
  pooling?: 'mean' | 'last' | 'cls';
  /** Vectors of length 1. */
  normalize?: boolean;
}

/** What this needs of a model that makes embeddings. */
interface EmbeddingSource {
  embed?(texts: string[], options: EmbeddingSettings & { signal?: AbortSignal }): Promise<{ vectors: ArrayLike<number>[]; usage: { promptTokens: number } }>;
}

/**
 * For `embed` and `embedMany` of `ai`. The model stays the caller's, who closes it. Calls reject with the errors of `model.embed` or the
 * signal's reason. TypeError for something that is no model, ERR_UNSUPPORTED_MODEL for one without embeddings.
 */
export function embeddingModel(model: Model, settings: EmbeddingSettings = {}): EmbeddingModelV4 {
  if (typeof (model as Partial<Model> | null)?.createChat !== 'function') throw new TypeError(`Expected a model of loadModel for model but received ${show(model)}`);
  const source = model as EmbeddingSource;
  if (typeof source.embed !== 'function') throw new ShiftAddError('ERR_UNSUPPORTED_MODEL', 'This model makes no embeddings: it has no embed(). Use a model loaded in Node with a version that has it.');
  return {
    specificationVersion: 'v4',
    provider: 'shiftadd',
    modelId: model.info.name,
    maxEmbeddingsPerCall: undefined,
    supportsParallelCalls: false, // one after the other is as fast: the cores are shared
    async doEmbed({ values, dimensions, abortSignal }) {
      const warnings: SharedV4Warning[] = [];
      if (dimensions !== undefined) warnings.push({ type: 'unsupported', feature: 'dimensions', details: 'Vectors have the width of the model.' });
      abortSignal?.throwIfAborted();
      const { vectors, usage } = await source.embed!(values, { ...settings, ...(abortSignal === undefined ? {} : { signal: abortSignal }) });
      return { embeddings: vectors.map((vector) => Array.from(vector)), usage: { tokens: usage.promptTokens }, warnings };
    },
  };
}
