/**
 * Sessions that a model keeps after their runs, so that a prompt that begins as another one did is not read again. A session is
 * alone with its run: others are taken over whole, or copied while nobody uses them, and the engine compares the tokens once more.
 */
import type { EngineSession } from './engine.js';

/** Bounds of what is kept between runs. Sessions of running generations and of open chats are not counted. */
export interface PrefixCacheOptions {
  /** Default 4. */
  sessions?: number;
  /** KV cache and scratch together. Default: no bound besides the number. */
  bytes?: number;
}

/** Copying fewer tokens than these is not worth a look at another session. */
const leastCopied = 16;

/** A session and what it holds. */
export class KeptSession {
  tokens: number[] = [];
  /** How many of them, from the first on, have the bits that a run of their own would compute. */
  fresh = 0;
  /** Settles when nobody copies it any more. */
  copying: Promise<unknown> | null = null;
  lastUse = 0;
  readonly bytes: number;

  /** The session must be idle. */
  constructor(
    readonly session: EngineSession,
    readonly contextSize: number,
  ) {
    const { kvCacheBytes, scratchBytes } = session.describe();
    this.bytes = kvCacheBytes + scratchBytes;
  }
}

export class PrefixCache {
  /** Nobody's: may be taken. */
  private readonly kept = new Set<KeptSession>();
  /** Of chats between two turns: may be copied. */
  private readonly parked = new Set<KeptSession>();
  private uses = 0;

  /**
   * `step`: how many tokens of a prompt the engine computes at once, where a position's bits depend on how many come with it: then only
   * whole steps are shared. 1 where they do not.
   */
  constructor(
    private readonly openSession: (contextSize: number) => Promise<EngineSession>,
    private readonly limits: Required<PrefixCacheOptions>,
    private readonly step: number,
  ) {}

  /** Memory of the sessions that nobody uses. */
  get bytes(): number {
    return [...this.kept].reduce((sum, kept) => sum + kept.bytes, 0);
  }

  /** A session with room for `contextSize` tokens that nobody else has; it holds the first `reused` tokens of the prompt, fewer than all. */
  async acquire(prompt: readonly number[], contextSize: number): Promise<{ kept: KeptSession; reused: number }> {
    const best = this.best(prompt);
    if (best !== null && this.mayTake(best.kept, best.reused, contextSize)) {
      this.kept.delete(best.kept);
      this.begin(best.kept, best.reused, prompt.length);
      return best;
    }
    const source = best !== null && best.reused >= leastCopied ? best : null;
    const copied = source === null ? null : this.lock(source.kept);
    try {
      await this.makeRoom();
      const kept = new KeptSession(await this.openSession(contextSize), contextSize);
      const reused = source !== null && (await copy(source.kept, kept, prompt.slice(0, source.reused))) ? source.reused : 0;
      kept.fresh = reused;
      this.begin(kept, reused, prompt.length);
      return { kept, reused };
    } finally {
      copied?.();
    }
  }

  /** A chat goes on with its own session. */
  async resume(kept: KeptSession, prompt: readonly number[]): Promise<number> {
    await this.withdraw(kept);
    const reused = Math.min(common(prompt, kept.tokens), prompt.length - 1); // the logits of the last are needed
    this.begin(kept, reused, prompt.length);
    return reused;
  }

  /** From now on nobody copies the session, until it is parked again. */
  async withdraw(kept: KeptSession): Promise<void> {
    this.parked.delete(kept);
    while (kept.copying !== null) await kept.copying;
  }

  /** Between two turns of a chat. */
  park(kept: KeptSession, tokens: number[]): void {
    this.hold(kept, tokens);
    if (this.limits.sessions > 0) this.parked.add(kept);
  }

  /** Nobody needs the session any more; `tokens` are what it holds, null when that is not certain. */
  async release(kept: KeptSession, tokens: number[] | null): Promise<void> {
    await this.withdraw(kept);
    if (tokens === null || tokens.length === 0 || this.limits.sessions === 0) return kept.session.close();
    this.hold(kept, tokens);
    this.kept.add(kept);
    const closing: Promise<void>[] = [];
    while (this.kept.size > this.limits.sessions || this.bytes > this.limits.bytes) {
      const evicted = this.evict();
      if (evicted === null) break;
      closing.push(evicted);
    }
    await Promise.all(closing);
  }

  private best(prompt: readonly number[]): { kept: KeptSession; reused: number } | null {
    let best: { kept: KeptSession; reused: number } | null = null;
    for (const kept of [...this.kept, ...this.parked]) {
      const shared = Math.min(common(prompt, kept.tokens), kept.fresh, prompt.length - 1);
      const reused = shared - (shared % this.step);
      if (reused > (best?.reused ?? 0)) best = { kept, reused };
    }
    return best;
  }

  /** Taking a session loses what it holds besides: that must be the smaller part, or be next to go anyway. */
  private mayTake(kept: KeptSession, reused: number, contextSize: number): boolean {
    if (!this.kept.has(kept) || kept.copying !== null || kept.contextSize < contextSize) return false;
    return 2 * reused >= kept.tokens.length || (this.kept.size >= this.limits.sessions && kept === this.oldest());
  }

  private begin(kept: KeptSession, reused: number, promptLength: number): void {
    if (kept.session.describe().position > reused) kept.session.rewind(reused);
    kept.tokens.length = reused;
    const isWhole = reused % this.step === 0 && reused <= kept.fresh;
    kept.fresh = isWhole ? promptLength - (promptLength % this.step) : Math.min(kept.fresh, reused - (reused % this.step));
  }

  private hold(kept: KeptSession, tokens: number[]): void {
    kept.tokens = tokens;
    kept.fresh = this.step === 1 ? tokens.length : Math.min(kept.fresh, tokens.length - (tokens.length % this.step));
    kept.lastUse = ++this.uses;
  }

  /** Keeps a session from being taken, closed or changed until the returned function is called. */
  private lock(kept: KeptSession): () => void {
    let end!: () => void;
    const mine = new Promise<void>((resolve) => (end = resolve));
    const all: Promise<unknown> = Promise.all([kept.copying, mine]).then(() => {
      if (kept.copying === all) kept.copying = null;
    });
    kept.copying = all;
    return end;
  }

  /** Before another session is opened. */
  private async makeRoom(): Promise<void> {
    while (this.kept.size > 0 && this.kept.size >= this.limits.sessions) {
      const evicted = this.evict();
      if (evicted === null) return;
      await evicted;
    }
  }

  private oldest(): KeptSession | null {
    const free = [...this.kept].filter(({ copying }) => copying === null);
    return free.reduce<KeptSession | null>((oldest, kept) => (oldest === null || kept.lastUse < oldest.lastUse ? kept : oldest), null);
  }

  /** Null when all of them are being copied. */
  private evict(): Promise<void> | null {
    const oldest = this.oldest();
    if (oldest === null) return null;
    this.kept.delete(oldest);
    return oldest.session.close();
  }
}

/** False when the source is not what it seemed; the prompt is then read from its beginning. */
async function copy(from: KeptSession, to: KeptSession, tokens: readonly number[]): Promise<boolean> {
  try {
    await to.session.copy(from.session, Int32Array.from(tokens));
    return true;
  } catch {
    to.session.rewind(0);
    return false;
  }
}

function common(a: readonly number[], b: readonly number[]): number {
  const most = Math.min(a.length, b.length);
  let count = 0;
  while (count < most && a[count] === b[count]) count++;
  return count;
}
