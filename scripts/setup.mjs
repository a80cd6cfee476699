// Brings a checkout to the state in which it runs: packages installed, native engine built, TypeScript compiled. Plain
// Node without dependencies, because it runs before there are any. Each step is skipped while its stamp matches, so that
// a call with nothing to do costs some milliseconds.
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { availableParallelism, freemem } from 'node:os';
import { dirname, join, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { StepError, runStep, stopRunningSteps } from './run-step.mjs';
import { contentKey, stampMatches, writeStamp } from './stamp.mjs';
import { buildToolProblems, cmakeGenerator, nodeProblems } from './tools.mjs';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

const COMMAND_LINE = 'dist/esm/cli/main.js';
const BYTES_PER_COMPILER = 600e6;

const toolKey = [process.platform, process.arch, process.env.CXX ?? '', process.env.CXXFLAGS ?? ''];

const install = {
  what: 'installing packages',
  stamp: 'node_modules/.shiftadd-stamp',
  outputs: ['node_modules/.package-lock.json'],
  key: () => contentKey(root, ['package-lock.json'], [process.platform, process.arch]),
  async build() {
    const npm = process.env.npm_execpath;
    const [program, first] = npm?.endsWith('.js') ? [process.execPath, [npm]] : [npmProgram(), []];
    const flags = ['--ignore-scripts', '--include=dev', '--prefer-offline', '--no-audit', '--no-fund'];
    await runStep('install', root, program, [...first, 'ci', ...flags]);
  },
};

const native = {
  what: 'building the native engine',
  stamp: 'build/Release/.shiftadd-stamp',
  outputs: ['build/Release/shiftadd.node'],
  needsBuildTools: true,
  key: () => contentKey(root, ['CMakeLists.txt', 'core', 'backends', 'devices/nvml', 'sdk/native'], toolKey),
  async build() {
    forgetForeignBuild('build');
    const cmakeJs = join(root, 'node_modules', 'cmake-js', 'bin', 'cmake-js');
    const generator = process.platform === 'win32' ? [] : ['--generator', cmakeGenerator()];
    await runStep('native', root, process.execPath, [cmakeJs, 'build', '--config', 'Release', '--target', 'shiftadd', ...generator], parallel());
  },
};

// What tsc makes, a file per module: bundled into `dist`, and imported as it is by benchmarks and tests of inner modules.
const MODULES = 'build/modules';

const typescript = {
  what: 'compiling TypeScript',
  stamp: 'dist/.shiftadd-stamp',
  outputs: [COMMAND_LINE, `${MODULES}/index.js`],
  key: () => contentKey(root, ['package.json', 'package-lock.json', 'tsconfig.json', 'tsconfig.build.json', 'sdk/src', 'scripts/bundle-sdk.mjs']),
  async build() {
    const { bundleSdk } = await import('./bundle-sdk.mjs'); // its bundler is installed by an earlier step
    const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
    const modules = join(root, 'build', 'modules-new');
    const fresh = join(root, 'build', 'dist');
    for (const folder of [modules, fresh]) rmSync(folder, { recursive: true, force: true });
    await runStep('typescript', root, process.execPath, [tsc, '--project', 'tsconfig.build.json', '--outDir', modules]);
    // The one module that is not TypeScript, because it differs between the two module formats.
    copyFileSync(join(root, 'sdk', 'src', 'module-place.js'), join(modules, 'module-place.js'));
    await bundleSdk(modules, fresh);
    // Only a complete build takes the place of the last one. The browser build beside it is another step's.
    mkdirSync(join(root, 'dist'), { recursive: true });
    for (const [from, to] of [[modules, join(root, MODULES)], ...['esm', 'cjs'].map((format) => [join(fresh, format), join(root, 'dist', format)])]) {
      rmSync(to, { recursive: true, force: true });
      renameSync(from, to);
    }
    chmodSync(join(root, COMMAND_LINE), 0o755);
  },
};

const browser = {
  what: 'bundling the browser build',
  stamp: 'dist/browser/.shiftadd-stamp',
  outputs: ['dist/browser/index.js', 'dist/browser/worker.js'],
  key: () => contentKey(root, ['package-lock.json', 'tsconfig.json', 'sdk/src', 'backends/wasm/modules', 'scripts/build-browser.mjs']),
  async build() {
    const { buildBrowser } = await import('./build-browser.mjs'); // its bundler is installed by an earlier step
    const { copyDeclarations } = await import('./bundle-sdk.mjs');
    const fresh = join(root, 'build', 'browser');
    rmSync(fresh, { recursive: true, force: true });
    mkdirSync(fresh, { recursive: true });
    const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
    const types = join(root, 'build', 'browser-types');
    rmSync(types, { recursive: true, force: true });
    await Promise.all([buildBrowser(fresh), runStep('browser-types', root, process.execPath, [tsc, '--project', 'sdk/src/browser', '--outDir', types])]);
    copyDeclarations(join(types, 'sdk', 'src'), join('browser', 'index.d.ts'), join(fresh, 'types'));
    rmSync(join(root, 'dist', 'browser'), { recursive: true, force: true });
    renameSync(fresh, join(root, 'dist', 'browser'));
  },
};

const types = {
  what: 'checking types',
  stamp: 'build/.types-stamp',
  outputs: [],
  key: () => contentKey(root, ['package-lock.json', 'tsconfig.json', 'sdk/src', 'test/sdk', 'test/native', 'web', 'test/web']),
  async build() {
    const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
    await runStep('types', root, process.execPath, [tsc, '--noEmit']);
    await runStep('types-web', root, process.execPath, [tsc, '--noEmit', '--project', 'web']);
  },
};

/** A step that builds programs of C++ beside the engine, from the same objects: the engine is built, and its folder configured, before. */
function programs(what, stamp, outputs, targets, sources) {
  return {
    what,
    stamp: `build/${stamp}`,
    outputs,
    needsBuildTools: true,
    key: () => contentKey(root, ['CMakeLists.txt', 'core', 'backends', 'devices/nvml', ...sources], toolKey),
    async build() {
      await runStep('programs-configure', root, 'cmake', ['-S', '.', '-B', 'build', '-DSHIFTADD_TESTS=ON', '-DSHIFTADD_BENCHMARKS=ON']);
      await runStep('programs', root, 'cmake', ['--build', 'build', '--config', 'Release', ...targets], parallel());
    },
  };
}

const nativeTests = programs('building the native tests', '.tests-stamp', ['build/bin'], [], ['test/native', 'test/cuda', 'benchmarks/native']);
const benchmarkTargets = ['--target', 'linear_bench', '--target', 'read_bandwidth'];
const nativeBenchmarks = programs('building the native benchmarks', '.benchmarks-stamp', ['build/bin'], benchmarkTargets, ['benchmarks/native']);

/** Does whatever is not up to date. `tests` also builds the native test programs and checks the types of all sources. */
export async function setUp({ tests = false, benchmarks = false, browser: wantsBrowser = tests } = {}) {
  const problems = nodeProblems();
  if (problems.length > 0) throw new StepError(problems.join('\n'));
  const steps = [install, native, typescript, ...(wantsBrowser ? [browser] : []), ...(tests ? [nativeTests, types] : []), ...(benchmarks ? [nativeBenchmarks] : [])];
  if (steps.every(upToDate)) return;
  const release = await lock();
  try {
    await build(steps.filter((step) => !upToDate(step)));
  } finally {
    release();
  }
}

async function build(stale) {
  if (stale.length === 0) return;
  const started = performance.now();
  if (stale.some((step) => step.needsBuildTools)) {
    const problems = buildToolProblems();
    if (problems.length > 0) throw new StepError(problems.join('\n'));
  }
  // Everything else needs the packages. The compilers of C++ and TypeScript share nothing and run side by side; within a
  // language one step follows the other.
  if (stale.includes(install)) await make(install);
  await Promise.all([
    makeInOrder([native, nativeTests, nativeBenchmarks].filter((step) => stale.includes(step))),
    makeInOrder([typescript, browser, types].filter((step) => stale.includes(step))),
  ]);
  linkCommandLine();
  say(`ready after ${Math.round((performance.now() - started) / 1000)} s`);
}

async function makeInOrder(steps) {
  for (const step of steps) await make(step);
}

async function make(step) {
  say(step.what);
  // The key is taken before the work: a source changed meanwhile makes the next call build again.
  const key = step.key();
  try {
    await step.build();
    const lacking = step.outputs.find((output) => !existsSync(join(root, output)));
    if (lacking) throw new StepError(`${step.what}: ${lacking} was not made`);
  } catch (error) {
    stopRunningSteps();
    throw error;
  }
  writeStamp(join(root, step.stamp), key);
}

function upToDate(step) {
  return step.outputs.every((output) => existsSync(join(root, output))) && stampMatches(join(root, step.stamp), step.key());
}

function npmProgram() {
  return process.platform === 'win32' ? 'npm.cmd' : 'npm';
}

/** As many compilers as there are cores and memory for. */
function parallel() {
  const jobs = Math.min(availableParallelism(), Math.max(1, Math.floor(freemem() / BYTES_PER_COMPILER)));
  return { CMAKE_BUILD_PARALLEL_LEVEL: process.env.CMAKE_BUILD_PARALLEL_LEVEL ?? String(jobs) };
}

/** CMake refuses a build folder that was configured elsewhere or with another generator: such a folder starts afresh. */
function forgetForeignBuild(folder) {
  const cache = join(root, folder, 'CMakeCache.txt');
  if (!existsSync(cache) || process.platform === 'win32') return;
  const text = readFileSync(cache, 'utf8');
  const value = (name) => new RegExp(`^${name}:\\w+=(.*)$`, 'm').exec(text)?.[1];
  if (value('CMAKE_HOME_DIRECTORY') === root && value('CMAKE_GENERATOR') === cmakeGenerator()) return;
  rmSync(cache);
  rmSync(join(root, folder, 'CMakeFiles'), { recursive: true, force: true });
}

/** Lets `npx shiftadd` find the command line: npm links the commands of dependencies, not those of the package itself. */
function linkCommandLine() {
  const link = join(root, 'node_modules', '.bin', 'shiftadd');
  if (process.platform === 'win32') {
    writeFileSync(`${link}.cmd`, `@node "%~dp0\\..\\..\\${COMMAND_LINE.replaceAll('/', sep)}" %*\r\n`);
    return;
  }
  rmSync(link, { force: true });
  symlinkSync(join('..', '..', COMMAND_LINE), link);
}

/** One set-up at a time per checkout: a second one waits, then finds nothing left to do. */
async function lock() {
  mkdirSync(join(root, 'build'), { recursive: true });
  const file = join(root, 'build', '.setup-lock');
  let told = false;
  for (;;) {
    try {
      writeFileSync(file, String(process.pid), { flag: 'wx' });
      const release = () => rmSync(file, { force: true });
      process.once('exit', release);
      return () => {
        process.off('exit', release);
        release();
      };
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    if (!holderAlive(file)) rmSync(file, { force: true });
    else {
      if (!told) say('waiting for another set-up of this checkout');
      told = true;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

function holderAlive(file) {
  try {
    const pid = Number(readFileSync(file, 'utf8'));
    // A holder writes its number at once; an empty file that stays is of one that died in between.
    if (!pid) return Date.now() - statSync(file).mtimeMs < 1000;
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

function say(text) {
  process.stderr.write(`shiftadd: ${text}\n`);
}

/** Runs `work` as the main program of a script: errors of a step end it without a stack trace. */
export async function runScript(work) {
  const interrupt = () => {
    stopRunningSteps();
    process.exit(130);
  };
  process.once('SIGINT', interrupt);
  try {
    await work();
  } catch (error) {
    process.stderr.write(error instanceof StepError ? `shiftadd: ${error.message}\n` : `${error.stack}\n`);
    process.exitCode = error.exitCode ?? 1;
  } finally {
    process.off('SIGINT', interrupt);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await runScript(() => setUp());
