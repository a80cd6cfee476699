// The packages beside the main one: an engine file each, chosen by npm through os, cpu and libc.
import { join } from 'node:path';

const linux = (cpu) => ({ os: ['linux'], cpu: [cpu], libc: ['glibc'] });

/** `files` are paths from the checkout; `built` names the step that makes them (packages.mjs). */
export const enginePackages = [
  { name: 'linux-x64', ...linux('x64'), built: 'host', files: [join('build', 'Release', 'shiftadd.node')] },
  { name: 'linux-arm64', ...linux('arm64'), built: 'arm64', files: [join('build', 'arm64', 'shiftadd.node')] },
  // Each has an engine of its own beside the CUDA library, because the two find each other in one folder whatever the package manager does.
  { name: 'linux-x64-cuda', ...linux('x64'), built: 'host', cuda: true, files: [join('build', 'Release', 'shiftadd.node'), join('build', 'Release', 'libshiftadd_cuda.so')] },
  { name: 'linux-arm64-cuda', ...linux('arm64'), built: 'arm64', cuda: true, files: [join('build', 'arm64', 'shiftadd.node'), join('build', 'arm64', 'libshiftadd_cuda.so')] },
  { name: 'darwin-arm64', os: ['darwin'], cpu: ['arm64'], built: 'host', untested: true, files: [join('build', 'Release', 'shiftadd.node')] },
  { name: 'win32-x64', os: ['win32'], cpu: ['x64'], built: 'host', untested: true, files: [join('build', 'Release', 'shiftadd.node')] },
];

/** The oldest GNU C library that the engines run with: JetPack 6 has 2.35, RHEL 9 and its kind 2.34, Debian 12 2.36. */
export const glibcFloor = '2.34';

/** package.json of an engine package. */
export function engineManifest({ name, os, cpu, libc, cuda, untested }, { version, license, author }) {
  return {
    name: `@shiftadd/${name}`,
    version,
    description: `The engine of shiftadd for ${name}${cuda ? ', with CUDA for NVIDIA GPUs' : ''}${untested ? ' (untested)' : ''}.`,
    license,
    author,
    os,
    cpu,
    ...(libc ? { libc } : {}),
    main: 'shiftadd.node',
    preferUnplugged: true,
  };
}

/** package.json of the WebAssembly modules for Node. */
export function wasmManifest({ version, license, author }) {
  return { name: '@shiftadd/wasm', version, description: 'The engine of shiftadd as WebAssembly, for Node.js where no native one loads.', license, author, type: 'module', main: 'single.js', preferUnplugged: true };
}

/** package.json of the main package as it is published: without what only a checkout needs. */
export function mainManifest({ scripts, devDependencies, private: _, binary, ...manifest }) {
  const engines = [...enginePackages.map(({ name }) => name), 'wasm'];
  return { ...manifest, optionalDependencies: Object.fromEntries(engines.map((name) => [`@shiftadd/${name}`, manifest.version])) };
}
