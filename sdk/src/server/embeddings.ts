/** POST /v1/embeddings: vectors of texts. */
import { type Served } from './answers.js';
import type { EmbeddingRequest } from './request-fields.js';

export async function embeddingBody({ model, name }: Served, request: EmbeddingRequest, signal: AbortSignal): Promise<object> {
  const texts = typeof request.input === 'string' ? [request.input] : request.input;
  const { vectors, usage } = await model.embed(texts, { pooling: request.pooling ?? 'mean', normalize: request.normalize ?? true, signal });
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
