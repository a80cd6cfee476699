// A server that behaves like the Hub: the list of a repository, files behind redirects, ranges, tokens, and faults on demand.
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export const commit = 'a'.repeat(40);

export interface Request {
  url: string;
  authorization: string | undefined;
  range: string | undefined;
}

export class HubServer {
  readonly requests: Request[] = [];
  /** By path; the first answer of a list is used up, the last stays. */
  readonly overrides = new Map<string, ((request: IncomingMessage, response: ServerResponse) => void)[]>();
  /** Where the contents of files are; by default here. */
  contentHost: string | null = null;
  files = new Map<string, { content: Buffer; lfs: boolean }>();
  /** Names the token without which nothing is given out. */
  token: string | null = null;
  /** Without sizes and hashes in the list. */
  bare = false;
  private readonly server: Server;

  constructor(readonly repository: string) {
    this.server = createServer((request, response) => this.answer(request, response));
  }

  async start(t: { teardown(end: () => void): void }): Promise<this> {
    await new Promise<void>((done) => this.server.listen(0, '127.0.0.1', done));
    t.teardown(() => {
      this.server.closeAllConnections();
      this.server.close();
    });
    return this;
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  add(name: string, content: Buffer | string, lfs = false): void {
    this.files.set(name, { content: Buffer.from(content as string), lfs });
  }

  override(path: string, ...answers: ((request: IncomingMessage, response: ServerResponse) => void)[]): void {
    this.overrides.set(path, answers);
  }

  private answer(request: IncomingMessage, response: ServerResponse): void {
    const url = request.url!;
    const path = decodeURIComponent(url.split('?')[0]!);
    this.requests.push({ url, authorization: request.headers.authorization, range: request.headers.range });
    const override = this.overrides.get(path);
    if (override !== undefined) return (override.length > 1 ? override.shift()! : override[0]!)(request, response);
    if (this.token !== null && !path.startsWith('/content/') && request.headers.authorization !== `Bearer ${this.token}`) {
      response.writeHead(401, { 'x-error-code': 'RepoNotFound' }).end('no');
      return;
    }
    if (path === `/api/models/${this.repository}/revision/main` || path === `/api/models/${this.repository}/revision/${commit}`) {
      const siblings = [...this.files].map(([rfilename, { content, lfs }]) =>
        this.bare
          ? { rfilename }
          : { rfilename, size: content.length, blobId: gitHash(content), ...(lfs ? { lfs: { sha256: createHash('sha256').update(content).digest('hex'), size: content.length } } : {}) },
      );
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ id: this.repository, sha: commit, siblings }));
      return;
    }
    const resolved = `/${this.repository}/resolve/${commit}/`;
    if (path.startsWith(resolved) && this.files.has(path.slice(resolved.length))) {
      response.writeHead(302, { location: `${this.contentHost ?? ''}/content/${path.slice(resolved.length)}` }).end();
      return;
    }
    const file = path.startsWith('/content/') ? this.files.get(path.slice('/content/'.length)) : undefined;
    if (file === undefined) {
      response.writeHead(404).end('none');
      return;
    }
    sendFile(request, response, file.content);
  }
}

export function sendFile(request: IncomingMessage, response: ServerResponse, content: Buffer, stopAfter = Infinity): void {
  const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
  if (start > 0 && start >= content.length) {
    response.writeHead(416, { 'content-range': `bytes */${content.length}` }).end();
    return;
  }
  const part = content.subarray(start);
  response.writeHead(start > 0 ? 206 : 200, { 'content-length': part.length, 'content-type': 'application/octet-stream' });
  if (stopAfter >= part.length) return void response.end(part);
  response.write(part.subarray(0, stopAfter), () => setTimeout(() => response.destroy(), 20));
}

export function gitHash(content: Buffer): string {
  return createHash('sha1').update(`blob ${content.length}\0`).update(content).digest('hex');
}
