// The files of the scale model that a benchmark asks for, made where they are missing.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { runStep } from '../scripts/run-step.mjs';
import { root } from '../scripts/setup.mjs';

const headBits = 4;
const rowGroup = 512;

/** @returns {Promise<string>} a packed model folder */
export function packedScaleModel(folder, bits, say) {
  const flags = ['--bits', String(bits), '--head-bits', String(headBits), '--row-group', String(rowGroup)];
  return make(folder, `scale-b${bits}-h${headBits}-r${rowGroup}`, flags, say);
}

/** @param {string} type a key of `blockTypes` @returns {Promise<string>} a GGUF file */
export function ggufScaleModel(folder, type, say) {
  return make(folder, `scale-${type}.gguf`, ['--gguf', type], say);
}

async function make(folder, name, flags, say) {
  const path = join(folder, name);
  if (!existsSync(path)) {
    say(`making ${name}`);
    // A process of its own: what it needs in memory must not count in any measurement.
    await runStep(`bench-${name}`, root, process.execPath, [join(root, 'benchmarks', 'scale-model.mjs'), path, ...flags]);
  }
  return path;
}
