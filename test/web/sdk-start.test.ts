// Where the browser build starts: isolated or not, policies, missing files, workers that die, and files that the user chose.
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import t from 'tap';
import type * as browserSdk from '../../sdk/src/browser/index.js';
import { root } from './browser.js';
import { isolated } from './model-server.js';
import { policy, putPage, putSdk, skip, startPages, type SdkPages } from './sdk-page.js';

// In the page.
declare const sdk: typeof browserSdk;
declare const told: (promise: Promise<unknown>) => Promise<any>;

let pages: SdkPages;
t.before(async () => {
  if (skip === false) pages = await startPages(t);
});

/** Loads in a page or a frame; resolves to what runs it, or the failure. */
async function load(page: Pick<Page, 'evaluate'>, options: object = {}, url = pages.model): Promise<any> {
  return page.evaluate(
    ([url, options]) =>
      told(
        (async () => {
          const model = await sdk.loadModel(url as string, options as object);
          const { tokens } = await model.generate('Once upon a time', { maxTokens: 8 }).result();
          const { backend, cache, path, info } = model;
          await model.close();
          return { backend, tokens: tokens.length, cache, path, name: info.name };
        })(),
      ),
    [url, options] as const,
  );
}

const alone = { value: { tokens: 8, backend: { threads: 1, attempts: [{ name: 'wasm', ok: true, reason: /^one thread: the page is not cross-origin isolated \(send Cross-Origin-Opener-Policy/ }] } } };
const two = { value: { tokens: 8, backend: { threads: 2, attempts: [{ reason: null }] } } };

t.test('threads follow from the isolation of the page', { skip }, async (t) => {
  const { server } = pages;
  putPage(server, '/plain.html', {});
  putPage(server, '/opener.html', { 'Cross-Origin-Opener-Policy': 'same-origin' });
  putPage(server, '/credentialless.html', { ...isolated, 'Cross-Origin-Embedder-Policy': 'credentialless' });
  for (const [path, wanted] of [
    ['/plain.html', alone],
    ['/opener.html', alone],
    ['/', two],
    ['/credentialless.html', two],
  ] as const) {
    const page = await pages.visit(t, path);
    t.match(await load(page, { threads: 2 }), wanted, path);
    if (path === '/plain.html') t.match(await load(page, { threads: 1 }), { value: { backend: { attempts: [{ reason: null }] } } }, 'one was wanted');
    await page.context().close();
  }
});

t.test('in a frame and in a worker of the page', { skip }, async (t) => {
  const { server } = pages;
  putPage(server, '/outer.html', {});
  putPage(server, '/free.html', isolated);
  for (const [path, wanted] of [['/outer.html', alone], ['/free.html', two]] as const) {
    const page = await pages.visit(t, path);
    await page.evaluate(() => {
      const frame = document.createElement('iframe');
      frame.src = '/';
      document.body.append(frame);
    });
    await page.waitForFunction(() => (document.querySelector('iframe')?.contentWindow as any)?.sdk !== undefined);
    t.match(await load(page.frames()[1]!, { threads: 2 }), wanted, path);
  }
  server.put('/own-worker.js', "import { loadModel } from '/sdk/index.js';\nonmessage = async ({ data }) => { const model = await loadModel(data, { threads: 2 }); postMessage([model.backend.threads, (await model.generate('Once', { maxTokens: 4 }).result()).tokens.length]); };");
  const page = await pages.visit(t);
  const inWorker = await page.evaluate((url) => {
    const worker = new Worker('/own-worker.js', { type: 'module' });
    return new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = ({ message }) => reject(new Error(message));
      setTimeout(() => worker.postMessage(url), 500); // messages before the module has run are lost
    });
  }, pages.model);
  t.same(inWorker, [2, 4]);
});

