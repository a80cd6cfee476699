// Builds the native tests for 64-bit Arm and runs them in an emulator where both tools are there; SHIFTADD_ARM64=1 makes
// their absence a failure.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { packageRoot } from '../../sdk/src/native-path.js';

const root = packageRoot();
const folder = join(root, 'build-arm64');
const emulate = ['-L', '/usr/aarch64-linux-gnu'];

const missing = ['cmake', 'aarch64-linux-gnu-g++', 'qemu-aarch64'].filter((program) => !runs(program));
const reason =
  process.arch === 'arm64'
    ? 'this machine is one: native.test.ts runs them'
    : `missing here: ${missing.join(', ')} (Debian: apt-get install g++-aarch64-linux-gnu qemu-user)`;

if (process.env['SHIFTADD_ARM64'] !== '1' && (process.arch === 'arm64' || missing.length > 0)) {
  t.pass('native tests for 64-bit Arm', { skip: reason });
} else if (t.same(missing, [], 'the compiler and the emulator are there')) {
  // A folder that is configured already keeps its generator.
  const generator = !existsSync(join(folder, 'CMakeCache.txt')) && runs('ninja') ? ['-G', 'Ninja'] : [];
  const options = [`-DCMAKE_TOOLCHAIN_FILE=${join(root, 'cmake', 'aarch64-linux-gnu.cmake')}`, '-DSHIFTADD_TESTS=ON'];
  cmake(['-S', root, '-B', folder, ...generator, ...options], 'configured for 64-bit Arm');
  cmake(['--build', folder, '--parallel', String(availableParallelism())], 'built for 64-bit Arm');
  // The emulator's own processor has dot products; a Cortex-A57 has not, and would stop at one.
  for (const program of readdirSync(join(folder, 'bin')).sort()) await emulated(program, []);
  await emulated('kernels_test', ['-cpu', 'cortex-a57']);
}

async function emulated(program: string, options: string[]) {
  const name = [program, ...options].join(' ');
  await t.spawn('qemu-aarch64', [...emulate, ...options, join(folder, 'bin', program)], { cwd: root }, name);
}

function cmake(args: string[], name: string) {
  const result = spawnSync('cmake', args, { cwd: root, encoding: 'utf8' });
  t.equal(result.status, 0, name, { output: `${result.stdout}\n${result.stderr}`.slice(-4000) });
}

function runs(program: string) {
  return spawnSync(program, ['--version']).status === 0;
}
