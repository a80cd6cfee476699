/** The folder of the package, from which files are read at run time: engines, WebAssembly modules, boards, the worker. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { moduleFolder } from './module-place.js';

interface Place {
  folder: string;
  /** This code lies in somebody's bundle, and the package is not near it. */
  isLost: boolean;
}

let place: Place | null = null;

/** The folder that holds package.json of shiftadd: of the installed package or of the checkout. */
export function packageRoot(): string {
  return (place ??= find()).folder;
}

/** Of the package that this code belongs to. */
export function packageVersion(): string {
  try {
    return (JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as { version: string }).version;
  } catch {
    return 'latest';
  }
}

/** What to do where files of the package are missing because a bundler has copied the code away from them; else empty. */
export function bundledFix(): string {
  packageRoot();
  if (!place!.isLost) return '';
  return ` This code of shiftadd was bundled into ${moduleFolder}, and the package is not near it: mark "shiftadd" as external in the bundler, and install it where the bundle runs.`;
}

function find(): Place {
  // A bundle may lie anywhere; the package is then found as the program that was started would find it.
  for (const start of [moduleFolder, dirname(process.argv[1] ?? '.'), '.']) {
    for (let folder = resolve(start); ; folder = dirname(folder)) {
      for (const candidate of [folder, join(folder, 'node_modules', 'shiftadd')]) {
        if (isPackage(candidate)) return { folder: candidate, isLost: false };
      }
      if (folder === dirname(folder)) break;
    }
  }
  return { folder: moduleFolder, isLost: true };
}

function isPackage(folder: string): boolean {
  const file = join(folder, 'package.json');
  try {
    return existsSync(file) && (JSON.parse(readFileSync(file, 'utf8')) as { name?: unknown }).name === 'shiftadd';
  } catch {
    return false;
  }
}
