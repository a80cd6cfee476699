/** A worker as seen from the page: requests with answers, streams, and its end. */
import { ShiftAddError, type ErrorCode } from '../errors.js';
import { Run, type GenerationResult, type TextChunk } from '../run.js';
import type { ChatMessage } from '../chat-template.js';
import type { FromWorker, Request, SentError, ToWorker } from './protocol.js';

interface Waiting {
  resolve: (message: { value: unknown; history?: ChatMessage[] }) => void;
  reject: (error: unknown) => void;
  onChunk?: (chunk: TextChunk) => void;
  /** Called as the work goes on. */
  onProgress?: (progress: never) => void;
}

const scriptFix =
  'Serve worker.js beside the module or pass assets, from the origin of the page and with its Cross-Origin-Embedder-Policy, and allow it in worker-src where the page has a Content-Security-Policy.';

export class WorkerLink {
  private readonly worker: Worker;
  private readonly waiting = new Map<number, Waiting>();
  private lastId = 0;
  private ended: Error | null = null;
  private settle!: (error: Error | null) => void;
  /** Resolves when the worker has ended: null when it was closed, else why. */
  readonly closed: Promise<Error | null>;

  constructor(assets: URL | null) {
    this.closed = new Promise((resolve) => (this.settle = resolve));
    try {
      // The first form is the one that bundlers find.
      this.worker = assets === null ? new Worker(new URL('./worker.js', import.meta.url), { type: 'module' }) : new Worker(new URL('./worker.js', assets), { type: 'module' });
    } catch (error) {
      throw new ShiftAddError('ERR_WORKER', `The worker of the model cannot be started (${(error as Error).message}). ${scriptFix}`, error);
    }
    this.worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.receive(data);
    this.worker.onerror = (event) => {
      event.preventDefault();
      this.end(new ShiftAddError('ERR_WORKER', `The worker of the model stopped: ${event.message || 'its script cannot be loaded'}. ${event.message ? 'Load the model again.' : scriptFix}`));
    };
    this.worker.onmessageerror = () => this.end(new ShiftAddError('ERR_WORKER', 'A message of the worker could not be read. Load the model again.'));
  }

  /** Rejects with what the worker throws, with the signal's reason, or with ERR_WORKER when it ends. */
  async call(request: Request, options: { signal?: AbortSignal | undefined; onProgress?: ((progress: never) => void) | undefined } = {}): Promise<unknown> {
    options.signal?.throwIfAborted();
    return (await this.request(request, options).answer).value;
  }

  /** A generation in the worker; `ended` gets the history of the chat after it. */
  run(request: Request, signal: AbortSignal | undefined, ended?: (history: ChatMessage[]) => void): Run {
    let stop = (): void => undefined;
    const start = async ({ emit, discard }: { emit: (chunk: TextChunk) => void; discard: () => void }): Promise<GenerationResult> => {
      signal?.throwIfAborted();
      const { id, answer } = this.request(request, { signal, onChunk: emit, onAbort: discard });
      stop = () => this.post({ kind: 'stop', id, left: true });
      const { value, history } = await answer;
      if (history !== undefined) ended?.(history);
      return value as GenerationResult;
    };
    return new Run(start, () => stop());
  }

  /** Ends the worker: what waits rejects with `error`. Idempotent. */
  end(error: Error | null): void {
    if (this.ended !== null) return;
    this.ended = error ?? new ShiftAddError('ERR_CLOSED', 'This model is closed. Load it again.');
    this.worker.terminate();
    for (const { reject } of this.waiting.values()) reject(this.ended);
    this.waiting.clear();
    this.settle(error);
  }

  private request(
    request: Request,
    { signal, onChunk, onProgress, onAbort }: { signal?: AbortSignal | undefined; onChunk?: (chunk: TextChunk) => void; onProgress?: ((progress: never) => void) | undefined; onAbort?: () => void },
  ): { id: number; answer: Promise<{ value: unknown; history?: ChatMessage[] }> } {
    const id = ++this.lastId;
    const answer = new Promise<{ value: unknown; history?: ChatMessage[] }>((resolve, reject) => {
      if (this.ended !== null) return reject(this.ended);
      this.waiting.set(id, { resolve, reject, ...(onChunk === undefined ? {} : { onChunk }), ...(onProgress === undefined ? {} : { onProgress }) });
      this.post({ kind: 'request', id, request });
    });
    if (signal === undefined) return { id, answer };
    const abort = (): void => {
      onAbort?.();
      this.post({ kind: 'stop', id, left: false });
    };
    signal.addEventListener('abort', abort, { once: true });
    const reasoned = answer
      .catch((error: unknown) => {
        throw signal.aborted && !(error instanceof ShiftAddError) ? signal.reason : error;
      })
      .finally(() => signal.removeEventListener('abort', abort));
    return { id, answer: reasoned };
  }

  private post(message: ToWorker): void {
    if (this.ended === null) this.worker.postMessage(message);
  }

  private receive(message: FromWorker): void {
    const waiting = this.waiting.get(message.id);
    if (waiting === undefined) return;
    if (message.kind === 'chunk') return waiting.onChunk?.(message.chunk);
    if (message.kind === 'progress') return waiting.onProgress?.(message.progress as never);
    this.waiting.delete(message.id);
    if (message.kind === 'failure') waiting.reject(errorFrom(message.error));
    else waiting.resolve(message);
  }
}

function errorFrom({ name, message, code }: SentError): Error {
  if (code !== undefined) return new ShiftAddError(code as ErrorCode, message);
  if (name === 'TypeError') return new TypeError(message);
  if (name === 'RangeError') return new RangeError(message);
  return name === 'AbortError' ? new DOMException(message, name) : Object.assign(new Error(message), { name });
}
