// Loads `shiftadd serve` with clients of all kinds, then has many leave, then kills it. Prints a JSON document.
//   node benchmarks/serve-load.mjs [--minutes 10] [--clients 32] [--leaving 1000] [--model folder] [--parallel 4] [--queue 16] [--long 20]
import { spawn } from 'node:child_process';
import { createConnection } from 'node:net';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    clients: { type: 'string', default: '32' },
    leaving: { type: 'string', default: '1000' },
    model: { type: 'string' },
    parallel: { type: 'string', default: '4' },
    queue: { type: 'string', default: '16' },
    long: { type: 'string', default: '20' },
  },
});
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function start() {
  const words = ['serve', ...(values.model === undefined ? [] : [values.model]), '--port', '0', '--json', '--parallel', values.parallel, '--queue', values.queue];
  const child = spawn(process.execPath, [join(root, 'dist/esm/cli/main.js'), ...words], { stdio: ['ignore', 'pipe', 'inherit'] });
  const line = await new Promise((resolve, reject) => {
    let text = '';
    child.stdout.setEncoding('utf8').on('data', (part) => (text += part).includes('\n') && resolve(text));
    child.on('exit', (code) => reject(new Error(`the server ended with ${code}`)));
  });
  const { url, model, backend } = JSON.parse(line);
  return { child, url, model, backend };
}

let server = await start();

async function metrics() {
  const text = await (await fetch(`${server.url}/metrics`)).text();
  return (name) => Number(new RegExp(`^shiftadd_${name} (.*)$`, 'm').exec(text)?.[1] ?? 0);
}

const shared = 'The ship came into the harbour at dawn, and the people of the town were waiting for it. ';
const prompts = ['Name a river.', 'What is two and two?', 'Say hello to Ann.', 'Why is the sky blue?'];
const counts = { plain: 0, streams: 0, completions: 0, long: 0, left: 0, tooLong: 0, refused: 0 };
const faults = [];

function body(content, more) {
  return JSON.stringify({ messages: [{ role: 'user', content }], temperature: 0, max_tokens: 4 + Math.floor(Math.random() * 12), ...more });
}

async function post(path, text, signal) {
  return fetch(`${server.url}${path}`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: text, signal });
}

/** One request of a random kind; anything unexpected is a fault. */
async function once() {
  const kind = Math.random();
  const prompt = prompts[Math.floor(Math.random() * prompts.length)];
  const chat = '/v1/chat/completions';
  const refused = async (response) => {
    if (response.status !== 429) return false;
    counts.refused++;
    const seconds = Number(response.headers.get('retry-after'));
    await response.text();
    await sleep(Math.min(seconds, 2) * 1000 * Math.random());
    return true;
  };
  if (kind < 0.3) {
    const response = await post(chat, body(prompt));
    if (await refused(response)) return;
    const answer = await response.json();
    if (response.status !== 200 || typeof answer.choices[0].message.content !== 'string') throw new Error(`plain: ${response.status} ${JSON.stringify(answer)}`);
    counts.plain++;
  } else if (kind < 0.65) {
    const long = kind > 0.55;
    const response = await post(chat, body(long ? shared.repeat(Number(values.long)) + prompt : prompt, { stream: true, stream_options: { include_usage: true } }));
    if (await refused(response)) return;
    const text = await response.text();
    if (response.status !== 200 || !text.endsWith('data: [DONE]\n\n') || !text.includes('"finish_reason":"') || !text.includes('"choices":[],"usage"')) throw new Error(`stream: ${response.status} ${text.slice(-300)}`);
    counts[long ? 'long' : 'streams']++;
  } else if (kind < 0.75) {
    const response = await post('/v1/completions', JSON.stringify({ prompt, max_tokens: 8, temperature: 0.8, seed: 1 }));
    if (await refused(response)) return;
    const answer = await response.json();
    if (response.status !== 200) throw new Error(`completion: ${response.status} ${JSON.stringify(answer)}`);
    counts.completions++;
  } else if (kind < 0.8) {
    const response = await post(chat, body('word '.repeat(6000)));
    if (await refused(response)) return;
    await response.text();
    if (response.status !== 400) throw new Error(`too long: ${response.status}`);
    counts.tooLong++;
  } else {
    const controller = new AbortController();
    setTimeout(() => controller.abort(), Math.random() * 1500);
    try {
      const response = await post(chat, body(kind < 0.9 ? prompt : shared.repeat(Number(values.long)), { max_tokens: 200, stream: kind < 0.9 }), controller.signal);
      if (await refused(response)) return;
      await response.text();
    } catch (error) {
      if (error.name !== 'AbortError') throw error;
    }
    counts.left++;
  }
}

