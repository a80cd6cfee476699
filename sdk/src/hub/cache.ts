/**
 * The cache folder that tools of the Hugging Face Hub share: blobs by their hash, and for every commit a folder of links.
 *
 *     models--<owner>--<name>/refs/<branch>           the commit that a branch was at
 *     models--<owner>--<name>/blobs/<hash>            contents
 *     models--<owner>--<name>/snapshots/<commit>/...  links to them
 */
import { randomBytes } from 'node:crypto';
import { copyFile, link, mkdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { fromWriting } from '../errors.js';

/** HF_HUB_CACHE, or `hub` below HF_HOME, as the Python client has it. */
export function defaultCache(environment: NodeJS.ProcessEnv = process.env): string {
  const { HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE } = environment;
  return expand(HF_HUB_CACHE ?? HUGGINGFACE_HUB_CACHE ?? join(hubHome(environment), 'hub'));
}

/** HF_HOME, by default ~/.cache/huggingface. */
export function hubHome(environment: NodeJS.ProcessEnv = process.env): string {
  const { HF_HOME, XDG_CACHE_HOME } = environment;
  return expand(HF_HOME ?? join(XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'huggingface'));
}

function expand(path: string): string {
  return path === '~' || path.startsWith('~/') ? join(homedir(), path.slice(1)) : path;
}

export class RepositoryCache {
  private readonly folder: string;

  constructor(cache: string, repository: string) {
    this.folder = join(resolve(cache), `models--${repository.replaceAll('/', '--')}`);
  }

  blob(hash: string): string {
    return join(this.folder, 'blobs', hash);
  }

  snapshot(commit: string): string {
    return join(this.folder, 'snapshots', commit);
  }

  /** The commit that a branch or tag was at when it was last looked up; null when it never was. */
  async commitOf(revision: string): Promise<string | null> {
    if (isCommit(revision)) return revision;
    const text = await readFile(this.ref(revision), 'utf8').catch(() => null);
    return text !== null && isCommit(text.trim()) ? text.trim() : null;
  }

  async writeCommit(revision: string, commit: string): Promise<void> {
    if (isCommit(revision)) return;
    await this.write(this.ref(revision), async (path) => writeFile(path, commit));
  }

  async hasBlob(hash: string): Promise<boolean> {
    return isThere(this.blob(hash));
  }

  /** Makes `name` of the commit the blob, by a link where the file system has links. */
  async place(commit: string, name: string, hash: string, makeLink: typeof symlink = symlink): Promise<void> {
    const path = join(this.snapshot(commit), name);
    if (await isThere(path)) return;
    const blob = this.blob(hash);
    await this.write(path, async (to) => {
      try {
        await makeLink(relative(dirname(path), blob), to);
      } catch {
        // Without rights to make symbolic links: the same file under both names, or a copy.
        await link(blob, to).catch(async () => copyFile(blob, to));
      }
    });
  }

  private ref(revision: string): string {
    return join(this.folder, 'refs', revision);
  }

  /** Appears under its name only when it is whole. ERR_WRITE. */
  private async write(path: string, make: (temporary: string) => Promise<void>): Promise<void> {
    const temporary = join(dirname(path), `.${randomBytes(6).toString('hex')}.tmp`);
    try {
      await mkdir(dirname(path), { recursive: true });
      await rm(temporary, { force: true });
      await make(temporary);
      await rename(temporary, path);
    } catch (error) {
      await rm(temporary, { force: true }).catch(() => undefined);
      throw fromWriting(error, path);
    }
  }
}

export function isCommit(text: string): boolean {
  return /^[0-9a-f]{40}$/.test(text);
}

async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
