// Finds and installs wllama, and says which modules its package has. It is no dependency of the package.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { StepError } from '../../scripts/run-step.mjs';
import { root } from '../../scripts/setup.mjs';
import { installPackages } from '../peers.mjs';

const home = join(root, 'benchmarks', 'peers', 'browser');
const name = '@wllama/wllama';

/** What a page loads of it. */
const files = ['index.js', 'wasm/wllama.wasm'];

/** The folder of its modules and its version; null when it is not there. StepError when `--peers` has none. */
export function findWllama(given) {
  const folder = join(given ?? join(home, 'node_modules'), name);
  const description = join(folder, 'package.json');
  if (existsSync(description)) return { folder: join(folder, 'esm'), version: JSON.parse(readFileSync(description, 'utf8')).version };
  if (given !== null) throw new StepError(`${given}, which --peers names, has no ${name}. Name the node_modules folder that it is in.`);
  return null;
}

/** Sizes and checksums. */
export function describeWllama({ folder }) {
  return files.map((file) => {
    const bytes = readFileSync(join(folder, file));
    return { file, bytes: bytes.length, gzipBytes: gzipSync(bytes, { level: 9 }).length, sha256: createHash('sha256').update(bytes).digest('hex') };
  });
}

export const installWllama = () => installPackages(home);
