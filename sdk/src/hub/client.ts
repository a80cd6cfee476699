/** Requests to the Hub: redirects by hand, so that the token goes to the Hub alone, and failures as typed errors. */
import { setTimeout as wait } from 'node:timers/promises';
import { ShiftAddError } from '../errors.js';
import { show } from '../options.js';

export interface HubOptions {
  /** Default HF_ENDPOINT, else https://huggingface.co. */
  endpoint: string;
  token: string | null;
  signal: AbortSignal | undefined;
}

const mostRedirects = 5;
const mostAttempts = 5;
const firstPauseMs = 500;
const longestPauseMs = 60_000;
/** Of an answer that is no file, quoted in errors. */
const quotedBytes = 100;

/** What a repository holds at one commit. */
export interface RepositoryFile {
  name: string;
  /** Null where the server does not say. */
  bytes: number | null;
  /** Of its content; null where the server does not say. */
  hash: { kind: 'sha256' | 'git'; value: string } | null;
}

export class HubClient {
  private readonly base: string;

  constructor(private readonly options: HubOptions) {
    let url: URL;
    try {
      url = new URL(options.endpoint);
    } catch {
      throw new ShiftAddError('ERR_HUB', `The endpoint ${show(options.endpoint)} is no URL. Set HF_ENDPOINT to one, such as https://huggingface.co.`);
    }
    this.base = url.href.replace(/\/+$/, '');
  }

  /** The commit that a revision is at, and its files. ERR_HUB, ERR_HUB_ACCESS, ERR_NOT_FOUND. */
  async list(repository: string, revision: string): Promise<{ commit: string; files: RepositoryFile[] }> {
    const url = `${this.base}/api/models/${repository}/revision/${encodeURIComponent(revision)}?blobs=true`;
    const what = `${repository}@${revision}`;
    const response = await this.get(url, {}, what);
    const body = await response.text();
    const bad = (why: string): ShiftAddError =>
      new ShiftAddError('ERR_HUB', `${this.base} did not describe ${what}: ${why}. It answered ${response.status} ${typeOf(response)}, ${show(body.slice(0, quotedBytes))}. A proxy or mirror may be in the way.`);
    let value: { sha?: unknown; siblings?: unknown };
    try {
      value = JSON.parse(body) as typeof value;
    } catch {
      throw bad('no JSON came');
    }
    if (typeof value?.sha !== 'string' || !/^[0-9a-f]{40}$/.test(value.sha) || !Array.isArray(value.siblings)) throw bad('the commit or the list of files is missing');
    return { commit: value.sha, files: value.siblings.map(describeFile).filter((file) => file !== null) };
  }

  /** The content of a file from byte `from` on. The response has status 200 (from the start), 206 or 416. */
  async open(repository: string, commit: string, name: string, from: number): Promise<Response> {
    const path = name.split('/').map(encodeURIComponent).join('/');
    const headers: Record<string, string> = from > 0 ? { Range: `bytes=${from}-` } : {};
    return this.get(`${this.base}/${repository}/resolve/${commit}/${path}`, headers, `${name} of ${repository}`);
  }

  /** Tries again where that may help. */
  private async get(url: string, headers: Record<string, string>, what: string): Promise<Response> {
    for (let attempt = 1; ; attempt++) {
      this.options.signal?.throwIfAborted();
      let pause = Math.min(firstPauseMs * 2 ** (attempt - 1), longestPauseMs);
      try {
        const response = await this.follow(url, headers, what);
        if (response.ok || response.status === 416) return response;
        if (attempt === mostAttempts || (response.status !== 429 && response.status < 500)) throw await this.refusal(response, what);
        const after = Number(response.headers.get('retry-after'));
        if (Number.isFinite(after) && after > 0) pause = Math.min(after * 1000, longestPauseMs);
        await response.body?.cancel();
      } catch (error) {
        this.options.signal?.throwIfAborted();
        if (error instanceof ShiftAddError) throw error;
        if (attempt === mostAttempts) throw this.unreachable(what, error);
      }
      await wait(pause, undefined, { signal: this.options.signal }).catch((error: unknown) => {
        this.options.signal?.throwIfAborted();
        throw error;
      });
    }
  }

