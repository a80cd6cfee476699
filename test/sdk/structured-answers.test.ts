// Constrained answers of whole models: options, budgets, sampling, streams, chats, and tools.
import { writeFile } from 'node:fs/promises';
import t from 'tap';
import { loadModel, type Model } from '../../sdk/src/index.js';
import { byteTokenizer, copyOf, editJson, join, stories } from './fixtures.js';
import { validator } from './structured-forms.js';

const person = {
  type: 'object',
  properties: { name: { type: 'string' }, age: { type: 'integer', minimum: 0, maximum: 120 }, tags: { type: 'array', items: { enum: ['a', 'b'] }, maxItems: 3 } },
  required: ['name', 'age'],
  additionalProperties: false,
};
const valid = validator(person);
const weather = { name: 'get_weather', description: 'The weather of a city.', parameters: { type: 'object', properties: { city: { type: 'string', maxLength: 8 }, unit: { enum: ['C', 'F'] } }, required: ['city', 'unit'] } };
const clock = { name: 'clock', parameters: { type: 'object', properties: {} } };
const prompt = 'Once upon a time';
t.setTimeout(240_000); // machines in use by others

async function load(t: any, folder = stories): Promise<Model> {
  const model = await loadModel(folder);
  t.teardown(() => model.close());
  return model;
}

/** A chat model of the small fixture. */
async function chatFolder(t: any, template: string): Promise<string> {
  const folder = await copyOf(t, stories);
  await editJson(join(folder, 'tokenizer_config.json'), (config: any) => void (config.chat_template = template));
  return folder;
}
const plainTemplate = "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}assistant:";

t.test('every sampling and every budget gives a valid answer, the same for a seed', async (t) => {
  const model = await load(t);
  const samplings = [{}, { temperature: 1 }, { temperature: 2, topK: 40 }, { temperature: 1, topP: 0.5 }, { temperature: 1.5, minP: 0.05 }, { repetitionPenalty: 1.3 }, { temperature: 1, repetitionPenalty: 1.2 }];
  for (const [i, sampling] of samplings.entries()) {
    for (const maxTokens of [undefined, 200, 60]) {
      const options = { ...sampling, seed: i, schema: person, ...(maxTokens === undefined ? {} : { maxTokens }) };
      const result = await model.generate(prompt, options).result();
      t.equal(result.finishReason, 'stop');
      t.equal(valid(JSON.parse(result.text)), null, result.text);
      t.same(result.json, JSON.parse(result.text));
      if (maxTokens === 60) t.same((await model.generate(prompt, options).result()).tokens, result.tokens);
    }
  }
});

t.test('budgets from the shortest answer on', async (t) => {
  const model = await load(t);
  let least = 0;
  await t.rejects(model.generate(prompt, { schema: person, maxTokens: 2 }).result(), { code: 'ERR_SCHEMA_BUDGET', message: /shortest answer.*only 2 are left/ });
  await t.rejects(model.generate(prompt, { schema: person, maxTokens: 0 }).result(), { code: 'ERR_SCHEMA_BUDGET' });
  for (let maxTokens = 1; least < 8; maxTokens++) {
    const outcome = await model.generate(prompt, { schema: person, maxTokens, temperature: 1, seed: maxTokens }).result().catch((error) => error);
    if (outcome.code === 'ERR_SCHEMA_BUDGET') continue;
    least++;
    t.ok(outcome.tokens.length <= maxTokens && valid(outcome.json) === null, `${maxTokens}: ${outcome.text}`);
  }
  await t.rejects(model.generate(Array.from({ length: 505 }, () => 5), { schema: person }).result(), { code: 'ERR_SCHEMA_BUDGET' }, 'a full context');
});

