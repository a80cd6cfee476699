// One measurement in a process of its own; scenario-process.mjs starts it and gets the numbers as messages.
import { openEngine } from './engines/engine.mjs';
import { promptTokens } from './prompt.mjs';

const promptTries = 8;
const warmUpSteps = 8;
const { kind, settings, prompts, steps, question } = JSON.parse(process.argv[2]);

// The benchmark was interrupted.
process.on('disconnect', () => process.exit(1));

if (kind === 'speed') await send(await measureSpeed());
else await measureFirstText();
process.exit(0); // an answer may still be running

function send(message) {
  return new Promise((resolve, reject) => process.send(message, (error) => (error ? reject(error) : resolve())));
}

async function measureSpeed() {
  const started = performance.now();
  const engine = await openEngine(settings.engine, settings);
  const loadMs = performance.now() - started;
  await generate(engine, prompts.short, warmUpSteps);
  const short = await generate(engine, prompts.short, steps + 1);
  const medium = await generate(engine, prompts.medium, 1);
  const long = await generate(engine, prompts.long, steps + 1);
  const peakRssBytes = process.resourceUsage().maxRSS * 1024;
  await engine.checkFinite?.(promptTokens(prompts.short, engine.vocabularySize, 0));
  const { weightBytes } = engine;
  return {
    used: engine.describe(),
    weightBytes,
    cpu: process.cpuUsage(),
    metrics: {
      loadMs,
      prefillMediumTokensPerSecond: rate(prompts.medium, medium.firstTokenMs),
      prefillLongTokensPerSecond: rate(prompts.long, long.firstTokenMs),
      decodeShortTokensPerSecond: rate(short.steps, short.decodeMs),
      decodeLongTokensPerSecond: rate(long.steps, long.decodeMs),
      gigabytesPerSecond: (rate(short.steps, short.decodeMs) * weightBytes) / 1e9,
      peakRssBytes,
    },
  };
}

function rate(count, ms) {
  return (count / ms) * 1000;
}

/** A prompt after which the model ends early is replaced by another. */
async function generate(engine, length, count) {
  for (let seed = 0; seed < promptTries; seed++) {
    const timing = await engine.generate(promptTokens(length, engine.vocabularySize, seed), count);
    if (timing !== null) return timing;
  }
  throw new Error(`${settings.path}: an end token came before ${count} tokens after each of ${promptTries} prompts`);
}

async function measureFirstText() {
  const engine = await openEngine(settings.engine, settings);
  await send({ event: 'ready' });
  for await (const text of engine.chat(question)) {
    if (text === '') continue;
    await send({ event: 'text', text, used: engine.describe() });
    return;
  }
  throw new Error(`${settings.path}: the answer to the question is empty`);
}
