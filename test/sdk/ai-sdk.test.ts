// Models of shiftadd/ai-sdk: driven by the AI SDK itself, and directly by the interface V4.
import type { EmbeddingModelV4, LanguageModelV4, LanguageModelV4CallOptions, LanguageModelV4StreamPart } from '@ai-sdk/provider';
import { Output, embedMany, generateObject, generateText, isStepCount, jsonSchema, streamText, tool } from 'ai';
import t from 'tap';
import { answerStream } from '../../sdk/src/ai-sdk/answer-stream.js';
import { embeddingModel, languageModel } from '../../sdk/src/ai-sdk/index.js';
import { readPrompt } from '../../sdk/src/ai-sdk/prompt.js';
import { loadModel, type GenerationResult, type Model } from '../../sdk/src/index.js';
import { HeldCalls } from '../../sdk/src/tools/held-calls.js';
import { Run, noEnergy } from '../../sdk/src/run.js';
import { copyOf, editJson, join, stories } from './fixtures.js';

(globalThis as { AI_SDK_LOG_WARNINGS?: boolean }).AI_SDK_LOG_WARNINGS = false;
t.setTimeout(240_000); // machines in use by others

const folder = await copyOf(t, stories);
await editJson(join(folder, 'tokenizer_config.json'), (config: any) => {
  config.chat_template = "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}assistant:";
});
const model = await loadModel(folder);
t.teardown(() => model.close());
const lily = languageModel(model);
const person = { type: 'object', properties: { name: { type: 'string', maxLength: 6 }, age: { type: 'integer', minimum: 0, maximum: 120 } }, required: ['name', 'age'], additionalProperties: false } as const;
const weatherSchema = { type: 'object', properties: { city: { type: 'string', maxLength: 8 } }, required: ['city'], additionalProperties: false } as const;
const user = (text: string): LanguageModelV4CallOptions['prompt'] => [{ role: 'user', content: [{ type: 'text', text }] }];
const briefly = { providerOptions: { shiftadd: { tellSchema: false } } };

async function all<T>(stream: AsyncIterable<T> | ReadableStream<T>): Promise<T[]> {
  const parts: T[] = [];
  for await (const part of stream as AsyncIterable<T>) parts.push(part);
  return parts;
}

async function partsOf(language: LanguageModelV4, call: LanguageModelV4CallOptions): Promise<LanguageModelV4StreamPart[]> {
  return all((await language.doStream(call)).stream);
}

t.test('generateText and streamText give the text of a chat', async (t) => {
  await using chat = model.createChat();
  const { text, usage } = await chat.send('Hello', { maxTokens: 12 }).result();
  const whole = await generateText({ model: lily, prompt: 'Hello', maxOutputTokens: 12 });
  t.equal(whole.text, text);
  t.equal(whole.finishReason, 'length');
  t.match(whole.usage, { inputTokens: usage.promptTokens, outputTokens: 12, outputTokenDetails: { textTokens: 12, reasoningTokens: 0 } });
  t.match(whole.providerMetadata, { shiftadd: { energy: null, timings: { promptMs: Number, decodeMs: Number }, memory: { weightsBytes: Number }, backend: { name: String } } });
  t.match(whole.response, { modelId: model.info.name, id: String, timestamp: Date });
  const stream = streamText({ model: lily, prompt: 'Hello', maxOutputTokens: 12 });
  t.equal((await all(stream.textStream)).join(''), text);
  const { noCacheTokens, cacheReadTokens } = (await stream.usage).inputTokenDetails;
  t.equal(noCacheTokens! + cacheReadTokens!, usage.promptTokens);
  const sampled = { model: lily, prompt: 'Hello', maxOutputTokens: 12, temperature: 1, topK: 40, topP: 0.9, seed: 3 };
  chat.reset();
  t.equal((await generateText(sampled)).text, await chat.send('Hello', { maxTokens: 12, temperature: 1, topK: 40, topP: 0.9, seed: 3 }).text());
  chat.reset();
  const penalized = await generateText({ model: lily, prompt: 'Hello', maxOutputTokens: 12, presencePenalty: 1.5, frequencyPenalty: 1 });
  t.equal(penalized.text, await chat.send('Hello', { maxTokens: 12, presencePenalty: 1.5, frequencyPenalty: 1 }).text());
  t.same(penalized.warnings, []);
  t.equal((await generateText({ model: lily, prompt: 'Hello', stopSequences: [text.slice(4, 8)], maxOutputTokens: 12 })).text, text.slice(0, text.indexOf(text.slice(4, 8))));
});

