// `npm run packages`: builds every package that this machine can build into build/packages, with a table of their sizes and
// the reasons of those that it cannot build. `npm publish build/packages/<file>` publishes one.
import { spawnSync } from 'node:child_process';
import { cpSync, copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { engineManifest, enginePackages, glibcFloor, mainManifest, wasmManifest } from './engine-packages.mjs';
import { StepError, runStep } from './run-step.mjs';
import { root, runScript, setUp } from './setup.mjs';
import { findProgram } from './tools.mjs';

export const packagesFolder = join(root, 'build', 'packages');
const staging = join(root, 'build', 'packages-staging');
const models = ['smollm2-135m-instruct'];
const mainPackageLimit = 1e6;

const host = `${process.platform}-${process.arch}`;
const arm64Compiler = 'aarch64-linux-gnu-g++';

/** Packs into a folder. `only` is for names without @shiftadd/ ('shiftadd' is the main package); resolves to a row per package. */
export async function packAll({ only, into = packagesFolder } = {}) {
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const wanted = (name) => only === undefined || only.includes(name);
  await setUp({ browser: true });
  mkdirSync(into, { recursive: true });
  if (only === undefined) for (const name of readdirSync(into)) rmSync(join(into, name), { recursive: true });
  const packFolder = (name, folder) => pack(name, folder, into);
  const rows = [];
  if (wanted('shiftadd')) rows.push(packFolder('shiftadd', stageMain(manifest)));
  const engines = enginePackages.filter(({ name }) => wanted(name));
  if (engines.some(({ built }) => built === 'arm64') && host !== 'linux-arm64' && findProgram(arm64Compiler)) await buildArm64();
  for (const engine of engines) {
    const reason = missingFor(engine);
    rows.push(reason === null ? packFolder(`@shiftadd/${engine.name}`, stageEngine(engine, manifest)) : { name: `@shiftadd/${engine.name}`, skipped: reason });
  }
  if (wanted('wasm')) rows.push(packFolder('@shiftadd/wasm', stageWasm(manifest)));
  for (const model of models.filter(wanted)) rows.push(packFolder(`@shiftadd/${model}`, join(root, 'models', model)));
  const main = rows.find(({ name }) => name === 'shiftadd');
  if (main && main.bytes > mainPackageLimit) throw new StepError(`The main package has ${main.bytes} bytes, more than the ${mainPackageLimit} that it may have.`);
  return rows;
}

/** The engine for 64-bit Arm, by the cross compiler of Debian and Ubuntu. */
async function buildArm64() {
  const folder = join('build', 'arm64');
  const includes = ['node-api-headers/include', 'node-addon-api'].map((name) => join(root, 'node_modules', name)).join(';');
  const generator = !existsSync(join(root, folder, 'CMakeCache.txt')) && findProgram('ninja') ? ['-G', 'Ninja'] : [];
  const options = [`-DCMAKE_TOOLCHAIN_FILE=${join(root, 'cmake', 'aarch64-linux-gnu.cmake')}`, '-DCMAKE_BUILD_TYPE=Release', `-DCMAKE_JS_INC=${includes}`];
  await runStep('arm64-configure', root, 'cmake', ['-S', '.', '-B', folder, ...generator, ...options]);
  await runStep('arm64', root, 'cmake', ['--build', folder, '--parallel']);
}

/** Why an engine package cannot be made here; null when it can. */
function missingFor({ name, built, cuda, files }) {
  const platform = name.replace(/-cuda$/, '');
  if (built === 'host' && platform !== host) return `needs a ${platform} machine, this one is ${host} (.github/workflows/packages.yml)`;
  if (built === 'arm64' && !existsSync(join(root, files[0]))) return `needs ${arm64Compiler} (Debian: apt-get install g++-aarch64-linux-gnu)`;
  const lacking = files.find((file) => !existsSync(join(root, file)));
  if (cuda && (lacking || !hasCudaTarget(dirname(join(root, files[0]))))) return 'the build has no CUDA backend: no compiler of its kernels was found (docs/cuda.md)';
  return lacking ? `${lacking} is missing` : null;
}

/** The CUDA library of an earlier configuration may still lie there. */
function hasCudaTarget(folder) {
  const build = basename(folder) === 'Release' ? dirname(folder) : folder;
  return ['build.ninja', join('CMakeFiles', 'Makefile2')].some((name) => existsSync(join(build, name)) && readFileSync(join(build, name), 'utf8').includes('shiftadd_cuda.dir'));
}

function freshFolder(name) {
  const folder = join(staging, name);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  return folder;
}

function writeManifest(folder, manifest) {
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`);
  if (!existsSync(join(folder, 'LICENSE'))) copyFileSync(join(root, 'LICENSE'), join(folder, 'LICENSE'));
}

function stageMain(manifest) {
  const folder = freshFolder('shiftadd');
  for (const name of ['README.md', 'CHANGELOG.md', 'LICENSE']) copyFileSync(join(root, name), join(folder, name));
  const isForPackage = (source) => !basename(source).startsWith('.');
  cpSync(join(root, 'dist'), join(folder, 'dist'), { recursive: true, filter: isForPackage });
  cpSync(join(root, 'devices', 'profiles'), join(folder, 'devices', 'profiles'), { recursive: true });
  writeManifest(folder, mainManifest(manifest));
  return folder;
}

function stageWasm(manifest) {
  const folder = freshFolder('wasm');
  const modules = join(root, 'backends', 'wasm', 'modules');
  for (const name of readdirSync(modules)) if (/\.(js|wasm)$/.test(name)) copyFileSync(join(modules, name), join(folder, name));
  writeManifest(folder, wasmManifest(manifest));
  return folder;
}

function stageEngine(engine, manifest) {
  const folder = freshFolder(engine.name);
  for (const file of engine.files) {
    const copy = join(folder, basename(file));
    copyFileSync(join(root, file), copy);
    strip(copy, engine.built);
    if (engine.os[0] === 'linux') checkCLibrary(copy);
  }
  writeFileSync(join(folder, 'README.md'), `# @shiftadd/${engine.name}\n\nAn engine of [shiftadd](https://www.npmjs.com/package/shiftadd). npm installs it with that package where it fits.\n`);
  writeManifest(folder, engineManifest(engine, manifest));
  return folder;
}

/** Local symbols only: the entry points of Node-API must stay. */
function strip(file, built) {
  const program = built === 'arm64' && host !== 'linux-arm64' ? 'aarch64-linux-gnu-strip' : (process.env.STRIP ?? 'strip');
  if (process.platform === 'win32') return;
  if (!findProgram(program)) return void process.stderr.write(`shiftadd: ${basename(file)} keeps its symbols, because there is no ${program}\n`);
  run(program, [process.platform === 'darwin' ? '-x' : '--strip-unneeded', file]);
}

/** A binary that needs a newer C library than promised would fail on its users' machines, not here. */
function checkCLibrary(file) {
  const versions = new Set(readFileSync(file, 'latin1').match(/GLIBC_2\.\d+/g));
  const newest = Math.max(...[...versions].map((version) => Number(version.slice('GLIBC_2.'.length))));
  if (newest > Number(glibcFloor.slice(2))) throw new StepError(`${file} needs glibc 2.${newest}, and docs/packages.md promises ${glibcFloor}: see sdk/native/glibc_floor.cpp`);
}

function pack(name, folder, into) {
  const [packed] = JSON.parse(run('npm', ['pack', folder, '--json', '--ignore-scripts', '--pack-destination', into]));
  return { name, file: join(into, packed.filename), bytes: packed.size, unpackedBytes: packed.unpackedSize, files: packed.entryCount };
}

function run(program, args) {
  const result = spawnSync(program, args, { cwd: root, encoding: 'utf8', maxBuffer: 1e8, shell: process.platform === 'win32' });
  if (result.status !== 0) throw new StepError(`${program} ${args[0]} failed: ${result.stderr || result.error?.message}`);
  return result.stdout;
}

if (process.argv[1] === join(root, 'scripts', 'packages.mjs')) {
  await runScript(async () => {
    const rows = await packAll();
    const size = (bytes) => `${(bytes / 1e6).toFixed(2)} MB`;
    for (const { name, bytes, unpackedBytes, files, skipped } of rows) {
      const told = skipped ? `skipped: ${skipped}` : `${size(bytes).padStart(9)} packed ${size(unpackedBytes).padStart(10)} unpacked ${String(files).padStart(4)} files`;
      process.stdout.write(`${name.padEnd(32)} ${told}\n`);
    }
  });
}
