/** The OpenAPI 3.1 document of all routes; requests are described by the tables that they are checked against. */
import type { Field } from './field-check.js';
import { requestFields } from './request-fields.js';

type Schema = Field | { $ref: string } | { oneOf: readonly Schema[] };

const text: Field = { type: 'string' };
const count: Field = { type: 'integer', minimum: 0 };
const amount: Field = { type: ['number', 'null'] };
const ref = (name: string): never => ({ $ref: `#/components/schemas/${name}` }) as never;

function object(properties: Readonly<Record<string, Field>>, optional: readonly string[] = []): Field {
  return { type: 'object', properties, required: Object.keys(properties).filter((name) => !optional.includes(name)) };
}

const list = (items: Field): Field => ({ type: 'array', items });

const logprob = object({ token: text, logprob: { type: 'number' }, bytes: list(count), top_logprobs: list(ref('Logprob')) }, ['top_logprobs']);
const chatLogprobs: Field = { anyOf: [object({ content: list(ref('Logprob')), refusal: { type: 'null' } }), { type: 'null' }] };
const completionLogprobs: Field = {
  anyOf: [object({ tokens: list(text), token_logprobs: list({ type: 'number' }), top_logprobs: list({ type: 'object', additionalProperties: { type: 'number' } }), text_offset: list(count) }), { type: 'null' }],
};
const toolCall = object({ id: text, type: { const: 'function' }, function: object({ name: text, arguments: text }) });
const head = { id: text, created: count, model: text, system_fingerprint: text };
const taken = { usage: ref('Usage'), timings: ref('Timings') };
const usageOfChunk: Field = { anyOf: [ref('Usage'), { type: 'null' }] };

const answers: Readonly<Record<string, Field>> = {
  Error: object({ error: object({ message: text, type: text, param: { type: ['string', 'null'] }, code: { type: ['string', 'null'] } }) }),
  Logprob: logprob,
  Usage: object({
    prompt_tokens: count,
    completion_tokens: count,
    total_tokens: count,
    prompt_tokens_details: object({ cached_tokens: count }),
    joules: { ...amount, description: 'Energy within the scope of the meter while the request ran, other work too; null without a meter.' },
    peak_bytes: { type: ['integer', 'null'], description: 'The most memory that the process has had.' },
  }),
  Timings: object({
    cache_n: count,
    prompt_n: count,
    prompt_ms: { type: 'number' },
    prompt_per_token_ms: amount,
    prompt_per_second: amount,
    predicted_n: count,
    predicted_ms: { type: 'number' },
    predicted_per_token_ms: amount,
    predicted_per_second: amount,
  }),
  ChatCompletion: object({
    ...head,
    object: { const: 'chat.completion' },
    choices: list(
      object({
        index: count,
        message: object({ role: { const: 'assistant' }, content: { type: ['string', 'null'] }, refusal: { type: 'null' }, tool_calls: list(toolCall) }, ['tool_calls']),
        logprobs: chatLogprobs,
        finish_reason: { enum: ['stop', 'length', 'tool_calls'] },
      }),
    ),
    ...taken,
  }),
  ChatCompletionChunk: object(
    {
      ...head,
      object: { const: 'chat.completion.chunk' },
      choices: list(
        object({
          index: count,
          delta: object(
            {
              role: { const: 'assistant' },
              content: { type: ['string', 'null'] },
              refusal: { type: 'null' },
              tool_calls: list(object({ index: count, id: text, type: { const: 'function' }, function: object({ name: text, arguments: text }, ['name']) }, ['id', 'type'])),
            },
            ['role', 'content', 'refusal', 'tool_calls'],
          ),
          logprobs: chatLogprobs,
          finish_reason: { enum: ['stop', 'length', 'tool_calls', null] },
        }),
      ),
      usage: usageOfChunk,
      timings: ref('Timings'),
    },
    ['usage', 'timings'],
  ),
  Completion: object({ ...head, object: { const: 'text_completion' }, choices: list(object({ index: count, text, logprobs: completionLogprobs, finish_reason: { enum: ['stop', 'length'] } })), ...taken }),
  CompletionChunk: object(
    { ...head, object: { const: 'text_completion' }, choices: list(object({ index: count, text, logprobs: completionLogprobs, finish_reason: { enum: ['stop', 'length', null] } })), usage: usageOfChunk, timings: ref('Timings') },
    ['usage', 'timings'],
  ),
  Embeddings: object({
    object: { const: 'list' },
    data: list(object({ object: { const: 'embedding' }, index: count, embedding: { anyOf: [list({ type: 'number' }), { type: 'string', description: '32-bit floats, lowest byte first, in base64.' }] } })),
    model: text,
    usage: object({ prompt_tokens: count, total_tokens: count }),
  }),
  Model: object({ id: text, object: { const: 'model' }, created: count, owned_by: text }),
  Models: object({ object: { const: 'list' }, data: list(ref('Model')) }),
  Health: object({ status: { const: 'ok' }, running: count, waiting: count }),
};

