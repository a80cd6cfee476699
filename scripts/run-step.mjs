// Runs one program of the set-up. What it prints goes to a log file; only a failure shows the end of it.
import { spawn } from 'node:child_process';
import { createWriteStream, mkdirSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join, relative } from 'node:path';

const TAIL_LINES = 40;
const running = new Set();

export class StepError extends Error {
  /** @param {string} message @param {number} exitCode what the process should exit with */
  constructor(message, exitCode = 1) {
    super(message);
    this.exitCode = exitCode;
  }
}

/** Runs `program` with `args` in `root`; rejects with a StepError that carries the end of the log. */
export function runStep(name, root, program, args, env = {}) {
  const folder = join(root, 'build', 'logs');
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `${name}.log`);
  const log = createWriteStream(file);
  log.write(`$ ${[program, ...args].join(' ')}\n`);
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: root,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    running.add(child);
    child.stdout.pipe(log, { end: false });
    child.stderr.pipe(log, { end: false });
    child.on('error', (error) => finish(`could not start ${program}: ${error.message}`));
    child.on('close', (code, signal) => {
      if (code === 0) finish();
      else if (signal) finish(`stopped by ${signal}`, 128 + (constants.signals[signal] ?? 0));
      else finish(`exit status ${code}`);
    });
    function finish(problem, exitCode = 1) {
      if (!running.delete(child)) return;
      log.end(() => {
        if (problem === undefined) resolve(undefined);
        else reject(new StepError(failure(name, problem, file, root), exitCode));
      });
    }
  });
}

/** Ends the programs that are still running: after the failure of another, or when the set-up is interrupted. */
export function stopRunningSteps() {
  for (const child of running) child.kill('SIGTERM');
}

function failure(name, problem, file, root) {
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n').slice(-TAIL_LINES);
  return `${name} failed (${problem}). The end of ${relative(root, file)}:\n\n${lines.map((line) => `    ${line}`).join('\n')}\n`;
}
