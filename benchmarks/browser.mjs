// `node benchmarks/browser.mjs`: measures our browser build beside wllama, in pages of one Chromium. README.md says how to
// read the numbers.
import { relative } from 'node:path';
import { runScript } from '../scripts/setup.mjs';
import { Chromium } from './browser/chromium.mjs';
import { findContenders } from './browser/contenders.mjs';
import { help, readBrowserOptions } from './browser/options.mjs';
import { describeWllama, findWllama, installWllama } from './browser/peer.mjs';
import { PageServer } from './browser/page-server.mjs';
import { usageErrors } from './options.mjs';
import { describeMachine, describeSources, writeResults } from './results.mjs';
import { summarize } from './summary.mjs';
import { formatTable } from './table.mjs';

const columns = [
  { title: 'prefill', metric: 'prefillTokensPerSecond' },
  { title: 'decode', metric: 'decodeTokensPerSecond' },
  { title: 'answer ms', metric: 'answerMs', digits: 0 },
  { title: 'answer CPU ms', metric: 'answerCpuMs', digits: 0 },
  { title: 'cores', metric: 'cores', digits: 2 },
];
// What an idle machine does by the way.
const quietCores = 0.1;

await runScript(async () => {
  const options = usageErrors(() => readBrowserOptions(process.argv.slice(2)));
  if (options.help) {
    process.stdout.write(`${help}\n`);
    return;
  }
  if (options.installPeers) await installWllama();
  const wllama = findWllama(options.peers);
  if (wllama === null) say('wllama is not installed, so ours runs alone; --install-peers installs it');
  const entries = await findContenders(options, wllama !== null, say);
  const server = await PageServer.start({ build: options.build, wllama: wllama?.folder ?? null, entries });
  const chromium = await Chromium.start(options.chromium);
  let measured;
  try {
    measured = await measure(entries, options, server, chromium);
  } finally {
    await chromium.close();
    await server.close();
  }
  const { samples, failures } = measured;
  const summary = summarize(samples);
  process.stdout.write(`\n${formatTable(summary, columns)}\n`);
  const { threads, precisions, rounds, prompt, steps, prefill } = options;
  const file = writeResults({ out: options.json, name: 'browser' }, {
    machine: describeMachine(), browser: chromium.version,
    ...describeSources(wllama === null ? {} : { '@wllama/wllama': wllama.version }),
    wasm: { wllama: wllama === null ? null : describeWllama(wllama) },
    settings: { threads, precisions, rounds, prompt, steps, prefill }, summary, samples, failures,
  });
  say(`written to ${relative(process.cwd(), file)}`);
  const disturbed = Math.max(0, ...samples.map(({ othersCores }) => othersCores));
  if (disturbed > quietCores) say(`other processes kept up to ${disturbed.toFixed(1)} cores busy: only ratios within a round mean something`);
  if (failures.length > 0) {
    say(`${failures.length} measurements failed, see above`);
    process.exitCode = 1;
  }
});

/** Round by round; within a round the contenders take turns, in the opposite order in every second one. */
async function measure(entries, { threads, isolation, rounds, prompt, steps, prefill }, server, chromium) {
  const samples = [];
  const failures = [];
  for (let round = 1; round <= rounds; round++) {
    for (const { name: model, contenders } of entries) {
      for (const count of threads) {
        for (const contender of round % 2 === 1 ? contenders : [...contenders].reverse()) {
          const { engine, label, url, precision } = contender;
          try {
            const address = server.address(isolation);
            const sample = await chromium.measure(address, { engine, url, precision, threads: count, prompt, steps, prefill });
            samples.push({ model, threads: count, label, engine, kind: 'browser', round, wasm: server.takeServedModules(), ...sample });
            const { prefillTokensPerSecond: rate, decodeTokensPerSecond: decode, cores } = sample.metrics;
            say(`round ${round}: ${model}, ${count} threads, ${label}: prefill ${rate.toFixed(2)}, decode ${decode.toFixed(2)} tokens/s, ${cores.toFixed(2)} cores`);
          } catch (error) {
            say(`round ${round}: ${model}, ${count} threads, ${label} failed: ${error.message}`);
            failures.push({ model, threads: count, label, round });
          }
        }
      }
    }
  }
  return { samples, failures };
}

function say(text) {
  process.stderr.write(`bench: ${text}\n`);
}
