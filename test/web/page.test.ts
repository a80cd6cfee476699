import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import t from 'tap';
import { buildFake, noBrowser, root, runWeb, servePage, startBrowser, temporaryFolder, type ServedPage } from './browser.js';
import { answers, ask, loadButton, loadModel, message, talk } from './flow.js';

const skip = noBrowser;

let browser: Browser;
let folder: string;
let served: ServedPage;

t.before(async () => {
  folder = await temporaryFolder(t);
  await buildFake(join(folder, 'sdk'));
  served = await servePage(t, ['--sdk', join(folder, 'sdk'), '--out', join(folder, 'page')]);
  if (skip === false) browser = await startBrowser(t);
});

/** A page of a visitor who was never here. */
async function visit(t: any, options = {}, url = served.url): Promise<Page> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  context.setDefaultTimeout(20_000);
  t.teardown(() => context.close());
  const page = await context.newPage();
  await page.goto(url);
  return page;
}

t.test('the code of the page is small', async (t) => {
  const [, size] = /([\d.]+) kB after gzip/.exec(served.notes) ?? [];
  t.ok(Number(size) > 0 && Number(size) < 150, `${size} kB`);
});

t.test('the server', async (t) => {
  const get = (path: string, headers = {}): Promise<Response> => fetch(new URL(path, served.url), { headers });
  const index = await get('/');
  t.equal(index.headers.get('content-type'), 'text/html; charset=utf-8');
  t.equal(index.headers.get('cross-origin-opener-policy'), 'same-origin');
  t.equal(index.headers.get('cross-origin-embedder-policy'), 'require-corp');
  t.match(index.headers.get('content-security-policy'), "script-src 'self' 'wasm-unsafe-eval';");
  t.equal((await get('/', { 'if-none-match': index.headers.get('etag') })).status, 304);
  t.equal((await get('/manifest.webmanifest')).headers.get('content-type'), 'application/manifest+json');

  const config = '/models/smollm2-135m-instruct/config.json';
  const whole = await (await get(config)).text();
  const part = await get(config, { range: 'bytes=10-19' });
  t.equal(part.status, 206);
  t.equal(part.headers.get('content-range'), `bytes 10-19/${whole.length}`);
  t.equal(await part.text(), whole.slice(10, 20));
  t.equal(await (await get(config, { range: 'bytes=-5' })).text(), whole.slice(-5));
  t.equal((await get(config, { range: `bytes=${whole.length}-` })).status, 416);
  t.equal((await get(config, { range: 'bytes=0-3', 'if-range': '"other"' })).status, 200, 'a changed file comes whole');
  for (const path of ['/nothing', '/models/smollm2-135m-instruct/', '/%2e%2e/sdk/index.js', '/..%2fsdk%2findex.js', '/%00', '/%']) {
    t.equal((await get(path)).status, 404, path);
  }

  const open = await servePage(t, ['--sdk', join(folder, 'sdk'), '--out', join(folder, 'open'), '--no-isolation']);
  t.equal((await fetch(open.url)).headers.get('cross-origin-opener-policy'), null);
  if (skip !== false) return;
  const page = await visit(t, {}, open.url);
  await loadModel(page);
  t.match(await page.locator('#backend-facts').innerText(), /not allowed: the page is not cross-origin isolated/);
});

t.test('wrong options', async (t) => {
  for (const [options, said] of [
    [['--port', 'x'], /--port is no port: x[^]*Usage/],
    [['--nothing'], /Usage/],
    [['--sdk', folder, '--build-only'], /has no index\.js/],
  ] as const) {
    const { ended, notes } = await runWeb([...options]);
    t.equal(await ended, 1);
    t.match(notes, said);
  }
});

t.test('a whole talk', { skip }, async (t) => {
  const page = await (await browser.newContext()).newPage();
  t.teardown(() => page.context().close());
  await talk(t, page, served.url);
});

const browserBuild = join(root, 'dist', 'browser');
const missing = existsSync(join(browserBuild, 'index.js')) ? skip : 'dist/browser is not built';
t.test('a whole talk with the SDK', { skip: missing }, async (t) => {
  const real = await servePage(t, ['--sdk', browserBuild, '--out', join(folder, 'real')]);
  const page = await (await browser.newContext()).newPage();
  t.teardown(() => page.context().close());
  await talk(t, page, real.url);
});

