/** A browser, and the chat page served by `npm run web` as a reader gets it. */
import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { chromium, type Browser } from 'playwright-core';

export const root = fileURLToPath(new URL('../../', import.meta.url));

function findBrowser(): string | null {
  const named = process.env['SHIFTADD_CHROMIUM'];
  if (named !== undefined && named !== '') return named;
  const folders = (process.env['PATH'] ?? '').split(delimiter);
  const paths = ['chromium', 'chromium-browser', 'google-chrome'].flatMap((name) => folders.map((folder) => join(folder, name)));
  return paths.find(isProgram) ?? null;
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

const executablePath = findBrowser();

/** Why tests that need a browser are skipped, or false. */
export const noBrowser = executablePath === null ? 'there is no chromium on PATH; SHIFTADD_CHROMIUM names one' : false;

export async function startBrowser(t: any): Promise<Browser> {
  // Tests often run as root in a container, where the sandbox of Chromium cannot.
  const browser = await chromium.launch({ executablePath: executablePath!, args: ['--no-sandbox'] });
  t.teardown(() => browser.close());
  return browser;
}

export async function temporaryFolder(t: any): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'shiftadd-web-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** Builds the SDK's stand-in into a folder. `banner` makes it another build. */
export async function buildFake(folder: string, banner = ''): Promise<void> {
  await build({
    entryPoints: [join(root, 'web', 'test', 'fake-sdk.ts')],
    outfile: join(folder, 'index.js'),
    bundle: true,
    format: 'esm',
    banner: { js: banner },
    logLevel: 'warning',
  });
}

export interface ServedPage {
  url: string;
  /** What was said about the build. */
  notes: string;
  stop(): Promise<void>;
}

/** `npm run web` with these options, on a free port. */
export async function servePage(t: any, options: string[]): Promise<ServedPage> {
  const { url, notes, ended, child } = await runWeb([...options, '--port', '0']);
  const stop = async (): Promise<void> => {
    child.kill();
    await ended;
  };
  t.teardown(stop);
  if (url === null) throw new Error(`npm run web ended: ${notes}`);
  return { url, notes, stop };
}

/** Resolves at the first line on standard output, or at the end without one. */
export async function runWeb(options: string[]): Promise<{
  url: string | null;
  notes: string;
  ended: Promise<number | null>;
  child: ReturnType<typeof spawn>;
}> {
  const { NODE_OPTIONS: _, ...env } = process.env; // tap's loaders
  const child = spawn(process.execPath, [join(root, 'scripts', 'web.mjs'), ...options], { stdio: ['ignore', 'pipe', 'pipe'], env });
  let notes = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (notes += text));
  const ended = new Promise<number | null>((resolve, reject) => child.on('error', reject).on('close', resolve));
  const line = new Promise<string>((resolve) => child.stdout.setEncoding('utf8').once('data', (text: string) => resolve(text.trim())));
  const url = await Promise.race([line, ended.then(() => null)]);
  return { url, notes, ended, child };
}
