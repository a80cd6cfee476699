/** Which requests run: a few at once, the others in a bounded queue in the order in which they came. */
import { HttpError } from './http-error.js';

interface Waiting {
  start(): void;
  refuse(error: unknown): void;
}

export class Slots {
  private readonly queue = new Set<Waiting>();
  private taken = 0;
  private closed = false;
  private onIdle: (() => void)[] = [];
  /** Of the latest requests, smoothed. */
  private meanMs = 1000;

  constructor(
    readonly parallel: number,
    readonly mostWaiting: number,
  ) {}

  get running(): number {
    return this.taken;
  }

  get waiting(): number {
    return this.queue.size;
  }

  /** Resolves when the request may run, to a function that frees its place. Rejects with the signal's reason, with 429 or with 503. */
  async enter(signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    if (this.closed) throw stopping();
    if (this.taken < this.parallel && this.queue.size === 0) return this.take();
    if (this.queue.size >= this.mostWaiting) {
      const seconds = Math.min(60, Math.max(1, Math.ceil((this.meanMs * (this.queue.size + 1)) / this.parallel / 1000)));
      throw new HttpError(429, `The queue is full: ${this.taken} requests run and ${this.queue.size} wait. Try again later.`, { code: 'queue_full', headers: { 'Retry-After': String(seconds) } });
    }
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        this.queue.delete(waiting);
        signal.removeEventListener('abort', leave);
      };
      const waiting: Waiting = {
        start: () => {
          settle();
          resolve(this.take());
        },
        refuse: (error) => {
          settle();
          reject(error as Error);
        },
      };
      const leave = (): void => waiting.refuse(signal.reason);
      signal.addEventListener('abort', leave);
      this.queue.add(waiting);
    });
  }

  /** Refuses what waits and what comes from now on with 503. */
  close(): void {
    this.closed = true;
    for (const waiting of [...this.queue]) waiting.refuse(stopping());
  }

  /** Resolves when nothing runs. */
  async idle(): Promise<void> {
    if (this.taken > 0) await new Promise<void>((resolve) => this.onIdle.push(resolve));
  }

  private take(): () => void {
    this.taken++;
    const started = performance.now();
    let left = false;
    return () => {
      if (left) return;
      left = true;
      this.taken--;
      this.meanMs += 0.2 * (performance.now() - started - this.meanMs);
      for (const waiting of this.queue) {
        if (this.taken >= this.parallel) break;
        waiting.start();
      }
      if (this.taken === 0) for (const wake of this.onIdle.splice(0)) wake();
    };
  }
}

export function stopping(): HttpError {
  return new HttpError(503, 'The server is stopping.', { code: 'stopping', headers: { Connection: 'close', 'Retry-After': '5' } });
}
