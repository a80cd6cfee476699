/** The measuring side of a profile run: windows of load, idle windows, and the readings of memory and tokens beside them. */
import { setTimeout as wait } from 'node:timers/promises';
import type { CancelFlag, EngineSession } from '../engine.js';
import { boardOf } from './board.js';
import { type EnergyRecorder, type EnergyWindow, monotonicMs } from './energy-meter.js';
import type { RepetitionState } from './profile-energy.js';
import { type GuardReading, judge, readGuard } from './profile-guard.js';
import type { MemoryReading } from './memory-reading.js';
import { openMemoryRecorder, type MemoryRecorder } from './memory-recorder.js';
import type { PhaseName, ProfileTimeline, ProfileWindow, WindowEnergy } from './profile-result.js';
import { decodeAgain, prefillAgain, type WorkTurn } from './profile-workload.js';
import type { SystemFiles } from './system-files.js';

export interface SessionParts {
  session: EngineSession;
  recorder: EnergyRecorder | null;
  files: SystemFiles;
  flag: CancelFlag;
  windowMs: number;
  sustained: boolean;
  signal?: AbortSignal;
}

/** Memory and tokens are read this often; the process reads files for it, so not more often than a chart shows. */
const tickMs = 200;
/** Before an idle window, for what the last work left in motion: power supplies, fans, the clock governor. */
const settleMs = 500;

export interface IdleWindow {
  seconds: number;
  energy: WindowEnergy | null;
  problem: string | null;
}

export class ProfileSession {
  readonly windows: ProfileWindow[] = [];
  readonly phases: ProfileTimeline['phases'] = [];
  /** Times since the run began. */
  readonly memory: MemoryReading[] = [];
  readonly tokens: ProfileTimeline['tokens'] = { atMs: [], prefill: [], decode: [] };
  onPhase: (phase: 'warm-up' | 'idle' | PhaseName, seconds: number) => void = () => undefined;
  #startMs = 0;
  #timer: NodeJS.Timeout | undefined;
  #memory: MemoryRecorder;
  #phase: 'warm-up' | 'idle' | PhaseName = 'warm-up';
  #counts = { prefill: 0, decode: 0 };

  constructor(private readonly parts: SessionParts) {
    // Its own timer is a spare: readings are taken with those of the tokens.
    this.#memory = openMemoryRecorder({ rateHz: 1, sysRoot: parts.files.root });
  }

  get startMs(): number {
    return this.#startMs;
  }

  get elapsedMs(): number {
    return monotonicMs() - this.#startMs;
  }

  begin(): GuardReading {
    this.#startMs = monotonicMs();
    this.#timer = setInterval(() => this.#tick(), tickMs);
    this.#tick();
    return this.guard();
  }

