// A static file server for the chat page on this machine, with the headers that the page needs wherever it is put.
import { createReadStream, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, sep } from 'node:path';

const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.mjs': 'text/javascript; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.wasm': 'application/wasm',
  '.webmanifest': 'application/manifest+json',
};

const POLICY = [
  "default-src 'self'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "style-src 'self'",
  "connect-src 'self' https:",
  "worker-src 'self'",
  "img-src 'self' data:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

const HEADERS = {
  'Accept-Ranges': 'bytes',
  'Cache-Control': 'no-cache',
  'Content-Security-Policy': POLICY,
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
};

/** Shared memory, and so threads, exist only in a page that is isolated from other origins. */
const ISOLATION = { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' };

/**
 * `folders` maps address prefixes that end in a slash to folders; the longest that fits wins. Listens on the loopback
 * interface alone and resolves to the server.
 */
export async function serve({ folders, port, isolation }) {
  const prefixes = Object.keys(folders).sort((a, b) => b.length - a.length);
  const headers = { ...HEADERS, ...(isolation ? ISOLATION : {}) };
  const server = createServer((request, response) => {
    const found = ['GET', 'HEAD'].includes(request.method) ? findFile(request.url, prefixes, folders) : null;
    if (found === null) {
      response.writeHead(404, { ...headers, 'Content-Type': 'text/plain' }).end('Not found\n');
      return;
    }
    send(request, response, found, headers);
  });
  await new Promise((resolve, reject) => server.once('error', reject).listen(port, '127.0.0.1', resolve));
  return server;
}

/** The file of an address with its size and tag, or null. */
function findFile(url, prefixes, folders) {
  let path;
  try {
    path = decodeURIComponent(url.replace(/[?#].*$/, ''));
  } catch {
    return null;
  }
  const prefix = prefixes.find((start) => path.startsWith(start));
  if (prefix === undefined || path.includes('\0') || path.split(/[/\\]/).includes('..')) return null;
  const rest = path.slice(prefix.length);
  const file = join(folders[prefix], ...(rest === '' || rest.endsWith('/') ? [rest, 'index.html'] : [rest]));
  if (!file.startsWith(folders[prefix] + sep)) return null;
  const stat = statSync(file, { throwIfNoEntry: false });
  if (stat === undefined || !stat.isFile()) return null;
  return { file, size: stat.size, tag: `"${stat.size.toString(16)}-${Math.floor(stat.mtimeMs).toString(16)}"` };
}

function send(request, response, { file, size, tag }, common) {
  const headers = { ...common, ETag: tag, 'Content-Type': TYPES[extname(file)] ?? 'application/octet-stream' };
  if (request.headers['if-none-match']?.split(/, */).includes(tag)) {
    response.writeHead(304, headers).end();
    return;
  }
  const range = request.headers['if-range'] === undefined || request.headers['if-range'] === tag ? request.headers.range : undefined;
  const [, from = '', to = ''] = /^bytes=(\d*)-(\d*)$/.exec(range ?? '') ?? [];
  let [start, end] = [0, size - 1];
  const partial = from !== '' || to !== '';
  if (partial) {
    // Without a start, the number is how many bytes of the end are wanted.
    start = from === '' ? Math.max(0, size - Number(to)) : Number(from);
    end = from === '' || to === '' ? size - 1 : Math.min(Number(to), size - 1);
    if (start > end) {
      response.writeHead(416, { ...headers, 'Content-Range': `bytes */${size}` }).end();
      return;
    }
    headers['Content-Range'] = `bytes ${start}-${end}/${size}`;
  }
  headers['Content-Length'] = size === 0 ? 0 : end - start + 1;
  response.writeHead(partial ? 206 : 200, headers);
  if (request.method === 'HEAD' || size === 0) {
    response.end();
    return;
  }
  const stream = createReadStream(file, { start, end });
  stream.on('error', () => response.destroy());
  response.on('close', () => stream.destroy());
  stream.pipe(response);
}
