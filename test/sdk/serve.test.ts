// The server as the official openai client sees it.
import OpenAI from 'openai';
import t from 'tap';
import { loadStories, serveStories } from './serve-model.js';

const model = await loadStories(t);
const server = await serveStories(t, model);
const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
const messages = [{ role: 'user' as const, content: 'Tell me a story' }];
const plain = { model: 'stories', messages, temperature: 0, max_tokens: 12 };
const lone = await model.createChat().send('Tell me a story', { maxTokens: 12 }).result();

t.test('models', async (t) => {
  const { data } = await client.models.list();
  t.match(data, [{ id: 'stories', object: 'model', owned_by: 'shiftadd' }]);
  t.equal((await client.models.retrieve('stories')).id, 'stories');
  await t.rejects(client.models.retrieve('other'), { status: 404, code: 'model_not_found' });
  await t.rejects(client.chat.completions.create({ ...plain, model: 'gpt-4o' }), { status: 404, param: 'model' });
});

t.test('chat', async (t) => {
  const answer = await client.chat.completions.create(plain);
  t.match(answer, { object: 'chat.completion', model: 'stories', choices: [{ index: 0, finish_reason: 'length', logprobs: null, message: { role: 'assistant', content: lone.text, refusal: null } }] });
  const { usage, timings } = answer as typeof answer & { timings: Record<string, number> };
  t.match(usage, { prompt_tokens: lone.usage.promptTokens, completion_tokens: 12, total_tokens: lone.usage.promptTokens + 12, joules: null, prompt_tokens_details: { cached_tokens: 0 } });
  t.ok((usage as any).peak_bytes > 1e6);
  t.same([timings['prompt_n'], timings['predicted_n'], timings['cache_n']], [lone.usage.promptTokens, 12, 0]);
  for (const name of ['prompt_ms', 'prompt_per_token_ms', 'prompt_per_second', 'predicted_ms', 'predicted_per_token_ms', 'predicted_per_second']) t.ok(timings[name]! > 0, name);
});
t.test('stream', async (t) => {
  const stream = await client.chat.completions.create({ ...plain, stream: true, stream_options: { include_usage: true } });
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  t.equal(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join(''), lone.text);
  t.equal(new Set(chunks.map(({ id }) => id)).size, 1);
});
