// Whether memory grows: a model loaded, asked and closed 1,000 times, then eight worker threads ended in mid-generation 200
// times. Prints resident memory along the way and exits with 1 where it grows by more than `--allow` MB (16) after the warm-up.
//   node benchmarks/leaks.mjs [--loads 1000] [--rounds 200] [--workers 8] [--allow 16]
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Worker, isMainThread, parentPort } from 'node:worker_threads';
import { loadModel } from '../dist/esm/index.js';

const stories = fileURLToPath(new URL('../test/fixtures/stories-260k', import.meta.url));
const template = '{% for message in messages %}{{ message.content }} {% endfor %}';
let chatModel;

if (isMainThread) await main();
else await generateUntilEnded();

async function main() {
  const number = (initial) => ({ type: 'string', default: String(initial) });
  const { values } = parseArgs({ options: { loads: number(1000), rounds: number(200), workers: number(8), allow: number(16) } });
  const [loads, rounds, workers, allow] = ['loads', 'rounds', 'workers', 'allow'].map((name) => Number(values[name]));
  chatModel = withTemplate(mkdtempSync(join(tmpdir(), 'shiftadd-leaks-')));
  const growths = [
    await grow(`${loads} times: load, chat, close`, loads, loadChatClose),
    await grow(`${rounds} times: ${workers} worker threads ended in mid-generation`, rounds, () => endWorkers(workers)),
  ];
  await loadChatClose(0); // the process still works
  rmSync(chatModel, { recursive: true });
  if (growths.some((bytes) => bytes > allow * 1e6)) process.exitCode = 1;
}

/** The tiny model has no chat template of its own. */
function withTemplate(folder) {
  cpSync(stories, folder, { recursive: true });
  const file = join(folder, 'tokenizer_config.json');
  const config = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {};
  writeFileSync(file, JSON.stringify({ bos_token: '<s>', eos_token: '</s>', ...config, chat_template: template }));
  return folder;
}

/** Repeats `once`; resolves to the growth of resident memory from a fifth of the way to the end. */
async function grow(what, times, once) {
  console.log(what);
  const warmUp = Math.ceil(times / 5);
  let first = 0;
  for (let i = 1; i <= times; i++) {
    await once(i);
    if (i === warmUp) first = resident();
    if (i % warmUp === 0) console.log(`  after ${i}: ${(resident() / 1e6).toFixed(1)} MB`);
  }
  const growth = resident() - first;
  console.log(`  growth after the warm-up: ${(growth / 1e6).toFixed(1)} MB`);
  return growth;
}

function resident() {
  globalThis.gc?.();
  return process.memoryUsage.rss();
}

async function loadChatClose(seed) {
  const model = await loadModel(chatModel, { backend: 'cpu', threads: 2 });
  const chat = model.createChat();
  const { usage } = await chat.send('Once upon a time', { maxTokens: 16, temperature: 1, seed }).result();
  if (usage.outputTokens < 1) throw new Error('no token came');
  await chat.close();
  await model.close();
}

async function endWorkers(count) {
  await Promise.all(
    Array.from({ length: count }, async (_, index) => {
      const worker = new Worker(new URL(import.meta.url), { argv: [] });
      await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
      await new Promise((resolve) => setTimeout(resolve, index));
      await worker.terminate();
    }),
  );
}

async function generateUntilEnded() {
  const model = await loadModel(stories, { backend: 'cpu', threads: 1 });
  for (;;) {
    for await (const _ of model.generate('Once upon a time', { maxTokens: 400, temperature: 1 })) parentPort.postMessage('generating');
  }
}
