// The browser build in Chromium: what it computes, how runs end, and what the page is told.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { loadModel as loadInNode } from '../../sdk/src/index.js';
import type * as browserSdk from '../../sdk/src/browser/index.js';
import { stories } from '../sdk/fixtures.js';
import { root } from './browser.js';
import { skip, startPages, type SdkPages } from './sdk-page.js';

// In the page.
declare const sdk: typeof browserSdk;
declare const told: (promise: Promise<unknown>) => Promise<any>;
declare const collect: (run: any) => Promise<any>;

let pages: SdkPages;
t.before(async () => {
  if (skip === false) pages = await startPages(t);
});

t.test('the tokens of Node, with and without threads', { skip }, async (t) => {
  const backend = existsSync(join(root, 'build', 'Release', 'shiftadd.node')) ? 'cpu' : 'wasm';
  const inNode = await loadInNode(stories, { backend, precision: 'exact' });
  t.teardown(() => inNode.close());
  const greedy = { maxTokens: 60 };
  const sampled = { maxTokens: 60, temperature: 0.9, topK: 40, topP: 0.95, seed: 7, repetitionPenalty: 1.1 };
  const wanted = [];
  for (const options of [greedy, sampled]) wanted.push((await inNode.generate('Once upon a time', options).result()).tokens);
  const page = await pages.visit(t);
  for (const options of [{}, { threads: 1 }, { threads: 2 }, { threads: 1, isa: 'portable' }] as const) {
    const found = await page.evaluate(
      async ([url, options, runs]) => {
        const model = await sdk.loadModel(url, { precision: 'exact', ...options });
        const results = [];
        for (const run of runs) results.push(await model.generate('Once upon a time', run).result());
        const text = await model.decode(results[0]!.tokens);
        const { backend, info, contextSize, path } = model;
        const memory = await model.memory();
        await model.close();
        return { results, text, backend, info, contextSize, path, memory, closed: await model.closed };
      },
      [pages.model, options, [greedy, sampled]] as const,
    );
    t.same(found.results.map(({ tokens }: any) => tokens), wanted, JSON.stringify(options));
    t.equal(found.backend.name, 'wasm');
    if ('threads' in options) t.equal(found.backend.threads, options.threads);
    if ('isa' in options) t.equal(found.backend.isa, 'portable');
    t.match(found.results[0], { finishReason: 'length', usage: { completionTokens: 60 }, memory: { peakRssBytes: null }, backend: { name: 'wasm' } });
    t.ok(found.results[0]!.text.endsWith(found.text.trim()), 'decode gives the text');
    t.match(found, { info: { name: 'stories', architecture: 'llama', packed: false }, contextSize: 512, path: pages.model, closed: null });
    t.ok(found.memory.wasmBytes > found.memory.weightsBytes);
  }
});

t.test('progress adds up, and text comes as it is made', { skip }, async (t) => {
  const page = await pages.visit(t);
  const { events, chunks, text, tokens, encoded } = await page.evaluate(async (url) => {
    const events: browserSdk.LoadProgress[] = [];
    const model = await sdk.loadModel(url, { onProgress: (progress) => void events.push(progress) });
    const { chunks, text, tokens } = await collect(model.generate('Once upon a time', { maxTokens: 40 }));
    const encoded = await model.encode('Once upon a time');
    await model.close();
    return { events, chunks, text, tokens, encoded };
  }, pages.model);
  t.ok(chunks.length > 20, 'many pieces');
  t.equal(chunks.join(''), text);
  t.equal(tokens.length, 40);
  t.ok(encoded.length > 3);
  t.equal(events[0]!.phase, 'open');
  t.same(events.at(-1), { phase: 'load', done: 1, total: 1 });
  const downloads = events.filter(({ phase }) => phase === 'download');
  t.ok(downloads.every(({ done }, i) => i === 0 || done > downloads[i - 1]!.done), 'bytes only grow');
  t.same(downloads.at(-1), { phase: 'download', done: 524912, total: 524912 });
});

