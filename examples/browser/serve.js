// Serves the page: node serve.js [model folder]; PORT is 8000 unless set.
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { dirname, extname, join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { resolveModel } from 'shiftadd';

const folders = {
  '/shiftadd/': join(dirname(fileURLToPath(import.meta.resolve('shiftadd/package.json'))), 'dist', 'browser'),
  '/model/': await resolveModel(process.argv[2]),
  '/': dirname(fileURLToPath(import.meta.url)),
};
/** @type {Record<string, string>} */
const types = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.json': 'application/json', '.wasm': 'application/wasm' };

const server = createServer(async (request, response) => {
  // Isolated from other origins, so that the model may use threads.
  response.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
  response.setHeader('Cross-Origin-Embedder-Policy', 'require-corp');
  try {
    const { pathname } = new URL(request.url ?? '/', 'http://localhost');
    const path = posix.normalize(decodeURIComponent(pathname)); // no way out of the folders
    const [prefix, folder] = /** @type {[string, string]} */ (Object.entries(folders).find(([start]) => path.startsWith(start)));
    const file = join(folder, path === '/' ? 'index.html' : path.slice(prefix.length));
    const { size, mtime } = await stat(file);
    response.setHeader('Content-Type', types[extname(file)] ?? 'application/octet-stream');
    response.setHeader('Content-Length', size);
    response.setHeader('Last-Modified', mtime.toUTCString());
    if (request.method === 'HEAD') response.end();
    else createReadStream(file).on('error', () => response.destroy()).pipe(response);
  } catch {
    response.writeHead(404).end();
  }
});
server.listen(Number(process.env['PORT'] ?? 8000), '127.0.0.1', () => {
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
  console.log(`http://127.0.0.1:${port}/`);
});
