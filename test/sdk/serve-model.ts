// The small story model with a chat template, served in this process.
import { createConnection, type Socket } from 'node:net';
import type { LoadOptions, Model } from '../../sdk/src/index.js';
import { loadModel } from '../../sdk/src/index.js';
import { serve, type ServeOptions, type Server } from '../../sdk/src/server/index.js';
import { copyOf, editJson, join, stories } from './fixtures.js';

const template = "{% for m in messages %}{{ m.role + ': ' + (m.content or '') + '\n' }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";

export async function loadStories(t: any, chatTemplate = template, options: LoadOptions = {}): Promise<Model> {
  const folder = await copyOf(t, stories);
  await editJson(join(folder, 'tokenizer_config.json'), (config) => (config.chat_template = chatTemplate));
  const model = await loadModel(folder, options);
  t.teardown(() => model.close());
  return model;
}

export async function serveStories(t: any, model: Model, options: ServeOptions = {}): Promise<Server> {
  const server = await serve(model, { port: 0, name: 'stories', onError: (error) => t.fail(`a request failed: ${String((error as Error).stack)}`), ...options });
  t.teardown(() => server.close());
  return server;
}

export async function post(server: Server, path: string, body: unknown, init: RequestInit = {}): Promise<Response> {
  return fetch(`${server.url}${path}`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: typeof body === 'string' || body instanceof Uint8Array ? (body as string) : JSON.stringify(body), ...init });
}

/** A value of /metrics. */
export async function metric(server: Server, name: string): Promise<number> {
  const text = await (await fetch(`${server.url}/metrics`)).text();
  return Number(new RegExp(`^${name} (.*)$`, 'm').exec(text)?.[1]);
}

export interface RawAnswer {
  status: number;
  body: string;
}

export function connect(server: Server): Socket {
  const { hostname, port } = new URL(server.url);
  const socket = createConnection(Number(port), hostname.replace(/[[\]]/g, ''));
  socket.on('error', () => undefined);
  return socket;
}

/** What a connection answers until it closes. */
export async function answersOf(socket: Socket): Promise<RawAnswer[]> {
  const parts: Buffer[] = [];
  socket.on('data', (part) => parts.push(part));
  await new Promise((resolve) => socket.on('close', resolve));
  const text = Buffer.concat(parts).toString();
  return text
    .split(/(?=HTTP\/1\.1 \d{3} )/)
    .filter((part) => part !== '')
    .map((part) => ({ status: Number(part.slice(9, 12)), body: part.slice(part.indexOf('\r\n\r\n') + 4) }));
}

/** Waits for what must come about soon, and fails when it does not. */
export async function until(what: () => Promise<boolean>, withinMs: number): Promise<boolean> {
  const end = performance.now() + withinMs;
  while (performance.now() < end) {
    if (await what()) return true;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return what();
}

/** Events of a stream, by the letter of the specification: every line is `data: ...` or empty. */
export function strictEvents(text: string): unknown[] {
  if (!text.endsWith('\n\n')) throw new Error('the last event does not end');
  const events = text.slice(0, -2).split('\n\n');
  const data = events.map((event) => {
    if (!/^data: [^\n\r]*$/.test(event)) throw new Error(`not one data line: ${JSON.stringify(event)}`);
    return event.slice(6);
  });
  if (data.pop() !== '[DONE]') throw new Error('no [DONE] at the end');
  return data.map((line) => JSON.parse(line));
}