  end(): void {
    clearInterval(this.#timer);
    this.#memory.close();
  }

  guard(): GuardReading {
    return readGuard(this.parts.files, boardOf(this.parts.files));
  }

  /** Null when it is left out. */
  async idle(ms: number): Promise<IdleWindow | null> {
    if (ms === 0) return null;
    this.#enter('idle');
    await this.#sleep(settleMs);
    const startMs = monotonicMs();
    await this.#sleep(ms);
    const endMs = monotonicMs();
    this.phases.push({ name: 'idle', turn: null, repetition: null, ...this.#since(startMs, endMs) });
    return { seconds: (endMs - startMs) / 1000, ...(await this.#energy(startMs, endMs)) };
  }

  /** All turns once: of each a window that reads the prompt, then one that generates. */
  async repetition(turns: readonly WorkTurn[], repetition: number): Promise<RepetitionState> {
    const { session, flag } = this.parts;
    const decoded: ProfileWindow[] = [];
    for (const [turn, work] of turns.entries()) {
      await this.#window('prefill', turn, repetition, async () => {
        await prefillAgain(session, work, flag);
        this.#counts.prefill += work.prompt.length;
        return work.prompt.length;
      });
      const window = await this.#window('decode', turn, repetition, async () => {
        await decodeAgain(session, work, flag, () => this.#counts.decode++);
        return work.steps;
      });
      decoded.push(window);
    }
    const seconds = decoded.map(({ startMs, endMs }) => (endMs - startMs) / 1000);
    const allSeconds = seconds.reduce((sum, value) => sum + value, 0);
    const watts = decoded.map(({ energy }) => energy?.averageWatts ?? null);
    return {
      tokensPerSecond: decoded.reduce((sum, { tokens }) => sum + tokens, 0) / allSeconds,
      averageWatts: watts.some((value) => value === null) ? null : watts.reduce<number>((sum, value, i) => sum + value! * seconds[i]!, 0) / allSeconds,
      celsius: decoded.at(-1)!.celsius,
    };
  }

  async #window(phase: PhaseName, turn: number, repetition: number, pass: () => Promise<number>): Promise<ProfileWindow> {
    this.parts.signal?.throwIfAborted();
    this.#enter(phase);
    const before = this.guard();
    this.#memory.read();
    let passes = 0;
    let tokens = 0;
    const startMs = monotonicMs();
    let endMs: number;
    do {
      this.parts.signal?.throwIfAborted();
      tokens += await pass();
      passes++;
      endMs = monotonicMs();
    } while (endMs - startMs < this.parts.windowMs);
    const after = this.guard();
    this.#tick();
    const { energy, problem } = await this.#energy(startMs, endMs);
    const { invalid } = await this.#memory.between(startMs, endMs);
    const { problems, celsius, otherCores } = judge(before, after, invalid, this.parts.sustained);
    const window: ProfileWindow = { phase, turn, repetition, ...this.#since(startMs, endMs), passes, tokens, energy, energyProblem: problem, celsius, otherCores, problems };
    this.windows.push(window);
    this.phases.push({ name: phase, turn, repetition, startMs: window.startMs, endMs: window.endMs });
    return window;
  }

  async #energy(startMs: number, endMs: number): Promise<{ energy: WindowEnergy | null; problem: string | null }> {
    const { recorder } = this.parts;
    if (recorder === null) return { energy: null, problem: null };
    const window = await recorder.between(startMs, endMs);
    return { energy: windowEnergy(window), problem: window.problem };
  }

  #since(startMs: number, endMs: number): { startMs: number; endMs: number } {
    return { startMs: startMs - this.#startMs, endMs: endMs - this.#startMs };
  }

  #sleep(ms: number): Promise<void> {
    return wait(ms, undefined, this.parts.signal === undefined ? {} : { signal: this.parts.signal }).catch((error: unknown) => {
      this.parts.signal?.throwIfAborted();
      throw error;
    });
  }

  #enter(phase: 'idle' | PhaseName): void {
    this.#phase = phase;
    this.onPhase(phase, this.elapsedMs / 1000);
  }

  #tick(): void {
    const atMs = round(this.elapsedMs);
    this.memory.push({ ...this.#memory.read(), atMs });
    this.tokens.atMs.push(atMs);
    this.tokens.prefill.push(this.#counts.prefill);
    this.tokens.decode.push(this.#counts.decode);
    this.onPhase(this.#phase, atMs / 1000);
  }

  /** What the recorder holds of the run, in columns. */
  power(): ProfileTimeline['power'] {
    const { recorder } = this.parts;
    const samples = recorder?.samples(this.#startMs, monotonicMs()) ?? [];
    const watts = (value: number | null): number | null => (value === null ? null : Math.round(value * 1e4) / 1e4);
    return {
      atMs: samples.map(({ atMs }) => round(atMs - this.#startMs)),
      watts: samples.map((sample) => watts(sample.watts)),
      rails: (recorder?.meter.rails ?? []).map(({ name }, rail) => ({ name, watts: samples.map(({ rails }) => watts(rails[rail] ?? null)) })),
    };
  }
}

function round(ms: number): number {
  return Math.round(ms * 10) / 10;
}

/** Null where the meter could not resolve it. */
export function windowEnergy({ joules, uncertainty, averageWatts, peakWatts, rails, samples, coverage }: EnergyWindow): WindowEnergy | null {
  if (joules === null || uncertainty === null || averageWatts === null || peakWatts === null) return null;
  return { joules, uncertainty, averageWatts, peakWatts, rails: rails.map(({ name, inTotal, averageWatts, peakWatts }) => ({ name, inTotal, averageWatts, peakWatts })), samples, coverage };
}
