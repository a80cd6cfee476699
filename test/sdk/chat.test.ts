import t from 'tap';
import { loadModel, type Model } from '../../sdk/src/index.js';
import { copyOf, editJson, join, stories } from './fixtures.js';

async function loadChatModel(t: any): Promise<Model> {
  const folder = await copyOf(t, stories);
  const template =
    "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";
  await editJson(join(folder, 'tokenizer_config.json'), (config) => (config.chat_template = template));
  const model = await loadModel(folder);
  t.teardown(() => model.close());
  return model;
}

t.test('history and the cached prefix', async (t) => {
  const model = await loadChatModel(t);
  await using chat = model.createChat({ system: 'Tell a story.', maxTokens: 12 });
  const first = await chat.send('Hello').result();
  t.same(chat.history, [
    { role: 'system', content: 'Tell a story.' },
    { role: 'user', content: 'Hello' },
    { role: 'assistant', content: first.text },
  ]);
  const second = await chat.send('More').result();
  t.equal(chat.history.length, 5);
  const ids = model.encodeChat([...chat.history.slice(0, 3), { role: 'user', content: 'More' }]);
  const fresh = await model.generate(ids, { maxTokens: 12 }).result();
  t.same(second.tokens, fresh.tokens, 'cached and fresh runs agree');
  t.equal(second.usage.promptTokens, ids.length);

  chat.reset();
  t.same(chat.history, [{ role: 'system', content: 'Tell a story.' }]);
  t.same((await chat.send('Hello').result()).tokens, first.tokens);
});

t.test('the next turn may start as soon as the last one is over, however it was awaited', async (t) => {
  const model = await loadChatModel(t);
  const chat = model.createChat({ maxTokens: 2 });
  await chat.send('Hello').text();
  await chat.send('Hello').result();
  for await (const _ of chat.send('Hello'));
  for await (const _ of chat.send('Hello', { maxTokens: 200 })) break;
  await t.rejects(chat.send('x '.repeat(600)).text(), { code: 'ERR_CONTEXT_OVERFLOW' });
  await chat.send('Hello').text();
  t.equal(chat.history.length, 8, 'four turns');
});

t.test('turns that do not end well leave the history alone', async (t) => {
  const model = await loadChatModel(t);
  const chat = model.createChat({ maxTokens: 8 });
  const first = await chat.send('Hello').result();
  const before = chat.history;

  const controller = new AbortController();
  const run = chat.send('More', { signal: controller.signal, maxTokens: 200 });
  await t.rejects(
    (async () => {
      for await (const _ of run) controller.abort(new Error('enough'));
    })(),
    { message: 'enough' },
  );
  t.same(chat.history, before);

  for await (const _ of chat.send('More', { maxTokens: 200 })) break;
  t.same(chat.history, before);

  await t.rejects(chat.send('x '.repeat(600)).result(), { code: 'ERR_CONTEXT_OVERFLOW' });
  t.same(chat.history, before);

  const running = chat.send('More');
  await t.rejects(chat.send('Again').result(), { code: 'ERR_BUSY' });
  t.throws(() => chat.reset(), { code: 'ERR_BUSY' });
  const more = await running.result();
  const ids = model.encodeChat([...before, { role: 'user', content: 'More' }]);
  t.same(more.tokens, (await model.generate(ids, { maxTokens: 8 }).result()).tokens);

  t.throws(() => chat.send(5 as any), TypeError);
  t.throws(() => chat.send('x', { maxToken: 1 } as any), /Did you mean 'maxTokens'/);
  chat.reset();
  t.same((await chat.send('Hello').result()).tokens, first.tokens, 'usable afterwards');
  await chat.close();
  await t.rejects(chat.send('x').result(), { code: 'ERR_CLOSED' });
});

t.test('several chats of one model', async (t) => {
  const model = await loadChatModel(t);
  const alone = await Promise.all(
    ['Tom', 'Lily', 'a dog'].map((text) => model.createChat({ maxTokens: 16 }).send(text).text()),
  );
  const chats = [0, 1, 2].map(() => model.createChat({ maxTokens: 16, contextSize: 200 }));
  const together = await Promise.all(['Tom', 'Lily', 'a dog'].map((text, i) => chats[i]!.send(text).text()));
  t.same(together, alone);
  const closing = chats[0]!.send('More', { maxTokens: 100 });
  await chats[0]!.close();
  await t.rejects(closing.result(), { code: 'ERR_CLOSED' });
  t.throws(() => model.createChat({ contextSize: 513 }), RangeError);
});

t.test('a model without a chat template', async (t) => {
  const model = await loadModel(stories);
  t.teardown(() => model.close());
  await t.rejects(model.createChat().send('x').result(), { code: 'ERR_CHAT_TEMPLATE' });
});