t.test('aborting and leaving', { skip }, async (t) => {
  const page = await pages.visit(t);
  const found = await page.evaluate(async (url) => {
    const model = await sdk.loadModel(url, { threads: 1 });
    const decode = new AbortController();
    let seen = 0;
    let after = 0;
    const midway = await told(
      (async () => {
        for await (const _ of model.generate('Once upon a time', { signal: decode.signal })) {
          if (decode.signal.aborted) after++;
          if (++seen === 5) decode.abort();
        }
      })(),
    );
    const run = model.generate('Once upon a time');
    let left = 0;
    for await (const _ of run) if (++left === 3) break;
    const leftResult = await run.result();
    const unread = model.generate('Once upon a time');
    await unread[Symbol.asyncIterator]().return!();
    const unreadTokens = (await unread.result()).tokens.length;
    const reason = await told(model.generate('x', { signal: AbortSignal.abort(new RangeError('mine')) }).text());
    const evaluated = await told(model.evaluate('Once upon a time there was', { signal: AbortSignal.abort(new RangeError('mine')) }));
    const benchmarked = await told(model.benchmark({ signal: AbortSignal.abort(new RangeError('mine')) }));
    const alive = await model.generate('Once', { maxTokens: 3 }).result();
    const late = model.generate('Once upon a time');
    await model.close();
    const closed = await told(late.text());
    const again = await told(model.generate('Once').text());
    const closedChat = await told(model.createChat().send('x').text());
    return { midway, seen, after, left: leftResult, unreadTokens, reason, evaluated, benchmarked, alive: alive.tokens.length, closed, again, closedChat };
  }, pages.model);
  t.match(found, { midway: { name: 'AbortError' }, seen: 5, after: 0 });
  t.equal(found.left.finishReason, 'aborted');
  t.ok(found.left.tokens.length < 60, `${found.left.tokens.length} tokens`);
  t.ok(found.unreadTokens < 10, 'left before it began');
  t.match(found.reason, { name: 'RangeError', message: 'mine' });
  t.match(found.evaluated, { name: 'RangeError', message: 'mine' });
  t.match(found.benchmarked, { name: 'RangeError', message: 'mine' });
  t.equal(found.alive, 3);
  for (const failure of [found.closed, found.again, found.closedChat]) t.equal(failure.code, 'ERR_CLOSED');
});

t.test('a long prefill is aborted between its parts', { skip }, async (t) => {
  const page = await pages.visit(t);
  const found = await page.evaluate(async (url) => {
    const model = await sdk.loadModel(url, { threads: 1, precision: 'exact' });
    const prompt = Array.from({ length: 500 }, (_, i) => 5 + ((i * 37) % 200));
    const whole = performance.now();
    await model.generate(prompt, { maxTokens: 1 }).result();
    const wholeMs = performance.now() - whole;
    const abort = new AbortController();
    const run = told(model.generate(prompt, { maxTokens: 1, signal: abort.signal }).result());
    await new Promise((resolve) => setTimeout(resolve, wholeMs / 10));
    const started = performance.now();
    abort.abort();
    const aborted = await run;
    return { aborted, wholeMs, abortMs: performance.now() - started };
  }, pages.model);
  t.equal(found.aborted.name, 'AbortError');
  t.comment(`the whole prompt ${found.wholeMs.toFixed(0)} ms, aborted after ${found.abortMs.toFixed(0)} ms`);
});

t.test('two chats at once, and what a chat remembers', { skip }, async (t) => {
  pages.server.putFolder('/models/chat', stories, {
    'tokenizer_config.json': JSON.stringify({ chat_template: '{{ bos_token }}{% for m in messages %}{{ m.content }} {% endfor %}', bos_token: '<s>', eos_token: '</s>' }),
  });
  const page = await pages.visit(t);
  const found = await page.evaluate(async (url) => {
    const model = await sdk.loadModel(url, { precision: 'exact' });
    const alone: string[] = [];
    for (const text of ['Once upon a time', 'There was a dog']) alone.push(await model.createChat().send(text, { maxTokens: 30 }).text());
    const chats = [model.createChat({ maxTokens: 30 }), model.createChat({ maxTokens: 30, system: 'Hi.' })];
    const runs = [chats[0]!.send('Once upon a time'), model.createChat().send('There was a dog', { maxTokens: 30 })];
    const busy = await told(chats[0]!.send('more').text());
    const together = await Promise.all(runs.map((run) => run.text()));
    const [first, second] = [chats[0]!.history, chats[1]!.history];
    await chats[0]!.send('And then', { maxTokens: 5 }).text();
    const turns = chats[0]!.history.length;
    const run = chats[0]!.send('And then');
    for await (const _ of run) break;
    const turnsAfterLeaving = chats[0]!.history.length;
    await chats[0]!.reset();
    const afterReset = chats[0]!.history.length;
    await chats[0]!.close();
    const closed = await told(chats[0]!.send('x').text());
    const overflow = await told(model.createChat({ contextSize: 8 }).send('A long text that has more tokens than eight').text());
    const ids = await model.encodeChat([{ role: 'user', content: 'Hello' }]);
    return { alone, together, busy, first, second, turns, turnsAfterLeaving, afterReset, closed, overflow, ids };
  }, `${pages.server.url}/models/chat/`);
  t.same(found.together, found.alone, 'neither disturbs the other');
  t.equal(found.busy.code, 'ERR_BUSY');
  t.same(found.first, [{ role: 'user', content: 'Once upon a time' }, { role: 'assistant', content: found.alone[0] }]);
  t.same(found.second, [{ role: 'system', content: 'Hi.' }]);
  t.match(found, { turns: 4, turnsAfterLeaving: 4, afterReset: 0, closed: { code: 'ERR_CLOSED' }, overflow: { code: 'ERR_CONTEXT_OVERFLOW' } });
  t.equal(found.ids[0], 1);
});

