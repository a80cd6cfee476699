// What profiling costs: decoding with and without a recorder that reads a meter 20 times a second, in alternation within one
// run. node benchmarks/profile-overhead.mjs [--help]
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus, loadavg, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { loadModel, openEnergyRecorder, openMemoryRecorder } from '../dist/esm/index.js';
import { formatHelp, parseOptions, readInteger } from './options.mjs';

const rules = {
  model: { value: 'FOLDER', help: 'a model folder (default the embedded model)' },
  threads: { value: 'N', initial: '1', help: 'threads that compute' },
  pairs: { value: 'N', initial: '30', help: 'pairs of a plain and a measured run' },
  tokens: { value: 'N', initial: '128', help: 'greedy tokens of a run' },
  rate: { value: 'HZ', initial: '20', help: 'readings per second of the meter and of the memory' },
  'sys-root': { value: 'FOLDER', help: 'a machine with a meter (default a tree of files like an Orin Nano, made for the run)' },
  help: { help: 'this' },
};

try {
  const { values } = parseOptions(rules, process.argv.slice(2));
  if (values.help) console.log(formatHelp('node benchmarks/profile-overhead.mjs [options]    what profiling costs in tokens per second', rules));
  else await measure(values);
} catch (error) {
  console.error(error instanceof TypeError || error instanceof RangeError ? error.message : error);
  process.exitCode = error instanceof TypeError || error instanceof RangeError ? 2 : 1;
}

async function measure(values) {
  const threads = readInteger('--threads', values.threads, 1, 1, 64);
  const pairs = readInteger('--pairs', values.pairs, 30, 2, 1000);
  const maxTokens = readInteger('--tokens', values.tokens, 128, 8, 4096);
  const rateHz = readInteger('--rate', values.rate, 20, 1, 50);
  const made = values['sys-root'] === undefined ? await orinTree() : null;
  const model = await loadModel(values.model, { threads });
  try {
    const run = async () => {
      const cpu = process.cpuUsage();
      const { tokens, timings } = await model.generate('Once upon a time', { maxTokens, promptLookup: false }).result();
      const { user, system } = process.cpuUsage(cpu);
      return { tokens, rate: timings.tokensPerSecond, cpuMs: (user + system) / 1000 / tokens.length };
    };
    const measured = async () => {
      const recorder = await openEnergyRecorder({ sysRoot: made ?? values['sys-root'], rateHz });
      if (recorder === null) throw new TypeError('Expected a machine with a meter for --sys-root but found none');
      const memory = openMemoryRecorder({ rateHz });
      try {
        // The worker's start is no part of what profiling costs while tokens are made.
        await new Promise((resolve) => setTimeout(resolve, 500));
        return { ...(await run()), load: recorder.load };
      } finally {
        memory.close();
        await recorder.close();
      }
    };
    const warm = await run();
    const samples = [];
    for (let pair = 0; pair < pairs; pair++) {
      // The other one begins in every second pair.
      const first = pair % 2 === 0 ? await run() : await measured();
      const second = pair % 2 === 0 ? await measured() : await run();
      const [plain, profiled] = pair % 2 === 0 ? [first, second] : [second, first];
      for (const { tokens } of [plain, profiled]) if (tokens.join() !== warm.tokens.join()) throw new Error('Expected the same tokens with and without profiling');
      samples.push({ ratio: profiled.rate / plain.rate, cpuRatio: profiled.cpuMs / plain.cpuMs, plain: plain.rate, profiled: profiled.rate, load: profiled.load });
    }
    report({ model: model.info.name, backend: model.backend, threads, pairs, maxTokens, rateHz, samples });
  } finally {
    await model.close();
    if (made !== null) await rm(made, { recursive: true, force: true });
  }
}

function report({ model, backend, threads, pairs, maxTokens, rateHz, samples }) {
  const of = (name) => samples.map((sample) => sample[name]).sort((a, b) => a - b);
  const median = (values) => (values[(values.length - 1) >> 1] + values[values.length >> 1]) / 2;
  // A distribution-free 95 % interval of the median: the ranks (n -+ 1.96 sqrt(n)) / 2 of the sorted values.
  const half = (1.96 * Math.sqrt(pairs)) / 2;
  const within = (values) => [values[Math.max(0, Math.floor(pairs / 2 - half))], values[Math.min(pairs - 1, Math.ceil(pairs / 2 + half) - 1)]];
  const show = (name) => `${median(of(name)).toFixed(4)} (95 %: ${within(of(name)).map((value) => value.toFixed(4)).join(' to ')})`;
  console.log(`${model}, ${backend.name} (${backend.isa}, ${threads} threads) on ${cpus()[0].model.trim()}, ${cpus().length} cores; load average ${loadavg()[0].toFixed(2)}`);
  console.log(`${pairs} pairs of ${maxTokens} greedy tokens, readings at ${rateHz} Hz of meter and memory; the same tokens in all runs`);
  console.log(`tokens/s, plain (median):     ${median(of('plain')).toFixed(2)}`);
  console.log(`tokens/s, profiled (median):  ${median(of('profiled')).toFixed(2)}`);
  console.log(`profiled / plain within pairs, median:               ${show('ratio')}`);
  console.log(`processor time per token, profiled / plain, median:  ${show('cpuRatio')}`);
  console.log(`recorder's own load, share of a core (median):       ${median(of('load')).toFixed(4)}`);
}

/** The files that a meter is read from on an Orin Nano: three rails of one chip. */
async function orinTree() {
  const root = await mkdtemp(join(tmpdir(), 'shiftadd-overhead-'));
  const folder = '/sys/class/hwmon/hwmon1';
  const files = {
    '/proc/device-tree/model': 'NVIDIA Jetson Orin Nano Developer Kit\0',
    '/proc/device-tree/compatible': 'nvidia,p3768-0000+p3767-0003\0nvidia,p3767-0003\0nvidia,tegra234\0',
    '/proc/meminfo': 'MemTotal:       7802880 kB\nMemAvailable:   5000000 kB\n',
    [`${folder}/name`]: 'ina3221\n',
    ...Object.fromEntries(
      ['VDD_IN', 'VDD_CPU_GPU_CV', 'VDD_SOC'].flatMap((label, i) => [
        [`${folder}/in${i + 1}_label`, `${label}\n`],
        [`${folder}/in${i + 1}_input`, '4984\n'],
        [`${folder}/curr${i + 1}_input`, `${1920 - 700 * i}\n`],
      ]),
    ),
  };
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(root, name)), { recursive: true });
    await writeFile(join(root, name), text);
  }
  return root;
}
