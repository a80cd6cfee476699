// Installs packages into empty projects without install scripts and prints what each takes: node scripts/size-table.mjs
// [tarballs or names ...]; several names of one install are joined by commas. Needs `npm run packages` and the network.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packagesFolder } from './packages.mjs';
import { StepError } from './run-step.mjs';
import { runScript } from './setup.mjs';

/** Ours, as far as it fits this machine, then the peers in the versions that were compared. */
function choices() {
  const here = `${process.platform}-${process.arch}`;
  const ours = (pattern) => readdirSync(packagesFolder).filter((name) => pattern.test(name)).map((name) => join(packagesFolder, name));
  const plain = ours(new RegExp(`^shiftadd-(\\d|${here}-\\d|wasm-)`));
  const cuda = ours(new RegExp(`^shiftadd-${here}-cuda-`));
  return [plain, ...(cuda.length > 0 ? [[...plain, ...cuda]] : []), ['node-llama-cpp@3.22.1'], ['@fugood/llama.node@1.7.15']];
}

await runScript(async () => {
  const given = process.argv.slice(2).map((words) => words.split(','));
  const folder = mkdtempSync(join(tmpdir(), 'shiftadd-sizes-'));
  try {
    for (const [index, names] of (given.length > 0 ? given : choices()).entries()) {
      const project = join(folder, String(index));
      mkdirSync(project);
      writeFileSync(join(project, 'package.json'), '{ "name": "empty", "private": true }');
      const { status, stderr } = spawnSync('npm', ['install', ...names, '--ignore-scripts', '--no-audit', '--no-fund'], { cwd: project, encoding: 'utf8' });
      if (status !== 0) throw new StepError(`npm install ${names.join(' ')} failed: ${stderr}`);
      const { packages } = JSON.parse(readFileSync(join(project, 'node_modules', '.package-lock.json'), 'utf8'));
      const count = Object.entries(packages).filter(([, { link }]) => !link).length;
      const onDisk = spawnSync('du', ['-sk', 'node_modules'], { cwd: project, encoding: 'utf8' }).stdout.split('\t')[0] * 1024;
      const label = names.map((name) => name.replace(/^.*\//, (path) => (path.includes('build') ? '' : path))).join(' + ');
      process.stdout.write(`${label}: ${(bytesIn(join(project, 'node_modules')) / 1e6).toFixed(1)} MB in files, ${(onDisk / 1e6).toFixed(1)} MB on disk, ${count} packages\n`);
      rmSync(project, { recursive: true });
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

function bytesIn(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true }).reduce((sum, entry) => sum + (entry.isFile() ? statSync(join(entry.parentPath, entry.name)).size : 0), 0);
}
