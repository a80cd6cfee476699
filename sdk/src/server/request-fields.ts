/** The fields of every request as JSON Schema: what is checked, and what the OpenAPI document says. */
import type { Field } from './field-check.js';

const text = (description?: string): Field => ({ type: 'string', ...(description === undefined ? {} : { description }) });
const nullable = (field: Field): Field => ({ ...field, type: [...[field.type ?? []].flat(), 'null'] });
const numberIn = (minimum: number, maximum: number, description: string): Field => nullable({ type: 'number', minimum, maximum, description });
const integerIn = (minimum: number, maximum: number, description: string): Field => nullable({ type: 'integer', minimum, maximum, description });
const unsupported = (description?: string): Field => ({ type: 'null', ...(description === undefined ? {} : { description }) });
const object = (properties: Readonly<Record<string, Field>>, required: readonly string[] = []): Field => ({ type: 'object', properties, required, additionalProperties: false });

const largest = 2 ** 31 - 1;

const textPart = object({ type: { const: 'text' }, text: text() }, ['type', 'text']);
const content: Field = { anyOf: [text(), { type: 'array', items: { anyOf: [textPart] }, minItems: 1 }], description: 'A text, or text parts, which are joined by line ends.' };
const contentOrNull: Field = { anyOf: [text(), { type: 'array', items: { anyOf: [textPart, object({ type: { const: 'refusal' }, refusal: text() }, ['type', 'refusal'])] }, minItems: 1 }, { type: 'null' }] };

const toolCall = object(
  {
    id: text(),
    type: { const: 'function' },
    index: { type: 'integer', description: 'As in streamed answers; it says nothing here.' },
    function: object({ name: text(), arguments: text('JSON; an empty text is {}.') }, ['name', 'arguments']),
  },
  ['id', 'type', 'function'],
);

const message: Field = {
  anyOf: [
    object({ role: { enum: ['system', 'developer'] }, content, name: text() }, ['role', 'content']),
    object({ role: { const: 'user' }, content, name: text() }, ['role', 'content']),
    object(
      {
        role: { const: 'assistant' },
        content: contentOrNull,
        tool_calls: nullable({ type: 'array', items: toolCall }),
        name: text(),
        refusal: nullable(text()),
        annotations: nullable({ type: 'array', maxItems: 0 }),
        audio: unsupported(),
        function_call: unsupported('use tool_calls'),
      },
      ['role'],
    ),
    object({ role: { const: 'tool' }, content, tool_call_id: text(), name: text() }, ['role', 'content', 'tool_call_id']),
  ],
};

const schemaObject: Field = { type: 'object', description: 'A JSON schema; docs/structured.md says which keywords.' };

const tool = object(
  {
    type: { const: 'function' },
    function: object(
      { name: { type: 'string', minLength: 1, maxLength: 64, description: 'Letters, digits, _, - and .' }, description: nullable(text()), parameters: { ...schemaObject, type: ['object', 'null'] }, strict: nullable({ type: 'boolean', description: 'Arguments of a demanded call always keep to the parameters; those of a call that the model chose never have to.' }) },
      ['name'],
    ),
  },
  ['type', 'function'],
);

const toolChoice: Field = {
  anyOf: [{ enum: ['none', 'auto', 'required'] }, object({ type: { const: 'function' }, function: object({ name: text() }, ['name']) }, ['type', 'function']), { type: 'null' }],
  default: 'auto',
};

const responseFormat: Field = {
  anyOf: [
    object({ type: { const: 'text' } }, ['type']),
    object({ type: { const: 'json_object' } }, ['type']),
    object({ type: { const: 'json_schema' }, json_schema: object({ name: text(), description: nullable(text()), schema: schemaObject, strict: nullable({ type: 'boolean' }) }, ['name', 'schema']) }, ['type', 'json_schema']),
    { type: 'null' },
  ],
};

const sampling = {
  temperature: { ...numberIn(0, 2, '0 takes the likeliest token every time.'), default: 1 },
  top_p: { ...numberIn(0, 1, 'Only the likeliest tokens that together reach this probability.'), default: 1 },
  top_k: { ...integerIn(0, largest, 'Only so many of the likeliest tokens; 0 is off. Not of OpenAI.'), default: 0 },
  min_p: { ...numberIn(0, 1, 'Only tokens at least this share as likely as the likeliest; 0 is off. Not of OpenAI.'), default: 0 },
  repetition_penalty: { ...numberIn(0.01, 100, 'Divides the chances of the latest 64 tokens; 1 is off. Not of OpenAI.'), default: 1 },
  presence_penalty: { ...numberIn(-2, 2, 'Taken from the logit of each token that the answer has already.'), default: 0 },
  frequency_penalty: { ...numberIn(-2, 2, 'The same for each time that it has come.'), default: 0 },
  logit_bias: nullable({ type: 'object', additionalProperties: { type: 'number', minimum: -100, maximum: 100 }, description: 'Added to the logits of tokens, by id.' }),
  seed: nullable({ type: 'integer', minimum: -(2 ** 53 - 1), maximum: 2 ** 53 - 1, description: 'The same seed gives the same answer. Default random.' }),
} as const satisfies Record<string, Field>;

const stop: Field = { anyOf: [{ type: 'string', minLength: 1 }, { type: 'array', items: { type: 'string', minLength: 1 }, maxItems: 4 }, { type: 'null' }], description: 'Texts that end the answer; they are no part of it.' };

const common = {
  model: nullable(text('The id of the served model; it may be left out.')),
  ...sampling,
  stop,
  n: { ...integerIn(1, 8, 'Answers, made one after another.'), default: 1 },
  stream: { ...nullable({ type: 'boolean' }), default: false },
  stream_options: nullable(object({ include_usage: nullable({ type: 'boolean', description: 'A last chunk without choices carries the usage.' }), include_obfuscation: { enum: [false, null] } })),
  user: nullable(text('Says nothing to the server.')),
} as const satisfies Record<string, Field>;

