// The thread that holds the model. Messages in: { id, prompt, maxTokens } or { id, cancel: true }.
// Messages out: { id, text } as it comes, then { id, done: { finishReason, tokens } } or { id, error: { code, message } }.
import { parentPort, workerData } from 'node:worker_threads';
import { loadModel } from 'shiftadd';

const port = /** @type {import('node:worker_threads').MessagePort} */ (parentPort);
const model = await loadModel(workerData.model);
/** @type {Map<number, AbortController>} */
const running = new Map();

port.on('message', async ({ id, prompt, maxTokens, cancel }) => {
  if (cancel === true) return running.get(id)?.abort();
  const controller = new AbortController();
  running.set(id, controller);
  try {
    const run = model.generate(prompt, { maxTokens, signal: controller.signal });
    for await (const { text } of run) port.postMessage({ id, text });
    const { finishReason, usage } = await run.result();
    port.postMessage({ id, done: { finishReason, tokens: usage.completionTokens } });
  } catch (error) {
    const { code = null, message } = /** @type {Error & { code?: string }} */ (error);
    port.postMessage({ id, error: { code, message } });
  } finally {
    running.delete(id);
  }
});
