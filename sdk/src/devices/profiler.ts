/** Measures a program's own work: what runs between two moments, in joules, bytes and seconds. */
import { setTimeout as wait } from 'node:timers/promises';
import { ShiftAddError } from '../errors.js';
import { type RuleTable, readOptions, show } from '../options.js';
import { type EnergyMeter, type EnergyRecorder, monotonicMs } from './energy-meter.js';
import { type OpenedRecorder, givenOrOpened } from './find-meters.js';
import type { Figure } from './interval.js';
import type { WorkPlace } from './meter-choice.js';
import { openMemoryRecorder, type MemoryChange, type MemoryRecorder } from './memory-recorder.js';
import type { WindowEnergy } from './profile-result.js';
import { windowEnergy } from './profile-session.js';
import { defaultRoot } from './system-files.js';

/** What a profiler reads. */
export interface ProfilerOptions {
  /** The name of a meter. Default the first that can be read and covers `worksOn`. */
  meter?: string;
  /** Where the work runs that is to be measured. Default anywhere. */
  worksOn?: WorkPlace;
  /** Readings of the meter per second, 1 to 50. Default what it gives, at most 50. */
  rate?: number;
  /** A recorder that is open already, which stays open; null measures without energy. */
  recorder?: EnergyRecorder | null;
  /** Where `/proc` and `/sys` of the machine lie. Default `/`. */
  sysRoot?: string;
}

export const profilerRules = {
  meter: { kind: 'text' },
  worksOn: { kind: 'text' },
  rate: { kind: 'number', least: 1, most: 50 },
  recorder: { kind: 'recorder' },
  sysRoot: { kind: 'text', initial: defaultRoot },
} as const satisfies RuleTable;

/** One piece of work. */
export interface Measurement {
  name: string;
  seconds: number;
  /** Everything within the scope of the meter in that time; null where it cannot be resolved: `energyProblem` says why. */
  energy: WindowEnergy | null;
  energyProblem: string | null;
  /** Joules less those of the idle time that `idle` measured before; null without it. */
  net: Figure | null;
  memory: { resident: MemoryChange; available: MemoryChange };
  /** Why the memory spoils the measurement, such as swapping. */
  memoryProblem: string | null;
}

/**
 * Opens a meter; without one everything but energy is measured. ERR_NOT_FOUND for a named meter that is not there,
 * TypeError and RangeError for wrong options.
 */
export async function createProfiler(options?: ProfilerOptions): Promise<Profiler> {
  const { meter, worksOn, rate, recorder, sysRoot } = readOptions<ProfilerOptions>(profilerRules, options, 'createProfiler');
  if (recorder !== undefined && (meter !== undefined || worksOn !== undefined || rate !== undefined)) throw new TypeError('Expected either recorder or meter, worksOn and rate but received both');
  const opened = await givenOrOpened(recorder, { sysRoot: sysRoot!, ...(meter === undefined ? {} : { meter }), ...(worksOn === undefined ? {} : { worksOn }), ...(rate === undefined ? {} : { rateHz: rate }) });
  return new Profiler(opened, openMemoryRecorder({ sysRoot: sysRoot! }), recorder === undefined);
}

/** Made by `createProfiler`. Windows that overlap each count all energy of their time. */
export class Profiler {
  readonly #measurements: Measurement[] = [];
  readonly #recorder: EnergyRecorder | null;
  /** Why there is none. */
  readonly #noMeter: string | null;
  readonly #memory: MemoryRecorder;
  readonly #owned: boolean;
  #idle: { watts: number; uncertainty: number } | null = null;
  #closed = false;

  constructor({ recorder, problem }: OpenedRecorder, memory: MemoryRecorder, owned: boolean) {
    this.#recorder = recorder;
    this.#noMeter = problem;
    this.#memory = memory;
    this.#owned = owned;
  }

  /** Null without one. */
  get meter(): EnergyMeter | null {
    return this.#recorder?.meter ?? null;
  }

  /** All so far, in the order in which they ended. */
  get measurements(): readonly Measurement[] {
    return [...this.#measurements];
  }

  /** Does nothing for this long and takes its power for that of the idle machine in what comes later. Null where it cannot be measured. */
  async idle(seconds = 10): Promise<number | null> {
    if (!(typeof seconds === 'number' && seconds > 0 && seconds <= 3600)) throw new RangeError(`Expected a number above 0 and up to 3600 for seconds but received ${show(seconds)}`);
    this.#checkOpen();
    if (this.#recorder === null) return null;
    const startMs = monotonicMs();
    await wait(seconds * 1000);
    const endMs = monotonicMs();
    const { averageWatts, uncertainty } = await this.#recorder.between(startMs, endMs);
    this.#idle = averageWatts === null || uncertainty === null ? null : { watts: averageWatts, uncertainty: (uncertainty * 1000) / (endMs - startMs) };
    return averageWatts;
  }

  /** Runs `work` and resolves to what it gave and what it took. When `work` fails, rejects with its error and keeps nothing. */
  async measure<T>(name: string, work: () => T | Promise<T>): Promise<Measurement & { value: T }> {
    if (typeof name !== 'string' || name === '') throw new TypeError(`Expected a non-empty string for name but received ${show(name)}`);
    if (typeof work !== 'function') throw new TypeError(`Expected a function for work but received ${show(work)}`);
    this.#checkOpen();
    this.#memory.read();
    const startMs = monotonicMs();
    const value = await work();
    const endMs = monotonicMs();
    this.#checkOpen();
    const window = await this.#recorder?.between(startMs, endMs);
    const { numbers, invalid } = await this.#memory.between(startMs, endMs);
    const energy = window === undefined ? null : windowEnergy(window);
    const seconds = (endMs - startMs) / 1000;
    const measurement: Measurement = {
      name,
      seconds,
      energy,
      energyProblem: window === undefined ? this.#noMeter : window.problem,
      net: energy === null || this.#idle === null ? null : { value: energy.joules - this.#idle.watts * seconds, uncertainty: Math.hypot(energy.uncertainty, this.#idle.uncertainty * seconds) },
      memory: { resident: numbers.rssBytes, available: numbers.availableBytes },
      memoryProblem: invalid,
    };
    this.#measurements.push(measurement);
    return { ...measurement, value };
  }

  /** Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#memory.close();
    if (this.#owned) await this.#recorder?.close();
  }

  /** The same as `close`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #checkOpen(): void {
    if (this.#closed) throw new ShiftAddError('ERR_CLOSED', 'This profiler is closed. Create it again.');
  }
}
