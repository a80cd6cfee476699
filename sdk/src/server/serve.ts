/** Serves a model over HTTP with the routes of OpenAI. */
import { createServer, type IncomingMessage, type Server as HttpServer, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import { coreOf } from '../model-core.js';
import type { Model } from '../model.js';
import { readOptions, show } from '../options.js';
import { packageVersion } from '../package-root.js';
import { makeApp } from './app.js';
import { BusyEnergy } from './busy-energy.js';
import type { Departure } from './departure.js';
import { HttpError, toHttpError } from './http-error.js';
import { Metrics } from './metrics.js';
import { serveRules } from './serve-options.js';
import { Slots, stopping } from './slots.js';

export interface ServeOptions {
  /** Default 127.0.0.1: this machine alone. */
  host?: string;
  /** Default 8080; 0 takes a free one. */
  port?: number;
  /** The id under which clients name the model. Default its name. */
  name?: string;
  /** Clients must send it as `Authorization: Bearer <key>`; only /health is open. Default none. */
  apiKey?: string;
  /** Origins whose pages may use the server; '*' for all. Default none. */
  corsOrigins?: string | string[];
  /** Requests that run at once, each with a context of its own: 1 to 64. Default 4. */
  parallel?: number;
  /** Requests that wait; further ones get 429. Default 64. */
  queue?: number;
  /** Of a request. Default 1 MiB. */
  maxBodyBytes?: number;
  /** A client that has not sent its request by then gets 408. Default 30,000. */
  requestTimeoutMs?: number;
  /** A client that takes nothing of a finished answer for so long is cut off. Default 30,000. */
  stallTimeoutMs?: number;
  /** `close` lets requests run for so long before it cancels them. Default 10,000. */
  stopTimeoutMs?: number;
  /** Failures that are the server's own; the client got a 500. */
  onError?: (error: unknown) => void;
}

/** A running server. The model stays its owner's. */
export interface Server {
  /** Such as http://127.0.0.1:8080. */
  readonly url: string;
  /** Takes no more requests, refuses those that wait, lets those that run finish for `stopTimeoutMs`, then cancels them. Idempotent. */
  close(): Promise<void>;
  /** The same as `close`. */
  [Symbol.asyncDispose](): Promise<void>;
}

const mostConnections = 1024;

/** Longer than clients keep idle connections: one that is closed while its client sends the next request fails that request. */
const keepAliveTimeout = 65_000;

/** TypeError and RangeError for wrong options; rejects with the system's error, such as EADDRINUSE. */
export async function serve(model: Model, options?: ServeOptions): Promise<Server> {
  const core = coreOf(model);
  if (core === undefined) throw new TypeError(`Expected a model for model but received ${show(model)}`);
  core.checkOpen();
  const checked = readOptions<ServeOptions>(serveRules, options, 'serve');
  if (checked.apiKey === '') throw new TypeError("Expected a key for apiKey but received ''");
  const version = packageVersion();
  const { name: backend, isa } = model.backend;
  const slots = new Slots(checked.parallel!, checked.queue!);
  const energy = core.measure === null ? null : new BusyEnergy(core.measure);
  const name = checked.name ?? model.info.name;
  const metrics = new Metrics({
    slots,
    info: { version, model: name, backend, isa },
    joules: () => energy?.total ?? null,
    memory: () => core.memory(null),
  });
  const departures = new Set<Departure>();
  let isStopping = false;
  const app = makeApp({
    served: { model, name, template: core.template.source, fingerprint: `shiftadd-${version}-${backend}-${model.backend.precision}`, created: Math.floor(Date.now() / 1000) },
    slots,
    metrics,
    energy,
    apiKey: checked.apiKey ?? null,
    corsOrigins: [checked.corsOrigins ?? []].flat(),
    maxBodyBytes: checked.maxBodyBytes!,
    stallMs: checked.stallTimeoutMs!,
    version,
    isStopping: () => isStopping,
    onError: (error) => checked.onError?.(error),
    departures,
  });
  const errorHandler = (error: unknown): Response => {
    if ((error as Error).name === 'RequestError') return new HttpError(400, 'The address or the Host header is not valid.', { code: 'invalid_url' }).response();
    checked.onError?.(error);
    return toHttpError(error).response();
  };
  const listener = getRequestListener(app.fetch, { overrideGlobalObjects: false, hostname: 'localhost', errorHandler });
  const server = makeHttpServer(checked.requestTimeoutMs!, (incoming, outgoing) => void listener(incoming, outgoing));
  await listen(server, checked.port!, checked.host!);

  let closing: Promise<void> | null = null;
  const close = async (): Promise<void> => {
    isStopping = true;
    slots.close();
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeIdleConnections();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, checked.stopTimeoutMs!)));
    await Promise.race([slots.idle(), late]);
    clearTimeout(timer);
    for (const departure of departures) departure.end(stopping());
    await slots.idle();
    // What is written is let go out; a connection that stays open after that is cut.
    const cut = setTimeout(() => server.closeAllConnections(), 500);
    server.closeIdleConnections();
    await closed;
    clearTimeout(cut);
  };
  const stop = (): Promise<void> => (closing ??= close());
  return { url: urlOf(server), close: stop, [Symbol.asyncDispose]: stop };
}