t.test('objects', async (t) => {
  const schema = jsonSchema<{ name: string; age: number }>(person as never);
  const { output } = await generateText({ model: lily, prompt: 'Who?', output: Output.object({ schema }), maxOutputTokens: 60, ...briefly });
  t.match(output, { name: String, age: Number });
  const { object } = await generateObject({ model: lily, prompt: 'Who?', schema, schemaName: 'person', schemaDescription: 'somebody', maxOutputTokens: 60, temperature: 1, seed: 5 });
  t.match(object, { name: String, age: Number });
  const { elementStream } = streamText({ model: lily, prompt: 'List', output: Output.array({ element: jsonSchema<string>({ enum: ['a', 'b'] }) }), maxOutputTokens: 30, ...briefly });
  for await (const element of elementStream) t.match(element, /^[ab]$/);
  const { content, warnings } = await lily.doGenerate({ prompt: user('Who?'), responseFormat: { type: 'json' }, stopSequences: ['x'], maxOutputTokens: 30, ...briefly });
  t.equal(typeof JSON.parse((content[0] as { text: string }).text), 'object', 'any object without a schema');
  t.match(warnings, [{ type: 'unsupported', feature: 'stopSequences' }]);
});

t.test('a loop of tools', async (t) => {
  const cities: string[] = [];
  const weather = tool({
    description: 'The weather.',
    inputSchema: jsonSchema<{ city: string }>(weatherSchema as never),
    execute: async ({ city }) => (cities.push(city), { celsius: 21 }),
  });
  const loop = { model: lily, prompt: 'Weather?', tools: { weather }, maxOutputTokens: 60, stopWhen: isStepCount(2) };
  const prepareStep = ({ stepNumber }: { stepNumber: number }): any => ({ toolChoice: stepNumber === 0 ? { type: 'tool', toolName: 'weather' } : 'none' });
  const { steps } = await generateText({ ...loop, prepareStep });
  t.equal(steps.length, 2);
  t.match(steps[0], { finishReason: 'tool-calls', toolCalls: [{ toolCallId: /^\w{9}$/, toolName: 'weather', input: { city: cities[0] } }], toolResults: [{ output: { celsius: 21 } }] });
  t.ok(steps[1]!.usage.inputTokens! > steps[0]!.usage.inputTokens!, 'the second step reads the call and its result');
  const streamed = streamText({ ...loop, prepareStep });
  const types = (await all(streamed.stream)).map(({ type }) => type as string);
  for (const type of ['tool-input-start', 'tool-input-delta', 'tool-input-end', 'tool-call', 'tool-result', 'finish']) t.ok(types.includes(type), type);
  t.equal(cities.length, 2);
  t.equal(cities[1], cities[0], 'the same call for the same prompt');
});

t.test('aborting and leaving end the run', async (t) => {
  const controller = new AbortController();
  const types: string[] = [];
  for await (const part of streamText({ model: lily, prompt: 'Tell', maxOutputTokens: 300, abortSignal: controller.signal }).stream) {
    types.push(part.type);
    if (part.type === 'text-delta') controller.abort();
  }
  t.equal(types.at(-1), 'abort');
  t.ok(types.filter((type) => type === 'text-delta').length < 20);
  await t.rejects(generateText({ model: lily, prompt: 'Tell', abortSignal: AbortSignal.abort(new Error('enough')) }), { message: 'enough' });
  const reader = (await lily.doStream({ prompt: user('Tell'), maxOutputTokens: 400 })).stream.getReader();
  for (let i = 0; i < 4; i++) await reader.read();
  await reader.cancel();
  // Calls at once have chats of their own.
  const both = await Promise.all(['Hello', 'World'].map((prompt) => generateText({ model: lily, prompt, maxOutputTokens: 5 })));
  t.same(both.map(({ finishReason }) => finishReason), ['length', 'length']);
});

