// `npm run bench`: measures whole models, ours beside a peer. README.md says how to read the numbers.
import { relative } from 'node:path';
import { runScript, setUp } from '../scripts/setup.mjs';
import { findContenders } from './contenders.mjs';
import { help, readOptions, usageErrors } from './options.mjs';
import { findPeer, installPeers } from './peers.mjs';
import { readBandwidth } from './read-bandwidth.mjs';
import { describeMachine, describeSources, writeResults } from './results.mjs';
import { prompts, question, runScenario } from './scenario-process.mjs';
import { summarize } from './summary.mjs';
import { formatTable } from './table.mjs';

// What an idle machine does by the way.
const quietCores = 0.1;

await runScript(async () => {
  const options = usageErrors(() => readOptions(process.argv.slice(2)));
  if (options.help) {
    process.stdout.write(`${help}\n`);
    return;
  }
  if (options.installPeers) await installPeers();
  await setUp({ benchmarks: true });
  const peer = findPeer(options.peers);
  if (peer === null) say('node-llama-cpp is not installed, so ours runs alone; --install-peers installs it');
  const entries = await findContenders(options, peer !== null, say);
  const { samples, failures } = await measure(entries, options, peer?.folder ?? null);
  const summary = summarize(samples);
  process.stdout.write(`\n${formatTable(summary)}\n`);
  const { threads, precisions, rounds, steps } = options;
  const file = writeResults(options, {
    machine: describeMachine(), ...describeSources(peer === null ? {} : { 'node-llama-cpp': peer.version }), settings: { threads, precisions, rounds, steps, prompts, question },
    summary, samples, failures,
  });
  say(`written to ${relative(process.cwd(), file)}`);
  const disturbed = Math.max(0, ...samples.map(({ othersCores }) => othersCores ?? 0));
  if (disturbed > quietCores) say(`other processes kept up to ${disturbed.toFixed(1)} cores busy: only ratios within a round mean something`);
  if (failures.length > 0) {
    say(`${failures.length} measurements failed, see above`);
    process.exitCode = 1;
  }
});

/** Round by round; within a round the contenders take turns, in the opposite order in every second one. */
async function measure(entries, { threads, rounds, steps }, peers) {
  const samples = [];
  const failures = [];
  for (let round = 1; round <= rounds; round++) {
    for (const { name: model, chat, contenders } of entries) {
      for (const count of threads) {
        for (const contender of round % 2 === 1 ? contenders : [...contenders].reverse()) {
          const { engine, label } = contender;
          for (const kind of chat ? ['speed', 'firstText'] : ['speed']) {
            say(`round ${round}: ${model}, ${count} threads, ${label}, ${kind}`);
            try {
              const readGBs = kind === 'speed' ? await readBandwidth(count) : null;
              const { metrics, ...rest } = await runScenario(kind, contender, count, steps, peers);
              if (readGBs !== null) metrics.readShare = metrics.gigabytesPerSecond / readGBs;
              samples.push({ model, threads: count, label, engine, kind, round, readGBs, ...rest, metrics });
            } catch (error) {
              say(`failed: ${error.message}`);
              failures.push({ model, threads: count, label, kind, round });
            }
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
