// Many clients at once: the queue, clients that leave, no answer with another one's text, the end of the server.
import t from 'tap';
import { answersOf, connect, loadStories, metric, post, serveStories, strictEvents, until } from './serve-model.js';

const model = await loadStories(t);
const chat = '/v1/chat/completions';
const ask = (content: string, more: object = {}): object => ({ messages: [{ role: 'user', content }], temperature: 0, max_tokens: 8, ...more });
/** Work that lasts until it is cancelled, or for a good while. */
const endless = { max_tokens: 400, n: 8, logit_bias: { 2: -100 } };
const loneText = async (content: string, maxTokens = 8): Promise<string> => model.createChat().send(content, { maxTokens }).text();
const contentOf = async (response: Response): Promise<string> => ((await response.json()) as any).choices[0].message.content;

t.test('clients that leave', async (t) => {
  const server = await serveStories(t, model, { parallel: 2, queue: 4 });
  const prompt = 'word '.repeat(60);
  const head = (body: string): string => `POST ${chat} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
  const idle = async (): Promise<boolean> => (await metric(server, 'shiftadd_running')) === 0 && (await metric(server, 'shiftadd_queue_length')) === 0;
  for (let round = 0; round < 50; round++) {
    const body = JSON.stringify(ask(prompt, { ...endless, stream: round % 2 === 0 }));
    const socket = connect(server);
    await new Promise((resolve) => socket.once('connect', resolve));
    switch (round % 5) {
      case 0: // at once
        socket.write(head(body).slice(0, 80));
        socket.destroy();
        break;
      case 1: // while the prompt is read
        socket.write(head(body));
        await new Promise((resolve) => setImmediate(resolve));
        socket.destroy();
        break;
      case 2: // after the first token, or a moment where nothing comes before the end
        socket.write(head(body));
        await (round % 2 === 0 ? new Promise((resolve) => socket.once('data', resolve)) : until(async () => (await metric(server, 'shiftadd_running')) === 1, 2000));
        socket.destroy();
        break;
      case 3: // its half of the connection
        socket.write(head(body));
        socket.end();
        break;
      default: // with an error
        socket.write(head(body));
        await new Promise((resolve) => setTimeout(resolve, 5));
        socket.resetAndDestroy();
    }
    if (round % 10 === 9) t.ok(await until(idle, 500), `nothing runs after ${round + 1} that left`);
  }
  t.ok((await metric(server, 'shiftadd_cancelled_total')) > 20);
  const tokens = await metric(server, 'shiftadd_tokens_total{kind="completion"}');
  t.ok(tokens < 400, `${tokens} tokens in whole answers`);
  t.equal(await contentOf(await post(server, chat, ask('Hello'))), await loneText('Hello'));
});

t.test('the queue is bounded, and who left it never starts', async (t) => {
  const server = await serveStories(t, model, { parallel: 1, queue: 2 });
  const long = ask('Hello', { ...endless, stream: true });
  const first = new AbortController();
  const running = await post(server, chat, long, { signal: first.signal });
  const left = new AbortController();
  const queued = post(server, chat, ask('Tom'), { signal: left.signal }).catch((error: Error) => error.name);
  const waiting = post(server, chat, ask('Lily'));
  t.ok(await until(async () => (await metric(server, 'shiftadd_queue_length')) === 2, 2000));
  const full = await post(server, chat, ask('Ann'));
  t.equal(full.status, 429);
  t.match(full.headers.get('retry-after'), /^\d+$/);
  t.match(await full.json(), { error: { type: 'rate_limit_error', code: 'queue_full', param: null } });
  left.abort();
  t.equal(await queued, 'AbortError');
  t.ok(await until(async () => (await metric(server, 'shiftadd_queue_length')) === 1, 500), 'its place is free');
  t.equal(await metric(server, 'shiftadd_running'), 1);
  first.abort();
  await running.text().catch(() => undefined);
  t.equal(await contentOf(await waiting), await loneText('Lily'), 'who waited is answered');
  t.equal(await metric(server, 'shiftadd_requests_total{route="/v1/chat/completions",status="200"}'), 1);
});

t.test('a short request is not kept by a long one', async (t) => {
  const server = await serveStories(t, model, { parallel: 2 });
  const order: string[] = [];
  const long = post(server, chat, ask('word '.repeat(30), { ...endless, n: 3 })).then(async (response) => {
    await response.text();
    order.push('long');
  });
  await until(async () => (await metric(server, 'shiftadd_running')) === 1, 2000);
  await contentOf(await post(server, chat, ask('Hello', { max_tokens: 2 })));
  order.push('short');
  await long;
  t.same(order, ['short', 'long']);
});

t.test('eight clients, and no text of another, though contexts are kept', async (t) => {
  const keeping = await loadStories(t, undefined, { prefixCache: { sessions: 3 } }); // fewer than there are clients
  const server = await serveStories(t, keeping, { parallel: 4, queue: 100 });
  const names = ['Tom', 'Lily', 'Ben', 'Mia', 'Sam', 'Sue', 'Max', 'Zoe'];
  const shared = 'Once there was a big tree in the park. '.repeat(16); // more than one step of the prompt
  const prompts = names.flatMap((name) => [name, shared.slice(0, 60) + name, shared + name]);
  const expected = new Map<string, string>();
  for (const prompt of prompts) expected.set(prompt, await loneText(prompt));
  const tooLong = JSON.stringify(ask('word '.repeat(600)));
  let answered = 0;
  await Promise.all(
    names.map(async (name, client) => {
      for (let round = 0; round < 12; round++) {
        const prompt = prompts[3 * client + (round % 3)]!;
        if (name === 'Zoe') {
          t.equal((await post(server, chat, tooLong)).status, 400);
        } else if ((client + round) % 5 === 0) {
          const controller = new AbortController();
          const request = post(server, chat, ask(prompt, endless), { signal: controller.signal }).then((response) => response.text());
          setTimeout(() => controller.abort(), 10);
          await request.catch(() => undefined);
        } else if (round % 2 === 0) {
          const chunks = strictEvents(await (await post(server, chat, ask(prompt, { stream: true }))).text()) as any[];
          t.equal(chunks.map(({ choices }) => choices[0].delta.content ?? '').join(''), expected.get(prompt));
          answered++;
        } else {
          t.equal(await contentOf(await post(server, chat, ask(prompt))), expected.get(prompt));
          answered++;
        }
      }
    }),
  );
  t.ok(answered > 50, `${answered} answers`);
  t.ok((await metric(server, 'shiftadd_tokens_total{kind="cached"}')) > 128, 'beginnings were shared');
});

t.test('a server that stops finishes what runs and refuses the rest', async (t) => {
  const server = await serveStories(t, model, { parallel: 1, queue: 5 });
  const running = post(server, chat, ask('Hello', { ...endless, n: 3, stream: true }));
  const response = await running;
  const waiting = post(server, chat, ask('Tom'));
  await until(async () => (await metric(server, 'shiftadd_queue_length')) === 1, 2000);
  const closed = server.close();
  t.equal((await waiting).status, 503);
  const chunks = strictEvents(await response.text()) as any[];
  t.equal(chunks.at(-1).choices[0].finish_reason, 'length', 'the running one is whole');
  await closed;
  await t.rejects(fetch(`${server.url}/health`));
  await server.close();

  const hasty = await serveStories(t, model, { parallel: 1, stopTimeoutMs: 0 });
  const cut = await post(hasty, chat, ask('Hello', { ...endless, stream: true }));
  await hasty.close();
  const text = await cut.text();
  t.match(text, /data: \{"error":\{"message":"The server is stopping\."[^\n]*\}\n\n$/, 'a cancelled stream ends with an error and without [DONE]');
});

t.test('origins that are allowed, and an address that is taken', async (t) => {
  const server = await serveStories(t, model, { corsOrigins: 'https://a.example', host: '::1' }).catch(() => serveStories(t, model, { corsOrigins: 'https://a.example' }));
  const headers = { 'Content-Type': 'application/json', Origin: 'https://a.example' };
  const allowed = await post(server, chat, ask('Hello'), { headers });
  t.equal(allowed.status, 200);
  t.equal(allowed.headers.get('access-control-allow-origin'), 'https://a.example');
  t.equal((await post(server, chat, ask('Hello'), { headers: { ...headers, Origin: 'https://b.example' } })).status, 403);
  const preflight = await fetch(`${server.url}${chat}`, { method: 'OPTIONS', headers: { Origin: 'https://a.example', 'Access-Control-Request-Method': 'POST' } });
  t.equal(preflight.status, 204);
  await t.rejects(serveStories(t, model, { host: new URL(server.url).hostname.replace(/[[\]]/g, ''), port: Number(new URL(server.url).port) }), { code: 'EADDRINUSE' });
  await t.rejects(serveStories(t, model, { parallel: 0 }), RangeError);
  await t.rejects(serveStories(t, {} as never), TypeError);
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  t.match(metrics, /^shiftadd_build_info\{version="\d+\.\d+\.\d+",model="stories",backend="\w+",isa="\w+"\} 1$/m);
  t.notMatch(metrics, 'joules', 'no energy without a meter');
  for (const line of metrics.trimEnd().split('\n')) if (!/^(# (HELP|TYPE) \w+ .+|\w+(\{(\w+="[^"]*",?)+\})? \d+(\.\d+)?(e[+-]?\d+)?)$/.test(line)) t.fail(line);
  const socket = connect(server);
  socket.write('GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
  t.match(await answersOf(socket), [{ status: 200 }]);
});