t.test('the stream keeps to the protocol', async (t) => {
  const parts = await partsOf(lily, { prompt: user('Hello'), maxOutputTokens: 3, includeRawChunks: true, reasoning: 'high' });
  const types = parts.map(({ type }) => type);
  t.same(types.slice(0, 2), ['stream-start', 'response-metadata']);
  t.match(parts[0], { warnings: [{ type: 'unsupported', feature: 'reasoning' }] });
  // A chunk may be of several tokens.
  t.same(types.filter((type) => type !== 'raw').slice(2), ['text-start', 'text-delta', 'text-delta', 'text-end', 'finish']);
  t.same(parts.flatMap((part) => (part.type === 'raw' ? [(part.rawValue as { text: string }).text] : [])), parts.flatMap((part) => (part.type === 'text-delta' ? [part.delta] : [])));
  t.match(parts.at(-1), { finishReason: { unified: 'length', raw: 'length' }, usage: { inputTokens: { total: Number }, outputTokens: { total: 3 } } });
  const failed = await partsOf(lily, { prompt: user('word '.repeat(600)) });
  t.same(failed.map(({ type }) => type), ['stream-start', 'response-metadata', 'error', 'finish']);
  t.match(failed, [{}, {}, { error: { code: 'ERR_CONTEXT_OVERFLOW' } }, { finishReason: { unified: 'error' } }]);
  t.match(await lily.doGenerate({ prompt: user('Hello'), maxOutputTokens: 0 }), { content: [], finishReason: { unified: 'length' }, usage: { outputTokens: { total: 0 } } });
});

t.test('what cannot be kept is said', async (t) => {
  const prompt = user('Hello');
  const tools: LanguageModelV4CallOptions['tools'] = [{ type: 'function', name: 'clock', inputSchema: { type: 'object', properties: {} }, strict: true, inputExamples: [{ input: { a: 1 } }] }, { type: 'provider', id: 'x.search', name: 'search', args: {} }];
  const { warnings } = await lily.doGenerate({ prompt, tools, maxOutputTokens: 1 });
  const features = (list: typeof warnings): string[] => list.map((warning) => (warning as { feature: string }).feature);
  t.same(features(warnings), ['strict of tool clock', 'provider tool x.search']);
  const held = { responseFormat: { type: 'json', schema: { const: 1 } }, presencePenalty: 1, frequencyPenalty: 1, stopSequences: ['x'], providerOptions: { shiftadd: { promptLookup: true } } } as const;
  t.same(features((await lily.doGenerate({ prompt, ...held, stopSequences: ['x'] })).warnings), ['presencePenalty', 'frequencyPenalty', 'stopSequences', 'promptLookup']);
  const refused = (call: Partial<LanguageModelV4CallOptions>, expected: { name?: string; code?: string; message?: RegExp }): Promise<unknown> => t.rejects(async () => lily.doGenerate({ prompt, ...call }), expected as unknown as Error);
  await refused({ temperature: 1000 }, { name: 'RangeError', message: /temperature/ });
  await refused({ providerOptions: { shiftadd: { minp: 0.1 } } }, { name: 'TypeError', message: /minP/ });
  await refused({ prompt: [...prompt, { role: 'assistant', content: [{ type: 'text', text: 'I' }] }] }, { name: 'TypeError', message: /'assistant'/ });
  await refused({ prompt: [] }, { name: 'TypeError', message: /missing/ });
  await refused({ prompt: [{ role: 'user', content: [{ type: 'file', mediaType: 'image/png', data: { type: 'data', data: 'AAAA' } }] }] }, { name: 'TypeError', message: /image\/png/ });
  await refused({ responseFormat: { type: 'json', schema: { not: {} } } }, { code: 'ERR_UNSUPPORTED_SCHEMA' });
  await refused({ toolChoice: { type: 'tool', toolName: 'x' }, tools: [tools[0]!] }, { name: 'TypeError', message: /there are clock/ });
  await refused({ toolChoice: { type: 'required' }, tools: [tools[1]!] }, { name: 'TypeError', message: /tools together/ });
  t.throws(() => languageModel(null as unknown as Model), { name: 'TypeError', message: /loadModel/ });
  t.equal((await generateText({ model: lily, prompt: 'Hello', maxOutputTokens: 3 })).finishReason, 'length', 'and the next call works');
});

