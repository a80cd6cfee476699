// The server as the official openai client sees it: chat, completions, streams, usage, tools, schemas, content parts, errors.
import OpenAI from 'openai';
import t from 'tap';
import type { EnergyRecorder } from '../../sdk/src/index.js';
import { HeldCalls } from '../../sdk/src/tools/held-calls.js';
import { loadStories, metric, post, serveStories, strictEvents, until } from './serve-model.js';

const model = await loadStories(t);
const server = await serveStories(t, model);
const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
const messages = [{ role: 'user' as const, content: 'Tell me a story' }];
const plain = { model: 'stories', messages, temperature: 0, max_tokens: 12 };
const lone = await model.createChat().send('Tell me a story', { maxTokens: 12 }).result();

/** What an error of the client must have. */
const like = (fields: object): Error => fields as Error;

type Chunk = OpenAI.ChatCompletionChunk & { timings?: object; error?: object };

async function chunksOf(body: object): Promise<Chunk[]> {
  const response = await post(server, '/v1/chat/completions', { ...body, stream: true });
  if (response.status !== 200) throw new Error(await response.text());
  return strictEvents(await response.text()) as Chunk[];
}

const contentOf = (chunks: Chunk[], index = 0): string => chunks.flatMap(({ choices }) => choices).filter((choice) => choice.index === index).map(({ delta }) => delta.content ?? '').join('');

t.test('models', async (t) => {
  const { data } = await client.models.list();
  t.match(data, [{ id: 'stories', object: 'model', owned_by: 'shiftadd' }]);
  t.equal((await client.models.retrieve('stories')).id, 'stories');
  await t.rejects(client.models.retrieve('other'), like({ status: 404, code: 'model_not_found' }));
  await t.rejects(client.chat.completions.create({ ...plain, model: 'gpt-4o' }), like({ status: 404, param: 'model' }));
});

t.test('chat', async (t) => {
  const answer = await client.chat.completions.create(plain);
  t.match(answer, { object: 'chat.completion', model: 'stories', choices: [{ index: 0, finish_reason: 'length', logprobs: null, message: { role: 'assistant', content: lone.text, refusal: null } }] });
  const { usage, timings } = answer as typeof answer & { timings: Record<string, number> };
  t.match(usage, { prompt_tokens: lone.usage.promptTokens, completion_tokens: 12, total_tokens: lone.usage.promptTokens + 12, joules: null });
  t.ok((usage as any).peak_bytes > 1e6);
  t.equal(timings['predicted_n'], 12);
  t.equal(timings['prompt_n']! + timings['cache_n']!, lone.usage.promptTokens);
  for (const name of ['prompt_ms', 'prompt_per_second', 'predicted_ms', 'predicted_per_token_ms', 'predicted_per_second']) t.ok(timings[name]! > 0, name);
  // A conversation sent back renders to the same tokens as in a chat that had it itself.
  const chat = model.createChat({ maxTokens: 12 });
  await chat.send('Tell me a story').text();
  const second = await chat.send('More').result();
  const again = await client.chat.completions.create({ ...plain, messages: [...messages, answer.choices[0]!.message, { role: 'user', content: 'More' }] });
  t.equal(again.choices[0]!.message.content, second.text);
  t.equal(again.usage!.prompt_tokens, second.usage.promptTokens);
  await chat.close();
});

t.test('streams and their usage', async (t) => {
  const stream = await client.chat.completions.create({ ...plain, stream: true, stream_options: { include_usage: true } });
  const seen: OpenAI.ChatCompletionChunk[] = [];
  for await (const chunk of stream) seen.push(chunk);
  t.equal(contentOf(seen), lone.text);
  const whole = await client.chat.completions.stream(plain).finalChatCompletion();
  t.match(whole.choices[0], { finish_reason: 'length', message: { content: lone.text } });

  const asked = await chunksOf({ ...plain, stream_options: { include_usage: true } });
  const last = asked.pop()!;
  t.match(last, { choices: [], usage: { prompt_tokens: lone.usage.promptTokens, completion_tokens: 12 } });
  t.ok(asked.every(({ usage, choices }) => usage === null && choices.length === 1), 'the others have none');
  t.match(asked.at(-1)!.choices[0], { delta: {}, finish_reason: 'length' });
  t.match(asked[0]!.choices[0], { delta: { role: 'assistant', content: '' }, finish_reason: null });
  t.equal(new Set(asked.map(({ id }) => id)).size, 1);
  for (const stream_options of [{ include_usage: false }, {}, null, undefined]) {
    const chunks = await chunksOf({ ...plain, stream_options });
    t.notOk(chunks.some((chunk) => 'usage' in chunk || chunk.choices.length !== 1), `none with ${JSON.stringify(stream_options)}`);
    t.match(chunks.at(-1)!.timings, { predicted_n: 12 });
  }
  const two = await chunksOf({ ...plain, n: 2, stream_options: { include_usage: true } });
  t.same([contentOf(two, 0), contentOf(two, 1)], [lone.text, lone.text]);
  t.match(two.at(-1), { choices: [], usage: { prompt_tokens: lone.usage.promptTokens, completion_tokens: 24 } });
  t.equal(two.filter(({ choices }) => choices[0]?.finish_reason === 'length').length, 2);
  const stopped = await chunksOf({ ...plain, stop: lone.text.slice(0, 1), stream_options: { include_usage: true } });
  t.equal(contentOf(stopped), '');
  t.match(stopped.at(-2)!.choices[0], { finish_reason: 'stop' });
});

