// `npm run check:package`: packs the package and lets publint and "are the types wrong" look at the tarball.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { StepError } from './run-step.mjs';
import { root, runScript } from './setup.mjs';

await runScript(async () => {
  const folder = mkdtempSync(join(tmpdir(), 'shiftadd-package-'));
  try {
    run('npm', ['pack', '--silent', '--pack-destination', folder]);
    const tarball = join(folder, readdirSync(folder).find((name) => name.endsWith('.tgz')));
    run(process.execPath, [join(root, 'node_modules', 'publint', 'src', 'cli.js'), tarball, '--strict']);
    run(process.execPath, [join(root, 'node_modules', '@arethetypeswrong', 'cli', 'dist', 'index.js'), tarball]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

function run(program, args) {
  const result = spawnSync(program, args, { cwd: root, stdio: 'inherit', shell: process.platform === 'win32' });
  if (result.status !== 0) throw new StepError(`${args[0]} found a problem`, result.status ?? 1);
}
