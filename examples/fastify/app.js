// A Fastify application with one route over one model.
import { Readable } from 'node:stream';
import fastify from 'fastify';

const body = {
  type: 'object',
  properties: { prompt: { type: 'string', minLength: 1, maxLength: 8000 }, maxTokens: { type: 'integer', minimum: 1, maximum: 1000, default: 200 } },
  required: ['prompt'],
  additionalProperties: false,
};

/** @param {import('shiftadd').Model} model */
export function buildApp(model) {
  // Closing does not wait for connections that clients keep open.
  const app = fastify({ bodyLimit: 64 * 1024, forceCloseConnections: true });

  app.post('/answer', { schema: { body } }, async (request, reply) => {
    const { prompt, maxTokens } = /** @type {{ prompt: string, maxTokens: number }} */ (request.body);
    const left = new AbortController();
    reply.raw.once('close', () => left.abort());
    const chat = model.createChat();
    const chunks = chat.send(prompt, { maxTokens, signal: left.signal })[Symbol.asyncIterator]();
    // What fails before the first text still has a status of its own.
    const first = await chunks.next().catch(async (error) => {
      await chat.close();
      throw Object.assign(error, { statusCode: error.code === 'ERR_CONTEXT_OVERFLOW' ? 413 : 500 });
    });
    return reply.type('text/plain; charset=utf-8').send(Readable.from(texts(chat, first, chunks)));
  });

  return app;
}

/**
 * @param {import('shiftadd').Chat} chat
 * @param {IteratorResult<import('shiftadd').TextChunk, undefined>} next
 * @param {AsyncIterator<import('shiftadd').TextChunk, undefined>} chunks
 */
async function* texts(chat, next, chunks) {
  try {
    for (; next.done !== true; next = await chunks.next()) yield next.value.text;
  } finally {
    await chat.close(); // ends the run, and gives the memory of its cache back
  }
}
