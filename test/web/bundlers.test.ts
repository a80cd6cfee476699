// The package in an application, as docs/browser.md says: bundled by Vite, webpack and esbuild, then run in Chromium.
import { copyFile, cp, mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { build as buildWithEsbuild } from 'esbuild';
import t from 'tap';
import { build as buildWithVite, createServer as startVite } from 'vite';
import webpack from 'webpack';
import { root, temporaryFolder } from './browser.js';
import { isolated } from './model-server.js';
import { policy, sdkFolder, skip, startPages, type SdkPages } from './sdk-page.js';

const main = `
import { loadModel } from 'shiftadd';

const model = await loadModel('/models/stories', { threads: 2, precision: 'exact' });
const { text } = await model.generate('Once upon a time', { maxTokens: 12 }).result();
document.title = 'done';
document.body.textContent = model.backend.threads + text;
`;
const page = (script: string): string => `<!doctype html><html lang="en"><title>app</title><body><script type="module" src="${script}"></script></body></html>`;

let pages: SdkPages;
let wanted: string;
t.before(async () => {
  if (skip !== false) return;
  pages = await startPages(t);
  const visited = await pages.visit(t);
  wanted = await visited.evaluate(async (url) => {
    const model = await (globalThis as any).sdk.loadModel(url, { precision: 'exact' });
    return `2${(await model.generate('Once upon a time', { maxTokens: 12 }).result()).text}`;
  }, pages.model);
});

/** An application with the package as npm installs it, as far as browsers need it. */
async function application(t: any): Promise<string> {
  const folder = await temporaryFolder(t);
  const installed = join(folder, 'node_modules', 'shiftadd');
  await mkdir(join(installed, 'dist'), { recursive: true });
  await copyFile(join(root, 'package.json'), join(installed, 'package.json'));
  await cp(sdkFolder, join(installed, 'dist', 'browser'), { recursive: true });
  await writeFile(join(folder, 'package.json'), '{ "private": true, "type": "module" }');
  await writeFile(join(folder, 'main.js'), main);
  return folder;
}

/** Serves what was built at `path` and resolves to what the page shows. */
async function run(t: any, built: string, path: string): Promise<string> {
  for (const entry of await readdir(built, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = join(entry.parentPath, entry.name);
    const type: Record<string, string> = entry.name.endsWith('.html') ? { 'Content-Type': 'text/html' } : {};
    pages.server.put(path + file.slice(built.length), await readFile(file), { ...isolated, 'Content-Security-Policy': policy, ...type });
  }
  return shown(t, `${pages.server.url}${path}/index.html`);
}

async function shown(t: any, url: string): Promise<string> {
  const context = await pages.browser.newContext();
  t.teardown(() => context.close());
  const visited = await context.newPage();
  const errors: string[] = [];
  visited.on('pageerror', ({ message }) => errors.push(message));
  await visited.goto(url);
  await visited.waitForFunction(() => document.title === 'done', undefined, { timeout: 30_000 }).catch((error: Error) => {
    throw new Error(`${error.message}\n${errors.join('\n')}`);
  });
  return visited.locator('body').innerText();
}

t.test('Vite, built', { skip }, async (t) => {
  const folder = await application(t);
  await writeFile(join(folder, 'index.html'), page('/main.js'));
  // `base` because this test serves several applications.
  await buildWithVite({ root: folder, base: '/vite/', configFile: false, logLevel: 'error' });
  t.equal(await run(t, join(folder, 'dist'), '/vite'), wanted);
});

t.test('Vite, its development server', { skip }, async (t) => {
  const folder = await application(t);
  await writeFile(join(folder, 'index.html'), page('/main.js'));
  const vite = await startVite({
    root: folder,
    configFile: false,
    logLevel: 'error',
    server: { port: 0, host: '127.0.0.1', headers: isolated, proxy: { '/models': pages.server.url } },
  });
  t.teardown(() => vite.close());
  await vite.listen();
  t.equal(await shown(t, `http://127.0.0.1:${(vite.httpServer!.address() as any).port}/`), wanted);
});

t.test('webpack', { skip }, async (t) => {
  const folder = await application(t);
  const compiler = webpack({ mode: 'production', context: folder, entry: './main.js', output: { path: join(folder, 'dist'), filename: 'main.js' } })!;
  const stats = await new Promise<webpack.Stats>((resolve, reject) => compiler.run((error, result) => (error === null ? resolve(result!) : reject(error))));
  await new Promise((resolve) => compiler.close(resolve));
  t.same(stats.toJson().errors, []);
  // Sizes are webpack's own opinion.
  t.same(stats.toJson().warnings!.map(({ message }) => message).filter((message) => !/size limit|code splitting|import\(\)/.test(message)), []);
  await writeFile(join(folder, 'dist', 'index.html'), page('main.js'));
  t.equal(await run(t, join(folder, 'dist'), '/webpack'), wanted);
});

t.test('esbuild, with the files that the SDK loads beside the bundle', { skip }, async (t) => {
  const folder = await application(t);
  const sdk = join(folder, 'node_modules', 'shiftadd', 'dist', 'browser');
  await buildWithEsbuild({ entryPoints: [join(folder, 'main.js')], bundle: true, format: 'esm', outdir: join(folder, 'dist'), logLevel: 'error' });
  for (const name of await readdir(sdk)) {
    if (name === 'worker.js' || name.endsWith('.wasm')) await copyFile(join(sdk, name), join(folder, 'dist', name));
  }
  await writeFile(join(folder, 'dist', 'index.html'), page('main.js'));
  t.equal(await run(t, join(folder, 'dist'), '/esbuild'), wanted);
});

t.test('esbuild, with those files elsewhere', { skip }, async (t) => {
  const folder = await application(t);
  await writeFile(join(folder, 'main.js'), main.replace('threads: 2', "threads: 2, assets: '/sdk'"));
  await buildWithEsbuild({ entryPoints: [join(folder, 'main.js')], bundle: true, format: 'esm', outdir: join(folder, 'dist'), logLevel: 'error' });
  await writeFile(join(folder, 'dist', 'index.html'), page('main.js'));
  t.equal(await run(t, join(folder, 'dist'), '/esbuild-assets'), wanted);
});

t.test('the examples of docs/browser.md', { skip }, async (t) => {
  const text = await readFile(join(root, 'docs', 'browser.md'), 'utf8');
  const examples = [...text.matchAll(/```js\n([^]*?)```/g)].map(([, code]) => code!).filter((code) => code.includes("from 'shiftadd'"));
  t.equal(examples.length, 2);
  const template = '{% for m in messages %}{{ m.content }} {% endfor %}';
  pages.server.put('/models/stories/tokenizer_config.json', JSON.stringify({ chat_template: template, bos_token: '<s>', eos_token: '</s>' }));
  const folder = await application(t);
  for (const [index, code] of examples.entries()) {
    await writeFile(join(folder, 'main.js'), `${code}\ndocument.title = 'done';`);
    await buildWithEsbuild({ entryPoints: [join(folder, 'main.js')], bundle: true, format: 'esm', outdir: join(folder, 'dist'), logLevel: 'error' });
    for (const name of await readdir(sdkFolder)) if (/worker\.js$|\.wasm$/.test(name)) await copyFile(join(sdkFolder, name), join(folder, 'dist', name));
    await writeFile(join(folder, 'dist', 'index.html'), page('main.js'));
    const shows = await run(t, join(folder, 'dist'), `/example-${index}`);
    if (index === 0) t.match(shows, /^, there was/);
  }
});
