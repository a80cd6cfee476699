// Energy of a decode run on an NVIDIA GPU, by the driver's counter and by integrating its power readings here: two ways to the same
// figure. Needs a build with the CUDA backend.
//
//     node benchmarks/nvml-energy.mjs [model] [seconds]
import { loadModel, openEnergyRecorder, readMemory } from '../build/modules/index.js';
import { openNvml } from '../build/modules/devices/nvml.js';

const [model, seconds = '10'] = process.argv.slice(2);
const nvml = openNvml();
const settleMs = 2000;
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const now = () => Number(process.hrtime.bigint()) / 1e6;
const recorder = await openEnergyRecorder({ worksOn: 'gpu' });
if (recorder === null) throw new Error('There is no readable NVML meter here: shiftadd doctor says why.');
const loaded = await loadModel(model, { backend: 'cuda' });

// Power is read from a timer of its own, which a decode step holds up by a few milliseconds at most.
const samples = [];
const timer = setInterval(() => samples.push([now(), nvml.milliwatts(0) / 1e3]), 20);

/** Whatever runs goes on before and after the window, so that readings which are means over a second are those of the window too. */
async function measure(name, countTokens = () => 0) {
  await pause(settleMs);
  const first = samples.length;
  const tokensBefore = countTokens();
  const before = nvml.millijoules(0) / 1e3;
  const startMs = now();
  await pause(Number(seconds) * 1e3);
  const endMs = now();
  const counter = nvml.millijoules(0) / 1e3 - before;
  const tokens = countTokens() - tokensBefore;
  const window = await recorder.between(startMs, endMs);
  const read = samples.slice(first).filter(([at]) => at >= startMs && at <= endMs);
  // Trapezoids, the first and last reading held to the edges.
  let integral = read.length === 0 ? 0 : ((read[0][0] - startMs) * read[0][1] + (endMs - read.at(-1)[0]) * read.at(-1)[1]) / 1e3;
  for (let i = 1; i < read.length; i++) integral += ((read[i][0] - read[i - 1][0]) / 1e3) * ((read[i][1] + read[i - 1][1]) / 2);
  return {
    name, seconds: (endMs - startMs) / 1e3, tokens, counterJoules: counter, recorderJoules: window.joules, recorderUncertainty: window.uncertainty,
    integralJoules: integral, powerReadings: read.length, counterOverIntegral: counter / integral,
    joulesPerToken: tokens > 0 ? counter / tokens : null, problem: window.problem,
  };
}

const { memory: ledger } = await loaded.generate('Hello', { maxTokens: 4 }).result();
const idle = await measure('idle');
const abort = new AbortController();
let tokens = 0;
const work = (async () => {
  while (!abort.signal.aborted) {
    for await (const chunk of loaded.generate('Once upon a time', { maxTokens: 400, seed: 1, signal: abort.signal })) tokens += chunk.tokens.length;
  }
})().catch((error) => {
  if (!abort.signal.aborted) throw error;
});
const decode = await measure('decode', () => tokens);
await pause(settleMs);
abort.abort();
await work;
clearInterval(timer);
console.log(JSON.stringify({ gpu: nvml.describe(0).name, meter: recorder.meter, model: loaded.path, backend: loaded.backend, memory: { process: readMemory().gpuProcessBytes, ledger: ledger.gpuBytes }, idle, decode }, null, 2));
await recorder.close();
await loaded.close();
