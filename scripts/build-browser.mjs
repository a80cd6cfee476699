// Bundles the browser build into a folder: index.js for the page, worker.js with the SDK and the glue of the modules, the
// WebAssembly modules, and types. The sources are those of Node; what Node alone has is replaced as `replacements` says.
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { build } from 'esbuild';
import { root } from './setup.mjs';

const sources = join(root, 'sdk', 'src');
const here = (name) => join(sources, 'browser', name);

const nodeModules = { 'node:fs/promises': here('files.ts'), 'node:path': here('paths.ts'), 'node:crypto': here('digest.ts') };
const replacements = {
  [join(sources, 'select-backend.ts')]: here('select-backend.ts'),
  [join(sources, 'resolve-model.ts')]: here('resolve-model.ts'),
  [join(sources, 'state-file.ts')]: here('state-file.ts'),
  [join(sources, 'measure.ts')]: here('measure.ts'),
  [join(sources, 'checkpoint', 'torch-checkpoint.ts')]: here('torch-checkpoint.ts'),
};

const replace = {
  name: 'replace',
  setup(bundle) {
    bundle.onResolve({ filter: /^node:/ }, ({ path }) => {
      if (path in nodeModules) return { path: nodeModules[path] };
      return { errors: [{ text: `${path} is not there in a browser: keep it out of what sdk/src/browser imports, or replace it in scripts/build-browser.mjs` }] };
    });
    bundle.onResolve({ filter: /^\.\.?\// }, ({ path, resolveDir, importer }) => {
      const target = replacements[resolve(resolveDir, path).replace(/\.js$/, '.ts')];
      // A replacement may take types from what it replaces.
      return target === undefined || importer === target ? undefined : { path: target };
    });
  },
};

/** Writes the browser build into `folder`. */
export async function buildBrowser(folder) {
  const modules = join(root, 'backends', 'wasm', 'modules');
  const result = await build({
    entryPoints: [here('index.ts'), here('worker.ts')],
    bundle: true,
    format: 'esm',
    target: ['es2022'],
    outdir: folder,
    minify: true,
    legalComments: 'none',
    sourcemap: false,
    metafile: true,
    logLevel: 'warning',
    absWorkingDir: root,
    plugins: [replace],
    banner: { js: '/* shiftadd, MIT licence. With @huggingface/tokenizers (Apache-2.0), @huggingface/jinja (MIT), @noble/hashes (MIT): see THIRD-PARTY.txt. */' },
  });
  for (const name of ['single', 'single-relaxed', 'threads', 'threads-relaxed']) copyFileSync(join(modules, `${name}_bg.wasm`), join(folder, `${name}_bg.wasm`));
  writeFileSync(join(folder, 'THIRD-PARTY.txt'), licences(Object.keys(result.metafile.inputs)));
}

/** The licence texts of the packages in a bundle. */
function licences(inputs) {
  const packages = new Set(inputs.flatMap((input) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(input)?.[1] ?? []));
  return [...packages].sort().map((name) => {
    const manifest = JSON.parse(readFileSync(join(root, 'node_modules', name, 'package.json'), 'utf8'));
    return `${name} ${manifest.version}, ${manifest.license}\n\n${licenceText(name)}\n`;
  }).join('\n----\n\n');
}

function licenceText(name) {
  for (const file of ['LICENSE', 'LICENSE.md', 'LICENSE.txt']) {
    try {
      return readFileSync(join(root, 'node_modules', name, file), 'utf8').trim();
    } catch {
      // The next name.
    }
  }
  return '(the package carries no licence file)';
}
