// The peer through its public interface, on the processor, with the binary that its package ships.
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { readPackage } from '../peers.mjs';
/** @typedef {import('./engine.mjs').OpenEngine} OpenEngine */

/** @type {OpenEngine} */
export async function openEngine({ path, threads, contextSize, peers }) {
  const { main } = readPackage(peers);
  const { getLlama, LlamaChatSession } = await import(pathToFileURL(join(peers, 'node-llama-cpp', main)).href);
  const llama = await getLlama({
    gpu: false, build: 'never', skipDownload: true, maxThreads: threads, progressLogs: false, logLevel: 'error',
  });
  const model = await llama.loadModel({ modelPath: path });
  const context = await model.createContext({ contextSize, threads });
  const sequence = context.getSequence();
  return {
    // Getters, because counting is no part of loading.
    get vocabularySize() {
      return [...model.iterateAllTokens()].length;
    },
    get weightBytes() {
      return bytesPerToken(model.fileInfo, path);
    },
    describe: () => ({ backend: 'cpu', isa: llama.systemInfo.trim(), threads: context.currentThreads }),

    async generate(tokens, count) {
      await sequence.clearHistory();
      const started = performance.now();
      let first = 0;
      let last = 0;
      let generated = 0;
      for await (const _ of sequence.evaluate(tokens, { temperature: 0, yieldEogToken: true })) {
        last = performance.now();
        if (generated === 0) first = last;
        if (++generated === count) break;
      }
      if (generated < count) return null;
      return { firstTokenMs: first - started, decodeMs: last - first, steps: count - 1 };
    },

    async checkFinite(tokens) {
      await sequence.clearHistory();
      const input = tokens.map((token, index) =>
        index === tokens.length - 1 ? [token, { generateNext: { probabilities: true } }] : token);
      const probabilities = (await sequence.controlledEvaluate(input)).at(-1)?.next.probabilities;
      const chances = [...(probabilities?.values() ?? [])];
      // Logits that are no numbers come out as chances that are all the same.
      const finite = chances.every(Number.isFinite) && chances.some((chance) => chance !== chances[0]);
      if (!finite) throw new Error(`${path}: the logits are not finite`);
    },

    chat: (question) => streamed((onTextChunk) => new LlamaChatSession({ contextSequence: sequence }).prompt(question, { onTextChunk })),

    close: () => llama.dispose(),
  };
}

/** Texts that arrive by callback, as an iterable. */
async function* streamed(start) {
  const texts = [];
  let wake = () => {};
  let ended = false;
  const work = start((text) => {
    texts.push(text);
    wake();
  }).finally(() => {
    ended = true;
    wake();
  });
  work.catch(() => undefined); // it is awaited below
  for (;;) {
    if (texts.length > 0) yield texts.shift();
    else if (ended) break;
    else await new Promise((resolve) => (wake = resolve));
  }
  await work;
}

/** All tensors except an input embedding that is not also the head. Sizes are the distances between offsets. */
function bytesPerToken(fileInfo, path) {
  const tensors = [...fileInfo.fullTensorInfo].sort((a, b) => Number(a.fileOffset) - Number(b.fileOffset));
  const end = statSync(path).size;
  const untied = tensors.some(({ name }) => name === 'output.weight');
  return tensors.reduce((sum, { name, fileOffset }, index) => {
    if (untied && name === 'token_embd.weight') return sum;
    return sum + Number(tensors[index + 1]?.fileOffset ?? end) - Number(fileOffset);
  }, 0);
}
