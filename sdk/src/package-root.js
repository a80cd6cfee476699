// What one TypeScript source cannot say in both module formats: the folder that holds package.json, seen from sdk/src and from
// dist/esm, the folder of the modules themselves, and an import at run time. Plain JavaScript with a CommonJS twin (package-root.cjs, copied to
// dist/cjs/package-root.js).
import { dirname } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

export const moduleFolder = dirname(fileURLToPath(import.meta.url));
export const packageRoot = dirname(dirname(moduleFolder));
export const importFile = (path, query = '') => import(pathToFileURL(path).href + query);
