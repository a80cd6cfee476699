/**
 * Where the native engine may lie: where the user says, or in the order in which it is tried: what this checkout built,
 * what this package carries, what a package for this platform carries.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { packageRoot } from './package-root.js';

export { packageRoot };

export interface NativeAddonCandidate {
  /** The file to load; it need not exist. */
  path: string;
  /** Where the path comes from, for messages. */
  origin: string;
}

/** `linux-x64`, `linux-arm64`, `linux-x64-musl`, `darwin-arm64`, ...: the name of a binary for this machine. */
export function platformName(): string {
  const name = `${process.platform}-${process.arch}`;
  return usesMusl() ? `${name}-musl` : name;
}

export function nativeAddonCandidates(): NativeAddonCandidate[] {
  const platform = platformName();
  // A file that the user names is used or refused; nothing takes its place.
  const named = process.env['SHIFTADD_NATIVE'];
  if (named) return [{ path: resolve(named), origin: 'the environment variable SHIFTADD_NATIVE' }];
  const candidates: NativeAddonCandidate[] = [
    { path: join(packageRoot(), 'build', 'Release', 'shiftadd.node'), origin: 'the build of this checkout' },
    { path: join(packageRoot(), 'prebuilds', platform, 'shiftadd.node'), origin: 'the shiftadd package' },
  ];
  const packaged = platformPackage(`@shiftadd/${platform}`);
  if (packaged) candidates.push({ path: packaged, origin: `the package @shiftadd/${platform}` });
  return candidates;
}

function platformPackage(name: string): string | undefined {
  try {
    const manifest = createRequire(join(packageRoot(), 'package.json')).resolve(`${name}/package.json`);
    return join(dirname(manifest), 'shiftadd.node');
  } catch {
    return undefined;
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
