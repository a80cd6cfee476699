/** Reads the JSON files of a model folder; every failure names the file, and where it helps the field. */
import { readFile } from 'node:fs/promises';
import { ShiftAddError, fromFileSystem } from '../errors.js';
import { show } from '../options.js';

export type Json = null | boolean | number | string | Json[] | JsonObject;
export interface JsonObject {
  [key: string]: Json | undefined;
}

/** The object in a JSON file. ERR_NOT_FOUND, ERR_BAD_MODEL_FILE. */
export async function readJsonFile(path: string, fix: string): Promise<JsonObject> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    throw fromFileSystem(error, path, fix);
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new ShiftAddError(
      'ERR_BAD_MODEL_FILE',
      `${path} is not valid JSON: ${(error as Error).message}. ${fix}`,
      error,
    );
  }
  if (!isJsonObject(value)) {
    throw new ShiftAddError('ERR_BAD_MODEL_FILE', `${path} must hold a JSON object but holds ${show(value)}. ${fix}`);
  }
  return value;
}

/** The same, or null when there is no such file. */
export async function readOptionalJsonFile(path: string, fix: string): Promise<JsonObject | null> {
  try {
    return await readJsonFile(path, fix);
  } catch (error) {
    if (error instanceof ShiftAddError && (error.cause as NodeJS.ErrnoException | undefined)?.code === 'ENOENT')
      return null;
    throw error;
  }
}

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
