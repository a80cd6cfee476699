import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { buildFake, noBrowser, runWeb, servePage, startBrowser, temporaryFolder } from './browser.js';
import { ask, loadModel, message } from './flow.js';

const skip = noBrowser;

/** Stands in for the SDK's worker: compiles WebAssembly (here the smallest module that there is) and asks for shared memory. */
const worker = `
const { instance } = await WebAssembly.instantiateStreaming(fetch(new URL('smallest.wasm', import.meta.url)));
const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
postMessage([String(instance), memory.buffer.constructor.name]);
`;
const smallest = Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0);

t.test('after the first visit no server is needed', { skip }, async (t) => {
  const folder = await temporaryFolder(t);
  await buildFake(join(folder, 'sdk'));
  await writeFile(join(folder, 'sdk', 'worker.js'), worker);
  await writeFile(join(folder, 'sdk', 'smallest.wasm'), smallest);
  const served = await servePage(t, ['--sdk', join(folder, 'sdk'), '--out', join(folder, 'page')]);
  const page = await (await startBrowser(t)).newPage();
  await page.goto(served.url);
  await page.waitForFunction(() => navigator.serviceWorker.controller !== null);
  await loadModel(page);
  await served.stop();
  await page.goto(`${served.url}index.html?from=elsewhere`);
  await message(page).waitFor();
  t.match(await ask(page, 'Hello'), 'turn 1');
  t.equal(await page.evaluate(() => crossOriginIsolated), true, 'what is kept is still isolated');
  const said = await page.evaluate(
    () =>
      new Promise((resolve, reject) => {
        const started = new Worker('./shiftadd/worker.js', { type: 'module' });
        started.onmessage = ({ data }) => resolve(data);
        started.onerror = ({ message }) => reject(new Error(message));
      }),
  );
  t.same(said, ['[object WebAssembly.Instance]', 'SharedArrayBuffer'], 'a worker, WebAssembly and shared memory too');
});

t.test('a new build is offered, then taken as a whole', { skip }, async (t) => {
  const folder = await temporaryFolder(t);
  const build = ['--sdk', join(folder, 'sdk'), '--out', join(folder, 'page')];
  await buildFake(join(folder, 'sdk'), 'globalThis.build = 1;');
  const served = await servePage(t, build);
  const page = await (await startBrowser(t)).newPage();
  await page.goto(served.url);
  await page.waitForFunction(() => navigator.serviceWorker.controller !== null);
  t.equal(await page.locator('#update').isVisible(), false);

  await buildFake(join(folder, 'sdk'), 'globalThis.build = 2;');
  t.equal(await (await runWeb([...build, '--build-only'])).ended, 0);
  const current = (): Promise<unknown> => page.evaluate(() => (globalThis as { build?: number }).build);
  await page.reload();
  await page.getByText('A new version of this page is ready.').waitFor();
  t.equal(await current(), 1, 'until then nothing is mixed');
  await page.getByRole('button', { name: 'Load it' }).click();
  await page.waitForFunction(() => (globalThis as { build?: number }).build === 2);
  t.equal(await page.evaluate(async () => (await caches.keys()).length), 1, 'the old build is gone');
});