t.test('streams, leaving, aborting and closing', async (t) => {
  const model = await load(t);
  const run = model.generate(prompt, { schema: person, maxTokens: 80 });
  let text = '';
  for await (const chunk of run) text += chunk.text;
  t.equal(text, await run.text());
  const left = model.generate(prompt, { schema: person, maxTokens: 200, temperature: 1, seed: 2 });
  for await (const _ of left) break;
  const { finishReason, json } = await left.result();
  t.match({ finishReason, json }, { finishReason: 'aborted', json: undefined });
  const controller = new AbortController();
  const aborted = model.generate(prompt, { schema: person, signal: controller.signal });
  controller.abort(new Error('enough'));
  await t.rejects(aborted.result(), { message: 'enough' });
  t.equal(valid((await model.generate(prompt, { schema: person, maxTokens: 80 }).result()).json), null, 'the model goes on');
});

t.test('a chat is free again after a constrained turn', async (t) => {
  const model = await load(t, await chatFolder(t, plainTemplate));
  const chat = model.createChat({ maxTokens: 20 });
  const free = await chat.send('Hello').text();
  chat.reset();
  const { json } = await chat.send('Hello', { schema: person, maxTokens: 60 }).result();
  t.equal(valid(json), null);
  t.equal(chat.history.at(-1)!.role, 'assistant');
  chat.reset();
  t.equal(await chat.send('Hello').text(), free);
});

