// Builds the chat page into a folder: the page's code with esbuild, the SDK's browser files beside it as they are, and a
// service worker that knows all of them.
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { StepError } from './run-step.mjs';
import { root } from './setup.mjs';

/** What a visitor waits for before the page can be used; the SDK's worker and WebAssembly come with the model. */
const PAGE_FILES = ['index.html', 'style.css', 'theme.js', 'page.js'];
const PAGE_LIMIT = 150_000;
const COPIED = ['index.html', 'style.css', 'icon.svg', 'manifest.webmanifest'];

/**
 * `sdk` is the folder with the SDK's index.js, worker.js and .wasm files. `variant` is part of the version that the
 * service worker goes by, for what changes responses but no file. Resolves to the page's size in bytes after gzip.
 */
export async function buildPage({ sdk, out, variant = '' }) {
  if (!existsSync(join(sdk, 'index.js'))) throw new StepError(`${sdk} has no index.js: the SDK's browser build is missing`);
  const { build } = await import('esbuild');
  const source = join(root, 'web');
  rmSync(out, { recursive: true, force: true });
  mkdirSync(join(out, 'shiftadd'), { recursive: true });
  for (const file of COPIED) cpSync(join(source, file), join(out, file));
  for (const file of readdirSync(sdk)) {
    if (/\.(js|mjs|wasm)$/.test(file)) cpSync(join(sdk, file), join(out, 'shiftadd', file));
  }

  const options = { bundle: true, minify: true, target: 'es2022', logLevel: 'warning', tsconfig: join(source, 'tsconfig.json') };
  // The SDK stays a module of its own: it finds its worker and its WebAssembly beside itself.
  const besidePage = {
    name: 'sdk-beside-page',
    setup: ({ onResolve }) => onResolve({ filter: /^shiftadd$/ }, () => ({ path: './shiftadd/index.js', external: true })),
  };
  await build({ ...options, entryPoints: [join(source, 'page.ts')], outdir: out, format: 'esm', plugins: [besidePage] });
  await build({ ...options, entryPoints: [join(source, 'theme.ts')], outdir: out, format: 'iife' });

  const files = readdirSync(out, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(out.length + 1).replaceAll('\\', '/'))
    .sort();
  const digest = createHash('sha256').update(variant);
  for (const file of files) digest.update(`\n${file}\n`).update(readFileSync(join(out, file)));
  await build({
    ...options,
    entryPoints: [join(source, 'service-worker.ts')],
    outdir: out,
    format: 'iife',
    define: {
      version: JSON.stringify(digest.digest('hex').slice(0, 16)),
      files: JSON.stringify(files.map((file) => (file === 'index.html' ? './' : file))),
    },
  });

  const size = PAGE_FILES.reduce((sum, file) => sum + gzipSync(readFileSync(join(out, file))).length, 0);
  if (size > PAGE_LIMIT) throw new StepError(`The page's code is ${size} bytes after gzip; the limit is ${PAGE_LIMIT}`);
  return size;
}
