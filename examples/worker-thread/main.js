// Continues a text in a worker thread: node main.js [prompt] [tokens] [model folder]
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';

const [prompt = 'Once upon a time', tokens = '40', model] = process.argv.slice(2);
const worker = new Worker(new URL('worker.js', import.meta.url), { workerData: { model } });
process.once('SIGINT', () => worker.postMessage({ id: 1, cancel: true }));

worker.postMessage({ id: 1, prompt, maxTokens: Number(tokens) });
process.stdout.write(prompt);
for (;;) {
  const [{ text, done, error }] = await once(worker, 'message'); // rejects when the worker fails
  if (text !== undefined) process.stdout.write(text);
  if (error !== undefined) process.exitCode = (console.error(`\n${error.message}`), 1);
  if (done !== undefined) console.log(`\n(${done.tokens} tokens, ${done.finishReason})`);
  if (done !== undefined || error !== undefined) break;
}
await worker.terminate();
