/** Loads the native addon, which implements `Engine` itself. */
import { constants } from 'node:os';
import { existsSync } from 'node:fs';
import type { Engine } from './engine.js';
import { ShiftAddError } from './errors.js';
import { nativeAddonCandidates } from './native-path.js';

const apiVersion = 3;

let loaded: Engine | null = null;

/** ERR_NO_BACKEND lists every place that was tried, what happened there and the fix. */
export function loadNativeEngine(): Engine {
  if (loaded !== null) return loaded;
  const attempts: string[] = [];
  for (const { path, origin } of nativeAddonCandidates()) {
    if (!existsSync(path)) {
      attempts.push(`${origin}: ${path} does not exist`);
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
      attempts.push(`${origin}: ${path} cannot be loaded (${(error as Error).message})`);
    }
  }
  const places = attempts.length === 0 ? 'no place to look at' : attempts.join('; ');
  throw new ShiftAddError(
    'ERR_NO_BACKEND',
    `The native addon for ${process.platform}-${process.arch} was not found: ${places}. Run "npm run build" in a checkout, or install the package again on this machine.`,
  );
}
