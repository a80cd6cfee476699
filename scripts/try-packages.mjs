// `npm run packages:try`: installs the packages of `npm run packages` into empty projects, as users do, and tries them there.
// Prints a line per try; exits with 1 when one fails. Takes some minutes, and the network for what is not in npm's cache.
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { packagesFolder } from './packages.mjs';
import { StepError } from './run-step.mjs';
import { root, runScript } from './setup.mjs';

const model = join(root, 'test', 'fixtures', 'stories-260k');
const wanted = ', there was a little girl named Lily. She';
const main = `
  const model = await loadModel(${JSON.stringify(model)});
  const text = await model.generate('Once upon a time', { maxTokens: 12 }).text();
  await model.close();
  console.log(text);`;
const asModule = `import { loadModel } from 'shiftadd';${main}`;
const asCommonJs = `const { loadModel } = require('shiftadd'); (async () => {${main}})();`;
const inWorker = `import { Worker } from 'node:worker_threads'; new Worker(new URL('module.mjs', import.meta.url));`;
const inCommonJs = `import { loadModel } from 'shiftadd'; async function main() {${main}} main();`;

let failures = 0;

await runScript(async () => {
  const tarballs = packed();
  const folder = mkdtempSync(join(tmpdir(), 'shiftadd-try-'));
  try {
    const project = newProject(folder, 'a project #ü');
    npm(project, 'install', ...tarballs, '--ignore-scripts', '--no-audit', '--no-fund');
    check('installed, scripts disabled', existsSync(join(project, 'node_modules', 'shiftadd')));
    tryFormats('', project);
    tryTypes(project);

    const offline = newProject(folder, 'offline');
    npm(offline, 'install', ...tarballs, '--offline', '--ignore-scripts', '--no-audit', '--no-fund');
    tryFormats(', installed offline', offline);

    const moved = newProject(folder, 'moved');
    cpSync(join(project, 'node_modules'), join(moved, 'node_modules'), { recursive: true, verbatimSymlinks: true });
    rmSync(join(offline, 'node_modules'), { recursive: true });
    tryFormats(', node_modules copied elsewhere', moved);

    await tryBundles(folder, moved);
    tryElectronArchive(folder, moved);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  if (failures > 0) throw new StepError(`${failures} failed`);
});

/** The tarballs that fit this machine: the others npm leaves out, and refuses when they are named. */
function packed() {
  const here = `${process.platform}-${process.arch}`;
  const fits = (name) => !/-(linux|darwin|win32)-/.test(name) || name.includes(`-${here}-`);
  const names = existsSync(packagesFolder) ? readdirSync(packagesFolder).filter((name) => name.endsWith('.tgz') && fits(name)) : [];
  if (names.length < 2) throw new StepError('There are no packages in build/packages: run "npm run packages" first');
  return names.map((name) => join(packagesFolder, name));
}

function newProject(folder, name) {
  const project = join(folder, name);
  mkdirSync(project);
  writeFileSync(join(project, 'package.json'), '{ "name": "empty", "private": true }');
  return project;
}

function tryFormats(how, project) {
  for (const [name, file, code] of [
    ['ES module', 'module.mjs', asModule],
    ['CommonJS', 'common.cjs', asCommonJs],
    ['worker thread', 'worker.mjs', inWorker],
  ]) {
    writeFileSync(join(project, file), code);
    checkRun(`${name}${how}`, project, process.execPath, [file]);
  }
}

function tryTypes(project) {
  const code = `import { loadModel, type Run } from 'shiftadd'; export const run: Promise<Run> = loadModel().then((model) => model.generate('a'));`;
  for (const file of ['types.mts', 'types.cts', 'types.ts']) writeFileSync(join(project, file), code);
  const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
  for (const [module, resolution, files] of [
    ['node16', 'node16', ['types.mts', 'types.cts']],
    ['esnext', 'bundler', ['types.ts']],
  ]) {
    const { status, stdout } = spawnSync(process.execPath, [tsc, '--noEmit', '--strict', '--target', 'es2023', '--module', module, '--moduleResolution', resolution, ...files], { cwd: project, encoding: 'utf8' });
    check(`TypeScript, moduleResolution ${resolution}`, status === 0, stdout);
  }
}

/** Bundles as the main process of an Electron application is: for Node, in both formats, with the package beside and inside. */
async function tryBundles(folder, project) {
  writeFileSync(join(project, 'app.js'), inCommonJs);
  const elsewhere = newProject(folder, 'elsewhere');
  const inside = [];
  for (const external of [true, false]) {
    for (const format of ['cjs', 'esm']) {
      for (const bundler of ['esbuild', 'webpack']) {
        const name = `${bundler}, ${format}, package ${external ? 'external' : 'bundled in'}`;
        const file = `${bundler}-${format}-${external}.${format === 'cjs' ? 'cjs' : 'mjs'}`;
        const problem = await (bundler === 'esbuild' ? bundleWithEsbuild : bundleWithWebpack)(project, file, format, external);
        if (problem !== null) {
          check(name, false, problem);
          continue;
        }
        checkRun(name, project, process.execPath, [file]);
        checkRun(`${name}, started from another folder`, tmpdir(), process.execPath, [join(project, file)]);
        if (!external) inside.push({ name, file });
      }
    }
  }
  // On another machine, without node_modules, no engine is there: it says so. webpack has written today's paths into its bundles.
  for (const { file } of inside) cpSync(join(project, file), join(elsewhere, file));
  renameSync(join(project, 'node_modules'), join(project, 'set-aside'));
  for (const { name, file } of inside) {
    const { status, stdout, stderr } = spawnSync(process.execPath, [file], { cwd: elsewhere, encoding: 'utf8' });
    check(`${name}, alone, says what is missing`, status !== 0 && /ERR_NO_BACKEND/.test(stderr) && /mark "shiftadd" as external/.test(stderr), stderr + stdout);
  }
  renameSync(join(project, 'set-aside'), join(project, 'node_modules'));
}

async function bundleWithEsbuild(project, file, format, external) {
  try {
    await build({ entryPoints: [join(project, 'app.js')], bundle: true, platform: 'node', format, outfile: join(project, file), external: external ? ['shiftadd'] : [], logLevel: 'silent' });
    return null;
  } catch (error) {
    return error.message;
  }
}

async function bundleWithWebpack(project, file, format, external) {
  const { default: webpack } = await import('webpack');
  const esm = format === 'esm';
  const compiler = webpack({
    mode: 'production',
    target: 'node20',
    context: project,
    entry: './app.js',
    experiments: { outputModule: esm },
    externalsType: esm ? 'module' : 'commonjs',
    externals: external ? { shiftadd: 'shiftadd' } : {},
    output: { path: project, filename: file, ...(esm ? { module: true, library: { type: 'module' } } : {}) },
  });
  const stats = await new Promise((resolve) => compiler.run((error, result) => resolve(error ?? result)));
  await new Promise((resolve) => compiler.close(resolve));
  return stats instanceof Error ? stats.message : stats.hasErrors() ? stats.toString({ all: false, errors: true }) : null;
}

/** Electron packs an application into app.asar and leaves native packages beside it in app.asar.unpacked: the layout alone is tried. */
function tryElectronArchive(folder, project) {
  const app = join(folder, 'app.asar.unpacked');
  mkdirSync(app);
  cpSync(join(project, 'node_modules'), join(app, 'node_modules'), { recursive: true, verbatimSymlinks: true });
  const require = createRequire(join(app, 'package.json'));
  check('found from app.asar.unpacked', require.resolve('shiftadd').startsWith(app));
  writeFileSync(join(app, 'main.cjs'), asCommonJs);
  checkRun('started from app.asar.unpacked', tmpdir(), process.execPath, [join(app, 'main.cjs')]);
}

function npm(cwd, ...words) {
  const result = spawnSync(process.platform === 'win32' ? 'npm.cmd' : 'npm', words, { cwd, encoding: 'utf8', shell: process.platform === 'win32' });
  if (result.status !== 0) throw new StepError(`npm ${words[0]} failed in ${cwd}:\n${result.stderr}`);
}

function checkRun(name, cwd, program, words) {
  const { stdout, stderr } = spawnSync(program, words, { cwd, encoding: 'utf8' });
  check(name, stdout.trim() === wanted && stderr === '', `${stdout}${stderr}`);
}

function check(name, passed, details = '') {
  if (!passed) failures++;
  process.stdout.write(`${passed ? 'ok    ' : 'FAILED'} ${name}\n${passed ? '' : `${details.trimEnd()}\n`}`);
}
