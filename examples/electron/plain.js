// The model process without Electron: node plain.js [prompt] [model folder]
import { once } from 'node:events';
import { MessageChannel, Worker } from 'node:worker_threads';

const [prompt = 'Why is the sky blue?', model] = process.argv.slice(2);
const worker = new Worker(new URL('model-process.js', import.meta.url), { env: { ...process.env, ...(model === undefined ? {} : { SHIFTADD_MODEL: model }) } });
const { port1, port2 } = new MessageChannel();
worker.postMessage({ port: port2 }, [port2]);
worker.on('error', (error) => {
  console.error(error.message);
  process.exit(1);
});

port1.postMessage({ id: 1, send: prompt, maxTokens: 60 });
for (;;) {
  const [{ text, done, error }] = await once(port1, 'message');
  if (text !== undefined) process.stdout.write(text);
  if (error !== undefined) process.exitCode = (console.error(error.message), 1);
  if (done !== undefined) console.log(`\n(${done.tokens} tokens, ${done.finishReason})`);
  if (done !== undefined || error !== undefined) break;
}
port1.close();
await worker.terminate();
