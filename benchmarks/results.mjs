// The JSON file of a run: machine, versions, settings, every sample and the summary. No host names and no paths.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { arch, availableParallelism, cpus, platform, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { root } from '../scripts/setup.mjs';

const formatVersion = 1;

export function describeMachine() {
  return {
    cpu: cpus()[0]?.model ?? 'unknown', cores: availableParallelism(), memoryBytes: totalmem(),
    platform: `${platform()}-${arch()}`, node: process.versions.node,
  };
}

/** @param {Record<string, string>} peers versions by package */
export function describeSources(peers) {
  const git = (...words) => spawnSync('git', words, { cwd: root, encoding: 'utf8' });
  const head = git('rev-parse', '--short', 'HEAD');
  return {
    // Null outside a git checkout.
    commit: head.status === 0 ? head.stdout.trim() : null,
    changed: head.status === 0 ? git('status', '--porcelain', '--untracked-files=no').stdout !== '' : null,
    packages: { shiftadd: JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).version, ...peers },
  };
}

/** @returns {string} the file */
export function writeResults({ out, name }, content) {
  const date = new Date();
  const file = out ?? freeName(join(root, 'benchmarks', 'results', `${date.toISOString().slice(0, 10)}-${name}`));
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify({ version: formatVersion, date: date.toISOString(), ...content }, shorter, 2)}\n`);
  return file;
}

/** Five digits of what was measured; counts stay whole. */
function shorter(_, value) {
  return typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(5)) : value;
}

function freeName(stem) {
  for (let number = 1; ; number++) {
    const file = `${stem}${number === 1 ? '' : `-${number}`}.json`;
    if (!existsSync(file)) return file;
  }
}