const names = {
  store: { enum: [false, null], description: 'Nothing is stored.' },
  metadata: nullable({ type: 'object', additionalProperties: { type: 'string' }, description: 'Says nothing to the server.' }),
  safety_identifier: nullable(text('Says nothing to the server.')),
  prompt_cache_key: nullable(text('Says nothing to the server: prefixes are found without it.')),
  service_tier: { enum: ['auto', 'default', null] },
} as const satisfies Record<string, Field>;

const chatFields: Field = object(
  {
    messages: { type: 'array', items: message, minItems: 1 },
    ...common,
    ...names,
    max_tokens: integerIn(1, largest, 'Default: until the context is full.'),
    max_completion_tokens: integerIn(1, largest, 'The newer name of max_tokens.'),
    logprobs: { ...nullable({ type: 'boolean', description: 'Log-probabilities of the tokens, by the model itself before any sampling option.' }), default: false },
    top_logprobs: integerIn(0, 20, 'So many of the likeliest tokens besides; needs logprobs.'),
    tools: nullable({ type: 'array', items: tool, maxItems: 128 }),
    tool_choice: toolChoice,
    parallel_tool_calls: nullable({ type: 'boolean', description: 'true: a demanded answer may be several calls. false: at most one call. Default: one demanded call, or as many as the model makes by itself.' }),
    response_format: responseFormat,
    modalities: { anyOf: [{ type: 'array', items: { const: 'text' } }, { type: 'null' }] },
    functions: unsupported('use tools'),
    function_call: unsupported('use tool_choice'),
    audio: unsupported(),
    prediction: unsupported(),
    reasoning_effort: unsupported(),
    verbosity: unsupported(),
    web_search_options: unsupported(),
  },
  ['messages'],
);

const completionFields = (tokenIds: Field): Field => object(
  {
    prompt: { anyOf: [text(), { type: 'array', items: text(), minItems: 1, maxItems: 32 }, tokenIds, { type: 'array', items: tokenIds, minItems: 1, maxItems: 32 }], description: 'A text, token ids, or a list of either. Special tokens in a text count.' },
    ...common,
    max_tokens: { ...integerIn(1, largest, 'Tokens of the answer.'), default: 16 },
    logprobs: integerIn(0, 5, 'Log-probabilities of the tokens, and of so many of the likeliest besides.'),
    best_of: { enum: [1, null] },
    echo: { enum: [false, null] },
    suffix: unsupported(),
  },
  ['prompt'],
);

const embeddingFields: Field = object(
  {
    input: { anyOf: [{ type: 'string', minLength: 1 }, { type: 'array', items: { type: 'string', minLength: 1 }, minItems: 1, maxItems: 256 }], description: 'A text or texts.' },
    model: common.model,
    encoding_format: { enum: ['float', 'base64', null], default: 'float' },
    dimensions: unsupported('vectors have the size that the model gives them'),
    pooling: { enum: ['mean', 'last', 'cls', null], default: 'mean', description: 'Not of OpenAI.' },
    normalize: { ...nullable({ type: 'boolean', description: 'To length 1. Not of OpenAI.' }), default: true },
    user: common.user,
  },
  ['input'],
);

/** Of a model with so many tokens. */
export function requestFields(vocabularySize: number): { chat: Field; completion: Field; embedding: Field } {
  const tokenIds: Field = { type: 'array', items: { type: 'integer', minimum: 0, maximum: vocabularySize - 1 }, minItems: 1 };
  return { chat: chatFields, completion: completionFields(tokenIds), embedding: embeddingFields };
}

export interface SamplingRequest {
  model?: string | null;
  temperature?: number | null;
  top_p?: number | null;
  top_k?: number | null;
  min_p?: number | null;
  repetition_penalty?: number | null;
  presence_penalty?: number | null;
  frequency_penalty?: number | null;
  logit_bias?: Record<string, number> | null;
  seed?: number | null;
  stop?: string | string[] | null;
  n?: number | null;
  stream?: boolean | null;
  stream_options?: { include_usage?: boolean | null } | null;
  max_tokens?: number | null;
}

export interface TextPart {
  type: string;
  text?: string;
  refusal?: string;
}

export interface RequestMessage {
  role: 'system' | 'developer' | 'user' | 'assistant' | 'tool';
  content?: string | TextPart[] | null;
  name?: string;
  tool_call_id?: string;
  tool_calls?: { id: string; type: 'function'; function: { name: string; arguments: string } }[] | null;
}

export interface ChatRequest extends SamplingRequest {
  messages: RequestMessage[];
  max_completion_tokens?: number | null;
  logprobs?: boolean | null;
  top_logprobs?: number | null;
  tools?: { type: 'function'; function: { name: string; description?: string | null; parameters?: Record<string, unknown> | null } }[] | null;
  tool_choice?: 'none' | 'auto' | 'required' | { type: 'function'; function: { name: string } } | null;
  parallel_tool_calls?: boolean | null;
  response_format?: { type: 'text' | 'json_object' } | { type: 'json_schema'; json_schema: { schema: Record<string, unknown> } } | null;
}

export interface CompletionRequest extends SamplingRequest {
  prompt: string | string[] | number[] | number[][];
  logprobs?: number | null;
}

export interface EmbeddingRequest {
  input: string | string[];
  model?: string | null;
  encoding_format?: 'float' | 'base64' | null;
  pooling?: 'mean' | 'last' | 'cls' | null;
  normalize?: boolean | null;
}
