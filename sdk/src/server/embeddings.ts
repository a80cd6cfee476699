/** POST /v1/embeddings: vectors of texts, of a model that can embed. */
import { type Served } from './answers.js';
import { HttpError } from './http-error.js';
import type { EmbeddingRequest } from './request-fields.js';

/** What a model with embeddings has. */
interface Embedder {
  embed(texts: string[], options: { pooling: 'mean' | 'last' | 'cls'; normalize: boolean; signal: AbortSignal }): Promise<{ vectors: readonly Float32Array[]; usage: { promptTokens: number } }>;
}

export function canEmbed(model: object): model is Embedder {
  return typeof (model as Partial<Embedder>).embed === 'function';
}

/** 400 for a model without embeddings. */
export async function embeddingBody({ model, name }: Served, request: EmbeddingRequest, signal: AbortSignal): Promise<object> {
  if (!canEmbed(model)) throw new HttpError(400, 'This model has no embeddings.', { param: 'model', code: 'no_embeddings' });
  const texts = typeof request.input === 'string' ? [request.input] : request.input;
  const { vectors, usage } = await (model as Embedder).embed(texts, { pooling: request.pooling ?? 'mean', normalize: request.normalize ?? true, signal });
  return {
    object: 'list',
    data: vectors.map((vector, index) => ({ object: 'embedding', index, embedding: request.encoding_format === 'base64' ? base64(vector) : [...vector] })),
    model: name,
    usage: { prompt_tokens: usage.promptTokens, total_tokens: usage.promptTokens },
  };
}

/** 32-bit floats, the lowest byte first, on every machine. */
function base64(vector: Float32Array): string {
  const bytes = Buffer.alloc(4 * vector.length);
  for (let i = 0; i < vector.length; i++) bytes.writeFloatLE(vector[i]!, 4 * i);
  return bytes.toString('base64');
}
