/**
 * The files in which a kernel tells about its machine, below a root that a test or a container may put elsewhere. Names are
 * absolute as on the machine itself (`/proc/meminfo`).
 */
import { closeSync, openSync, readFileSync, readSync, readdirSync, realpathSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';

/** Reads a whole file at its real path. Throws as `readFileSync` does, with `code`. */
export type ReadText = (path: string) => string;

export const defaultRoot = '/';

export class SystemFiles {
  readonly root: string;
  /** Reads that failed for another reason than a missing file: name to code, such as EACCES or ENODATA. */
  readonly failures = new Map<string, string>();
  readonly #read: ReadText | undefined;

  constructor(root: string = defaultRoot, read?: ReadText) {
    this.root = resolve(root);
    this.#read = read;
  }

  /** Where a file really lies. */
  path(name: string): string {
    return join(this.root, name);
  }

  /** The text without white space and NULs at its end, or null; `failures` tells why where the file exists. */
  text(name: string): string | null {
    try {
      const path = this.path(name);
      const text = (this.#read ?? readWhole)(path).replace(/[\s\0]+$/, '');
      this.failures.delete(name);
      return text;
    } catch (error) {
      const code = codeOf(error);
      if (code !== 'ENOENT' && code !== 'ENOTDIR') this.failures.set(name, code);
      return null;
    }
  }

  /** The first number of the text (`32760 ma` is 32760), or null. */
  number(name: string): number | null {
    return firstNumber(this.text(name));
  }

  /** The names in a folder, numbers in their order; none when there is no such folder. */
  entries(name: string): string[] {
    try {
      return readdirSync(this.path(name)).sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
    } catch (error) {
      const code = codeOf(error);
      if (code !== 'ENOENT' && code !== 'ENOTDIR') this.failures.set(name, code);
      return [];
    }
  }

  /** The name that links lead to, or null when they lead nowhere. */
  real(name: string): string | null {
    try {
      return `/${relative(realpathSync(this.root), realpathSync(this.path(name)))}`;
    } catch {
      return null; // a dangling link is a missing file
    }
  }

  /** A file of at most `mostBytes` that is read again and again through one handle. */
  open(name: string, mostBytes = 256): SystemFile {
    return new SystemFile(this.path(name), this.#read, mostBytes);
  }
}

/** One small file with a handle that stays open. */
export class SystemFile {
  #handle: number | null = null;
  readonly #path: string;
  readonly #read: ReadText | undefined;
  readonly #buffer: Buffer;

  constructor(path: string, read: ReadText | undefined, mostBytes: number) {
    this.#path = path;
    this.#read = read;
    this.#buffer = Buffer.alloc(mostBytes);
  }

  /** The first number in the file; null when reading fails now: a missed reading. */
  number(): number | null {
    if (this.#read !== undefined) return firstNumber(this.text());
    const length = this.#fill();
    return length === null ? null : numberIn(this.#buffer, length);
  }

  /** What the file says now; null when reading fails (ENODATA, EAGAIN, a file that went away). */
  text(): string | null {
    if (this.#read === undefined) {
      const length = this.#fill();
      return length === null ? null : this.#buffer.toString('latin1', 0, length);
    }
    try {
      return this.#read(this.#path);
    } catch {
      return null;
    }
  }

  /** How many bytes of the buffer are the file's. */
  #fill(): number | null {
    try {
      this.#handle ??= openSync(this.#path, 'r');
      return readSync(this.#handle, this.#buffer, 0, this.#buffer.length, 0);
    } catch (error) {
      // A device that came back has a new file; a busy chip keeps its own.
      if (!/^(EAGAIN|ENODATA|EIO|EBUSY|EINTR)$/.test(codeOf(error))) this.close();
      return null;
    }
  }

  close(): void {
    if (this.#handle !== null) closeSync(this.#handle);
    this.#handle = null;
  }
}

export function firstNumber(text: string | null): number | null {
  const found = text === null ? null : /^\s*(-?\d+(?:\.\d+)?)/.exec(text);
  return found === null ? null : Number(found[1]);
}

const [minus, point, zero, space] = [0x2d, 0x2e, 0x30, 0x20];

/** `firstNumber` of bytes, without a string: between two tokens little of this program is in the processor's caches. */
function numberIn(bytes: Uint8Array, length: number): number | null {
  let at = 0;
  while (at < length && (bytes[at]! === space || (bytes[at]! >= 9 && bytes[at]! <= 13))) at++;
  const negative = bytes[at] === minus;
  if (negative) at++;
  const isDigit = (place: number): boolean => place < length && bytes[place]! >= zero && bytes[place]! <= zero + 9;
  if (!isDigit(at)) return null;
  let value = 0;
  for (; isDigit(at); at++) value = value * 10 + (bytes[at]! - zero);
  if (bytes[at] === point && isDigit(at + 1)) return firstNumber(Buffer.from(bytes.buffer, bytes.byteOffset, length).toString('latin1'));
  return negative ? -value : value;
}

function readWhole(path: string): string {
  return readFileSync(path, 'utf8');
}

function codeOf(error: unknown): string {
  const code = (error as NodeJS.ErrnoException | null)?.code;
  return typeof code === 'string' ? code : String(error);
}
