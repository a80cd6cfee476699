/** Brings one file into the cache: resumed where it was broken off, and checked before it counts. */
import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { ShiftAddError, fromWriting } from '../errors.js';
import { show } from '../options.js';
import type { RepositoryCache } from './cache.js';
import { typeOf, type HubClient, type RepositoryFile } from './client.js';

export interface Download {
  client: HubClient;
  cache: RepositoryCache;
  repository: string;
  commit: string;
  file: RepositoryFile;
  signal: AbortSignal | undefined;
  /** Bytes of this file that are there. */
  onBytes: (bytes: number) => void;
}

const startBytes = 100;
const lockPauseMs = 300;
/** An answer that ends too soon after so much was a broken connection; after less it is another text. */
const mostOfOtherTexts = 1 << 20;
/** Connections of one file that may break, as long as each brings something. */
const mostBreaks = 20;

/** What this process is downloading, by the part's path: a second call waits for the first. */
const running = new Map<string, Promise<string>>();

/** The name of the blob. ERR_HUB when what comes is not the file, ERR_WRITE, what the client throws, or the signal's reason. */
export async function download(job: Download): Promise<string> {
  const { cache, commit, file, signal, onBytes } = job;
  const known = file.hash?.value ?? null;
  if (known !== null && (await cache.hasBlob(known))) {
    onBytes(file.bytes ?? 0);
    return known;
  }
  const partial = `${cache.blob(known ?? `unknown-${commit.slice(0, 12)}-${hashOf(file.name)}`)}.incomplete`;
  for (let other; (other = running.get(partial)) !== undefined; ) {
    const hash = await other.catch(() => null);
    signal?.throwIfAborted();
    if (hash !== null) return hash;
  }
  const work = downloadAlone(job, partial, known);
  running.set(partial, work);
  return work.finally(() => running.delete(partial));
}

async function downloadAlone(job: Download, partial: string, known: string | null): Promise<string> {
  const { cache, file, signal } = job;
  let unlock: (() => Promise<void>) | null = null;
  try {
    await mkdir(dirname(partial), { recursive: true });
    unlock = await lockFile(`${partial}.lock`, signal);
    if (known !== null && (await cache.hasBlob(known))) return known; // another process was faster
    if (known === null) await rm(partial, { force: true }); // nothing says that it is a part of this content
    for (let attempt = 0; ; attempt++) {
      await receive(job, partial);
      const found = await digest(partial, file.hash?.kind ?? 'sha256', signal);
      if (known === null || found === known) {
        await checkContent(partial, file);
        await rename(partial, cache.blob(found));
        return found;
      }
      const start = await firstBytes(partial);
      await rm(partial, { force: true });
      // Once more from the beginning: an old part may have been of another content.
      if (attempt > 0) throw notTheFile(file, `its hash is ${found}, not ${known}`, start);
    }
  } catch (error) {
    signal?.throwIfAborted();
    throw fromWriting(error, partial);
  } finally {
    await unlock?.();
  }
}