t.test('options of sampling', async (t) => {
  const ask = async (more: object): Promise<string> => (await client.chat.completions.create({ ...plain, ...more } as typeof plain)).choices[0]!.message.content!;
  const hot = { temperature: 1.5, top_k: 50, min_p: 0.001, seed: 42 };
  t.equal(await ask(hot), await ask(hot), 'a seed fixes the answer');
  t.not(await ask(hot), await ask({ ...hot, seed: 43 }));
  t.equal(await ask({ ...hot, seed: -1 }), await ask({ ...hot, seed: -1 }), 'negative ones too');
  const stop = lone.text.slice(4, 7);
  t.equal(await ask({ stop }), lone.text.slice(0, lone.text.indexOf(stop)));
  t.equal(await ask({ max_tokens: undefined, max_completion_tokens: 12, n: null, stop: null, user: 'u', metadata: { a: 'b' } }), lone.text);
  t.not(await ask({ presence_penalty: 2, frequency_penalty: 2, max_tokens: 60 }), await ask({ max_tokens: 60 }));
  const logged = await client.chat.completions.create({ ...plain, logprobs: true, top_logprobs: 2 });
  const { content } = logged.choices[0]!.logprobs!;
  t.equal(content!.length, 12);
  t.equal(Buffer.from(content!.flatMap(({ bytes }) => bytes!)).toString().trimStart(), lone.text.trimStart());
  t.ok(content!.every(({ logprob, top_logprobs, token }) => logprob <= 0 && top_logprobs.length === 2 && top_logprobs[0]!.token === token));
  const streamed = await chunksOf({ ...plain, logprobs: true, top_logprobs: 2 });
  t.same(streamed.flatMap(({ choices }) => choices[0]!.logprobs?.content ?? []), content, 'the same in a stream');
});

t.test('completions', async (t) => {
  const prompt = 'Once upon a time';
  const expected = await model.generate(prompt, { maxTokens: 16 }).text();
  const answer = await client.completions.create({ model: 'stories', prompt, temperature: 0 });
  t.match(answer, { object: 'text_completion', choices: [{ text: expected, finish_reason: 'length', logprobs: null }], usage: { completion_tokens: 16 } });
  const ids = model.tokenizer.encode(prompt);
  const many = await client.completions.create({ model: 'stories', prompt: [ids, ids], temperature: 0, n: 2, logprobs: 1, max_tokens: 4 });
  t.equal(many.choices.length, 4);
  t.equal(many.usage!.prompt_tokens, 2 * ids.length);
  const { logprobs, text } = many.choices[3]!;
  t.equal(logprobs!.tokens!.join(''), text);
  t.equal(logprobs!.text_offset![3], logprobs!.tokens!.slice(0, 3).join('').length);
  t.equal(Object.values(logprobs!.top_logprobs![0]!)[0], logprobs!.token_logprobs![0]);
  const stream = await client.completions.create({ model: 'stories', prompt, temperature: 0, stream: true, logprobs: 0 });
  let streamed = '';
  for await (const { choices } of stream) streamed += choices[0]!.text;
  t.equal(streamed, expected);
  await t.rejects(client.completions.create({ model: 'stories', prompt, echo: true }), like({ status: 400, param: 'echo' }));
});

t.test('answers that are no UTF-8 are valid JSON', async (t) => {
  const broken = { ...plain, max_tokens: 3, logit_bias: { 243: 100 }, logprobs: true };
  const answer = await client.chat.completions.create(broken);
  t.equal(answer.choices[0]!.message.content, '\ufffd\ufffd\ufffd');
  t.same(answer.choices[0]!.logprobs!.content!.map(({ bytes }) => bytes), [[0xf0], [0xf0], [0xf0]], 'log-probabilities have the raw bytes');
  t.equal(contentOf(await chunksOf(broken)), '\ufffd\ufffd\ufffd');
});

