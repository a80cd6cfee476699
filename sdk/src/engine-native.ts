/** Loads the native addon, which implements `Engine` itself. */
import { constants } from 'node:os';
import { existsSync } from 'node:fs';
import { type Engine, apiVersion } from './engine.js';
import { describeBinary } from './binary-kind.js';
import { ShiftAddError } from './errors.js';
import { installedEnginePackages, nativeAddonCandidates, packageRoot, platformForPeople, platformName, enginePackages } from './native-path.js';
import { bundledFix, packageVersion } from './package-root.js';

let loaded: Engine | null = null;

/** ERR_NO_BACKEND lists every place that was tried, what happened there and the fix. */
export function loadNativeEngine(): Engine {
  if (loaded !== null) return loaded;
  const attempts: string[] = [];
  for (const { path, origin } of nativeAddonCandidates()) {
    if (path === null || !existsSync(path)) {
      attempts.push(path === null ? `${origin} is not installed` : `${origin}: ${path} does not exist`);
      continue;
    }
    try {
      // Works alike in the ESM and the CommonJS build, where `require` and `import.meta` do not.
      const addon: { exports: unknown } = { exports: {} };
      process.dlopen(addon, path, constants.dlopen.RTLD_NOW);
      const engine = addon.exports as Engine;
      if (engine.version === apiVersion) return (loaded = engine);
      attempts.push(`${origin}: ${path} has version ${engine.version}, this package needs ${apiVersion}`);
    } catch (error) {
      attempts.push(`${origin}: ${path} cannot be loaded (${describeBinary(path) ?? (error as Error).message})`);
    }
  }
  throw new ShiftAddError('ERR_NO_BACKEND', `No native engine was loaded for ${platformForPeople()}: ${attempts.join('; ') || 'there is none for this platform'}. ${fix(attempts.join())}${bundledFix()}`);
}

function fix(attempts: string): string {
  if (process.env['SHIFTADD_NATIVE']) return 'Correct SHIFTADD_NATIVE or leave it away; "npm run build" in a checkout makes the file.';
  const wanted = `@shiftadd/${platformName()}`;
  if (!enginePackages.includes(wanted)) {
    const other = platformName().endsWith('-musl') ? ' or an image with the GNU C library, such as node:22-slim,' : '';
    return `No package has one: use backend 'wasm',${other} or build from source (npm run build in a checkout).`;
  }
  if (/version `GLIBC/.test(attempts)) return "This system's C library is older than 2.34: use a newer system or image, build from source (npm run build in a checkout), or use backend 'wasm'.";
  const others = installedEnginePackages().filter((name) => !name.startsWith(wanted));
  const moved = others.length === 0 ? '' : ` Installed instead: ${others.join(', ')}, for another machine.`;
  return `Install it on this machine: "npm install ${wanted}@${packageVersion()}" (npm leaves it out with --omit=optional).${moved}${existsSync(`${packageRoot()}/CMakeLists.txt`) ? ' In a checkout: "npm run build".' : ''}`;
}
