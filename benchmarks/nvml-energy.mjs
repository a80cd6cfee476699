// Energy of a decode run on an NVIDIA GPU, by the driver's counter and by integrating its power readings here: two ways to the same
// figure. Needs a build with the CUDA backend.
//
//     node benchmarks/nvml-energy.mjs [model] [seconds]
import { loadModel, openEnergyRecorder } from '../build/modules/index.js';
import { openNvml } from '../build/modules/devices/nvml.js';

const [model, seconds = '10'] = process.argv.slice(2);
const nvml = openNvml();
const now = () => Number(process.hrtime.bigint()) / 1e6;
const recorder = await openEnergyRecorder({ meter: 'nvml' });
if (recorder === null) throw new Error('There is no readable NVML meter here: shiftadd doctor says why.');
const loaded = await loadModel(model, { backend: 'cuda' });

// Power is read from a timer of its own, which a decode step holds up by a few milliseconds at most.
const samples = [];
const timer = setInterval(() => samples.push([now(), nvml.milliwatts(0) / 1e3]), 20);

async function measure(name, work) {
  const first = samples.length;
  const before = nvml.millijoules(0) / 1e3;
  const startMs = now();
  const tokens = await work();
  const endMs = now();
  const counter = nvml.millijoules(0) / 1e3 - before;
  await new Promise((done) => setTimeout(done, 200));
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

const idle = await measure('idle', async () => {
  await new Promise((done) => setTimeout(done, Number(seconds) * 1e3));
  return 0;
});
const decode = await measure('decode', async () => {
  let tokens = 0;
  for (const end = now() + Number(seconds) * 1e3; now() < end; ) {
    const { usage } = await loaded.generate('Once upon a time', { maxTokens: 400, seed: 1 }).result();
    tokens += usage.completionTokens;
  }
  return tokens;
});
clearInterval(timer);
console.log(JSON.stringify({ gpu: nvml.describe(0).name, meter: recorder.meter, model: loaded.path, idle, decode }, null, 2));
await recorder.close();
await loaded.close();
