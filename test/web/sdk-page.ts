/** An empty page with the SDK's browser build, for tests that talk to the SDK itself. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { readSafetensors } from '../../sdk/src/checkpoint/safetensors.js';
import { stories } from '../sdk/fixtures.js';
import { noBrowser, root, startBrowser } from './browser.js';
import { ModelServer, isolated } from './model-server.js';

export const sdkFolder = join(root, 'dist', 'browser');

export const skip = noBrowser !== false ? noBrowser : existsSync(join(sdkFolder, 'index.js')) ? false : 'dist/browser is missing; npm run build makes it';

/** In the page: `sdk` is its module; `told` turns a promise into what can be sent back. */
const script = `
import * as sdk from '/sdk/index.js';
globalThis.told = (promise) => promise.then(
  (value) => ({ value }),
  (error) => ({ name: error.name, code: error.code ?? null, message: error.message }),
);
globalThis.collect = async (run) => {
  const chunks = [];
  for await (const { text } of run) chunks.push(text);
  return { chunks, ...(await run.result()) };
};
globalThis.sdk = sdk;
`;
const html = '<!doctype html><html lang="en"><title>shiftadd</title><input type="file" id="folder" webkitdirectory><input type="file" id="files" multiple><script type="module" src="/page.js"></script>';

/** The policy that docs/browser.md names. */
export const policy = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'";

export interface SdkPages {
  browser: Browser;
  server: ModelServer;
  /** Of stories-260k. */
  model: string;
  /** A page of a visitor who was never here. */
  visit(t: any, path?: string, options?: BrowserContextOptions): Promise<Page>;
}

export async function startPages(t: any): Promise<SdkPages> {
  const server = await ModelServer.start(t);
  // As files of a release are served, so that they are there without a network too.
  server.putFolder('/sdk', sdkFolder, {}, { 'Cache-Control': 'max-age=3600' });
  server.put('/page.js', script);
  putPage(server, '/', { ...isolated, 'Content-Security-Policy': policy });
  const model = server.putFolder('/models/stories', stories);
  const browser = await startBrowser(t);
  const visit = async (t: any, path = '/', options: BrowserContextOptions = {}): Promise<Page> => {
    const context = await browser.newContext(options);
    context.setDefaultTimeout(60_000);
    t.teardown(() => context.close());
    const page = await context.newPage();
    await page.goto(server.url + path);
    await page.waitForFunction('globalThis.sdk !== undefined');
    return page;
  };
  return { browser, server, model, visit };
}

/** A page with the SDK and these headers; without isolation unless they say so. */
export function putPage(server: ModelServer, path: string, headers: Record<string, string>): void {
  server.put(path, html, { 'Content-Type': 'text/html', 'Cross-Origin-Opener-Policy': 'unsafe-none', 'Cross-Origin-Embedder-Policy': 'unsafe-none', ...headers });
}

/** The SDK at another address, with a worker that runs this first. */
export function putSdk(server: ModelServer, path: string, before: string): void {
  server.putFolder(path, sdkFolder, { 'worker.js': `${before}\n${readFileSync(join(sdkFolder, 'worker.js'), 'utf8')}` });
}

/** config.json of stories-260k with the checksums of its tensors, as a packed model has them. */
export async function checkedConfig(): Promise<string> {
  const path = join(stories, 'model.safetensors');
  const bytes = readFileSync(path);
  const checksums: Record<string, string> = {};
  for (const { name, offset, bytes: size } of (await readSafetensors(path)).tensors.values()) {
    checksums[name] = createHash('sha256').update(bytes.subarray(offset, offset + size)).digest('hex');
  }
  const quantization = { quant_method: 'shiftadd', format_version: 1, mode: 'lat', scale_encoding: 'e4g3x3', row_group: 96, tensors: {}, checksums };
  return JSON.stringify({ ...JSON.parse(readFileSync(join(stories, 'config.json'), 'utf8')), quantization_config: quantization });
}
