/** Writes the page of `inspect --html`, whole or not at all, and never over a file of another kind unless asked. */
import { open, rename, rm, stat, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { ShiftAddError, fromFileSystem } from '../errors.js';
import { pageMark } from './inspect-page.js';

/** The mark stands at the start of a page. */
const markWithin = 1024;

/**
 * ERR_OUTPUT_EXISTS when something is there that must not be replaced: a folder, or without `overwrite` a file that is
 * no page of inspect. Running the same command again is expected to refresh its page.
 */
export async function checkPagePath(file: string, overwrite: boolean): Promise<void> {
  const path = resolve(file);
  const there = await stat(path).catch(() => null);
  if (there === null) return;
  if (!there.isFile()) {
    throw new ShiftAddError('ERR_OUTPUT_EXISTS', `${path} is ${there.isDirectory() ? 'a folder' : 'no file'}. Choose the name of a file, such as report.html.`);
  }
  if (overwrite || (await isPage(path))) return;
  throw new ShiftAddError('ERR_OUTPUT_EXISTS', `${path} exists and is no page of shiftadd inspect. Choose another name, or pass --overwrite.`);
}

async function isPage(path: string): Promise<boolean> {
  const file = await open(path, 'r').catch(() => null);
  if (file === null) return false;
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(markWithin), 0, markWithin, 0);
    // There is nothing to lose in an empty file.
    return bytesRead === 0 || buffer.toString('utf8', 0, bytesRead).includes(pageMark);
  } finally {
    await file.close();
  }
}

/** Returns the full path. ERR_OUTPUT_EXISTS, ERR_NOT_FOUND. */
export async function writePage(file: string, text: string, overwrite: boolean): Promise<string> {
  const path = resolve(file);
  await checkPagePath(file, overwrite);
  const partial = `${path}.partial-${process.pid}`;
  try {
    await writeFile(partial, text, { flag: 'wx' });
    await rename(partial, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') await rm(partial, { force: true });
    throw describeFailure(error, path);
  }
  return path;
}

function describeFailure(error: unknown, path: string): Error {
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'ENOENT' || code === 'ENOTDIR') return fromFileSystem(error, resolve(path, '..'), 'Make the folder first, or choose another one.');
  return new ShiftAddError('ERR_NOT_FOUND', `${path} cannot be written (${code ?? String(error)}). Choose another place.`, error);
}