const json = (schema: Schema): object => ({ 'application/json': { schema } });
const failure = (description: string, headers: Readonly<Record<string, object>> = {}): object => ({ description, content: json(ref('Error')), ...(Object.keys(headers).length === 0 ? {} : { headers }) });
const retryAfter = { 'Retry-After': { description: 'Seconds.', schema: { type: 'integer' } } };

const everywhere = {
  '401': failure('The API key is missing or wrong.'),
  '403': failure('The request comes from a page of an origin that is not allowed.'),
  '503': failure('The server is stopping, or out of memory.', retryAfter),
};

function get(summary: string, type: string, schema: Schema, more: object = {}): object {
  return { get: { summary, responses: { '200': { description: 'Done.', content: { [type]: { schema } } }, ...everywhere, ...more } } };
}

function post(summary: string, request: string, response: string, chunk: string | null): object {
  const stream = chunk === null ? {} : { 'text/event-stream': { schema: { description: `Events whose data is a ${chunk}, or at the end [DONE]; a failure is an Error and ends the stream.` } } };
  return {
    post: {
      summary,
      requestBody: { required: true, content: json(ref(request)) },
      responses: {
        '200': { description: 'Done.', content: { ...json(ref(response)), ...stream } },
        '400': failure('The request is wrong; `param` names the field.'),
        ...everywhere,
        '404': failure('There is no such model.'),
        '408': failure('The request did not arrive in time.'),
        '413': failure('The body is too large.'),
        '415': failure('The body is not application/json.'),
        '429': failure('The queue is full.', retryAfter),
        '500': failure('The server failed.'),
      },
    },
  };
}

export function openApiDocument(version: string, vocabularySize: number): object {
  const { chat, completion, embedding } = requestFields(vocabularySize);
  const schemas = { ...answers, ChatRequest: chat, CompletionRequest: completion, EmbeddingRequest: embedding };
  return {
    openapi: '3.1.0',
    info: { title: 'shiftadd', version, description: 'A language model behind the routes of OpenAI.', license: { name: 'MIT', identifier: 'MIT' } },
    security: [{}, { key: [] }],
    paths: {
      '/health': get('Whether the server takes requests', 'application/json', ref('Health')),
      '/metrics': get('Figures for Prometheus', 'text/plain', text),
      '/openapi.json': get('This document', 'application/json', { type: 'object' }),
      '/v1/models': get('The served model', 'application/json', ref('Models')),
      '/v1/models/{model}': {
        parameters: [{ name: 'model', in: 'path', required: true, schema: { type: 'string', minLength: 1 } }],
        ...get('One model', 'application/json', ref('Model'), { '404': failure('There is no such model.') }),
      },
      '/v1/chat/completions': post('Answers a conversation', 'ChatRequest', 'ChatCompletion', 'ChatCompletionChunk'),
      '/v1/completions': post('Continues a text', 'CompletionRequest', 'Completion', 'CompletionChunk'),
      '/v1/embeddings': post('Vectors of texts', 'EmbeddingRequest', 'Embeddings', null),
    },
    components: { schemas, securitySchemes: { key: { type: 'http', scheme: 'bearer' } } },
  };
}