function makeHttpServer(requestTimeoutMs: number, listener: (incoming: IncomingMessage, outgoing: ServerResponse) => void): HttpServer {
  const server = createServer({
    headersTimeout: requestTimeoutMs,
    requestTimeout: requestTimeoutMs,
    connectionsCheckingInterval: Math.min(1000, requestTimeoutMs),
    keepAliveTimeout,
    maxHeaderSize: 16 * 1024,
    requireHostHeader: false,
  });
  server.maxConnections = mostConnections;
  const answering = new WeakMap<object, ServerResponse>();
  const refuse = (outgoing: ServerResponse, error: HttpError): void => {
    const body = JSON.stringify(error.body());
    outgoing.writeHead(error.status, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body), Connection: 'close' }).end(body);
  };
  server.on('request', (incoming, outgoing) => {
    answering.set(incoming.socket, outgoing);
    if (incoming.url?.startsWith('/') !== true || !URL.canParse(incoming.url, 'http://localhost')) return refuse(outgoing, new HttpError(400, 'The address of the request is not valid.', { code: 'invalid_url' }));
    listener(incoming, outgoing);
  });
  server.on('checkExpectation', (_, outgoing) => refuse(outgoing, new HttpError(417, 'Expected no Expect but 100-continue.', { code: 'expectation_failed' })));
  // What the parser refuses never becomes a request.
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    if (socket.writable && error.code !== 'ECONNRESET' && answering.get(socket)?.headersSent !== true) socket.write(rawAnswer(parserError(error.code)));
    (socket as Socket).destroySoon();
  });
  return server;
}

function parserError(code: string | undefined): HttpError {
  switch (code) {
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new HttpError(408, 'The request did not arrive in time.', { code: 'request_timeout' });
    case 'HPE_HEADER_OVERFLOW':
      return new HttpError(431, 'The headers are too large.', { code: 'headers_too_large' });
    default:
      return new HttpError(400, 'This is no HTTP request that can be read.', { code: 'malformed_request' });
  }
}

function rawAnswer(error: HttpError): string {
  const body = JSON.stringify(error.body());
  const reason = { 408: 'Request Timeout', 431: 'Request Header Fields Too Large' }[error.status] ?? 'Bad Request';
  return `HTTP/1.1 ${error.status} ${reason}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`;
}

async function listen(server: HttpServer, port: number, host: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

function urlOf(server: HttpServer): string {
  const { address, port, family } = server.address() as AddressInfo;
  return `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`;
}