t.test('JSON schemas', async (t) => {
  const schema = { type: 'object', properties: { name: { enum: ['Ann', 'Bob'] }, age: { type: 'integer', minimum: 0, maximum: 9 } }, required: ['name', 'age'], additionalProperties: false };
  const response_format = { type: 'json_schema' as const, json_schema: { name: 'person', schema, strict: true } };
  const answer = await client.chat.completions.parse({ ...plain, max_tokens: 40, response_format });
  t.match(answer.choices[0]!.message.parsed, { name: /^(Ann|Bob)$/, age: Number });
  t.equal(answer.choices[0]!.finish_reason, 'stop');
  t.same(JSON.parse(contentOf(await chunksOf({ ...plain, max_tokens: 40, response_format }))), answer.choices[0]!.message.parsed);
  const any = await client.chat.completions.create({ ...plain, max_tokens: 40, response_format: { type: 'json_object' } });
  t.type(JSON.parse(any.choices[0]!.message.content!), 'object');
  const ask = (more: object): Promise<unknown> => client.chat.completions.create({ ...plain, response_format, ...more } as typeof plain);
  await t.rejects(ask({ stop: 'x' }), like({ status: 400, param: 'stop' }));
  await t.rejects(ask({ logit_bias: { 1: 1 } }), like({ status: 400, param: 'logit_bias' }));
  await t.rejects(ask({ max_tokens: 1 }), like({ status: 400, param: 'max_tokens', code: 'schema_budget' }));
  await t.rejects(ask({ response_format: { type: 'json_schema', json_schema: { name: 'x', schema: { not: {} } } } }), like({ status: 400, code: 'unsupported_schema', message: /not/ }));
});

const tool = (name: string, parameters?: Record<string, unknown>): OpenAI.ChatCompletionFunctionTool => ({ type: 'function', function: { name, ...(parameters === undefined ? {} : { parameters }) } });

t.test('tool calls', async (t) => {
  const odd = '"}\n\u00e9';
  const tools = [tool('odd', { type: 'object', properties: { text: { const: odd } }, required: ['text'] }), tool('nothing', { type: 'object', additionalProperties: false })];
  const named = await client.chat.completions.create({ ...plain, max_tokens: 80, tools, tool_choice: { type: 'function', function: { name: 'odd' } } });
  const [call] = named.choices[0]!.message.tool_calls as OpenAI.ChatCompletionMessageFunctionToolCall[];
  t.equal(named.choices[0]!.finish_reason, 'tool_calls');
  t.equal(named.choices[0]!.message.content, null);
  t.same(JSON.parse(call!.function.arguments), { text: odd });
  // The result of the call goes back; ids of one conversation differ.
  const next = await client.chat.completions.create({ ...plain, max_tokens: 80, tools, tool_choice: 'required', messages: [...messages, named.choices[0]!.message, { role: 'tool', tool_call_id: call!.id, content: 'done' }] });
  t.not(next.choices[0]!.message.tool_calls![0]!.id, call!.id);

  // Two calls at once, with a seed that makes the model want them.
  const both = { ...plain, max_tokens: 160, temperature: 1, tools, tool_choice: 'required' as const, parallel_tool_calls: true };
  let seed = 0;
  let calls: OpenAI.ChatCompletionMessageFunctionToolCall[] = [];
  while (calls.length < 2 && seed < 60) {
    seed++;
    const answer = await client.chat.completions.create({ ...both, seed });
    t.equal(answer.choices[0]!.finish_reason, 'tool_calls');
    calls = answer.choices[0]!.message.tool_calls as typeof calls;
  }
  t.ok(calls.length >= 2, `${calls.length} calls with seed ${seed}`);
  for (const { function: { name, arguments: given } } of calls) t.same(JSON.parse(given), name === 'odd' ? { text: odd } : {});
  t.ok(calls.every(({ function: { name, arguments: given } }) => name === 'odd' || given === '{}'));
  const streamed = await client.chat.completions.stream({ ...both, seed }).finalChatCompletion();
  const plainCalls = (list: unknown): unknown => (list as typeof calls).map(({ id, type, function: { name, arguments: given } }) => ({ id, type, name, given }));
  t.same(plainCalls(streamed.choices[0]!.message.tool_calls), plainCalls(calls), 'the same in a stream');
  const chunks = await chunksOf({ ...both, seed });
  const parts = chunks.flatMap(({ choices }) => choices[0]?.delta.tool_calls ?? []);
  for (const index of calls.keys()) {
    const [first, ...rest] = parts.filter((part) => part.index === index);
    t.match(first, { id: calls[index]!.id, type: 'function', function: { name: calls[index]!.function.name } });
    t.notOk(rest.some((part) => 'id' in part || 'type' in part || 'name' in part.function!), 'id, type and name come once');
    t.equal([first!, ...rest].map((part) => part.function!.arguments ?? '').join(''), calls[index]!.function.arguments);
  }
  t.equal(contentOf(chunks), '');
  t.equal((await client.chat.completions.create({ ...both, seed, parallel_tool_calls: false })).choices[0]!.message.tool_calls!.length, 1);
  // Left to the model, which does not call, the text streams; with 'none' too.
  for (const tool_choice of ['auto', 'none', undefined]) t.equal(contentOf(await chunksOf({ ...plain, tools, tool_choice })).trim(), (await client.chat.completions.create({ ...plain, tools, tool_choice } as typeof plain)).choices[0]!.message.content!.trim());
  await t.rejects(client.chat.completions.create({ ...plain, tool_choice: 'required' }), like({ status: 400, param: 'tool_choice' }));
  await t.rejects(client.chat.completions.create({ ...plain, tools, tool_choice: { type: 'function', function: { name: 'other' } } }), like({ status: 400 }));
  await t.rejects(client.chat.completions.create({ ...plain, tools: [tool('a', { not: {} })], tool_choice: 'required' }), like({ status: 400, code: 'unsupported_schema' }));
});

