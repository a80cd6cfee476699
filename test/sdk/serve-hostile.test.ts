// Requests that are wrong in every way: the answer is a 4xx with an error of OpenAI's shape, and the next request works.
import t from 'tap';
import { answersOf, connect, loadStories, post, serveStories } from './serve-model.js';

const model = await loadStories(t);
const server = await serveStories(t, model, { maxBodyBytes: 64 * 1024, requestTimeoutMs: 400, apiKey: 'secret' });
const key = { Authorization: 'Bearer secret' };
const good = { messages: [{ role: 'user', content: 'Hi' }], max_tokens: 1, temperature: 0 };
const headers = { 'Content-Type': 'application/json', ...key };
const path = '/v1/chat/completions';
const send = (body: unknown, more: Record<string, string> = {}, route = path): Promise<Response> => post(server, route, body, { headers: { ...headers, ...more } });

function checkError(t: any, status: number, body: string, what: string): void {
  if (status < 400 || status >= 500) t.fail(`${what}: ${status}`);
  let error: any;
  try {
    ({ error } = JSON.parse(body));
  } catch {
    return t.fail(`${what}: ${body.slice(0, 100)}`);
  }
  if (typeof error.message !== 'string' || typeof error.type !== 'string' || !('param' in error) || !('code' in error)) t.fail(`${what}: ${body}`);
}

async function stillGood(t: any): Promise<void> {
  const response = await send(good);
  t.equal(response.status, 200, 'the next request works');
  await response.text();
}

t.test('values of wrong types in every field of the OpenAPI document', async (t) => {
  const document = (await (await fetch(`${server.url}/openapi.json`, { headers: key })).json()) as any;
  const values = [null, true, 7.5, -1, '', 'x', [[]], {}];
  const fewer = [7.5, 'x', [null], {}, undefined];
  const routes: [route: string, schema: string, body: Record<string, unknown>][] = [
    [path, 'ChatRequest', good],
    ['/v1/completions', 'CompletionRequest', { prompt: 'Hi', max_tokens: 1, temperature: 0 }],
    ['/v1/embeddings', 'EmbeddingRequest', { input: 'Hi' }],
  ];
  let refused = 0;
  const ask = async (route: string, body: unknown, what: string): Promise<void> => {
    const response = await send(body, {}, route);
    const text = await response.text();
    if (response.status === 200) return;
    refused++;
    checkError(t, response.status, text, what);
  };
  for (const [route, schema, body] of routes)
    for (const field of Object.keys(document.components.schemas[schema].properties)) for (const value of values) await ask(route, { ...body, [field]: value }, `${route} ${field}: ${JSON.stringify(value)}`);
  // Each place within the fields that have an inside.
  const call = { id: 'a', type: 'function', function: { name: 'f', arguments: '{}' } };
  const rich = {
    ...good,
    messages: [{ role: 'system', content: 'S' }, { role: 'user', content: [{ type: 'text', text: 'Hi' }], name: 'Ann' }, { role: 'assistant', content: null, tool_calls: [call] }, { role: 'tool', content: 'x', tool_call_id: 'a' }],
    tools: [{ type: 'function', function: { name: 'f', description: 'd', parameters: { type: 'object', properties: { a: { type: 'string' } } }, strict: true } }],
    tool_choice: { type: 'function', function: { name: 'f' } },
    response_format: { type: 'json_schema', json_schema: { name: 'n', schema: { type: 'object' }, strict: true } },
    stream_options: { include_usage: true },
    logit_bias: { 5: 1 },
    max_tokens: 40,
  };
  const places = (value: unknown, at: (string | number)[]): (string | number)[][] =>
    typeof value === 'object' && value !== null ? Object.entries(value).flatMap(([name, inner]) => [[...at, name], ...places(inner, [...at, name])]) : [];
  for (const place of places(rich, []).filter(({ length }) => length > 1))
    for (const value of fewer) {
      const body = structuredClone(rich) as any;
      const owner = place.slice(0, -1).reduce((inner, name) => inner[name], body);
      owner[place.at(-1)!] = value;
      await ask(path, body, `${place.join('.')}: ${JSON.stringify(value)}`);
    }
  t.ok(refused > 300, `${refused} were refused`);
  await stillGood(t);
});

t.test('bodies', async (t) => {
  const euro = Buffer.from(JSON.stringify({ ...good, messages: [{ role: 'user', content: '\u20ac' }] }));
  const bodies: [what: string, body: string | Uint8Array][] = [
    ['nothing', ''],
    ['no JSON', '{"messages": [}'],
    ['a list', '[]'],
    ['a number', '5'],
    ['a raw byte FF', Buffer.concat([Buffer.from('{"messages": "'), Buffer.from([0xff]), Buffer.from('"}')])],
    ['cut inside a character', euro.subarray(0, euro.indexOf(0xe2) + 2)],
    ['deep lists', '['.repeat(30_000) + ']'.repeat(30_000)],
    ['deep lists without an end', '['.repeat(60_000)],
    ['deep objects', '{"a":'.repeat(10_000) + '1' + '}'.repeat(10_000)],
    ['deep in a field', JSON.stringify(good).replace('"Hi"', '['.repeat(20_000) + ']'.repeat(20_000))],
    ['deep in arguments', JSON.stringify({ ...good, messages: [{ role: 'assistant', tool_calls: [{ id: 'a', type: 'function', function: { name: 'f', arguments: `{"a":${'['.repeat(20_000)}${']'.repeat(20_000)}}` } }] }] })],
    ['a deep schema', JSON.stringify({ ...good, response_format: { type: 'json_schema', json_schema: { name: 'n', schema: JSON.parse('{"items":'.repeat(400) + '{}' + '}'.repeat(400)) } } })],
    ['too large', JSON.stringify({ ...good, user: 'x'.repeat(70_000) })],
    ['a prototype', '{"__proto__": {"messages": []}}'],
  ];
  for (const [what, body] of bodies) {
    const response = await send(body);
    checkError(t, response.status, await response.text(), what);
    if (what === 'too large') t.equal(response.status, 413);
  }
  for (const text of ['\\ud83d', '\\udc00x', '\\u0000', '\\ud83d\\ude00']) {
    const response = await send(JSON.stringify(good).replace('Hi', text));
    t.equal(response.status, 200, `${text} is answered`);
    await response.text();
  }
  for (const [name, value] of [['Content-Type', 'text/plain'], ['Content-Type', 'application/jsonp'], ['Content-Encoding', 'gzip']] as const) checkError(t, 415, await (await send(good, { [name]: value })).text(), name);
  await stillGood(t);
});

