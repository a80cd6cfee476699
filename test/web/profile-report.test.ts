// The report of `shiftadd profile` in a real browser: what a reader sees, without a script and without the network.
import axe from 'axe-core';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Page } from 'playwright-core';
import t from 'tap';
import { profilePage } from '../../sdk/src/cli/profile-page.js';
import { withPower } from '../sdk/known-power.js';
import { noBrowser, startBrowser, temporaryFolder } from './browser.js';

const skip = noBrowser;
/** Where to leave pictures for a person to look at. */
const pictures = process.env['SHIFTADD_PICTURES'];

async function violations(page: Page): Promise<string[]> {
  await page.evaluate(axe.source);
  return page.evaluate(async () => {
    const { violations } = await (globalThis as unknown as { axe: typeof axe }).axe.run();
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(' ')}`);
  });
}

t.test('a report', { skip }, async (t) => {
  const folder = await temporaryFolder(t);
  const result = await withPower({ idle: [3, 3.2], prefill: 12, decode: 7 }, { prompt: ['Once upon a time', 'The <b>end</b> & more'], repetitions: 2, idle: 1, window: 0.6 }, 0.02);
  const file = join(folder, 'report.html');
  await writeFile(file, profilePage({ ...result, valid: false, problems: ['the board throttled (<gpu>)'] }));
  const browser = await startBrowser(t);
  for (const colorScheme of ['light', 'dark'] as const) {
    for (const viewport of [{ width: 1280, height: 900 }, { width: 390, height: 844 }]) {
      const context = await browser.newContext({ colorScheme, viewport, offline: true, deviceScaleFactor: 2 });
      const page = await context.newPage();
      const requests: string[] = [];
      const complaints: string[] = [];
      page.on('request', (request) => requests.push(request.url()));
      page.on('console', (message) => complaints.push(message.text()));
      await page.goto(pathToFileURL(file).href);
      const name = `${colorScheme}, ${viewport.width} pixels`;
      if (pictures !== undefined) await page.screenshot({ path: join(pictures, `${colorScheme}-${viewport.width}.png`), fullPage: true });
      t.same(await violations(page), [], `${name}: axe finds nothing`);
      t.same([requests.length, complaints], [1, []], 'the file alone');
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      t.equal(wide, 0, `${name}: the page itself does not scroll sideways`);
      t.same(await page.getByRole('img').evaluateAll((charts) => charts.map((chart) => chart.querySelector('title')?.textContent)), ['Power over time', 'resident memory of the process', 'available memory of the machine', 'tokens read', 'tokens generated']);
      t.equal(await page.locator('#power-title ~ rect.phase-decode').count(), 4);
      t.equal(await page.locator('#power-title ~ rect.phase-idle').count(), 2);
      const box = await page.getByRole('img', { name: 'Power over time' }).boundingBox();
      t.ok(box!.width > 250 && box!.height > 150, `${name}: the chart has a size`);
      t.match(await page.locator('.cards').innerText(), /per generated token[^]*of it above idle/);
      t.equal(await page.getByRole('table', { name: 'Every window that was measured' }).locator('tbody tr').count(), 8);
      t.match(await page.getByRole('table', { name: /Prefill and decode/ }).innerText(), /decode\s+\d+/);
      t.match(await page.locator('body').innerText(), 'This run is not valid: the board throttled (<gpu>).');
      t.match(await page.locator('body').innerText(), /Method and its limits/);
      await context.close();
    }
  }
  const blind = { ...result, meter: null, meterProblem: 'there is none', timeline: { ...result.timeline, power: { atMs: [], watts: [], rails: [] } } };
  await writeFile(file, profilePage(blind));
  const page = await browser.newPage();
  await page.goto(pathToFileURL(file).href);
  t.match(await page.locator('body').innerText(), 'Not measured: there is none.');
  t.same(await violations(page), []);
});
