// `npm test`: sets the checkout up, builds the native tests, then runs all tests under tap. Arguments after `--` go to tap,
// for example the test files to run.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { root, runScript, setUp } from './setup.mjs';

await runScript(async () => {
  await setUp({ tests: true });
  const tap = join(root, 'node_modules', 'tap', 'dist', 'esm', 'run.mjs');
  const result = spawnSync(process.execPath, [tap, 'run', ...process.argv.slice(2)], { cwd: root, stdio: 'inherit' });
  process.exitCode = result.status ?? 1;
});
