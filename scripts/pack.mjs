// Runs before `npm pack` and `npm publish`: builds everything and puts the native engine of this platform, without its
// symbols, where the package carries it. Consumers never run it.
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { StepError } from './run-step.mjs';
import { root, runScript, setUp } from './setup.mjs';
import { findProgram } from './tools.mjs';

await runScript(async () => {
  await setUp({ browser: true });
  const { platformName } = await import(pathToFileURL(join(root, 'build', 'modules', 'native-path.js')).href);
  const folder = join(root, 'prebuilds', platformName());
  rmSync(join(root, 'prebuilds'), { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const file = join(folder, 'shiftadd.node');
  copyFileSync(join(root, 'build', 'Release', 'shiftadd.node'), file);
  strip(file);
});

/** Local symbols only: the entry points of Node-API must stay. */
function strip(file) {
  const program = process.env.STRIP ?? findProgram('strip');
  if (process.platform === 'win32' || !program) return;
  const flags = process.platform === 'darwin' ? ['-x'] : ['--strip-unneeded'];
  const result = spawnSync(program, [...flags, file], { encoding: 'utf8' });
  if (result.status !== 0) throw new StepError(`${program} failed on ${file}: ${result.stderr}`);
}
