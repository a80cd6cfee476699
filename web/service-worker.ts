/**
 * Keeps the page, the SDK's modules and its WebAssembly for use without a network. One cache per build: a version is
 * served whole or not at all, so that the page never meets a worker of another build. Responses are kept with their
 * headers, those of cross-origin isolation among them. Model weights are not kept here but by the SDK.
 */

/** Filled in by the build: a digest of all files, and their addresses relative to this script. */
declare const version: string;
declare const files: string[];

/** The part of the worker's scope that is used here; the library of types for workers excludes that of pages. */
interface Lifecycle extends Event {
  waitUntil(work: Promise<unknown>): void;
}
interface Fetch extends Event {
  readonly request: Request;
  respondWith(response: Promise<Response>): void;
}
interface WorkerScope {
  addEventListener(type: 'install' | 'activate', listener: (event: Lifecycle) => void): void;
  addEventListener(type: 'fetch', listener: (event: Fetch) => void): void;
  addEventListener(type: 'message', listener: (event: MessageEvent) => void): void;
  skipWaiting(): Promise<void>;
  readonly clients: { claim(): Promise<void> };
}
const scope = self as unknown as WorkerScope;

const prefix = 'shiftadd-page-';
const cacheName = prefix + version;
const addresses = new Set(files.map((file) => new URL(file, location.href).href));

scope.addEventListener('install', (event) => event.waitUntil(keepFiles()));
scope.addEventListener('activate', (event) => event.waitUntil(takeOver()));
scope.addEventListener('message', (event) => {
  if (event.data === 'activate') void scope.skipWaiting();
});
scope.addEventListener('fetch', (event) => {
  const { method, url } = event.request;
  const address = url.replace(/[?#].*$/, '').replace(/\/index\.html$/, '/');
  if (method === 'GET' && addresses.has(address)) event.respondWith(kept(address, event.request));
});

async function keepFiles(): Promise<void> {
  const cache = await caches.open(cacheName);
  // Past the HTTP cache, which may hold files of an earlier build.
  await cache.addAll([...addresses].map((address) => new Request(address, { cache: 'reload' })));
}

async function takeOver(): Promise<void> {
  const names = await caches.keys();
  await Promise.all(names.filter((name) => name.startsWith(prefix) && name !== cacheName).map((name) => caches.delete(name)));
  await scope.clients.claim();
}

async function kept(address: string, request: Request): Promise<Response> {
  const cache = await caches.open(cacheName);
  return (await cache.match(address)) ?? fetch(request);
}

export {};
