/** Progress of one long call with the time that remains: a bar that rewrites itself on a terminal, else a line now and then. */
import type { WriteStream } from 'node:tty';
import { duration } from './quantities.js';

const BAR_WIDTH = 24;
const REDRAW_MS = 100;
/** Calls that end sooner show nothing. */
const QUIET_START_MS = 700;
const PLAIN_STEP = 0.1;
const PLAIN_STEP_MS = 30_000;

export class ProgressLine {
  readonly #started = performance.now();
  #drawnAt = 0;
  #drawnShare = 0;
  #drawn = false;

  constructor(
    private readonly stream: NodeJS.WriteStream | WriteStream,
    private readonly what: string,
    private readonly quiet: boolean,
  ) {}

  /**
   * `share` goes from 0 to 1; `detail` says what is being worked on; `remaining` is a better estimate in milliseconds than
   * the time so far gives.
   */
  update(share: number, detail = '', remaining?: number | null): void {
    const now = performance.now();
    if (this.quiet || now - this.#started < QUIET_START_MS) return;
    const due = this.stream.isTTY
      ? now - this.#drawnAt >= REDRAW_MS
      : share - this.#drawnShare >= PLAIN_STEP || now - this.#drawnAt >= PLAIN_STEP_MS;
    if (this.#drawn && !due) return;
    this.#drawn = true;
    this.#drawnAt = now;
    this.#drawnShare = share;
    const text = this.text(share, detail, remaining === undefined ? estimate(share, now - this.#started) : remaining);
    if (this.stream.isTTY) this.stream.write(`\r\x1b[K${text.slice(0, (this.stream.columns ?? 80) - 1)}`);
    else this.stream.write(`${text}\n`);
  }

  /** Removes the bar. */
  end(): void {
    if (this.#drawn && this.stream.isTTY) this.stream.write('\r\x1b[K');
    this.#drawn = false;
  }

  private text(share: number, detail: string, remaining: number | null): string {
    const bounded = Math.min(1, Math.max(0, share));
    const percent = `${Math.floor(bounded * 100)} %`.padStart(5);
    const filled = Math.round(bounded * BAR_WIDTH);
    const bar = this.stream.isTTY ? ` ${'█'.repeat(filled)}${'░'.repeat(BAR_WIDTH - filled)}` : '';
    const left = remaining === null ? '' : `, ${duration(remaining)} left`;
    return `${this.what}${bar} ${percent}${left}${detail === '' ? '' : ` · ${detail}`}`;
  }
}

function estimate(share: number, elapsed: number): number | null {
  return share > 0.005 ? (elapsed * (1 - share)) / share : null;
}