const samples = [];
const started = performance.now();
const end = started + Number(values.minutes) * 60_000;
const sampler = (async () => {
  while (performance.now() < end) {
    const of = await metrics();
    samples.push({ seconds: Math.round((performance.now() - started) / 1000), residentBytes: of('resident_bytes'), running: of('running'), waiting: of('queue_length') });
    await sleep(5000);
  }
})();
await Promise.all(
  Array.from({ length: Number(values.clients) }, async () => {
    while (performance.now() < end) {
      await once().catch(async (error) => {
        faults.push(String(error.cause ?? error));
        await sleep(200);
      });
    }
  }),
);
await sampler;

async function idleWithin(ms) {
  const from = performance.now();
  for (;;) {
    const of = await metrics();
    if (of('running') === 0 && of('queue_length') === 0) return performance.now() - from;
    if (performance.now() - from > ms) return null;
    await sleep(10);
  }
}

// Clients that leave, eight at a time, in all phases; after each eight nothing may run any more.
const idle = [];
let late = 0;
for (let left = 0; left < Number(values.leaving); left += 8) {
  await Promise.all(
    Array.from({ length: 8 }, async (_, i) => {
      const text = body(i % 2 === 0 ? shared.repeat(Number(values.long)) : prompts[0], { max_tokens: 200, stream: i % 4 < 2 });
      const { hostname, port } = new URL(server.url);
      const socket = createConnection(Number(port), hostname);
      socket.on('error', () => undefined);
      await new Promise((resolve) => socket.once('connect', resolve));
      socket.write(`POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`);
      await sleep(Math.random() * 400);
      if (i === 7) socket.resetAndDestroy();
      else socket.destroy();
    }),
  );
  const ms = await idleWithin(10_000);
  if (ms === null || ms > 500) late++;
  idle.push(ms ?? 10_000);
}
idle.sort((a, b) => a - b);

// Killed without warning, and started again: only what was open is lost.
const open = Array.from({ length: 4 }, () => post('/v1/chat/completions', body(prompts[3], { max_tokens: 200, stream: true })).then((response) => response.text()).then(() => 'whole', () => 'lost'));
await sleep(500);
server.child.removeAllListeners('exit');
server.child.kill('SIGKILL');
const openEnded = await Promise.all(open);
server = await start();
const after = await post('/v1/chat/completions', body(prompts[0]));
const afterKill = { open: openEnded, statusOfNext: after.status };
await after.text();
server.child.removeAllListeners('exit');
const stopped = new Promise((resolve) => server.child.on('exit', (code, signal) => resolve(code ?? signal)));
server.child.kill('SIGTERM');

const warm = samples.filter(({ seconds }) => seconds >= 60);
const mean = (list) => Math.round(list.reduce((sum, { residentBytes }) => sum + residentBytes, 0) / Math.max(1, list.length));
const quarter = Math.max(1, Math.floor(warm.length / 4));
console.log(
  JSON.stringify(
    {
      model: server.model.name,
      backend: server.backend,
      options: values,
      counts,
      faults,
      residentBytes: { start: samples[0]?.residentBytes, firstQuarter: mean(warm.slice(0, quarter)), lastQuarter: mean(warm.slice(-quarter)), most: Math.max(...samples.map(({ residentBytes }) => residentBytes)) },
      leaving: { clients: Number(values.leaving), idleAfterMs: { median: idle[idle.length >> 1], p99: idle[Math.floor(idle.length * 0.99)], most: idle.at(-1) }, roundsLaterThan500Ms: late, rounds: idle.length },
      afterKill,
      exitOfSigterm: await stopped,
      samples,
    },
    null,
    1,
  ),
);
