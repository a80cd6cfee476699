import { join } from 'node:path';
import t from 'tap';
import { buildFake, findBrowser, runWeb, servePage, startBrowser, temporaryFolder } from './browser.js';
import { ask, loadModel, message } from './flow.js';

const executable = findBrowser();
const skip = executable === null ? 'there is no chromium on PATH; SHIFTADD_CHROMIUM names one' : false;

t.test('after the first visit no server is needed', { skip }, async (t) => {
  const folder = await temporaryFolder(t);
  await buildFake(join(folder, 'sdk'));
  const served = await servePage(t, ['--sdk', join(folder, 'sdk'), '--out', join(folder, 'page')]);
  const page = await (await startBrowser(t, executable!)).newPage();
  await page.goto(served.url);
  await page.waitForFunction(() => navigator.serviceWorker.controller !== null);
  await loadModel(page);
  await served.stop();
  await page.goto(`${served.url}index.html?from=elsewhere`);
  await message(page).waitFor();
  t.match(await ask(page, 'Hello'), 'turn 1');
  t.equal(await page.evaluate(() => crossOriginIsolated), true, 'what is kept is still isolated');
});

t.test('a new build is offered, then taken as a whole', { skip }, async (t) => {
  const folder = await temporaryFolder(t);
  const build = ['--sdk', join(folder, 'sdk'), '--out', join(folder, 'page')];
  await buildFake(join(folder, 'sdk'), 'globalThis.build = 1;');
  const served = await servePage(t, build);
  const page = await (await startBrowser(t, executable!)).newPage();
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