t.test('evaluate and benchmark', { skip }, async (t) => {
  const page = await pages.visit(t);
  const text = 'Once upon a time there was a little girl. She was very happy. '.repeat(4);
  const found = await page.evaluate(
    async ([url, text]) => {
      const model = await sdk.loadModel(url, { precision: 'exact', kvCache: 'f32' });
      const windows: number[] = [];
      const result = await model.evaluate(text, { window: 32, onProgress: ({ phase, done }) => void (phase === 'evaluate' && windows.push(done)) });
      const speed = await model.benchmark({ promptTokens: 16, steps: 4, rounds: 1 });
      return { perplexity: result.perplexity, windows, count: result.windows, speed };
    },
    [pages.model, text] as const,
  );
  const inNode = await loadInNode(stories, { backend: 'wasm', precision: 'exact', kvCache: 'f32' });
  t.equal(found.perplexity, (await inNode.evaluate(text, { window: 32 })).perplexity);
  await inNode.close();
  t.equal(found.windows.at(-1), found.count);
  t.ok(JSON.stringify(found.speed).length > 100);
});

t.test('wrong arguments are the errors of Node', { skip }, async (t) => {
  const page = await pages.visit(t);
  const found = await page.evaluate(async (url) => {
    const load = (source: any, options?: any): Promise<any> => told(sdk.loadModel(source, options));
    const model: any = await sdk.loadModel(url);
    const now = async (call: () => unknown): Promise<any> => told((async () => call())());
    return {
      unknown: await load(url, { thread: 2 }),
      range: await load(url, { threads: 0 }),
      context: await load(url, { contextSize: 100_000 }),
      precision: await load(url, { precision: 'best' }),
      isa: await load(url, { isa: 'avx2' }),
      cuda: await load(url, { backend: 'cuda' }),
      assets: await load(url, { assets: 5 }),
      nothing: await load(undefined),
      zero: await load(null),
      empty: await load(''),
      noFiles: await load([]),
      number: await load(5),
      prompt: await now(() => model.generate(5)),
      maxTokens: await now(() => model.generate('x', { maxTokens: -1 })),
      emptyPrompt: await told(model.generate([]).result()),
      badToken: await told(model.generate([100_000]).result()),
      chat: await now(() => model.createChat({ sytem: 'x' })),
      chatContext: await now(() => model.createChat({ contextSize: 100_000 })),
      send: await now(() => model.createChat().send(5)),
      window: await told(model.evaluate('Once upon a time', { window: 1 })),
      text: await told(model.evaluate(5)),
      options: await told(model.evaluate('Once upon a time', null)),
      steps: await told(model.benchmark({ steps: 0 })),
    };
  }, pages.model);
  const wanted: Record<string, object> = {
    unknown: { name: 'TypeError', message: /Did you mean 'threads'/ },
    range: { name: 'RangeError', message: /from 1 to 64 for threads/ },
    context: { name: 'RangeError', message: /from 1 to 512 for contextSize/ },
    precision: { name: 'TypeError' },
    isa: { name: 'TypeError', message: /'portable', 'simd128', 'relaxedsimd' for isa/ },
    cuda: { code: 'ERR_NO_BACKEND' },
    assets: { name: 'TypeError' },
    nothing: { name: 'TypeError', message: /Expected an address/ },
    zero: { name: 'TypeError', message: /Expected an address/ },
    empty: { name: 'TypeError', message: /Expected the address/ },
    noFiles: { name: 'TypeError', message: /Expected an address/ },
    number: { name: 'TypeError', message: /Expected an address/ },
    prompt: { name: 'TypeError', message: /Expected a text or token ids/ },
    maxTokens: { name: 'RangeError' },
    emptyPrompt: { name: 'RangeError', message: /at least one token/ },
    badToken: { name: 'RangeError', message: /from 0 to 511/ },
    chat: { name: 'TypeError', message: /Did you mean 'system'/ },
    chatContext: { name: 'RangeError' },
    send: { name: 'TypeError' },
    window: { name: 'RangeError' },
    text: { name: 'TypeError' },
    options: { name: 'TypeError' },
    steps: { name: 'RangeError' },
  };
  for (const [name, error] of Object.entries(wanted)) t.match((found as any)[name], error, name);
});

t.test('the page stays responsive while a model loads and answers', { skip }, async (t) => {
  const page = await pages.visit(t);
  const found = await page.evaluate(async (url) => {
    const long: number[] = [];
    new PerformanceObserver((list) => list.getEntries().forEach(({ duration }) => long.push(duration))).observe({ type: 'longtask', buffered: false });
    // The observer sees nothing where it is not supported: late ticks say the same.
    let last = performance.now();
    const gaps: number[] = [];
    const timer = setInterval(() => {
      gaps.push(performance.now() - last);
      last = performance.now();
    }, 10);
    const model = await sdk.loadModel(url, { threads: 1 });
    await model.generate('Once upon a time', { maxTokens: 400 }).result();
    clearInterval(timer);
    await model.close();
    gaps.sort((a, b) => a - b);
    return { long, median: gaps[gaps.length >> 1]!, ticks: gaps.length };
  }, pages.model);
  t.comment(`${found.ticks} ticks, median ${found.median.toFixed(1)} ms, long tasks ${JSON.stringify(found.long)}`);
  t.ok(found.median < 50);
  // One or two may be the machine's.
  t.ok(found.long.length <= 2, `long tasks: ${found.long.join(', ')}`);
});
