// Finds and installs the engines that we are measured beside. They are no dependencies of the package.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { StepError, runStep } from '../scripts/run-step.mjs';
import { root } from '../scripts/setup.mjs';

const home = join(root, 'benchmarks', 'peers');
const name = 'node-llama-cpp';

// Its packages of binaries for the processor alone; those for graphics cards are twenty times as large.
const binaries = {
  'linux-x64': 'linux-x64', 'linux-arm64': 'linux-arm64', 'linux-arm': 'linux-armv7l', 'darwin-x64': 'mac-x64',
  'darwin-arm64': 'mac-arm64-metal', 'win32-x64': 'win-x64', 'win32-arm64': 'win-arm64',
};

/** package.json of node-llama-cpp in a node_modules folder. */
export const readPackage = (folder) => JSON.parse(readFileSync(join(folder, name, 'package.json'), 'utf8'));

/** The node_modules folder with the peer and its version; null when there is none. StepError when `--peers` has none. */
export function findPeer(given) {
  const folder = given ?? join(home, 'node_modules');
  if (existsSync(join(folder, name, 'package.json'))) return { folder, version: readPackage(folder).version };
  if (given !== null) throw new StepError(`${given}, which --peers names, has no ${name}. Name the node_modules folder that it is in.`);
  return null;
}

/** Installs the pinned version with the binary of this platform, without install scripts. */
export async function installPeers() {
  const binary = binaries[`${process.platform}-${process.arch}`];
  if (binary === undefined) throw new StepError(`${name} has no binary for ${process.platform}-${process.arch}`);
  const version = JSON.parse(readFileSync(join(home, 'package.json'), 'utf8')).dependencies[name];
  // The binaries are optional dependencies: leaving those out and naming one leaves the large ones out.
  await installPackages(home, ['--omit=optional', `@node-llama-cpp/${binary}@${version}`]);
}

/** Installs what package.json in `folder` pins, without install scripts. `more`: further words for npm. */
export async function installPackages(folder, more = []) {
  const npm = process.env.npm_execpath;
  const [program, first] = npm?.endsWith('.js') ? [process.execPath, [npm]] : [process.platform === 'win32' ? 'npm.cmd' : 'npm', []];
  const flags = ['--ignore-scripts', '--no-save', '--no-package-lock', '--no-audit', '--no-fund'];
  await runStep('bench-peers', root, program, [...first, 'install', '--prefix', folder, ...flags, ...more]);
}