t.test('contents of messages', async (t) => {
  const count = async (content: unknown, role = 'user'): Promise<number> => (await client.chat.completions.create({ ...plain, max_tokens: 1, messages: [{ role, content } as never] })).usage!.prompt_tokens;
  const text = (part: string): object => ({ type: 'text', text: part });
  t.equal(await count([text('hi')]), await count('hi'));
  t.equal(await count([text('hi'), text('you')]), await count('hi\nyou'));
  t.equal(await count('hi', 'developer'), await count('hi', 'system'));
  const wrong: [message: object, param: string][] = [
    [{ role: 'user', content: [] }, 'messages[0].content'],
    [{ role: 'user', content: null }, 'messages[0].content'],
    [{ role: 'user' }, 'messages[0].content'],
    [{ role: 'user', content: 5 }, 'messages[0].content'],
    [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'data:' } }] }, 'messages[0].content[0].type'],
    [{ role: 'wizard', content: 'hi' }, 'messages[0].role'],
    [{ role: 'assistant', content: null }, 'messages[0].content'],
    [{ role: 'tool', content: 'x' }, 'messages[0].tool_call_id'],
  ];
  for (const [message, param] of wrong) await t.rejects(client.chat.completions.create({ ...plain, messages: [message as never] }), like({ status: 400, param }), JSON.stringify(message));
  await t.rejects(client.chat.completions.create({ ...plain, messages: [] }), like({ status: 400, param: 'messages' }));
  await t.resolves(client.chat.completions.create({ ...plain, messages: [{ role: 'user', content: 'hi', name: 'Ann' }, { role: 'assistant', content: null, tool_calls: [{ id: 'a', type: 'function', function: { name: 'f', arguments: '' } }] }, { role: 'tool', content: 'x', tool_call_id: 'a' }] }));
});

t.test('what is not supported is refused by name, what is too long with both numbers', async (t) => {
  const refused: [field: string, value: unknown][] = [['best_of', 2], ['reasoning_effort', 'high'], ['functions', []], ['audio', {}], ['store', true], ['no_such_thing', 1], ['n', 9], ['top_logprobs', 3], ['modalities', ['audio']]];
  for (const [field, value] of refused) await t.rejects(client.chat.completions.create({ ...plain, [field]: value }), like({ status: 400, param: field === 'modalities' ? /^modalities/ : field }));
  const long = { ...plain, messages: [{ role: 'user' as const, content: 'word '.repeat(2000) }] };
  for (const stream of [false, true]) await t.rejects(client.chat.completions.create({ ...long, stream }), like({ status: 400, code: 'context_length_exceeded', message: /has \d+ tokens but the context holds 512/ }));
  t.match(await client.chat.completions.create(plain), { choices: [{ message: { content: lone.text } }] }, 'the next request works');
});

