// Our browser build through its public SDK.
import { promptTokens } from '../../prompt.mjs';
/** @typedef {import('./engine.mjs').OpenEngine} OpenEngine */

/** @type {OpenEngine} */
export async function openEngine({ url, threads, precision }) {
  const { loadModel } = await import('/shiftadd/index.js');
  const model = await loadModel(new URL(url, location.href).href, { threads, precision, cache: false, verify: false });
  if (model.backend.threads !== threads) throw new Error(`shiftadd runs ${model.backend.threads} threads instead of ${threads}`);
  const { name, isa } = model.backend;
  return {
    describe: () => ({ backend: name, isa, threads, bytes: model.info.bytes.total }),

    async generate(length, seed, count) {
      const prompt = promptTokens(length, model.info.vocabularySize, seed);
      const started = performance.now();
      const run = model.generate(prompt, { maxTokens: count });
      for await (const _ of run);
      const { timings, usage } = await run.result();
      const callMs = performance.now() - started;
      return usage.completionTokens < count ? null : { promptMs: timings.promptMs, decodeMs: timings.decodeMs, callMs };
    },
  };
}