t.test('loading shows progress and can be cancelled', { skip }, async (t) => {
  const page = await visit(t);
  await page.getByLabel('A web address').check();
  await page.getByLabel('Address of the model folder').fill('models/stalled');
  await loadButton(page).click();
  await page.getByText('Downloading: 33.0 MB of 66.0 MB').waitFor();
  t.equal(await page.getByRole('progressbar', { name: /Downloading/ }).getAttribute('value'), '0.5', 'a bar named by its text');
  t.equal(await page.getByRole('status').innerText(), 'Downloading, 50 percent', 'said in quarters');
  await page.getByRole('button', { name: 'Cancel' }).press('Enter');
  await loadButton(page).waitFor();
  t.equal(await page.locator('#error').isVisible(), false, 'that is no error');
  t.equal(await page.getByRole('status').innerText(), 'Loading was cancelled');
  await page.getByLabel('SmolLM2 135M Instruct').check();
  await loadModel(page);
});

t.test('answers grow outside the log and stay text', { skip }, async (t) => {
  const page = await visit(t);
  await loadModel(page);
  const log = page.getByRole('log');
  t.equal(await log.getAttribute('aria-live'), 'polite');
  await message(page).fill('long');
  await message(page).press('Enter');
  await page.getByText('word30').waitFor();
  t.notMatch(await log.innerText(), 'word1', 'nothing to read out yet');
  t.match(await page.locator('#speed').innerText(), /^\d+\.\d$/, 'a live figure');
  await message(page).fill('kept while it answers');
  await message(page).press('Enter');
  t.equal(await message(page).inputValue(), 'kept while it answers', 'one turn at a time');
  await message(page).press('Escape');
  await log.getByText('word1 ', { exact: false }).first().waitFor();

  await ask(page, 'Hello');
  const answer = answers(page).last();
  t.match(await answer.innerText(), '<img src="x" onerror=');
  t.equal(await answer.locator('img').count(), 0);
  t.equal(await answer.locator('pre code').innerText(), 'const sum = (x << 3) + (x >> 1);');
  t.equal(await answer.locator('strong').innerText(), 'the system message');
  t.equal(await page.title(), 'shiftadd chat');
  t.match(await answer.innerText(), 'turn 1', 'the stopped turn is forgotten');
  await ask(page, 'Again');
  t.match(await answers(page).last().innerText(), 'turn 2');
});

t.test('settings: the system message belongs to the next chat', { skip }, async (t) => {
  const page = await visit(t);
  await loadModel(page);
  await page.getByText('Settings').click();
  await page.getByLabel('System message').fill('Be brief.');
  await page.getByLabel('Temperature').fill('0.2');
  t.equal(await page.locator('#temperature-shown').innerText(), '0.2');
  t.match(await ask(page, 'Hello'), 'Be brief.');
  await page.getByLabel('System message').fill('Be kind.');
  t.match(await ask(page, 'Hello'), 'Be brief.');
  await page.getByRole('button', { name: 'New chat' }).click();
  t.match(await ask(page, 'Hello'), 'Be kind.');
});

t.test('with the keyboard alone', { skip }, async (t) => {
  const page = await visit(t);
  const focused = (): Promise<string> => page.evaluate(() => document.activeElement?.id ?? '');
  const pressUntil = async (key: string, id: string): Promise<void> => {
    for (let n = 0; n < 20 && (await focused()) !== id; n++) await page.keyboard.press(key);
    t.equal(await focused(), id, `${key} leads to ${id}`);
  };
  await page.keyboard.press('Tab');
  t.equal(await page.evaluate(() => document.activeElement?.className), 'skip', 'the way past the header comes first');
  await page.keyboard.press('Enter');
  t.equal(await focused(), 'main');
  await pressUntil('Tab', 'use-embedded');
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('ArrowDown');
  await pressUntil('Tab', 'address');
  await page.keyboard.type('models/other/');
  await pressUntil('Tab', 'load');
  await page.keyboard.press('Enter');
  await message(page).waitFor();
  t.equal(await focused(), 'message');
  t.equal(await page.locator('#model-name').innerText(), 'other');
  await page.keyboard.type('long');
  await page.keyboard.press('Shift+Enter');
  await page.keyboard.type('text');
  await page.keyboard.press('Enter');
  await page.getByText('word5').first().waitFor();
  await pressUntil('Tab', 'stop');
  await page.keyboard.press('Enter');
  await page.getByText('Stopped.').waitFor();
  t.equal(await focused(), 'message', 'the focus is not lost with the button');
  await pressUntil('Shift+Tab', 'scroll');
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement!).outlineStyle);
  t.equal(outline, 'solid', 'the focus can be seen');
  await pressUntil('Shift+Tab', 'new-chat');
  await page.keyboard.press('Enter');
  await page.locator('#welcome').waitFor();
  t.equal(await focused(), 'message');
  await pressUntil('Tab', 'change-model');
  await page.keyboard.press('Enter');
  await loadButton(page).waitFor();
  t.equal(await focused(), 'picker-title');
});

