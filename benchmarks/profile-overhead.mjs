// What profiling costs: decoding with and without a recorder that reads a meter 20 times a second, in alternation within one
// run. node benchmarks/profile-overhead.mjs [--help]
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus, loadavg, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { loadModel, openEnergyRecorder, openMemoryRecorder } from '../dist/esm/index.js';
import { formatHelp, parseOptions, readInteger } from './options.mjs';

const rules = {
  model: { value: 'FOLDER', help: 'a model folder (default the embedded model)' },
  backend: { value: 'NAME', initial: 'cpu', help: 'cpu or cuda' },
  threads: { value: 'N', initial: '1', help: 'threads that compute' },
  rounds: { value: 'N', initial: '30', help: 'rounds of a plain, a measured and another plain run' },
  tokens: { value: 'N', initial: '128', help: 'greedy tokens of a run' },
  rate: { value: 'HZ', initial: '20', help: 'readings per second of the meter' },
  'memory-rate': { value: 'HZ', initial: '5', help: 'readings per second of the memory (default 5, as of shiftadd profile)' },
  'sys-root': { value: 'FOLDER', help: 'a machine with a meter, / for this one (default a tree of files like an Orin Nano, made for the run)' },
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
  const count = readInteger('--rounds', values.rounds, 30, 2, 1000);
  const maxTokens = readInteger('--tokens', values.tokens, 128, 8, 4096);
  const rateHz = readInteger('--rate', values.rate, 20, 1, 50);
  const memoryHz = readInteger('--memory-rate', values['memory-rate'], 5, 1, 200);
  const made = values['sys-root'] === undefined ? await orinTree() : null;
  const worksOn = values.backend === 'cuda' ? 'gpu' : 'cpu';
  const model = await loadModel(values.model, { backend: values.backend, threads });
  try {
    const run = async () => {
      const cpu = process.cpuUsage();
      const { tokens, timings } = await model.generate('Once upon a time', { maxTokens, promptLookup: false }).result();
      const { user, system } = process.cpuUsage(cpu);
      return { tokens, rate: timings.tokensPerSecond, cpuMs: (user + system) / 1000 / tokens.length };
    };
    // Every run begins after the same pause: in a measured one the recorder's thread starts in it.
    const plain = async () => {
      await pause();
      return run();
    };
    const profiled = async () => {
      const recorder = await openEnergyRecorder({ sysRoot: made ?? values['sys-root'], rateHz, worksOn });
      if (recorder === null) throw new TypeError('Expected a machine with a meter for --sys-root but found none');
      const memory = openMemoryRecorder({ rateHz: memoryHz });
      try {
        await pause();
        return { ...(await run()), load: recorder.load };
      } finally {
        memory.close();
        await recorder.close();
      }
    };
    const warm = await run();
    const rounds = [];
    for (let round = 0; round < count; round++) {
      // Each of the three is first, second and last in turn. The second plain one shows what the machine does of itself.
      const results = {};
      const order = [['plain', plain], ['profiled', profiled], ['again', plain]];
      for (let i = 0; i < order.length; i++) {
        const [name, measure] = order[(i + round) % order.length];
        results[name] = await measure();
        if (results[name].tokens.join() !== warm.tokens.join()) throw new Error('Expected the same tokens with and without profiling');
      }
      rounds.push(results);
    }
    report({ model: model.info.name, backend: model.backend, threads, maxTokens, rateHz, memoryHz, rounds });
  } finally {
    await model.close();
    if (made !== null) await rm(made, { recursive: true, force: true });
  }
}

function pause() {
  return new Promise((resolve) => setTimeout(resolve, 500));
}

function report({ model, backend, threads, maxTokens, rateHz, memoryHz, rounds }) {
  const median = (values) => (values[(values.length - 1) >> 1] + values[values.length >> 1]) / 2;
  // A distribution-free 95 % interval of the median: the ranks (n -+ 1.96 sqrt(n)) / 2 of the sorted values.
  const half = (1.96 * Math.sqrt(rounds.length)) / 2;
  const show = (of) => {
    const values = rounds.map(of).sort((a, b) => a - b);
    const [low, high] = [Math.max(0, Math.floor(rounds.length / 2 - half)), Math.min(rounds.length - 1, Math.ceil(rounds.length / 2 + half) - 1)];
    return `${median(values).toFixed(4)} (95 %: ${values[low].toFixed(4)} to ${values[high].toFixed(4)})`;
  };
  // Against the mean of the plain runs on both of its sides.
  const rate = ({ plain, again }) => (plain.rate + again.rate) / 2;
  const cpu = ({ plain, again }) => (plain.cpuMs + again.cpuMs) / 2;
  console.log(`${model}, ${backend.name} (${backend.isa}, ${threads} threads) on ${cpus()[0].model.trim()}, ${cpus().length} cores; load average ${loadavg()[0].toFixed(2)}`);
  console.log(`${rounds.length} rounds of ${maxTokens} greedy tokens: plain, profiled, plain; the meter at ${rateHz} Hz, memory at ${memoryHz}; the same tokens in all runs`);
  console.log(`tokens/s, plain (median):                   ${median(rounds.map(rate).sort((a, b) => a - b)).toFixed(2)}`);
  console.log(`tokens/s, profiled / plain, median:         ${show((round) => round.profiled.rate / rate(round))}`);
  console.log(`tokens/s, plain / plain, median:            ${show(({ plain, again }) => again.rate / plain.rate)}`);
  console.log(`processor time per token, profiled / plain: ${show((round) => round.profiled.cpuMs / cpu(round))}`);
  console.log(`processor time per token, plain / plain:    ${show(({ plain, again }) => again.cpuMs / plain.cpuMs)}`);
  console.log(`recorder's own load, share of a core:       ${show(({ profiled }) => profiled.load)}`);
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