t.test('a system that refuses shared memory', { skip }, async (t) => {
  const limited = (pagesOf64k: number): string => `
const Real = WebAssembly.Memory;
WebAssembly.Memory = function (options) {
  if (options.shared && options.maximum > ${pagesOf64k}) throw new RangeError('could not allocate memory');
  return new Real(options);
};
WebAssembly.Memory.prototype = Real.prototype;`;
  putSdk(pages.server, '/sdk-256', limited(4096));
  putSdk(pages.server, '/sdk-0', limited(0));
  const page = await pages.visit(t);
  t.match(await load(page, { threads: 2, assets: '/sdk-256/' }), two, 'less of it');
  t.match(await load(page, { threads: 2, assets: '/sdk-0' }), { value: { tokens: 8, backend: { threads: 1, attempts: [{ reason: 'one thread: this browser refuses shared memory' }] } } });
  putSdk(pages.server, '/sdk-failing', "if (name === 'lent') throw new Error('no more');\nconst Real = Worker;\nglobalThis.Worker = class extends Real { constructor(url, options) { super(url, { ...options, name: 'lent' }); } };");
  t.match(await load(page, { threads: 2, assets: '/sdk-failing' }), { code: 'ERR_NO_BACKEND', message: /thread cannot be started \(.*no more\).*threads: 1/ });
});

