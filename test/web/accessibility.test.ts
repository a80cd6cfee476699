import axe from 'axe-core';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import t from 'tap';
import { buildFake, noBrowser, servePage, startBrowser, temporaryFolder } from './browser.js';
import { ask, loadModel, message } from './flow.js';

const skip = noBrowser;

/** Rules of axe that the page breaks, with the elements. */
async function violations(page: Page): Promise<string[]> {
  await page.evaluate(axe.source);
  return page.evaluate(async () => {
    const { violations } = await (globalThis as unknown as { axe: typeof axe }).axe.run();
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 80)).join(' ')}`);
  });
}

t.test('axe finds nothing', { skip }, async (t) => {
  const folder = await temporaryFolder(t);
  await buildFake(join(folder, 'sdk'));
  const served = await servePage(t, ['--sdk', join(folder, 'sdk'), '--out', join(folder, 'page')]);
  const browser = await startBrowser(t);
  for (const colorScheme of ['light', 'dark'] as const) {
    for (const viewport of [{ width: 1280, height: 800 }, { width: 390, height: 844 }]) {
      const context = await browser.newContext({ colorScheme, viewport, reducedMotion: 'reduce' });
      const page = await context.newPage();
      const check = async (state: string): Promise<void> => {
        t.same(await violations(page), [], `${colorScheme}, ${viewport.width} pixels, ${state}`);
      };
      await page.goto(served.url);
      await check('choosing');
      await page.getByLabel('A web address').check();
      await page.getByRole('button', { name: 'Load model' }).click();
      await check('a wrong address');
      await page.getByLabel('Address of the model folder').fill('models/stalled');
      await page.getByRole('button', { name: 'Load model' }).click();
      await page.getByText(/^Downloading/).first().waitFor();
      await check('loading');
      await page.getByRole('button', { name: 'Cancel' }).click();
      await page.getByLabel('SmolLM2 135M Instruct').check();
      await loadModel(page);
      await check('nothing said yet');
      await ask(page, 'Hello');
      await message(page).fill('long');
      await message(page).press('Enter');
      await page.getByText('word5').first().waitFor();
      await check('answering');
      await message(page).press('Escape');
      await page.getByText('Stopped.').waitFor();
      await ask(page, 'overflow');
      if (viewport.width < 990) await page.getByRole('button', { name: 'Details' }).click();
      await page.getByText('Settings').click();
      await check('an error and the settings');
      await page.getByRole('button', { name: 'Change model' }).click();
      await page.getByText(/^Stored in/).click();
      await check('stored models');
      await context.close();
    }
  }
});
