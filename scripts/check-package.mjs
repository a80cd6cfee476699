// `npm run check:package`: packs the main package and lets publint and "are the types wrong" look at the tarball.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { packAll } from './packages.mjs';
import { StepError } from './run-step.mjs';
import { root, runScript } from './setup.mjs';

await runScript(async () => {
  const [{ file }] = await packAll({ only: ['shiftadd'] });
  run([join(root, 'node_modules', 'publint', 'src', 'cli.js'), file, '--strict']);
  run([join(root, 'node_modules', '@arethetypeswrong', 'cli', 'dist', 'index.js'), file]);
});

function run(args) {
  const result = spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit' });
  if (result.status !== 0) throw new StepError(`${args[0]} found a problem`, result.status ?? 1);
}
