/** What a reader does on the page, and one talk from the first paint to a reload; runs with the stand-in and the SDK. */
import type { Locator, Page } from 'playwright-core';

export const message = (page: Page): Locator => page.getByRole('textbox', { name: 'Message', exact: true });
export const loadButton = (page: Page): Locator => page.getByRole('button', { name: 'Load model' });
export const answers = (page: Page): Locator => page.locator('#log .message.model');

/** Enough for the SDK to load its model and answer on a busy machine. */
const patience = 120_000;

export async function loadModel(page: Page): Promise<void> {
  await loadButton(page).click();
  await message(page).waitFor({ timeout: patience });
}

/** Sampled answers of a small model run on to the end of its context now and then (8 of 120 to "Hello"); greedy ones are the same each time. */
export async function answerGreedily(page: Page): Promise<void> {
  await page.locator('#temperature').evaluate((slider: HTMLInputElement) => {
    slider.value = '0';
    slider.dispatchEvent(new Event('input', { bubbles: true }));
  });
}

export async function ask(page: Page, text: string): Promise<string> {
  const before = await answers(page).count();
  await message(page).fill(text);
  await message(page).press('Enter');
  const answer = answers(page).nth(before);
  await answer.waitFor({ timeout: patience });
  return answer.locator('.text').innerText();
}

export async function talk(t: any, page: Page, url: string): Promise<void> {
  const asked: string[] = [];
  const errors: string[] = [];
  page.on('request', (request) => asked.push(new URL(request.url()).pathname));
  page.on('pageerror', (error) => errors.push(String(error)));
  page.on('console', (entry) => {
    // A model folder may lack files that the SDK can do without, which the browser calls an error.
    if (entry.type() === 'error' && !entry.location().url.includes('/models/')) errors.push(entry.text());
  });

  await page.goto(url);
  await loadButton(page).waitFor();
  await page.waitForFunction(() => performance.getEntriesByName('first-contentful-paint').length > 0);
  t.notOk(asked.some((path) => path.startsWith('/models/')), 'painted before anything of a model is asked for');
  t.equal(await page.evaluate(() => crossOriginIsolated), true, 'isolated, so threads are possible');

  await loadModel(page);
  await answerGreedily(page);
  t.equal(await page.evaluate(() => document.activeElement?.id), 'message', 'ready to write');
  t.not(await page.locator('#model-name').innerText(), '');
  t.match(await page.locator('#backend-facts').innerText(), /wasm[^]*Threads\s+\d+/);
  t.ok((await page.locator('#attempts li').count()) > 0, 'says what was tried');
  await page.locator('#memory-facts dd').first().waitFor();

  t.not(await ask(page, 'What is the capital of France?'), '');
  t.match(await answers(page).first().locator('.note').innerText(), /\d+ tokens? · [\d.]+ tokens per second · time to first token \d+/);
  t.match(await page.locator('#speed').innerText(), /^[\d.]+$/);

  await message(page).fill('Write a very long story about the sea.');
  await message(page).press('Enter');
  await page.locator('#growing .text p:not(.waiting)').first().waitFor({ timeout: patience });
  await page.getByRole('button', { name: 'Stop' }).click();
  await answers(page).nth(1).waitFor({ timeout: patience });
  t.match(await answers(page).nth(1).locator('.note').innerText(), /^Stopped/);

  await page.getByRole('button', { name: 'New chat' }).click();
  await page.locator('#welcome').waitFor();
  t.equal(await answers(page).count(), 0, 'nothing is left of the last chat');
  t.not(await ask(page, 'Hello'), '', 'and the next one works');

  await page.reload();
  await message(page).waitFor({ timeout: patience });
  t.pass('a stored model is opened without a click');
  t.same(errors, [], 'no errors in the console');
}
