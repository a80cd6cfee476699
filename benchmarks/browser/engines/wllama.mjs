// The peer through its public interface, on the processor. One module serves both cases: with one thread it starts none
// besides its own worker.
import { promptTokens } from '../../prompt.mjs';
/** @typedef {import('./engine.mjs').OpenEngine} OpenEngine */

const modulePath = '/wllama/wasm/wllama.wasm';

/** @type {OpenEngine} */
export async function openEngine({ url, threads, contextSize }) {
  const { Wllama } = await import('/wllama/index.js');
  const notes = [];
  const keep = (...words) => notes.push(words.join(' '));
  const wllama = new Wllama({ default: modulePath }, { logger: { debug: keep, log: keep, warn: keep, error: keep } });
  const file = await (await fetch(url)).blob();
  await wllama.loadModel([file], { n_threads: threads, n_ctx: contextSize, n_parallel: 1, n_gpu_layers: 0 });
  if (wllama.getNumThreads() !== threads) throw new Error(`wllama runs ${wllama.getNumThreads()} threads instead of ${threads}`);
  return {
    describe: () => ({
      module: modulePath, multithread: wllama.isMultithread(), threads: wllama.getNumThreads(), bytes: file.size,
      note: notes.find((note) => note.startsWith('Multithread')) ?? null,
    }),

    async generate(length, seed, count) {
      // It takes text only. Digits are a token each in the vocabularies at hand.
      const prompt = promptTokens(length, 2 ** 16, seed).map((token) => token % 10).join('');
      const started = performance.now();
      const chunks = await wllama.createCompletion({
        prompt, max_tokens: count, stream: true, ignore_eos: true, cache_prompt: false, temperature: 0, top_k: 1, samplers: ['top_k'],
      });
      let timings;
      for await (const chunk of chunks) timings = chunk.timings ?? timings;
      const callMs = performance.now() - started;
      const { prompt_n: computed, prompt_ms: promptMs, predicted_n: generated, predicted_ms: decodeMs } = timings;
      if (computed !== length) throw new Error(`wllama computed ${computed} tokens of a prompt that should have ${length}`);
      return generated < count ? null : { promptMs, decodeMs, callMs };
    },
  };
}
