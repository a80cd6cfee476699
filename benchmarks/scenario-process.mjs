// Runs one scenario in a process of its own and times what only the outside can see.
import { fork } from 'node:child_process';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { root } from '../scripts/setup.mjs';

const limitMs = 600_000;
const keptErrorCharacters = 2000;

/** Tokens of the prompts. */
export const prompts = { short: 16, medium: 128, long: 512 };
export const question = 'What is the capital of France?';

/**
 * Speed after loading, with the number of cores that other processes kept busy meanwhile; or the time from the start of
 * the process to the first text of an answer.
 * @param {'speed' | 'firstText'} kind
 */
export async function runScenario(kind, contender, threads, steps, peers) {
  const { engine, path, precision } = contender;
  const contextSize = Math.ceil((prompts.long + steps + 1) / 256) * 256;
  const settings = { engine, path, precision, threads, contextSize, peers };
  const busyBefore = busyMs();
  const started = performance.now();
  const messages = await messagesOf({ kind, settings, prompts, steps, question });
  if (kind === 'speed') {
    const { cpu, ...measured } = messages[0].value;
    const others = busyMs() - busyBefore - (cpu.user + cpu.system) / 1000;
    return { ...measured, othersCores: Math.max(0, others / (performance.now() - started)) };
  }
  const [ready, text] = messages;
  return { used: text.value.used, metrics: { readyMs: ready.at - started, firstTextMs: text.at - started } };
}

/** Processor time that everything on this machine has used. */
function busyMs() {
  return cpus().reduce((sum, { times }) => sum + times.user + times.nice + times.sys + times.irq, 0);
}

/** What the process sent, with the time at which each message came. Rejects with the end of what it printed. */
function messagesOf(scenario) {
  return new Promise((resolve, reject) => {
    const messages = [];
    let printed = '';
    const child = fork(join(root, 'benchmarks', 'scenario.mjs'), [JSON.stringify(scenario)], { stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
    const timer = setTimeout(() => child.kill('SIGKILL'), limitMs);
    const keep = (chunk) => (printed = (printed + chunk).slice(-keptErrorCharacters));
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    child.on('message', (value) => messages.push({ value, at: performance.now() }));
    child.on('error', reject);
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      const wanted = scenario.kind === 'speed' ? 1 : 2;
      if (code === 0 && messages.length === wanted) resolve(messages);
      else reject(new Error(`ended with ${signal ?? `status ${code}`} (limit ${limitMs / 1000} s)\n${printed.trimEnd()}`));
    });
  });
}
