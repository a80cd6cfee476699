// Serves the pages, the engines and the models on this machine, from two ports: one with the headers that make a page
// cross-origin isolated, without which there is no shared memory and so no threads, one without them.
import { createReadStream, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize, sep } from 'node:path';
import { pipeline } from 'node:stream';
import { root } from '../../scripts/setup.mjs';

const types = { '.html': 'text/html', '.js': 'text/javascript', '.mjs': 'text/javascript', '.json': 'application/json', '.wasm': 'application/wasm' };
const isolationHeaders = { 'cross-origin-opener-policy': 'same-origin', 'cross-origin-embedder-policy': 'require-corp' };

export class PageServer {
  /** @param {{ build: string, wllama: string | null, entries: import('./contenders.mjs').Entry[] }} content */
  static async start({ build, wllama, entries }) {
    const places = new Map([['/benchmarks/', join(root, 'benchmarks')], ['/shiftadd/', build]]);
    if (wllama !== null) places.set('/wllama/', wllama);
    for (const { contenders } of entries) for (const { place, folder } of contenders) places.set(place, folder);
    const server = new PageServer(places);
    await Promise.all([server.listen(server.isolated), server.listen(server.plain)]);
    return server;
  }

  constructor(places) {
    this.places = places;
    this.modules = new Map();
    this.isolated = createServer((request, response) => this.answer(request, response, isolationHeaders));
    this.plain = createServer((request, response) => this.answer(request, response, {}));
  }

  listen(server) {
    return new Promise((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve));
  }

  address(isolation) {
    return `http://127.0.0.1:${(isolation ? this.isolated : this.plain).address().port}/benchmarks/browser/page.html`;
  }

  /** The WebAssembly modules that pages have fetched since the last call. */
  takeServedModules() {
    const modules = [...this.modules].map(([path, bytes]) => ({ path, bytes }));
    this.modules.clear();
    return modules;
  }

  async close() {
    await Promise.all([this.isolated, this.plain].map((server) => new Promise((resolve) => {
      server.close(resolve);
      server.closeAllConnections();
    })));
  }

  answer(request, response, headers) {
    const path = decodeURIComponent(new URL(request.url, 'http://localhost').pathname);
    const file = this.file(path);
    const size = file === null ? null : fileSize(file);
    if (size === null || !['GET', 'HEAD'].includes(request.method)) {
      response.writeHead(size === null ? 404 : 405, headers).end();
      return;
    }
    if (extname(file) === '.wasm') this.modules.set(path, size);
    const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
    const start = range === null ? 0 : Number(range[1]);
    const end = Math.min(range === null || range[2] === '' ? size - 1 : Number(range[2]), size - 1);
    if (range !== null && start > end) {
      response.writeHead(416, { ...headers, 'content-range': `bytes */${size}` }).end();
      return;
    }
    response.writeHead(range === null ? 200 : 206, {
      ...headers, 'content-type': types[extname(file)] ?? 'application/octet-stream', 'content-length': end - start + 1,
      'accept-ranges': 'bytes', 'cache-control': 'no-store', ...(range === null ? {} : { 'content-range': `bytes ${start}-${end}/${size}` }),
    });
    if (request.method === 'HEAD' || size === 0) response.end();
    // A page that is closed ends its downloads.
    else pipeline(createReadStream(file, { start, end, highWaterMark: 1 << 20 }), response, () => undefined);
  }

  file(path) {
    for (const [place, folder] of this.places) {
      if (!path.startsWith(place)) continue;
      const file = normalize(join(folder, path.slice(place.length)));
      return file.startsWith(normalize(folder) + sep) ? file : null;
    }
    return null;
  }
}

function fileSize(path) {
  const found = statSync(path, { throwIfNoEntry: false });
  return found?.isFile() ? found.size : null;
}
