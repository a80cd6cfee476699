// Log-probabilities, biases and penalties of single tokens, and chats that go on with an earlier history.
import t from 'tap';
import { loadModel } from '../../sdk/src/index.js';
import { coreOf } from '../../sdk/src/model-core.js';
import { copyOf, editJson, join, stories } from './fixtures.js';

const folder = await copyOf(t, stories);
const template = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";
await editJson(join(folder, 'tokenizer_config.json'), (config) => (config.chat_template = template));
const model = await loadModel(folder);
t.teardown(() => model.close());
const prompt = 'Once upon a time';

t.test('log-probabilities are those of the model', async (t) => {
  const run = model.generate(prompt, { maxTokens: 8, logprobs: 3 });
  const chunks = [];
  for await (const chunk of run) chunks.push(chunk);
  const { tokens, logprobs } = await run.result();
  t.equal(logprobs!.length, tokens.length);
  t.same(chunks.flatMap(({ logprobs }) => logprobs!), logprobs, 'chunks carry those of their tokens');
  for (const [i, { token, logprob, top }] of logprobs!.entries()) {
    t.equal(token, tokens[i]);
    t.equal(top.length, 3);
    t.equal(top[0]!.token, token, 'greedy takes the likeliest');
    t.equal(top[0]!.logprob, logprob);
    t.ok(top[0]!.logprob >= top[1]!.logprob && top[1]!.logprob >= top[2]!.logprob);
    t.ok(top.reduce((sum, entry) => sum + Math.exp(entry.logprob), 0) <= 1.000001);
  }
  const ids = [...model.tokenizer.encode(prompt), ...tokens];
  const session = await coreOf(model)!.openSession(ids.length);
  const evaluated = [...(await session.evaluate(Int32Array.from(ids)))].slice(-tokens.length);
  await session.close();
  for (const [i, value] of evaluated.entries()) t.ok(Math.abs(value - logprobs![i]!.logprob) < 0.02, `the engine evaluates token ${i} alike`);
  t.equal((await model.generate(prompt, { maxTokens: 2 }).result()).logprobs, undefined);
});

t.test('a bias picks or bans a token, penalties turn away from what was said', async (t) => {
  const plain = await model.generate(prompt, { maxTokens: 24 }).result();
  t.same((await model.generate(prompt, { maxTokens: 24, logitBias: { 9: 0 } }).result()).tokens, plain.tokens, 'no bias changes nothing');
  const forced = await model.generate(prompt, { maxTokens: 3, logitBias: { 243: 100 } }).result();
  t.same(forced.tokens, [243, 243, 243]);
  t.equal(forced.text, '\ufffd\ufffd\ufffd', 'bytes that are no UTF-8 are replaced');
  const banned = await model.generate(prompt, { maxTokens: 24, logitBias: { [plain.tokens[0]!]: -100 } }).result();
  t.notOk(banned.tokens.includes(plain.tokens[0]!));
  const repeats = (tokens: number[]): number => tokens.length - new Set(tokens).size;
  const long = await model.generate(prompt, { maxTokens: 60 }).result();
  const penalised = await model.generate(prompt, { maxTokens: 60, presencePenalty: 2, frequencyPenalty: 2 }).result();
  t.ok(repeats(penalised.tokens) < repeats(long.tokens), `${repeats(penalised.tokens)} repeats of ${repeats(long.tokens)}`);
  const sampled = { maxTokens: 16, temperature: 1, topP: 0.95, topK: 200, minP: 0.01, presencePenalty: 0.5 };
  const [first, again, other] = await Promise.all([7, 7, 8].map((seed) => model.generate(prompt, { ...sampled, seed }).result()));
  t.same(first!.tokens, again!.tokens, 'a seed fixes the answer');
  t.notSame(first!.tokens, other!.tokens);
});

t.test('wrong ones are refused', async (t) => {
  t.throws(() => model.generate(prompt, { logitBias: { 512: 1 } }), { name: 'RangeError', message: /0 to 511 for logitBias but received '512'/ });
  t.throws(() => model.generate(prompt, { logitBias: { x: 1 } }), RangeError);
  t.throws(() => model.generate(prompt, { logitBias: { 1: 101 } }), RangeError);
  t.throws(() => model.generate(prompt, { presencePenalty: 3 }), RangeError);
  t.throws(() => model.generate(prompt, { logprobs: 21 }), RangeError);
  t.throws(() => model.generate(prompt, { logprobs: 1, promptLookup: true }), TypeError);
  t.throws(() => model.generate(prompt, { logitBias: { 1: 1 }, schema: { type: 'object' } }), TypeError);
});

t.test('a chat goes on with an earlier history', async (t) => {
  await using chat = model.createChat({ system: 'S', maxTokens: 6 });
  await chat.send('Hello').text();
  const before = chat.history;
  const second = await chat.send('More').result();
  await using later = model.createChat({ history: before, maxTokens: 6 });
  t.same((await later.send('More').result()).tokens, second.tokens);
  await using whole = model.createChat({ history: [...before, { role: 'user', content: 'More' }], maxTokens: 6 });
  t.same((await whole.send([]).result()).tokens, second.tokens, 'as it stands');
  t.same(whole.history, chat.history);
  await using empty = model.createChat();
  t.throws(() => empty.send([]), TypeError);
  t.throws(() => model.createChat({ history: [{ role: 'user' } as never] }), TypeError);
});
