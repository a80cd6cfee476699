/** The script of the workers: a model and everything that is asked of it, or a thread that is lent to such a worker. */
import type { Chat } from '../chat.js';
import { ShiftAddError } from '../errors.js';
import { loadModel, type Model } from '../model.js';
import type { Run } from '../run.js';
import { mount } from './files.js';
import { ModelCache, cacheProblem } from './model-cache.js';
import { ModelStore, refusal } from './model-store.js';
import { PagePlatform, lendThread, threadsFor, type LendThread } from './page-platform.js';
import type { FromWorker, LoadedModel, MemoryOfWorker, Request, SentError, ToWorker } from './protocol.js';
import { usePlatform } from './select-backend.js';
import { openSource } from './sources.js';

const post = (message: FromWorker): void => globalThis.postMessage(message);

let model: Model | null = null;
let platform: PagePlatform | null = null;
const chats = new Map<number, Chat>();
/** Failures that another download may cure. */
const damaged: ReadonlySet<string> = new Set(['ERR_CHECKSUM', 'ERR_BAD_MODEL_FILE', 'ERR_TOKENIZER']);
/** What a `stop` message of that request does. */
const stops = new Map<number, (left: boolean) => void>();

function loaded(): Model {
  if (model === null) throw new ShiftAddError('ERR_CLOSED', 'This model is closed. Load it again.');
  return model;
}

function chatOf(id: number): Chat {
  const chat = chats.get(id);
  if (chat === undefined) throw new ShiftAddError('ERR_CLOSED', 'This chat is closed. Create another one.');
  return chat;
}

async function load(id: number, { source: sent, options }: Extract<Request, { method: 'load' }>): Promise<LoadedModel> {
  const { threads: wanted, isa, cache: wantsCache, ...rest } = options;
  const abort = new AbortController();
  stops.set(id, () => abort.abort());
  const { threads, reason } = threadsFor(wanted);
  platform = await PagePlatform.start(threads, isa);
  const source = openSource(sent);
  let whyNot = sent.kind !== 'url' ? 'the files are on this device' : wantsCache ? cacheProblem() : 'caching is off';
  let cache: ModelCache | null = null;
  if (whyNot === null) cache = await ModelCache.open(source.root).catch((error: unknown) => ((whyNot = refusal(error)), null));
  const store = new ModelStore(source, cache, platform.wasm, abort.signal, (progress) => post({ kind: 'progress', id, progress: { phase: 'download', ...progress } }), whyNot);
  platform.store = store;
  mount(store);
  usePlatform(platform, reason ?? platform.reason);
  const single = sent.kind === 'files' && sent.files.length === 1 ? `${store.root}/${sent.files[0]!.name}` : store.root;
  try {
    model = await loadModel(single, {
      ...rest,
      ...(isa === undefined ? {} : { isa: isa as never }),
      threads: platform.cores(),
      signal: abort.signal,
      onProgress: (progress) => post({ kind: 'progress', id, progress }),
    });
    await store.finish();
  } catch (error) {
    if (error instanceof ShiftAddError && damaged.has(error.code)) await store.forget();
    throw error;
  } finally {
    cache?.release();
  }
  const { info, backend, contextSize, path } = model;
  return { info, backend, contextSize, path, cache: store.state };
}

/** Sends a run's text as it comes; resolves to its result. */
async function follow(id: number, run: Run): Promise<unknown> {
  const iterator = run[Symbol.asyncIterator]();
  stops.set(id, (left) => void (left ? iterator.return!() : undefined));
  for (let step = await iterator.next(); step.done !== true; step = await iterator.next()) post({ kind: 'chunk', id, chunk: step.value });
  return run.result();
}

/** A signal that a `stop` message aborts. */
function signalOf(id: number): AbortSignal {
  const abort = new AbortController();
  stops.set(id, () => abort.abort());
  return abort.signal;
}

async function followAbortable(id: number, start: (signal: AbortSignal) => Run): Promise<unknown> {
  const abort = new AbortController();
  const run = start(abort.signal);
  const following = follow(id, run);
  const leave = stops.get(id)!;
  stops.set(id, (left) => (left ? leave(true) : abort.abort()));
  return following;
}

async function answer(id: number, request: Request): Promise<unknown> {
  switch (request.method) {
    case 'load':
      return load(id, request);
    case 'createChat':
      chats.set(request.chat, loaded().createChat(request.options));
      return null;
    case 'send':
      return followAbortable(id, (signal) => chatOf(request.chat).send(request.messages, { ...request.options, signal }));
    case 'reset':
      return chatOf(request.chat).reset();
    case 'closeChat': {
      const chat = chats.get(request.chat);
      chats.delete(request.chat);
      return chat?.close();
    }
    case 'generate':
      return followAbortable(id, (signal) => loaded().generate(request.prompt, { ...request.options, signal }));
    case 'evaluate':
      return loaded().evaluate(request.text, { ...request.options, signal: signalOf(id), onProgress: (progress) => post({ kind: 'progress', id, progress }) });
    case 'benchmark':
      return loaded().benchmark({ ...request.options, signal: signalOf(id), onProgress: (progress) => post({ kind: 'progress', id, progress }) });
    case 'encode':
      return loaded().tokenizer.encode(request.text);
    case 'decode':
      return loaded().tokenizer.decode(request.ids);
    case 'encodeChat':
      return loaded().encodeChat(request.messages);
    case 'memory':
      return { wasmBytes: platform!.wasm.memoryBytes, weightsBytes: loaded().info.bytes.total } satisfies MemoryOfWorker;
  }
}

function sendable(error: unknown): SentError {
  if (error instanceof ShiftAddError) return { name: error.name, message: error.message, code: error.code };
  if (error instanceof Error || error instanceof DOMException) return { name: error.name, message: error.message };
  return { name: 'Error', message: String(error) };
}

// A thread that cannot be lent is an error of this script, which the lender sees.
globalThis.onmessage = ({ data }: MessageEvent<ToWorker | LendThread>): void => (data.kind === 'lend' ? lendThread(data) : void serve(data));

async function serve(data: ToWorker): Promise<void> {
  const { id } = data;
  if (data.kind === 'stop') return stops.get(id)?.(data.left);
  try {
    const value = await answer(id, data.request);
    const history = data.request.method === 'send' ? chats.get(data.request.chat)?.history : undefined;
    post({ kind: 'result', id, value, ...(history === undefined ? {} : { history }) });
  } catch (error) {
    post({ kind: 'failure', id, error: sendable(error) });
  } finally {
    stops.delete(id);
  }
}
