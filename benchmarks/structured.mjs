// Answers of the embedded model under many schemas: all must parse and validate, and cost little more than free ones.
//   node benchmarks/structured.mjs [--runs 1000] [--max-tokens 64] [--temperature 0] [--threads 2] [--model FOLDER]
// Needs a build (npm run build). Each constrained run is followed by a free one of as many tokens with the same prompt, so that both
// meet the same machine. Prints one line per schema and a JSON document; ends with 1 when an answer is not valid.
import { parseArgs } from 'node:util';
import Ajv from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { loadModel } from '../dist/esm/index.js';
import { answerSchemas } from './structured/schemas.mjs';

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '1000' },
    'max-tokens': { type: 'string', default: '64' },
    temperature: { type: 'string', default: '0' },
    threads: { type: 'string', default: '2' },
    model: { type: 'string', default: 'models/smollm2-135m-instruct' },
  },
});
const [runs, maxTokens, temperature, threads] = ['runs', 'max-tokens', 'temperature', 'threads'].map((name) => Number(values[name]));
const model = await loadModel(values.model, { threads });
const ajv = new Ajv({ strict: false, multipleOfPrecision: 6 });
addFormats(ajv);
const validators = answerSchemas.map(({ schema }) => ajv.compile(schema));
const totals = answerSchemas.map(() => ({ runs: 0, invalid: 0, tokens: 0, ms: 0, freeTokens: 0, freeMs: 0, firstMs: 0 }));

for (let run = 0; run < runs; run++) {
  const i = run % answerSchemas.length;
  const { prompt, schema } = answerSchemas[i];
  const total = totals[i];
  const ids = model.encodeChat([{ role: 'user', content: prompt }]);
  const options = { maxTokens: run % 4 === 3 ? maxTokens * 2 : maxTokens, temperature, seed: run };
  const answer = await model.generate(ids, { ...options, schema }).result();
  let valid = false;
  try {
    valid = answer.finishReason === 'stop' && validators[i](JSON.parse(answer.text)) && JSON.stringify(JSON.parse(answer.text)) === JSON.stringify(answer.json);
  } catch {
    valid = false; // counted and shown below
  }
  if (!valid) {
    total.invalid++;
    console.error(`invalid: ${answerSchemas[i].name}: ${answer.text}`);
  }
  total.runs++;
  total.tokens += Math.max(0, answer.tokens.length - 1);
  total.ms += answer.timings.decodeMs;
  total.firstMs += answer.timings.firstTokenMs - answer.timings.promptMs;
  const free = await model.generate(ids, { ...options, maxTokens: Math.max(2, answer.tokens.length) }).result();
  total.freeTokens += Math.max(0, free.tokens.length - 1);
  total.freeMs += free.timings.decodeMs;
}

const rate = (tokens, ms) => (ms > 0 ? (tokens / ms) * 1000 : null);
const all = { runs: 0, invalid: 0, tokens: 0, ms: 0, freeTokens: 0, freeMs: 0, firstMs: 0 };
for (const [i, total] of totals.entries()) {
  for (const key of Object.keys(all)) all[key] += total[key];
  if (total.runs === 0) continue;
  console.log(`${answerSchemas[i].name.padEnd(28)} ${String(total.runs).padStart(5)} runs ${String(total.invalid).padStart(3)} invalid ${rate(total.tokens, total.ms)?.toFixed(1).padStart(7)} tokens/s, free ${rate(total.freeTokens, total.freeMs)?.toFixed(1).padStart(7)}`);
}
const constrained = rate(all.tokens, all.ms);
const free = rate(all.freeTokens, all.freeMs);
console.log(JSON.stringify({ model: model.info.name, backend: model.backend, temperature, runs: all.runs, schemas: answerSchemas.length, invalid: all.invalid, tokens: all.tokens, tokensPerSecond: constrained, freeTokensPerSecond: free, ratio: constrained / free, firstTokenExtraMs: all.firstMs / all.runs }, null, 2));
await model.close();
if (all.invalid > 0) process.exitCode = 1;