/** Waits while a living process of this machine holds the lock; one that died has left it behind. */
async function lockFile(path: string, signal: AbortSignal | undefined): Promise<() => Promise<void>> {
  for (;;) {
    signal?.throwIfAborted();
    try {
      await writeFile(path, String(process.pid), { flag: 'wx' });
      return () => rm(path, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const holder = Number(await readFile(path, 'utf8').catch(() => ''));
    if (holder > 0 && !isAlive(holder)) await rm(path, { force: true });
    else await wait(lockPauseMs);
  }
}

function isAlive(pid: number): boolean {
  if (pid === process.pid) return false; // this process would be in `running`: an earlier one had the same number
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Appends to the part until it is as long as the file. */
async function receive({ client, repository, commit, file, signal, onBytes }: Download, partial: string): Promise<void> {
  const { bytes: total } = file;
  let have = await stat(partial).then(({ size }) => size, () => 0);
  if (total !== null && have > total) {
    await rm(partial);
    have = 0;
  }
  for (let failures = 0; have !== total; failures++) {
    const response = await client.open(repository, commit, file.name, have);
    if (response.status === 416) {
      // What is there goes beyond the end that the server knows.
      await response.body?.cancel();
      if (have === 0 || failures > 0) throw notTheFile(file, 'the server has no bytes where it should', '');
      await rm(partial, { force: true });
      have = 0;
      continue;
    }
    if (/^text\/html/.test(typeOf(response)) && !/\.html?$/.test(file.name)) {
      const text = await response.text();
      throw notTheFile(file, `${response.status} ${typeOf(response)} came`, text.slice(0, startBytes));
    }
    const start = response.status === 206 ? have : 0;
    const { end, error } = await append(response, partial, start, { total, signal, onBytes });
    if (error === null && total === null) return;
    const cut = error === null && total !== null && end < total && end - start > mostOfOtherTexts && failures < mostBreaks;
    if (total !== null && !cut && (error === null ? end !== total : end > total)) {
      const begin = await firstBytes(partial);
      await rm(partial, { force: true });
      throw notTheFile(file, `${end} bytes came where it has ${total}`, begin);
    }
    if (error !== null && (end === start || failures >= mostBreaks || total === null)) {
      throw new ShiftAddError('ERR_HUB', `The connection broke off while ${file.name} was coming. The same call goes on where it stopped.`, error);
    }
    have = end;
  }
  if (total === 0) await open(partial, 'w').then((file) => file.close());
}

/** Writes a response behind the first `start` bytes. The error of a connection that broke is returned; others are thrown. */
async function append(
  response: Response,
  partial: string,
  start: number,
  { total, signal, onBytes }: Pick<Download, 'signal' | 'onBytes'> & { total: number | null },
): Promise<{ end: number; error: TypeError | null }> {
  const out = await open(partial, start > 0 ? 'a' : 'w');
  let end = start;
  try {
    for await (const chunk of response.body ?? []) {
      await out.writeFile(chunk as Uint8Array);
      end += (chunk as Uint8Array).byteLength;
      onBytes(end);
      signal?.throwIfAborted();
      if (total !== null && end > total) break;
    }
    await out.sync();
    return { end, error: null };
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof TypeError) return { end, error };
    throw error;
  } finally {
    await out.close();
  }
}

function notTheFile(file: RepositoryFile, why: string, start: string): ShiftAddError {
  const begin = start === '' ? '' : ` It begins with ${show(start)}.`;
  const pointer = start.startsWith('version https://git-lfs') ? ' That is a Git LFS pointer: the mirror does not have the file itself.' : '';
  return new ShiftAddError('ERR_HUB', `What came for ${file.name} is not the file: ${why}.${begin}${pointer} A proxy or mirror may be in the way; nothing was kept.`);
}

/** What can be told without a hash. */
async function checkContent(path: string, file: RepositoryFile): Promise<void> {
  if (file.hash !== null) return;
  const start = await firstBytes(path);
  const isHeader = (text: string): boolean => start.startsWith(text);
  const good =
    (file.name.endsWith('.json') && /^\s*[[{]/.test(start)) ||
    (file.name.endsWith('.gguf') && isHeader('GGUF')) ||
    (file.name.endsWith('.bin') && (isHeader('PK') || start.charCodeAt(0) === 0x80)) ||
    (file.name.endsWith('.safetensors') && start.slice(8).trimStart().startsWith('{')) ||
    !/\.(json|gguf|bin|safetensors)$/.test(file.name);
  if (good) return;
  await rm(path, { force: true });
  throw notTheFile(file, 'it does not begin like one', start);
}

async function digest(path: string, kind: 'sha256' | 'git', signal: AbortSignal | undefined): Promise<string> {
  const hash: Hash = createHash(kind === 'sha256' ? 'sha256' : 'sha1');
  if (kind === 'git') hash.update(`blob ${(await stat(path)).size}\0`);
  for await (const chunk of createReadStream(path, { signal })) hash.update(chunk as Uint8Array);
  return hash.digest('hex');
}

async function firstBytes(path: string): Promise<string> {
  const file = await open(path);
  try {
    const { buffer, bytesRead } = await file.read(new Uint8Array(startBytes), 0, startBytes, 0);
    return Buffer.from(buffer.subarray(0, bytesRead)).toString('latin1');
  } finally {
    await file.close();
  }
}

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 12);
}
