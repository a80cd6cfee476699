// How fast this machine reads memory at this moment: the roofline of decoding.
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { root } from '../scripts/setup.mjs';

const program = join(root, 'build', 'bin', `read_bandwidth${process.platform === 'win32' ? '.exe' : ''}`);

/** GB/s (10^9 bytes) of reading more memory than the caches hold. */
export async function readBandwidth(threads) {
  const { stdout } = await promisify(execFile)(program, ['--threads', String(threads)]);
  const { readGBs } = JSON.parse(stdout);
  if (!(readGBs > 0)) throw new Error(`${program} printed no positive readGBs: ${stdout.slice(0, 200)}`);
  return readGBs;
}
