/** Writes the output files of commands, whole or not at all, and never over a file of another kind unless asked. */
import { open, rename, rm, stat, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { ShiftAddError, fromFileSystem } from '../errors.js';

/** What a command writes into a file. */
export interface OutputKind {
  /** A text within the first kilobyte by which such a file is known. */
  mark: string;
  /** As in "is no page of shiftadd inspect". */
  noun: string;
  /** A name for such a file. */
  example: string;
}

const markWithin = 1024;

/**
 * ERR_OUTPUT_EXISTS when something is there that must not be replaced: a folder, or without `overwrite` a file of another
 * kind. Running the same command again is expected to refresh its file.
 */
export async function checkOutputPath(file: string, kind: OutputKind, overwrite: boolean): Promise<void> {
  const path = resolve(file);
  const there = await stat(path).catch(() => null);
  if (there === null) return;
  if (!there.isFile()) {
    throw new ShiftAddError('ERR_OUTPUT_EXISTS', `${path} is ${there.isDirectory() ? 'a folder' : 'no file'}. Choose the name of a file, such as ${kind.example}.`);
  }
  if (overwrite || (await isOfKind(path, kind))) return;
  throw new ShiftAddError('ERR_OUTPUT_EXISTS', `${path} exists and is no ${kind.noun}. Choose another name, or pass --overwrite.`);
}

async function isOfKind(path: string, { mark }: OutputKind): Promise<boolean> {
  const file = await open(path, 'r').catch(() => null);
  if (file === null) return false;
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(markWithin), 0, markWithin, 0);
    // There is nothing to lose in an empty file.
    return bytesRead === 0 || buffer.toString('utf8', 0, bytesRead).includes(mark);
  } finally {
    await file.close();
  }
}

/** Returns the full path. ERR_OUTPUT_EXISTS, ERR_NOT_FOUND. */
export async function writeOutput(file: string, text: string, kind: OutputKind, overwrite: boolean): Promise<string> {
  const path = resolve(file);
  await checkOutputPath(file, kind, overwrite);
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