t.test('policies and missing files name their fix', { skip }, async (t) => {
  const { server } = pages;
  const withPolicy = { ...isolated, 'Content-Security-Policy': policy.replace(" 'wasm-unsafe-eval'", '') };
  // A worker has the policy of its own script.
  putPage(server, '/strict.html', withPolicy);
  server.putFolder('/strict', join(root, 'dist', 'browser'), {}, withPolicy);
  const strict = await pages.visit(t, '/strict.html');
  t.match(await load(strict, { assets: '/strict' }), { code: 'ERR_NO_BACKEND', message: /allow 'wasm-unsafe-eval' for scripts/ });
  putPage(server, '/no-workers.html', { ...isolated, 'Content-Security-Policy': policy.replace("worker-src 'self'", "worker-src 'none'") });
  const noWorkers = await pages.visit(t, '/no-workers.html');
  t.match(await load(noWorkers), { code: 'ERR_WORKER', message: /allow it in worker-src/ });

  const page = await pages.visit(t);
  t.match(await load(page, { assets: '/nowhere/' }), { code: 'ERR_WORKER', message: /script cannot be loaded\. Serve worker\.js beside the module or pass assets/ });
  t.match(await load(page, { assets: 'https://example.org/sdk' }), { code: 'ERR_WORKER', message: /from the origin of the page/ }, 'another origin');
  putSdk(server, '/no-wasm', '');
  for (const flavour of ['single', 'single-relaxed', 'threads', 'threads-relaxed']) server.remove(`/no-wasm/${flavour}_bg.wasm`);
  t.match(await load(page, { assets: '/no-wasm' }), { code: 'ERR_NO_BACKEND', message: /\/no-wasm\/\S+\.wasm cannot be loaded \(404.*Serve the files of shiftadd\/dist\/browser/ });
  server.putFolder('/unisolated', join(root, 'dist', 'browser'), {}, { 'Cross-Origin-Embedder-Policy': 'unsafe-none' });
  t.match(await load(page, { assets: '/unisolated' }), { code: 'ERR_WORKER', message: /with its Cross-Origin-Embedder-Policy/ });
  server.putFolder('/plain-type', join(root, 'dist', 'browser'));
  for (const flavour of ['single', 'single-relaxed']) server.faults.set(`/plain-type/${flavour}_bg.wasm`, { headers: { 'Content-Type': 'text/plain' } });
  t.match(await load(page, { assets: '/plain-type', threads: 1 }), { value: { tokens: 8 } }, 'a server that does not know .wasm');
});

t.test('a worker that dies', { skip }, async (t) => {
  putSdk(pages.server, '/dying', "addEventListener('message', ({ data }) => { if (data.request?.method === 'generate') setTimeout(() => { throw new Error('out of luck'); }, 30); });");
  putSdk(pages.server, '/dead', "throw new Error('dead at once');");
  // A trap in the middle of a run: the module's memory is what it works on.
  putSdk(pages.server, '/trapping', `
const real = WebAssembly.Instance;
WebAssembly.Instance = function (module, imports) {
  const { exports } = new real(module, imports);
  return { exports: { ...exports, prefill(...given) { if (globalThis.trapNow) throw new WebAssembly.RuntimeError('unreachable'); return exports.prefill(...given); } } };
};
addEventListener('message', ({ data }) => { if (data.request?.method === 'encode') globalThis.trapNow = true; });`);
  const page = await pages.visit(t);
  t.match(await load(page, { assets: '/dead' }), { code: 'ERR_WORKER', message: /stopped: .*dead at once\. Load the model again/ });
  const died = await page.evaluate(async (url) => {
    const model = await sdk.loadModel(url, { assets: '/dying', threads: 1 });
    const chat = model.createChat();
    const failed = await told(model.generate('Once upon a time').text());
    const closed = (await model.closed) as { code?: string } | null;
    const later = [await told(model.encode('x')), await told(chat.send('x').text()), await told(model.generate('x').text())];
    await chat.close();
    await model.close();
    return { failed, closed: closed?.code, later: later.map(({ code }) => code) };
  }, pages.model);
  t.match(died, { failed: { code: 'ERR_WORKER', message: /out of luck/ }, closed: 'ERR_WORKER', later: ['ERR_WORKER', 'ERR_WORKER', 'ERR_WORKER'] });
  const trapped = await page.evaluate(async (url) => {
    const model = await sdk.loadModel(url, { assets: '/trapping', threads: 1 });
    await model.encode('x');
    const failed = await told(model.generate('Once upon a time').text());
    const later = await told(model.generate('Once upon a time').text());
    await model.close();
    return { failed, later };
  }, pages.model);
  for (const failure of [trapped.failed, trapped.later]) t.match(failure, { code: 'ERR_ENGINE', message: /stopped \(unreachable\).*load the model again/ });
  t.match(await load(page), { value: { tokens: 8 } }, 'another load works');
});

t.test('files that the user chose, and a folder handle', { skip }, async (t) => {
  const page = await pages.visit(t);
  const files = ['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json'];
  const folder = join(root, 'test', 'fixtures', 'stories-260k');
  await page.locator('#folder').setInputFiles(folder);
  await page.locator('#files').setInputFiles(files.map((name) => join(folder, name)));
  const found = await page.evaluate(async (url) => {
    const input = (id: string): FileList => (document.getElementById(id) as HTMLInputElement).files!;
    const root = await navigator.storage.getDirectory();
    const handle = await root.getDirectoryHandle('chosen', { create: true });
    for (const file of input('files')) {
      const writable = await (await handle.getFileHandle(file.name, { create: true })).createWritable();
      await writable.write(file);
      await writable.close();
    }
    const results: any = {};
    for (const [name, source] of Object.entries({ folder: input('folder'), list: Array.from(input('files')), handle, address: url })) {
      const model = await sdk.loadModel(source as any, { threads: 1 });
      results[name] = { tokens: (await model.generate('Once upon a time', { maxTokens: 12 }).result()).tokens, path: model.path, cache: model.cache };
      await model.close();
    }
    await handle.removeEntry('model.safetensors');
    const [config] = Array.from(input('files'));
    return { results, noWeights: await told(sdk.loadModel(handle)), oneFile: await told(sdk.loadModel([config!, config!])) };
  }, pages.model);
  for (const [name, path] of [['folder', 'stories-260k'], ['list', 'files'], ['handle', 'chosen']] as const) {
    t.same(found.results[name].tokens, found.results.address.tokens, name);
    t.match(found.results[name], { path, cache: { isKept: false, reason: 'the files are on this device' } });
  }
  t.match(found.noWeights, { code: 'ERR_NOT_FOUND', message: /^chosen has none of model\.safetensors/ });
  t.match(found.oneFile, { code: 'ERR_NOT_FOUND' });
});
