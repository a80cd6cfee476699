/** A model folder appears under its name only when it is whole; nothing is left behind when making it fails. */
import { mkdir, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { ShiftAddError, fromWriting } from '../errors.js';

/** Refuses an output folder that is an input, that exists without `overwrite`, or that is no model. ERR_OUTPUT_EXISTS. */
export async function checkOutput(out: string, inputs: readonly string[], overwrite: boolean): Promise<void> {
  const there = await stat(out).catch(() => null);
  if (there === null) return;
  if (inputs.includes(out))
    throw new ShiftAddError(
      'ERR_OUTPUT_EXISTS',
      `The output folder ${out} is the checkpoint itself. Choose another one.`,
    );
  if (!overwrite)
    throw new ShiftAddError(
      'ERR_OUTPUT_EXISTS',
      `The output folder ${out} exists. Remove it, choose another one, or pass overwrite (--overwrite).`,
    );
  const isModel =
    there.isDirectory() &&
    (await stat(`${out}/config.json`).then(
      () => true,
      () => false,
    ));
  if (!isModel)
    throw new ShiftAddError(
      'ERR_OUTPUT_EXISTS',
      `${out} is not a model folder and is not overwritten. Choose another one.`,
    );
}

/** `fill` writes into an empty folder beside `out`, which then takes the name. ERR_WRITE when the disk is full, for instance. */
export async function writeFolder(
  out: string,
  signal: AbortSignal | undefined,
  fill: (partial: string) => Promise<void>,
): Promise<void> {
  const partial = `${out}.partial-${process.pid}`;
  try {
    await mkdir(dirname(out), { recursive: true });
    await rm(partial, { recursive: true, force: true });
    await mkdir(partial);
    await fill(partial);
    signal?.throwIfAborted();
    await replaceFolder(partial, out);
  } catch (error) {
    await rm(partial, { recursive: true, force: true }).catch(() => undefined); // what went wrong first is said
    throw fromWriting(error, out);
  }
}

/** The old folder goes only when the new one is in its place. */
async function replaceFolder(partial: string, out: string): Promise<void> {
  const old = `${out}.old-${process.pid}`;
  const replaced = await rename(out, old).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return false;
      throw error;
    },
  );
  try {
    await rename(partial, out);
  } catch (error) {
    if (replaced) await rename(old, out);
    throw error;
  }
  if (replaced) await rm(old, { recursive: true, force: true });
}
