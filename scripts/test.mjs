// `npm test`: sets the checkout up, builds the native tests, then runs all tests under tap. Arguments after `--` go to tap,
// for example the test files to run.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { root, runScript, setUp } from './setup.mjs';

const onEveryBackend = ['abort', 'benchmark', 'chat', 'generate', 'gguf', 'model-folder', 'windows'].map((name) => `test/sdk/${name}.test.ts`);

await runScript(async () => {
  await setUp({ tests: true });
  const tap = join(root, 'node_modules', 'tap', 'dist', 'esm', 'run.mjs');
  const run = (args, environment = {}) => spawnSync(process.execPath, [tap, 'run', ...args], { cwd: root, stdio: 'inherit', env: { ...process.env, ...environment } }).status ?? 1;
  const chosen = process.argv.slice(2);
  process.exitCode = run(chosen);
  // The tests of what runs a model once more on WebAssembly. Coverage would be that of the second run alone.
  if (chosen.length === 0) process.exitCode ||= run(['--disable-coverage', ...onEveryBackend], { SHIFTADD_BACKEND: 'wasm' });
});
