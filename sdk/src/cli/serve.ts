/** `shiftadd serve`: a model over HTTP until the command is stopped. */
import { ShiftAddError } from '../errors.js';
import { defineCommand, engineOptions, given, outputOptions, UsageError } from './command.js';
import { loadWithProgress } from './load-model.js';

const keyVariable = 'SHIFTADD_API_KEY';

export const serveCommand = defineCommand({
  name: 'serve',
  arguments: ['[model]'],
  summary: 'serve a model over HTTP with the routes of OpenAI',
  details: [
    'Routes: /v1/chat/completions, /v1/completions, /v1/embeddings, /v1/models, /health, /metrics (Prometheus) and /openapi.json. docs/serve.md describes them.',
    'Ends on SIGINT and SIGTERM: running requests finish, up to --stop-seconds; a second signal ends it at once. With --json one line on standard output tells the address.',
  ],
  options: {
    host: { rule: { kind: 'text', initial: '127.0.0.1' }, value: 'ADDRESS', help: 'where to listen; 0.0.0.0 is every network of this machine' },
    port: { rule: { kind: 'integer', least: 0, most: 65535, initial: 8080 }, value: 'N', help: 'port; 0 takes a free one' },
    name: { rule: { kind: 'text' }, value: 'ID', help: 'under which clients name the model', otherwise: "the model's name" },
    'api-key': { rule: { kind: 'text' }, value: 'KEY', help: 'that clients must send; rather set SHIFTADD_API_KEY, which other users do not see', otherwise: 'SHIFTADD_API_KEY, else none' },
    'cors-origin': { rule: { kind: 'text' }, value: 'ORIGIN', repeatable: true, help: 'allow pages of this origin, * for all' },
    parallel: { rule: { kind: 'integer', least: 1, most: 64, initial: 4 }, value: 'N', help: 'requests that run at once, each with a context of its own' },
    queue: { rule: { kind: 'integer', least: 0, most: 100_000, initial: 64 }, value: 'N', help: 'requests that may wait; further ones get status 429' },
    context: { rule: { kind: 'integer', least: 1, most: 2 ** 31 - 1 }, value: 'N', help: 'tokens of a request, prompt and answer together', otherwise: "the model's limit, at most 4096", sdkName: 'contextSize' },
    'prefix-cache': { rule: { kind: 'integer', least: 0, most: 1024, initial: 4 }, value: 'N', help: 'contexts kept after their requests, for prompts that begin alike; 0 keeps none' },
    'max-body': { rule: { kind: 'integer', least: 1024, most: 2 ** 30, initial: 2 ** 20 }, value: 'BYTES', help: 'the largest request', sdkName: 'maxBodyBytes' },
    'request-seconds': { rule: { kind: 'integer', least: 1, most: 3600, initial: 30 }, value: 'N', help: 'a client must have sent its request by then' },
    'stop-seconds': { rule: { kind: 'integer', least: 0, most: 3600, initial: 10 }, value: 'N', help: 'how long running requests may go on after a signal' },
    measure: { rule: { kind: 'flag', initial: false }, help: 'put the energy of each request on its usage' },
    ...engineOptions,
    ...outputOptions,
  },
  examples: [
    { command: 'shiftadd serve', does: 'serve the embedded model on http://127.0.0.1:8080' },
    { command: 'SHIFTADD_API_KEY=secret shiftadd serve ./my-model --host 0.0.0.0 --parallel 2', does: 'serve a folder to the network, with a key' },
  ],
  async run(call) {
    const { arguments: [name], values, terminal, signal } = call;
    const apiKey = values['api-key'] ?? process.env[keyVariable];
    if (apiKey === '') throw new UsageError(`${keyVariable} is empty: set a key or unset it`, 'serve');
    const stop = stopSignal(signal);
    const model = await loadWithProgress(name, values, { terminal, signal }, {
      contextSize: values.context,
      measure: values.measure,
      prefixCache: { sessions: values['prefix-cache']! },
    });
    try {
      const { serve } = await import('../server/index.js'); // no other command needs it
      const server = await serve(model, {
        host: values.host!,
        port: values.port!,
        corsOrigins: [...values['cors-origin']],
        parallel: values.parallel!,
        queue: values.queue!,
        maxBodyBytes: values['max-body']!,
        requestTimeoutMs: values['request-seconds']! * 1000,
        stopTimeoutMs: values['stop-seconds']! * 1000,
        ...given({ name: values.name, apiKey }),
        onError: (error) => terminal.note(`shiftadd: a request failed: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`),
      }).catch((error: unknown) => {
        throw fromListening(error, values.host!, values.port!);
      });
      const { name: backend, isa, threads } = model.backend;
      const served = values.name ?? model.info.name;
      if (terminal.json) process.stdout.write(`${JSON.stringify({ version: 1, url: server.url, model: { name: served, path: model.path }, backend: { name: backend, isa, threads }, parallel: values.parallel })}\n`);
      else terminal.line(`Serving ${served} on ${server.url}`);
      if (!isLoopback(values.host!) && apiKey === undefined) terminal.note(`Everyone who reaches ${values.host} can use it: there is no API key (--api-key).`);
      await stop;
      terminal.note('Stopping');
      await server.close();
    } finally {
      await model.close();
    }
  },
});

/** Resolves at the first SIGTERM or interrupt. A second SIGTERM ends the program, as a second interrupt does. */
async function stopSignal(interrupt: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    let terms = 0;
    process.on('SIGTERM', () => {
      if (++terms > 1) process.exit(143);
      resolve();
    });
    interrupt.addEventListener('abort', () => resolve());
  });
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || host.startsWith('127.');
}

function fromListening(error: unknown, host: string, port: number): unknown {
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'EADDRINUSE') return new ShiftAddError('ERR_SERVE', `Port ${port} of ${host} is taken. Choose another --port, or 0 for a free one.`, error);
  if (code === 'EACCES') return new ShiftAddError('ERR_SERVE', `Port ${port} needs rights that this user does not have. Choose a --port above 1023.`, error);
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND' || code === 'EINVAL') return new ShiftAddError('ERR_SERVE', `This machine has no address ${host}. Choose another --host.`, error);
  return error;
}
