// Runs in the page: opens an engine on a model, warms it up, generates. chromium.mjs calls it.
import { openEngine } from './engines/engine.mjs';

const promptTries = 8;
// Enough for the browser to compile the kernels with its optimizing compiler.
const warmUpSteps = 8;

let engine;
let settings;

export async function open(given) {
  settings = given;
  const { prompt, steps, prefill } = settings;
  const contextSize = Math.ceil((Math.max(prompt + steps, prefill + 1) + 1) / 256) * 256;
  const started = performance.now();
  engine = await openEngine(settings.engine, { ...settings, contextSize });
  const loadMs = performance.now() - started;
  await generate({ length: prompt, count: warmUpSteps, firstSeed: promptTries });
  return { loadMs, isolated: window.crossOriginIsolated, used: engine.describe() };
}

/** A prompt after which the model ends early is replaced by another. */
export async function generate({ length, count, firstSeed = 0 }) {
  for (let seed = firstSeed; seed < firstSeed + promptTries; seed++) {
    const timing = await engine.generate(length, seed, count);
    if (timing !== null) return { ...timing, tries: seed - firstSeed + 1 };
  }
  throw new Error(`${settings.url}: an end token came before ${count} tokens after each of ${promptTries} prompts`);
}
