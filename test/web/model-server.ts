/** A server of model folders and of the SDK's browser build that can be told to fail, and that remembers what it was asked. */
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

/** What goes wrong with a file, or is unusual about it. Headers are those of an isolated origin unless given. */
export interface Fault {
  /** Answers with this status and nothing. */
  status?: number;
  /** Answers with a page and 200, as servers of single-page applications do for what they do not have. */
  html?: boolean;
  /** Ends the connection after so many bytes of a body. */
  breakAfter?: number;
  /** Inverts the byte at this place of the file. */
  flip?: number;
  /** Waits so long before the headers and after every 64 KiB of a body. */
  slowMs?: number;
  /** Content-Length of a HEAD request, whatever the file has. */
  announce?: number;
  /** Ranges are not understood. */
  noRanges?: boolean;
  /** Neither ETag nor Last-Modified. */
  noVersion?: boolean;
  headers?: Record<string, string>;
}

const readingMs = 500;

export interface Asked {
  method: string;
  path: string;
  range: string | null;
  /** Of the body. */
  bytes: number;
}

export const isolated = { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' };

const types: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.wasm': 'application/wasm',
};
const partBytes = 64 * 1024;

export class ModelServer {
  /** By path. */
  readonly faults = new Map<string, Fault>();
  asked: Asked[] = [];
  private readonly files = new Map<string, { content: Buffer; headers: Record<string, string> }>();
  private readonly server = createServer((request, response) => void this.answer(request, response).catch(() => response.destroy()));

  /** On a free port; ends with the test. */
  static async start(t: { teardown(run: () => Promise<void>): void }): Promise<ModelServer> {
    const server = new ModelServer();
    await server.listen(0);
    t.teardown(() => server.stop());
    return server;
  }

  get url(): string {
    return `http://localhost:${this.port}`;
  }

  private port = 0;

  async listen(port: number): Promise<void> {
    await new Promise<void>((resolve, reject) => this.server.once('error', reject).listen(port, '127.0.0.1', resolve));
    this.port = (this.server.address() as AddressInfo).port;
  }

  /** Nothing answers until `restart`. */
  async stop(): Promise<void> {
    if (!this.server.listening) return;
    const closed = new Promise((resolve) => this.server.close(resolve));
    this.server.closeAllConnections();
    await closed;
  }

  async restart(): Promise<void> {
    await this.listen(this.port);
  }

  put(path: string, content: Buffer | string, headers: Record<string, string> = {}): void {
    this.files.set(path, { content: Buffer.from(content), headers });
  }

  /** The files of a folder, without those of its folders. Resolves to the address. */
  putFolder(path: string, folder: string, replaced: Record<string, Buffer | string> = {}, headers: Record<string, string> = {}): string {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      if (entry.isFile()) this.put(`${path}/${entry.name}`, replaced[entry.name] ?? readFileSync(join(folder, entry.name)), headers);
    }
    return this.url + path;
  }

  remove(path: string): void {
    this.files.delete(path);
  }

  /** The requests since the last call, without those for the page and the SDK. */
  takeAsked(prefix = '/models/'): Asked[] {
    const asked = this.asked.filter(({ path }) => path.startsWith(prefix));
    this.asked = [];
    return asked;
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = decodeURIComponent(new URL(request.url!, this.url).pathname);
    const fault = this.faults.get(path) ?? {};
    const asked: Asked = { method: request.method!, path, range: request.headers.range ?? null, bytes: 0 };
    this.asked.push(asked);
    if (fault.slowMs !== undefined) await pause(fault.slowMs);
    const file = this.files.get(path);
    const common = { ...isolated, 'Cross-Origin-Resource-Policy': 'cross-origin', 'Cache-Control': 'no-cache', ...file?.headers, ...fault.headers };
    if (request.method === 'OPTIONS') return void response.writeHead(204, common).end();
    if (fault.html === true) return void response.writeHead(200, { ...common, 'Content-Type': types['.html'] }).end('<!doctype html><title>Not here</title>');
    if (fault.status !== undefined || file === undefined) return void response.writeHead(fault.status ?? 404, { ...common, 'Content-Type': 'text/plain' }).end();

    const body = Buffer.from(file.content);
    if (fault.flip !== undefined) body[fault.flip]! ^= 0xff;
    const tag = `"${createHash('sha1').update(file.content).digest('hex')}"`;
    const version = fault.noVersion === true ? {} : { ETag: tag };
    const ranges = fault.noRanges === true ? {} : { 'Accept-Ranges': 'bytes' };
    const headers = { 'Content-Type': types[extname(path)] ?? 'application/octet-stream', ...common, ...version, ...ranges };
    const ifRange = request.headers['if-range'];
    const wanted = fault.noRanges !== true && (ifRange === undefined || ifRange === tag) ? /^bytes=(\d+)-$/.exec(request.headers.range ?? '') : null;
    const from = wanted === null ? 0 : Number(wanted[1]);
    if (from > 0 && from >= body.length) return void response.writeHead(416, { ...headers, 'Content-Range': `bytes */${body.length}` }).end();
    const range = wanted === null ? {} : { 'Content-Range': `bytes ${from}-${body.length - 1}/${body.length}` };
    const length = request.method === 'HEAD' ? (fault.announce ?? body.length) : body.length - from;
    response.writeHead(wanted === null ? 200 : 206, { ...headers, ...range, 'Content-Length': length });
    if (request.method === 'HEAD') return void response.end();
    await this.send(response, body.subarray(from), fault, asked);
  }

  private async send(response: ServerResponse, body: Buffer, fault: Fault, asked: Asked): Promise<void> {
    const end = Math.min(body.length, fault.breakAfter ?? Infinity);
    for (let at = 0; at < end; at += partBytes) {
      const part = body.subarray(at, Math.min(at + partBytes, end));
      if (response.destroyed) return;
      await new Promise<void>((resolve) => response.write(part, () => resolve()));
      asked.bytes += part.length;
      if (fault.slowMs !== undefined) await pause(fault.slowMs);
    }
    // Browsers throw away what a page has not read yet when its connection fails, and a busy page reads late.
    if (end < body.length) return void setTimeout(() => response.destroy(), readingMs);
    response.end();
  }
}
