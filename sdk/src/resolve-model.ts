/** Finds the folder of a model: a path, a file URL, or the name of an embedded model package. */
import Module from 'node:module'; // as in native-path.ts
import { stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isGgufPath } from './checkpoint/model-folder.js';
import { ShiftAddError } from './errors.js';
import { parseRepository, pullModel } from './hub/pull.js';
import { packageRoot } from './native-path.js';
import { show } from './options.js';

/** The model that is used when none is named. */
export const defaultModelName = 'smollm2-135m-instruct';

/**
 * The absolute path of a model folder or GGUF file. A repository of the Hub (owner/name, owner/name@revision) is taken from
 * the cache, or pulled when it is not there. ERR_NOT_FOUND lists the places that were looked at; ERR_HUB, ERR_HUB_ACCESS.
 */
export async function resolveModel(nameOrPath: string | URL = defaultModelName): Promise<string> {
  if (!(typeof nameOrPath === 'string' || nameOrPath instanceof URL) || String(nameOrPath) === '') {
    throw new TypeError(`Expected a folder, a file URL or a model name but received ${show(nameOrPath)}`);
  }
  const text = String(nameOrPath);
  const isUrl = text.startsWith('file:');
  const path = isUrl ? fileURLToPath(text) : resolve(text);
  const looked = [path];
  if ((await isFolder(path)) || (isGgufPath(path) && (await isFile(path)))) return path;
  const isName = !isUrl && /^[a-z0-9][a-z0-9._-]*$/i.test(text);
  if (isName) {
    const inside = join(packageRoot(), 'models', text);
    looked.push(inside);
    if (await isFolder(inside)) return inside;
    for (const from of [process.cwd(), packageRoot()]) {
      looked.push(`the package @shiftadd/${text} seen from ${from}`);
      const found = findPackage(`@shiftadd/${text}`, from);
      if (found !== null && (await isFolder(found))) return found;
    }
  }
  const fix = isName
    ? `Pass the path of a model folder, or install one with "npm install @shiftadd/${text}".`
    : 'Pass the path of a model folder or of a GGUF file.';
  if (!isUrl && parseRepository(text) !== null) {
    // What was pulled once needs no network; `pullModel` looks for a newer commit.
    const cached = await pullModel(text, { offline: true }).catch(() => null);
    if (cached !== null) return cached.path;
    return (
      await pullModel(text).catch((error: unknown) => {
        if (error instanceof ShiftAddError) error.message = `There is no folder ${path}, and ${text} could not be pulled: ${error.message}`;
        throw error;
      })
    ).path;
  }
  throw new ShiftAddError('ERR_NOT_FOUND', `There is no model ${show(text)}. Looked at: ${looked.join(', ')}. ${fix}`);
}

async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (entry) => entry.isDirectory(),
    () => false,
  );
}

async function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (entry) => entry.isFile(),
    () => false,
  );
}

function findPackage(name: string, from: string): string | null {
  try {
    return dirname(Module.createRequire(join(from, 'package.json')).resolve(`${name}/package.json`));
  } catch {
    return null;
  }
}