t.test('prompts become messages', (t) => {
  const warnings: any[] = [];
  const call = { type: 'tool-call', toolCallId: 'a', toolName: 'f', input: { x: 1 } } as const;
  const result = (output: any) => ({ type: 'tool-result', toolCallId: 'a', toolName: 'f', output }) as const;
  const messages = readPrompt(
    [
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: [{ type: 'text', text: 'a' }, { type: 'file', mediaType: 'text/plain', data: { type: 'data', data: btoa('file') } }, { type: 'file', mediaType: 'application/json', data: { type: 'text', text: '{}' } }] },
      { role: 'assistant', content: [{ type: 'reasoning', text: 'hm' }, { type: 'text', text: 'I call.' }, call] },
      { role: 'tool', content: [result({ type: 'json', value: { y: 2 } }), result({ type: 'text', value: 'z' }), result({ type: 'error-text', value: 'no' }), result({ type: 'execution-denied' }), result({ type: 'content', value: [{ type: 'text', text: 'p' }, { type: 'text', text: 'q' }] })] },
    ],
    warnings,
  );
  t.same(messages.slice(0, 3), [
    { role: 'system', content: 'Be brief.' },
    { role: 'user', content: 'a\nfile\n{}' },
    { role: 'assistant', content: 'I call.', tool_calls: [{ id: 'a', type: 'function', function: { name: 'f', arguments: { x: 1 } } }] },
  ]);
  t.same(messages.slice(3).map(({ content }) => content), ['{"y":2}', 'z', 'no', 'The call was not allowed.', 'p\nq']);
  t.match(warnings, [{ type: 'unsupported', feature: 'reasoning in the prompt' }]);
  t.end();
});

t.test('text that may turn into a call is held back', async (t) => {
  const result = { text: 'x', finishReason: 'toolCalls', toolCalls: [{ id: 'call00001', name: 'f', arguments: { a: 1 } }], tokens: [], usage: { promptTokens: 2, cachedPromptTokens: 0, completionTokens: 9 }, timings: { promptMs: 4, promptTokensPerSecond: 500 }, memory: {}, energy: noEnergy, backend: { name: 'cpu', isa: 'avx2', threads: 1 } } as unknown as GenerationResult;
  const stream = (last: GenerationResult): Promise<any[]> => {
    const run = new Run(async ({ emit }) => {
      for (const text of ['x', '\n<tool_call>{"name"', ': "f"}']) emit({ type: 'text', text, tokens: [1] });
      return last;
    }, () => undefined);
    return all(answerStream(run, { warnings: [], response: { id: '1', timestamp: new Date(), modelId: 'm' }, held: new HeldCalls(null, false, () => ''), includeRawChunks: false, signal: undefined }));
  };
  t.match(await stream(result), [{ type: 'stream-start' }, { type: 'response-metadata' }, { type: 'text-start' }, { type: 'text-delta', delta: 'x' }, { type: 'text-end' }, { type: 'tool-input-start', toolName: 'f' }, { type: 'tool-input-delta', delta: '{"a":1}' }, { type: 'tool-input-end' }, { type: 'tool-call', input: '{"a":1}' }, { type: 'finish', finishReason: { unified: 'tool-calls' }, usage: { inputTokens: { total: 2, noCache: 2, cacheRead: 0 } } }]);
  const cut = await stream({ ...result, text: 'x\n<tool_call>{"name": "f"}', finishReason: 'length', toolCalls: undefined } as unknown as GenerationResult);
  t.equal(cut.filter(({ type }) => type === 'text-delta').map(({ delta }) => delta).join(''), 'x\n<tool_call>{"name": "f"}', 'without a whole call all of it is text');
});

t.test('embeddings', async (t) => {
  const asked: unknown[] = [];
  const source = { info: model.info, createChat: () => undefined, embed: async (texts: string[], options: unknown) => (asked.push([texts, options]), { vectors: texts.map(() => Float32Array.of(0.5, 1)), usage: { promptTokens: 4 } }) };
  const embedding: EmbeddingModelV4 = embeddingModel(source as unknown as Model, { pooling: 'last', normalize: false });
  t.match(await embedMany({ model: embedding, values: ['a', 'b'] }), { embeddings: [[0.5, 1], [0.5, 1]], usage: { tokens: 4 } });
  t.match(asked, [[['a', 'b'], { pooling: 'last', normalize: false }]]);
  t.match((await embedding.doEmbed({ values: ['a'], dimensions: 3 })).warnings, [{ type: 'unsupported', feature: 'dimensions' }]);
  await t.rejects(embedMany({ model: embedding, values: ['a'], abortSignal: AbortSignal.abort(new Error('enough')) }), { message: 'enough' });
  const real = await embedMany({ model: embeddingModel(model), values: ['a cat', 'a dog'] });
  t.same(real.embeddings.map((vector) => vector.length), [64, 64]);
  t.throws(() => embeddingModel(null as unknown as Model), { name: 'TypeError' });
});