t.test('embeddings', async (t) => {
  const floats = await client.embeddings.create({ model: 'stories', input: ['a cat', 'a dog'], encoding_format: 'float' });
  t.equal(floats.data.length, 2);
  t.ok(Math.abs(floats.data[0]!.embedding.reduce((sum, x) => sum + x * x, 0) - 1) < 1e-3, 'of length 1');
  const packed = await client.embeddings.create({ model: 'stories', input: ['a cat', 'a dog'] }); // base64, which the client decodes
  t.ok(packed.data[1]!.embedding.every((x, i) => Math.abs(x - floats.data[1]!.embedding[i]!) < 1e-6));
  t.ok(floats.usage.prompt_tokens > 0);
  return undefined;
});

t.test('messages that the chat template refuses', async (t) => {
  const strict = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}{{ m.content }}{% endfor %}";
  const other = await serveStories(t, await loadStories(t, strict));
  const [system, user] = [{ role: 'system', content: 'S' }, { role: 'user', content: 'Hi' }];
  for (const [turns, sentence] of [[[system, user], /System role not supported/], [[user, user], /Roles must alternate/], [[system], /System role/], [[], /messages/]] as const)
    for (const stream of [false, true]) {
      const response = await post(other, '/v1/chat/completions', { messages: turns, stream, max_tokens: 1 });
      t.equal(response.status, 400);
      t.match(((await response.json()) as any).error, { message: sentence, param: 'messages' });
    }
  t.equal((await post(other, '/v1/chat/completions', { messages: [user], max_tokens: 1 })).status, 200);
});

t.test('energy, where there is a meter', async (t) => {
  const recorder = {
    meter: { name: 'known', method: 'counter', scope: 'board' },
    between: async (startMs: number, endMs: number) => ({ joules: (5 * (endMs - startMs)) / 1000, uncertainty: 0, problem: null }),
    close: async () => undefined,
  };
  const metered = await serveStories(t, await loadStories(t, undefined, { measure: recorder as unknown as EnergyRecorder }));
  const started = performance.now();
  const { usage } = (await (await post(metered, '/v1/chat/completions', { ...plain, model: null })).json()) as any;
  const most = (5 * (performance.now() - started)) / 1000;
  t.ok(usage.joules > 0 && usage.joules <= most, `${usage.joules} J of at most ${most} J`);
  t.ok(await until(async () => (await metric(metered, 'shiftadd_joules_total')) > 0, 2000));
  const total = await metric(metered, 'shiftadd_joules_total');
  t.ok(total >= usage.joules && total <= (5 * (performance.now() - started)) / 1000, `${total} J in all`);
});

t.test('an abort ends the work', async (t) => {
  const controller = new AbortController();
  const stream = await client.chat.completions.create({ ...plain, max_tokens: 400, stream: true }, { signal: controller.signal });
  let chunks = 0;
  try {
    for await (const _ of stream) if (++chunks === 3) controller.abort();
  } catch (error) {
    t.equal((error as Error).name, 'Error');
  }
  t.ok(chunks < 50, `${chunks} chunks`);
});

t.test('streamed text has no marks of calls', (t) => {
  /** What is shown of an answer that comes in pieces of `size` characters, and what the result then has to add. */
  const shown = (template: string | null, answer: string, size: number, demanded = false, text = answer, special = ''): string => {
    const held = new HeldCalls(template, demanded, (tokens) => (tokens[0] === 1 ? special : ''));
    let all = special === '' ? '' : held.push('', [1]);
    for (let at = 0; at < answer.length; at += size) all += held.push(answer.slice(at, at + size), []);
    return all + held.rest(text);
  };
  const hermes = "{{ tools }}<tool_call>";
  for (const size of [1, 3, 7, 100]) {
    t.equal(shown(hermes, 'Let me see.\n<tool_call>\n{"name":"f"}\n</tool_call>', size, false, 'Let me see.'), 'Let me see.');
    t.equal(shown(hermes, 'a < b, a <tool or <tools', size), 'a < b, a <tool or <tools');
    t.equal(shown(hermes, '<tool_call> is how', size), '<tool_call> is how', 'what only looks like a call comes at the end');
    t.equal(shown('{{ tools }}[TOOL_CALLS]', '[{"name":"f"}]', size, false, '', '[TOOL_CALLS]'), '', 'an opener that is a special token');
    t.equal(shown('{{ tools }} "parameters" ipython', '{"name":"f"}', size, false, ''), '');
    t.equal(shown('{{ tools }} "parameters" ipython', 'Hello {you}', size), 'Hello {you}');
    t.equal(shown(null, '{"a":1}', size, true, ''), '', 'a demanded call');
  }
  t.end();
});
