// Bundles the compiled modules of the SDK and the command line into few files, because a program that starts reads one
// file faster than two hundred. The worker of the energy meters stays a file of its own, and every command a chunk.
import { copyFileSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, transform } from 'esbuild';

const root = dirname(dirname(fileURLToPath(import.meta.url))); // not of setup.mjs, which waits for this module where it is the main program

// Short lines, for stack traces. Names do not stay: the package would have more than the 1 MB that it may have.
const output = { minify: true, lineLimit: 120, platform: 'node', target: 'node20.19' };
const common = { ...output, bundle: true, packages: 'external', legalComments: 'none', logLevel: 'warning', absWorkingDir: root };

/** What package.json exports, and the worker. */
const entries = ['index', 'server/index', 'ai-sdk/index', 'devices/recorder-worker'];

/** Writes `esm` and `cjs` into `folder`, from what tsc made of sdk/src in `modules`. */
export async function bundleSdk(modules, folder) {
  const files = (names) => names.map((name) => join(modules, `${name}.js`));
  // Entries share chunks, so that a model of one is a model of the others too. Chunks lie beside index.js: a worker's place is
  // seen from there (module-place.js).
  const split = { ...common, outbase: modules, format: 'esm', splitting: true, chunkNames: '[name]-[hash]' };
  const [, twins] = await Promise.all([
    build({ ...split, entryPoints: files([...entries, 'cli/main']), outdir: join(folder, 'esm') }),
    build({ ...split, entryPoints: files(entries), outdir: join(folder, 'cjs'), plugins: [commonJsTwin], write: false }),
  ]);
  // esbuild splits ES modules alone: each file becomes CommonJS by itself.
  for (const { path, text } of twins.outputFiles) {
    const { code } = await transform(text, { ...output, format: 'cjs' });
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, code);
  }
  for (const format of ['esm', 'cjs']) {
    keepImportsForRunTime(join(folder, format));
    for (const entry of entries.filter((name) => name.endsWith('index'))) copyDeclarations(modules, `${entry}.d.ts`, join(folder, format));
  }
  writeFileSync(join(folder, 'cjs', 'package.json'), '{ "type": "commonjs" }\n');
}

/** The one module that differs between the two formats. */
const commonJsTwin = {
  name: 'commonjs-twin',
  setup(bundle) {
    bundle.onResolve({ filter: /\/module-place\.js$/ }, () => ({ path: join(root, 'sdk', 'src', 'module-place.cjs') }));
  },
};

/** What is imported by its path is in no bundle. The comment that tells webpack so does not outlive the removal of blanks. */
function keepImportsForRunTime(folder) {
  let found = 0;
  for (const name of readdirSync(folder).filter((name) => name.endsWith('.js'))) {
    const code = readFileSync(join(folder, name), 'utf8');
    const marked = code.replace(/import\(\s*(?=[\w$.(),\s]+\)\.href)/g, () => (found++, 'import(/* webpackIgnore: true */'));
    if (marked !== code) writeFileSync(join(folder, name), marked);
  }
  if (found !== 1) throw new Error(`${folder} has ${found} imports by path; bundle-sdk.mjs expects the one of module-place.js`);
}

/** Copies the declarations that the public ones, `first`, lead to. */
export function copyDeclarations(from, first, to) {
  for (const file of declarationsOf(join(from, first))) {
    const copy = join(to, relative(from, file));
    mkdirSync(dirname(copy), { recursive: true });
    copyFileSync(file, copy);
  }
}

function declarationsOf(first) {
  const found = new Set([first]);
  for (const file of found) {
    for (const [, path] of readFileSync(file, 'utf8').matchAll(/(?:from|import)\s*\(?\s*['"](\.[^'"]+)\.js['"]/g)) found.add(join(dirname(file), `${path}.d.ts`));
  }
  return [...found];
}
