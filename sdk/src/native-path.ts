/**
 * Where the native engine may lie: where the user says, or in the order in which it is tried: what this checkout built,
 * the package of this platform with CUDA, the one without.
 */
import { existsSync } from 'node:fs';
import Module from 'node:module'; // whole, because webpack replaces createRequire where it is imported by name
import { join, resolve } from 'node:path';
import { packageRoot } from './package-root.js';

export { packageRoot };

export interface NativeAddonCandidate {
  /** The file to load; it need not exist. Null where the package is not installed. */
  path: string | null;
  /** Where the path comes from, for messages. */
  origin: string;
}

/** `linux-x64`, `linux-arm64`, `linux-x64-musl`, `darwin-arm64`, ...: the name of a binary for this machine. */
export function platformName(): string {
  const name = `${process.platform}-${process.arch}`;
  return usesMusl() ? `${name}-musl` : name;
}

/** The same for people, with the C library of Linux: `linux-x64-glibc`. */
export function platformForPeople(): string {
  const name = platformName();
  return process.platform === 'linux' && !name.endsWith('-musl') ? `${name}-glibc` : name;
}

/** Every package that carries an engine. */
export const enginePackages = ['linux-x64', 'linux-x64-cuda', 'linux-arm64', 'linux-arm64-cuda', 'darwin-arm64', 'win32-x64'].map((name) => `@shiftadd/${name}`);

export function nativeAddonCandidates(): NativeAddonCandidate[] {
  // A file that the user names is used or refused; nothing takes its place.
  const named = process.env['SHIFTADD_NATIVE'];
  if (named) return [{ path: resolve(named), origin: 'the environment variable SHIFTADD_NATIVE' }];
  const candidates: NativeAddonCandidate[] = [];
  const built = join(packageRoot(), 'build', 'Release', 'shiftadd.node');
  if (existsSync(built)) candidates.push({ path: built, origin: 'the build of this checkout' });
  for (const name of [`@shiftadd/${platformName()}-cuda`, `@shiftadd/${platformName()}`]) {
    if (enginePackages.includes(name)) candidates.push({ path: packagedFile(name), origin: `the package ${name}` });
  }
  return candidates;
}

/** The engine packages that are installed, whether or not they are for this machine. */
export function installedEnginePackages(): string[] {
  return enginePackages.filter((name) => packagedFile(name) !== null);
}

/** The main file of a package, as the shiftadd package sees it; null where there is none. */
export function packagedFile(name: string): string | null {
  try {
    return Module.createRequire(join(packageRoot(), 'package.json')).resolve(name);
  } catch {
    return null;
  }
}

/** Alpine and its kind have the loader of musl; where both are installed, Node itself says which one it runs on. */
function usesMusl(): boolean {
  if (process.platform !== 'linux') return false;
  const machine = process.arch === 'x64' ? 'x86_64' : process.arch === 'arm64' ? 'aarch64' : process.arch;
  return existsSync(`/lib/ld-musl-${machine}.so.1`) && !runsOnGlibc();
}

function runsOnGlibc(): boolean {
  const report = process.report?.getReport() as { header?: { glibcVersionRuntime?: string } } | undefined;
  return report?.header?.glibcVersionRuntime !== undefined;
}