t.test('wrong options and schemas', async (t) => {
  const model = await load(t);
  const wrong = (options: any, error: any): void => void t.throws(() => model.generate(prompt, options), error);
  wrong({ schema: 'x' }, { name: 'TypeError', message: /a JSON schema or a schema object for schema/ });
  wrong({ schema: [] }, { name: 'TypeError' });
  wrong({ schema: null }, { name: 'TypeError' });
  wrong({ schema: person, stop: 'x' }, { name: 'TypeError', message: /stop/ });
  wrong({ schema: person, promptLookup: true }, { name: 'TypeError', message: /promptLookup/ });
  wrong({ schema: { '~standard': { vendor: 'some', version: 1 } } }, { code: 'ERR_UNSUPPORTED_SCHEMA', message: /of some cannot tell/ });
  const circle: any = { type: 'object' };
  circle.properties = { self: circle };
  wrong({ schema: circle }, { code: 'ERR_UNSUPPORTED_SCHEMA', message: /no JSON/ });
  const refused = async (schema: any, message: RegExp): Promise<unknown> =>
    t.rejects(model.generate(prompt, { schema, maxTokens: 50 }).result(), { code: 'ERR_UNSUPPORTED_SCHEMA', message });
  await refused({ type: 'array', uniqueItems: true }, /#\/uniqueItems demands unique/);
  await refused({ type: 'object', properties: { a: { not: {} } } }, /#\/properties\/a\/not uses the keyword not/);
  await refused({ type: 'object', patternProperties: {} }, /keyword patternProperties/);
  await refused({ if: {}, then: {} }, /keyword if/);
  await refused({ typo: 1 }, /keyword typo/);
  await refused({ type: 'text' }, /#\/type is not one of/);
  await refused({ $ref: '#/$defs/none' }, /does not exist/);
  await refused({ $ref: 'https://example.org/x' }, /another document/);
  await refused({ $ref: '#' }, /refers to itself/);
  await refused({ anyOf: [{ $ref: '#' }, { $ref: '#' }] }, /./);
  await refused({ type: 'object', properties: { a: { $ref: '#' } }, required: ['a'] }, /no text of finite length/);
  await refused({ enum: [1], type: 'string' }, /no text of finite length/);
  await refused({ oneOf: [{ type: 'number' }, { type: 'integer' }] }, /may both hold/);
  await refused({ type: 'string', format: 'iri' }, /format iri/);
  await refused({ type: 'string', pattern: '(?<=a)b' }, /looks ahead or behind/);
  await refused({ type: 'string', pattern: '(a)\\1' }, /escape \\1/);
  await refused({ type: 'string', pattern: '(a|b)*a(a|b){18}' }, /too large/);
  await refused({ type: 'string', minLength: 1e6 }, /above 10000/);
  await refused({ type: 'number', multipleOf: 7777 }, /too large/);
  await refused({ type: 'object', minProperties: 3 }, /more than the required/);
  let deep: any = { type: 'null' };
  for (let i = 0; i < 5000; i++) deep = { type: 'array', items: deep };
  t.throws(() => model.generate(prompt, { schema: deep }), { code: 'ERR_UNSUPPORTED_SCHEMA', message: /nests too deeply/ });
  for (let i = 0, inner: any = deep; i < 4700; i++) deep = inner = inner.items;
  await refused(deep, /nests more than 200/);
  // 3^40 combinations, and a schema that refers to itself twice at every level.
  await refused({ allOf: Array.from({ length: 40 }, (_, i) => ({ anyOf: [{ minLength: i }, { maxLength: i }, { pattern: `^${i}` }] })) }, /./);
  const doubled: any = { $defs: { d0: { type: 'null' } }, $ref: '#/$defs/d30' };
  for (let i = 1; i <= 30; i++) doubled.$defs[`d${i}`] = { type: 'array', prefixItems: [{ $ref: `#/$defs/d${i - 1}` }, { $ref: `#/$defs/d${i - 1}` }], items: false };
  await refused(doubled, /64 KiB|finite/);
  const huge = { enum: Array.from({ length: 3000 }, (_, i) => `value number ${i}`) };
  t.match((await model.generate(prompt, { schema: huge, maxTokens: 50 }).result()).json, /^value number \d+$/, 'a large enum is fine');
  await refused({ enum: Array.from({ length: 30000 }, (_, i) => `${i}`.padStart(200, `${i}`)) }, /too large/);
});

t.test('WebAssembly picks the same tokens', async (t) => {
  const native = await load(t);
  const wasm = await loadModel(stories, { backend: 'wasm' });
  t.teardown(() => wasm.close());
  for (const [i, sampling] of [{}, { temperature: 1 }, { temperature: 1.5, topK: 50, repetitionPenalty: 1.2 }].entries()) {
    for (const maxTokens of [40, 150]) {
      const options = { ...sampling, seed: i, maxTokens, schema: person };
      t.same((await wasm.generate(prompt, options).result()).tokens, (await native.generate(prompt, options).result()).tokens);
    }
  }
  await t.rejects(wasm.generate(prompt, { schema: person, maxTokens: 2 }).result(), { code: 'ERR_SCHEMA_BUDGET' });
  await t.rejects(wasm.generate(prompt, { schema: { type: 'object', properties: { a: { $ref: '#' } }, required: ['a'] } }).result(), { code: 'ERR_UNSUPPORTED_SCHEMA' });
});

t.test('a schema is compiled once per model', async (t) => {
  const model = await load(t);
  let reads = 0;
  const schema = { type: 'object', properties: { a: { type: 'integer' } }, required: ['a'] };
  const counted = { toJSONSchema: () => (reads++, schema) };
  const first = await model.generate(prompt, { schema: counted, maxTokens: 30 }).result();
  // More schemas than are kept, some of them at once.
  const others = Array.from({ length: 40 }, (_, i) => model.generate(prompt, { schema: { const: `number ${i % 20}` }, maxTokens: 30 }).result());
  for (const [i, { json }] of (await Promise.all(others)).entries()) t.equal(json, `number ${i % 20}`);
  t.same((await model.generate(prompt, { schema: counted, maxTokens: 30 }).result()).tokens, first.tokens);
  t.equal(reads, 2);
});

t.test('objects of schema libraries', async (t) => {
  const model = await load(t);
  const standard = { '~standard': { version: 1, vendor: 'some', jsonSchema: { input: ({ target }: any) => (target === 'draft-2020-12' ? person : {}) } } };
  const method = { toJSONSchema: () => ({ ...person, $schema: 'https://json-schema.org/draft/2020-12/schema' }) };
  const callable = Object.assign(() => undefined, standard);
  for (const schema of [standard, method, callable] as any[]) t.equal(valid((await model.generate(prompt, { schema, maxTokens: 80 }).result()).json), null);
  const failing = { toJSONSchema: () => { throw new Error('transforms have no schema'); } };
  t.throws(() => model.generate(prompt, { schema: failing }), { code: 'ERR_UNSUPPORTED_SCHEMA', message: /transforms have no schema/ });
});

t.test('tool calls that are demanded, with templates of several families', async (t) => {
  const templates = {
    generic: plainTemplate,
    hermes: `{% if tools %}{% for tool in tools %}{{ tool | tojson }}{% endfor %}answer in <tool_call>{% endif %}${plainTemplate}`,
    mistral: `{% if tools %}[AVAILABLE_TOOLS]{{ tools | tojson }}[TOOL_CALLS]{% endif %}${plainTemplate}`,
    llama: `{% if tools %}ipython {{ tools | tojson }} {"name": x, "parameters": y}{% endif %}${plainTemplate}`,
  };
  for (const [family, template] of Object.entries(templates)) {
    const model = await load(t, await chatFolder(t, template));
    const chat = model.createChat({ tools: [weather, clock], maxTokens: 120 });
    const named = await chat.send('Hi', { toolChoice: { name: 'get_weather' } }).result();
    t.equal(named.finishReason, 'toolCalls', family);
    t.match(named.toolCalls, [{ id: 'call00001', name: 'get_weather', arguments: { city: String, unit: /^[CF]$/ } }]);
    const { role, tool_calls: calls } = chat.history.at(-1) as any;
    t.match({ role, calls }, { role: 'assistant', calls: [{ id: 'call00001', type: 'function', function: { name: 'get_weather' } }] });
    if (family === 'generic') {
      const answer = await chat.send({ role: 'tool', content: '21 C', tool_call_id: 'call00001' }, { toolChoice: 'none', maxTokens: 5 }).result();
      t.equal(answer.toolCalls, undefined);
      t.match(chat.history.map((message) => message.role), ['user', 'assistant', 'tool', 'assistant']);
    }
    chat.reset();
    const required = await chat.send('Hi', { toolChoice: 'required', temperature: 1, seed: 4 }).result();
    t.ok(required.toolCalls!.every(({ name }) => ['get_weather', 'clock'].includes(name)));
    chat.reset();
    const either = await chat.send('Hi', { schema: person, temperature: 1, seed: 1 }).result();
    t.ok(either.finishReason === 'toolCalls' ? either.toolCalls!.length === 1 : valid(either.json) === null, `${family}: ${either.text}`);
    chat.reset();
    t.equal((await chat.send('Hi', { maxTokens: 8 }).result()).toolCalls, undefined, 'a story calls nothing');
    t.throws(() => chat.send('Hi', { toolChoice: 'required', stop: 'x' }), { name: 'TypeError', message: /stop/ });
  }
});

t.test('wrong tools', async (t) => {
  const model = await load(t, await chatFolder(t, plainTemplate));
  const chat = model.createChat();
  for (const [options, message] of [
    [{ tools: [{}] }, /a name of letters/],
    [{ tools: [{ name: 'a b' }] }, /a name of letters/],
    [{ tools: [clock, clock] }, /different names/],
    [{ tools: [{ name: 'x', parameters: 'y' }] }, /tools\[0\].parameters/],
    [{ tools: [clock], toolChoice: 'always' }, /for toolChoice/],
    [{ tools: [clock], toolChoice: { name: 'other' } }, /there are clock/],
    [{ toolChoice: 'required' }, /tools together/],
    [{ tools: 'x' }, /a list of objects/],
  ] as const)
    t.throws(() => chat.send('Hi', options as any), { name: 'TypeError', message });
  t.throws(() => chat.send({ role: 'assistant', content: 'x' }), { name: 'TypeError' });
  t.throws(() => chat.send([] as any), { name: 'TypeError' });
  t.throws(() => model.createChat({ tools: [{}] }), { name: 'TypeError' });
});

t.test('a tokenizer without all bytes', async (t) => {
  const folder = await copyOf(t, stories);
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(await byteTokenizer()));
  const model = await load(t, folder);
  const outcome = await model.generate(Int32Array.of(1, 5, 6), { schema: person, maxTokens: 200 }).result().catch((error) => error);
  t.ok(outcome.code === undefined ? valid(outcome.json) === null : ['ERR_UNSUPPORTED_SCHEMA', 'ERR_TOKENIZER'].includes(outcome.code), outcome.message);
});
