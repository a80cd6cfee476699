// The folder that holds package.json, seen from sdk/src and from dist/esm. Plain JavaScript with a CommonJS twin
// (package-root.cjs, copied to dist/cjs/package-root.js), because one TypeScript source cannot use both `import.meta`
// and `__dirname`.
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

export const packageRoot = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