  private async follow(start: string, headers: Record<string, string>, what: string): Promise<Response> {
    let url = new URL(start);
    const { origin } = url;
    let trusted = true;
    for (let redirects = 0; redirects <= mostRedirects; redirects++) {
      trusted &&= url.origin === origin; // once another host had a hand in it, the token stays here
      const authorization: Record<string, string> = trusted && this.options.token !== null ? { Authorization: `Bearer ${this.options.token}` } : {};
      const response = await fetch(url, { headers: { ...headers, ...authorization }, redirect: 'manual', signal: this.options.signal ?? null });
      const location = response.headers.get('location');
      if (response.status < 300 || response.status >= 400 || response.status === 304 || location === null) return response;
      await response.body?.cancel();
      const next = new URL(location, url);
      if (url.protocol === 'https:' && next.protocol !== 'https:') throw new ShiftAddError('ERR_HUB', `${url.host} redirects ${what} to a connection without encryption (${next.host}). It is not followed.`);
      url = next;
    }
    throw new ShiftAddError('ERR_HUB', `${this.base} redirects ${what} more than ${mostRedirects} times.`);
  }

  private unreachable(what: string, error: unknown): ShiftAddError {
    const cause = (error as { cause?: { code?: string } }).cause?.code;
    return new ShiftAddError('ERR_HUB', `${new URL(this.base).host} could not be reached for ${what} (${cause ?? (error as Error).message}). Check the connection, HF_ENDPOINT and proxy settings; HF_HUB_OFFLINE=1 uses the cache alone.`, error);
  }

  private async refusal(response: Response, what: string): Promise<ShiftAddError> {
    const { status } = response;
    await response.body?.cancel();
    const host = new URL(this.base).host;
    // The Hub answers 401 for repositories that do not exist, so as not to give private ones away.
    if (status === 401 || status === 403) {
      const code = response.headers.get('x-error-code');
      const why = code === 'GatedRepo' ? 'its owner gives access on request: ask for it on its page' : 'it is private, gated or does not exist';
      const token = this.options.token === null ? 'set HF_TOKEN to a token that may read it' : 'the token in HF_TOKEN may not read it';
      return new ShiftAddError('ERR_HUB_ACCESS', `${host} does not give ${what} out (${status}): ${why}; ${token}.`);
    }
    if (status === 404) return new ShiftAddError('ERR_NOT_FOUND', `${host} has no ${what}. Check the name and the revision.`);
    return new ShiftAddError('ERR_HUB', `${host} answered ${status} for ${what}. Try again later.`);
  }
}

function describeFile(entry: unknown): RepositoryFile | null {
  if (typeof entry !== 'object' || entry === null) return null;
  const { rfilename: name, size, blobId, lfs } = entry as Record<string, unknown>;
  if (typeof name !== 'string' || !isPlainPath(name)) return null;
  const sha = typeof lfs === 'object' && lfs !== null ? ((lfs as Record<string, unknown>)['sha256'] ?? (lfs as Record<string, unknown>)['oid']) : undefined;
  const hash =
    typeof sha === 'string' && /^[0-9a-f]{64}$/.test(sha)
      ? { kind: 'sha256' as const, value: sha }
      : typeof blobId === 'string' && /^[0-9a-f]{40}$/.test(blobId) && lfs === undefined
        ? { kind: 'git' as const, value: blobId }
        : null;
  return { name, bytes: typeof size === 'number' && Number.isSafeInteger(size) && size >= 0 ? size : null, hash };
}

/** Inside the folder of the repository, on every system. */
function isPlainPath(name: string): boolean {
  return !/[\\\0]/.test(name) && name.split('/').every((part) => part !== '' && part !== '.' && part !== '..');
}

export function typeOf(response: Response): string {
  return response.headers.get('content-type') ?? 'of no type';
}
