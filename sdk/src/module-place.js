// What one TypeScript source cannot say in both module formats: where the running module lies, and an import at run time.
// Plain JavaScript with a CommonJS twin (module-place.cjs), which the build puts into dist/cjs.
import { dirname } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

/* global __filename -- there where a bundler has made CommonJS of this module, which leaves import.meta empty. */
const file = import.meta.url ? fileURLToPath(import.meta.url) : typeof __filename === 'string' ? __filename : process.argv[1] ?? '.';

export const moduleFolder = dirname(file);
export const importFile = (path, query = '') => import(/* webpackIgnore: true */ pathToFileURL(path).href + query);