t.test('errors show their code and a sentence', { skip }, async (t) => {
  const page = await visit(t);
  const alert = page.locator('#error');
  const address = page.getByLabel('Address of the model folder');
  await page.getByLabel('A web address').check();
  for (const [text, said] of [
    ['', 'Write an address first.'],
    ['http://example.org/model', 'Expected an address that begins with https://'],
  ] as const) {
    await address.fill(text);
    await loadButton(page).click();
    await page.getByText(said).waitFor();
    t.equal(await address.getAttribute('aria-invalid'), 'true');
  }
  await address.fill('models/damaged');
  await loadButton(page).click();
  await alert.waitFor();
  t.match(await alert.innerText(), /ERR_CHECKSUM\s+model\.safetensors is damaged/);
  t.equal(await alert.getAttribute('role'), 'alert');
  await page.getByRole('button', { name: 'Dismiss' }).click();
  t.equal(await alert.isVisible(), false);

  await page.getByLabel('SmolLM2 135M Instruct').check();
  await loadModel(page);
  await message(page).fill('overflow');
  await message(page).press('Enter');
  await alert.waitFor();
  t.match(await alert.innerText(), 'ERR_CONTEXT_OVERFLOW');
  t.equal(await message(page).inputValue(), 'overflow', 'nothing needs to be written twice');
  await message(page).fill('crash');
  await message(page).press('Enter');
  await loadButton(page).waitFor();
  t.match(await alert.innerText(), /ERR_ENGINE\s+The worker ended/);
  await loadModel(page);
  t.match(await ask(page, 'Hello'), 'turn 1');
});

t.test('without the SDK the page says so', { skip }, async (t) => {
  const context = await browser.newContext({ serviceWorkers: 'block' });
  t.teardown(() => context.close());
  const page = await context.newPage();
  await page.route('**/shiftadd/index.js', (route) => route.abort());
  await page.goto(served.url);
  await page.locator('#error').waitFor();
  t.match(await page.locator('#error').innerText(), /TypeError[^]*shiftadd\/index\.js/);
});

t.test('a model of a folder, and models that are stored', { skip }, async (t) => {
  const own = join(await temporaryFolder(t), 'my-model');
  await mkdir(own);
  await writeFile(join(own, 'config.json'), '{}');
  const page = await visit(t);
  await page.getByLabel('A folder on this device').check();
  await loadButton(page).click();
  await page.getByText('Choose a folder first.').waitFor();
  await page.getByLabel('Model folder', { exact: true }).setInputFiles(own);
  await loadModel(page);
  t.equal(await page.locator('#model-name').innerText(), 'my-model');
  await page.getByRole('button', { name: 'Change model' }).click();
  await page.getByLabel('SmolLM2 135M Instruct').check();
  await loadModel(page);
  await page.getByRole('button', { name: 'Change model' }).click();
  await page.getByText('Stored in this browser: 1').click();
  await page.getByRole('button', { name: /^Remove http/ }).click();
  await page.locator('#stored').waitFor({ state: 'hidden' });
  await page.reload();
  await loadButton(page).waitFor();
});

t.test('light and dark', { skip }, async (t) => {
  const page = await visit(t, { colorScheme: 'dark' });
  const background = (): Promise<string> => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  const dark = await background();
  const toggle = page.getByRole('button', { name: 'Dark theme' });
  t.equal(await toggle.getAttribute('aria-pressed'), 'true');
  await toggle.click();
  const light = await background();
  t.not(light, dark);
  t.equal(await toggle.getAttribute('aria-pressed'), 'false');
  await page.reload();
  t.equal(await background(), light, 'the choice is kept');
  await page.emulateMedia({ colorScheme: 'light' });
  await toggle.click();
  t.equal(await background(), dark, 'and goes against the system');
});

t.test('on a phone nothing is wider than the screen', { skip }, async (t) => {
  const page = await visit(t, { viewport: { width: 360, height: 640 } });
  const width = (): Promise<number> => page.evaluate(() => document.documentElement.scrollWidth);
  t.equal(await width(), 360);
  await loadModel(page);
  await ask(page, 'x'.repeat(200));
  t.equal(await width(), 360);
  const box = (await message(page).boundingBox())!;
  t.ok(box.y + box.height <= 640, 'the field is in view');
  await page.setViewportSize({ width: 360, height: 320 });
  const above = (await message(page).boundingBox())!;
  t.ok(above.y + above.height <= 320, 'and stays above a keyboard that takes half the screen');
  await page.setViewportSize({ width: 360, height: 640 });
  await page.getByRole('button', { name: 'Details' }).click();
  t.equal(await page.locator('#panel').isVisible(), true);
  t.equal(await page.locator('#chat').isVisible(), false);
  t.equal(await width(), 360);
  await page.getByRole('button', { name: 'Details' }).click();
  t.equal(await message(page).isVisible(), true);
});
