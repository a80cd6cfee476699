// Field report N5: aborting rejects once with the reason, within a step, and leaves the model usable.
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { loadModel } from '../../sdk/src/index.js';
import { stories } from './fixtures.js';

const prompt = 'Once upon a time';
const reasonOf = (promise: Promise<unknown>) =>
  promise.then(
    () => 'resolved',
    (reason: unknown) => reason,
  );

t.test('abort', async (t) => {
  const unhandled: unknown[] = [];
  const note = (reason: unknown) => void unhandled.push(reason);
  process.on('unhandledRejection', note);
  t.teardown(() => process.off('unhandledRejection', note));
  const model = await loadModel(stories);
  t.teardown(() => model.close());
  const straight = await model.generate(prompt, { maxTokens: 20 }).text();

  for (const reason of [new Error('enough'), 'a string', { any: 'thing' }]) {
    const controller = new AbortController();
    const run = model.generate(prompt, { signal: controller.signal });
    let seen = 0;
    const looped = reasonOf(
      (async () => {
        for await (const _ of run) {
          seen++;
          if (seen === 3) controller.abort(reason);
        }
      })(),
    );
    t.equal(await looped, reason);
    t.equal(seen, 3, 'no late tokens');
    t.equal(await reasonOf(run.result()), reason);
    t.equal(await reasonOf(run.text()), reason);
  }

  const controller = new AbortController();
  const plain = model.generate(prompt, { signal: controller.signal });
  controller.abort();
  t.match(await reasonOf(plain.result()), { name: 'AbortError' });
  t.equal(await reasonOf(model.generate(prompt, { signal: AbortSignal.abort('before') }).result()), 'before');
  t.match(await reasonOf(model.generate(prompt, { signal: AbortSignal.timeout(1) }).result()), {
    name: 'TimeoutError',
  });

  // While the prompt is being read.
  const long = Array.from({ length: 512 }, (_, i) => 3 + (i % 500));
  const started = performance.now();
  t.equal(await reasonOf(model.generate(long, { signal: abortSoon('in prefill') }).result()), 'in prefill');
  t.ok(performance.now() - started < 1000);

  // Nobody awaits.
  const forgotten = new AbortController();
  model.generate(prompt, { signal: forgotten.signal });
  await delay(2);
  forgotten.abort(new Error('nobody listens'));
  model.generate(Array.from({ length: 600 }, () => 5));
  await delay(50);

  t.equal(await model.generate(prompt, { maxTokens: 20 }).text(), straight, 'usable afterwards');
  t.same(unhandled, []);
});

function abortSoon(reason: unknown): AbortSignal {
  const controller = new AbortController();
  setImmediate(() => controller.abort(reason));
  return controller.signal;
}

t.test('leaving the loop stops the work', async (t) => {
  const model = await loadModel(stories);
  t.teardown(() => model.close());
  const run = model.generate(prompt);
  for await (const _ of run) break;
  const result = await run.result();
  t.equal(result.finishReason, 'aborted');
  t.ok(result.usage.completionTokens < 400);

  const returned = model.generate(prompt);
  const iterator = returned[Symbol.asyncIterator]();
  await iterator.next();
  t.same(await iterator.return!(), { done: true, value: undefined });
  t.same(await iterator.next(), { done: true, value: undefined });
  t.equal((await returned.result()).finishReason, 'aborted');

  const thrown = model.generate(prompt)[Symbol.asyncIterator]();
  await t.rejects(thrown.throw!(new Error('mine')), { message: 'mine' });
});

t.test('closing', async (t) => {
  const model = await loadModel(stories);
  const run = model.generate(prompt);
  const chat = model.createChat();
  await model.close();
  await t.rejects(run.result(), { code: 'ERR_CLOSED' });
  await t.rejects(model.generate(prompt).result(), { code: 'ERR_CLOSED' });
  await t.rejects(chat.send('x').result(), { code: 'ERR_CLOSED' });
  await t.rejects(model.evaluate('some text here'), { code: 'ERR_CLOSED' });
  t.throws(() => model.createChat(), { code: 'ERR_CLOSED' });
  await chat.close();
  await model.dispose();
  await model[Symbol.asyncDispose]();

  const signal = AbortSignal.abort('no');
  t.equal(await reasonOf(loadModel(stories, { signal })), 'no');
});
