// What a machine needs to build the project, and the command that installs what it lacks.
import { spawnSync } from 'node:child_process';
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';

const NODE_MINIMUM = [20, 19];
const CMAKE_MINIMUM = [3, 18];
const GCC_MINIMUM = [10];
const CLANG_MINIMUM = [12];

// Package managers in the order in which they are looked for. Debian's serves Ubuntu, Raspberry Pi OS and JetPack too.
const INSTALLERS = [
  { program: 'apt-get', command: 'sudo apt-get install -y', compiler: 'g++', cmake: 'cmake', make: 'make' },
  { program: 'dnf', command: 'sudo dnf install -y', compiler: 'gcc-c++', cmake: 'cmake', make: 'make' },
  { program: 'pacman', command: 'sudo pacman -S --needed', compiler: 'gcc', cmake: 'cmake', make: 'make' },
  { program: 'apk', command: 'sudo apk add', compiler: 'g++', cmake: 'cmake', make: 'make' },
  { program: 'brew', command: 'brew install', compiler: 'llvm', cmake: 'cmake', make: 'make' },
];

/** The path of a program on PATH, or undefined. */
export function findProgram(name) {
  const suffixes = process.platform === 'win32' ? ['.exe', '.cmd', ''] : [''];
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    for (const suffix of suffixes) {
      const path = join(folder, name + suffix);
      try {
        accessSync(path, constants.X_OK);
        if (statSync(path).isFile()) return path;
      } catch {
        continue;
      }
    }
  }
  return undefined;
}

/** Sentences about a Node that is too old; empty when it will do. */
export function nodeProblems() {
  if (atLeast(versionOf(process.versions.node), NODE_MINIMUM)) return [];
  return [
    `Node.js ${NODE_MINIMUM.join('.')} or newer is needed; this is ${process.versions.node}. ` +
      'Install a newer one, for example: sudo npm install -g n && sudo n 20 (Linux), or brew install node (macOS).',
  ];
}

/** Sentences about missing build tools, each with its remedy; empty when all are there. */
export function buildToolProblems() {
  if (process.platform === 'win32') {
    return findProgram('cmake')
      ? []
      : ['cmake is missing. Install it and the compiler: winget install Kitware.CMake Microsoft.VisualStudio.2022.BuildTools'];
  }
  const installer = INSTALLERS.find((entry) => findProgram(entry.program));
  const missing = [];
  const problems = [];

  const compiler = findCompiler();
  if (!compiler) missing.push({ what: 'a C++20 compiler (g++ or clang++)', install: installer?.compiler });
  else {
    const problem = compilerProblem(compiler);
    if (problem) problems.push(problem);
  }

  const cmake = findProgram('cmake');
  const cmakeVersion = cmake ? versionOf(output(cmake, ['--version'])) : [];
  if (!cmake) missing.push({ what: `cmake ${CMAKE_MINIMUM.join('.')} or newer`, install: installer?.cmake });
  else if (!atLeast(cmakeVersion, CMAKE_MINIMUM)) {
    problems.push(
      `cmake ${CMAKE_MINIMUM.join('.')} or newer is needed; this is ${cmakeVersion.join('.')}. ` +
        'Install a newer one: python3 -m pip install --user cmake (or: sudo snap install cmake --classic).',
    );
  }

  if (!findProgram('ninja') && !findProgram('make')) missing.push({ what: 'make or ninja', install: installer?.make });

  if (missing.length > 0) {
    const names = missing.map((entry) => entry.what).join(', ');
    const packages = missing.map((entry) => entry.install).join(' ');
    problems.unshift(
      `Missing on this machine: ${names}. ` +
        (installer
          ? `Install with: ${installer.command} ${packages}`
          : 'Install them with the package manager of this system.'),
    );
  }
  return problems;
}

/** The generator both CMake builds use, so that a build folder never changes it. */
export function cmakeGenerator() {
  return findProgram('ninja') ? 'Ninja' : 'Unix Makefiles';
}

function findCompiler() {
  if (process.env.CXX) return findProgram(process.env.CXX) ?? process.env.CXX;
  return findProgram('c++') ?? findProgram('g++') ?? findProgram('clang++');
}

function compilerProblem(compiler) {
  const text = output(compiler, ['--version']);
  const clang = /clang/i.test(text);
  const version = versionOf(clang ? text : output(compiler, ['-dumpfullversion', '-dumpversion']));
  const minimum = clang ? CLANG_MINIMUM : GCC_MINIMUM;
  if (version.length === 0 || atLeast(version, minimum)) return undefined;
  const newer = clang ? `clang-${minimum[0]}` : `g++-${minimum[0]}`;
  const command = clang ? `clang++-${minimum[0]}` : newer;
  return (
    `${clang ? 'clang++' : 'g++'} ${minimum.join('.')} or newer is needed for C++20; this is ${version.join('.')}. ` +
    `Install one and name it: sudo apt-get install -y ${newer} && export CXX=${command}`
  );
}

function output(program, args) {
  return spawnSync(program, args, { encoding: 'utf8' }).stdout ?? '';
}

function versionOf(text) {
  return (/\d+(\.\d+)*/.exec(text)?.[0] ?? '').split('.').filter(Boolean).map(Number);
}

function atLeast(version, minimum) {
  for (const [index, least] of minimum.entries()) {
    const part = version[index] ?? 0;
    if (part !== least) return part > least;
  }
  return true;
}