t.test('what is not allowed', async (t) => {
  const without = await post(server, path, good);
  t.equal(without.status, 401);
  checkError(t, 401, await without.text(), 'no key');
  for (const given of ['Bearer wrong', 'Bearer ', 'Basic secret', 'Bearer secret2', 'secret']) t.equal((await send(good, { Authorization: given })).status, 401, given);
  t.equal((await fetch(`${server.url}/health`)).status, 200, '/health is open');
  t.equal((await fetch(`${server.url}/metrics`)).status, 401);
  const page = await send(good, { Origin: 'https://example.org' });
  t.equal(page.status, 403);
  t.notOk(page.headers.has('access-control-allow-origin'));
  const missing = await send(good, {}, '/v1/nothing');
  t.equal(missing.status, 404);
  checkError(t, 404, await missing.text(), 'no route');
  const method = await fetch(`${server.url}${path}`, { headers: key });
  t.equal(method.status, 405);
  t.equal(method.headers.get('allow'), 'POST');
  checkError(t, 405, await method.text(), 'method');
});

t.test('what is no HTTP', async (t) => {
  const body = JSON.stringify(good);
  const start = `POST ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\nContent-Type: application/json\r\n`;
  const raw: [what: string, text: string, statuses?: number[]][] = [
    ['garbage', '\x00\x01\x02 hello\r\n\r\n'],
    ['another protocol', 'SSH-2.0-OpenSSH_9.2\r\n'],
    ['two lengths', `${start}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello`],
    ['length and chunks', `${start}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`],
    ['a negative length', `${start}Content-Length: -5\r\n\r\n`],
    ['a chunk without a size', `${start}Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n`],
    ['a chunk longer than said', `${start}Transfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n`],
    ['large headers', `GET /health HTTP/1.1\r\nHost: x\r\nX: ${'y'.repeat(40_000)}\r\n\r\n`, [431]],
    ['a header without a colon', 'GET /health HTTP/1.1\r\nHost x\r\n\r\n'],
    ['a wrong address', 'GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n'],
    ['a wrong host', `${start.replace('Host: x', 'Host: [')}Connection: close\r\nContent-Length: ${body.length}\r\n\r\n${body}`, [200, 400]],
    ['no host', `${start.replace('Host: x\r\n', '')}Connection: close\r\nContent-Length: ${body.length}\r\n\r\n${body}`, [200, 400]],
    ['another expectation', `${start}Expect: the-unexpected\r\nContent-Length: 2\r\n\r\n{}`, [417]],
    ['two types', `${start}Content-Type: text/plain\r\nConnection: close\r\nContent-Length: ${body.length}\r\n\r\n${body}`, [200, 415]],
    ['a body that ends too early', `${start}Content-Length: 500\r\n\r\n${body}`, [408]],
    ['a head that never ends', 'GET /health HTTP/1.1\r\nHost: x\r\n', [408]],
    ['too large, in chunks', `${start}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n${'ffff\r\n'.concat('x'.repeat(0xffff), '\r\n').repeat(2)}0\r\n\r\n`, [413]],
    ['pipelined requests', `${start}Content-Length: ${body.length}\r\n\r\n${body}${start}Content-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`, [200]],
    ['a pipelined mistake', `${start}Content-Length: 2\r\n\r\n{}${start}Connection: close\r\nContent-Length: 2\r\n\r\n[]`, [400]],
  ];
  await Promise.all(
    raw.map(async ([what, text, statuses]) => {
      const socket = connect(server);
      socket.write(text, 'latin1');
      const answers = await answersOf(socket);
      t.ok(answers.length > 0, `${what} gets an answer`);
      for (const { status, body } of answers) {
        if (statuses === undefined || !statuses.includes(200) || status !== 200) checkError(t, status, body, what);
        if (statuses !== undefined) t.ok(statuses.includes(status), `${what}: ${status}`);
      }
    }),
  );
  // Split at every byte, also inside of characters.
  const bytes = Buffer.from(JSON.stringify({ ...good, messages: [{ role: 'user', content: '\u20ac\u{1f600}' }] }));
  const socket = connect(server);
  socket.setNoDelay(true);
  socket.write(`${start}Connection: close\r\nContent-Length: ${bytes.length}\r\n\r\n`);
  for (const byte of bytes) {
    socket.write(Buffer.from([byte]));
    await new Promise((resolve) => setImmediate(resolve));
  }
  t.equal((await answersOf(socket))[0]?.status, 200, 'byte by byte');
  await stillGood(t);
});
