/**
 * Measures what a token costs: an idle board, then passes over the prompt and over the answer in windows of their own, again
 * and again, then the idle board once more.
 */
import { basename } from 'node:path';
import { makeCancelFlag } from '../engine.js';
import { fromEngine, ShiftAddError } from '../errors.js';
import { closedError, coreOf, type ModelCore } from '../model-core.js';
import type { Model } from '../model.js';
import { type RuleTable, readOptions, show } from '../options.js';
import { type DetectedBoard, boardOf } from './board.js';
import type { EnergyRecorder } from './energy-meter.js';
import { type OpenedRecorder, givenOrOpened } from './find-meters.js';
import { isLevel, levelRepetitions, type RepetitionState } from './profile-energy.js';
import type { ProfileResult } from './profile-result.js';
import { ProfileSession } from './profile-session.js';
import { assembleResult } from './profile-statement.js';
import { warmUp } from './profile-workload.js';
import { SystemFiles, defaultRoot } from './system-files.js';

/** What is measured, and how long. */
export interface ProfileOptions {
  /** What is said to the model; a list is a conversation of as many turns. Default a short question. */
  prompt?: string | string[];
  /** Decode steps after each prompt; end tokens do not end them. Default 64. */
  tokens?: number;
  /** Of the whole measurement; 1 leaves intervals to what the meter says of itself. Default 3. */
  repetitions?: number;
  /** How long the idle board is measured before and after, in seconds; 0 leaves it out, and the net figures with it. Default 10. */
  idle?: number;
  /** Least length of a window of steady load, in seconds. Default 5 with a meter, or what it needs, and 1 without. */
  window?: number;
  /** Goes on until rate, power and temperature have levelled off, and reports that state. Default false. */
  untilStable?: boolean;
  /** Ends `untilStable`, in seconds. Default 1800. */
  limit?: number;
  /** The name of a meter. Default the first that can be read and covers where the model runs. */
  meter?: string;
  /** Readings of the meter per second, 1 to 50. Default what it gives, at most 50. */
  rate?: number;
  /** A recorder that is open already, which stays open; null measures without energy. */
  recorder?: EnergyRecorder | null;
  /** Where `/proc` and `/sys` of the machine lie. Default `/`. */
  sysRoot?: string;
  /** Aborting rejects with the signal's reason. */
  signal?: AbortSignal;
  /** Called as the work goes on. */
  onProgress?: (progress: ProfileProgress) => void;
}

/** How far a profile is. */
export interface ProfileProgress {
  phase: 'warm-up' | 'idle' | 'prefill' | 'decode';
  /** Seconds that have passed and that the run is expected to take; with `untilStable` its limit. */
  done: number;
  total: number;
}

export const profileRules = {
  prompt: { kind: 'texts', initial: ['Why is the sky blue? Answer in a few sentences.'] },
  tokens: { kind: 'integer', least: 1, most: 2 ** 20, initial: 64 },
  repetitions: { kind: 'integer', least: 1, most: 1000, initial: 3 },
  idle: { kind: 'number', least: 0, most: 3600, initial: 10 },
  window: { kind: 'number', least: 0.05, most: 3600 },
  untilStable: { kind: 'flag', initial: false },
  limit: { kind: 'number', least: 1, most: 86_400, initial: 1800 },
  meter: { kind: 'text' },
  rate: { kind: 'number', least: 1, most: 50 },
  recorder: { kind: 'recorder' },
  sysRoot: { kind: 'text', initial: defaultRoot },
  signal: { kind: 'signal' },
  onProgress: { kind: 'callback' },
} as const satisfies RuleTable;

/** Steady load that a meter needs at the least, and without a meter the clock. */
const meteredWindowMs = 5000;
const unmeteredWindowMs = 1000;

/**
 * TypeError and RangeError for wrong options and for a conversation that does not fit the context; ERR_NOT_FOUND for a named
 * meter that is not there, ERR_CLOSED, ERR_WORKER when the meter fails. Without a meter everything but energy is measured.
 */
export async function profileModel(model: Model, options?: ProfileOptions): Promise<ProfileResult> {
  const core = coreOf(model);
  if (core === undefined) throw new TypeError(`Expected a loaded model for model but received ${show(model)}`);
  const checked = readOptions<ProfileOptions>(profileRules, options, 'profileModel') as CheckedOptions;
  const { signal } = checked;
  if (checked.recorder !== undefined && (checked.meter !== undefined || checked.rate !== undefined)) {
    throw new TypeError('Expected either recorder or meter and rate but received both');
  }
  core.checkOpen();
  signal?.throwIfAborted();
  const { meter, rate, sysRoot } = checked;
  const opened = await givenOrOpened(checked.recorder, { sysRoot, worksOn: core.worksOn, ...(meter === undefined ? {} : { meter }), ...(rate === undefined ? {} : { rateHz: rate }) });
  try {
    // Without a meter there is nothing to learn from an idle board.
    return await profileWith(core, model, opened.recorder === null ? { ...checked, idle: 0 } : checked, opened);
  } finally {
    if (checked.recorder === undefined) await opened.recorder?.close();
  }
}

export type CheckedOptions = ProfileOptions & {
  prompt: string[];
  tokens: number;
  repetitions: number;
  idle: number;
  untilStable: boolean;
  limit: number;
  sysRoot: string;
};

async function profileWith(core: ModelCore, model: Model, options: CheckedOptions, { recorder, problem: meterProblem }: OpenedRecorder): Promise<ProfileResult> {
  const { signal } = options;
  const files = new SystemFiles(options.sysRoot);
  const board: DetectedBoard = boardOf(files);
  const startedAt = new Date().toISOString();
  const flag = makeCancelFlag();
  const stop = (): void => void Atomics.store(flag, 0, 1);
  signal?.addEventListener('abort', stop, { once: true });
  core.running.add(stop);
  const session = await core.openSession(core.contextSize);
  const least = recorder === null ? unmeteredWindowMs : Math.max(meteredWindowMs, recorder.meter.shortestWindowMs);
  const windowMs = options.window === undefined ? least : options.window * 1000;
  const run = new ProfileSession({ session, recorder, files, flag, windowMs, sustained: options.untilStable, ...(signal === undefined ? {} : { signal }) });
  const expected = expectedSeconds(options, windowMs);
  run.onPhase = (phase, seconds) => options.onProgress?.({ phase, done: Math.min(seconds, expected), total: expected });
  try {
    const guardBefore = run.begin();
    const workload = await warmUp(core, session, { texts: options.prompt, tokens: options.tokens, contextSize: core.contextSize }, flag);
    const idleBefore = await run.idle(options.idle * 1000);
    const stable = await repeat(run, workload.turns, options);
    const idleAfter = await run.idle(options.idle * 1000);
    const guardAfter = run.guard();
    return assembleResult({
      startedAt,
      info: model.info,
      name: basename(model.path),
      core,
      session,
      options,
      windowMs,
      workload,
      recorder,
      meterProblem,
      run,
      idle: [idleBefore, idleAfter],
      stable,
      board: { detected: board, start: guardBefore.state, end: guardAfter.state },
    });
  } catch (error) {
    signal?.throwIfAborted();
    if (core.closed) throw closedError('model');
    throw error instanceof ShiftAddError ? error : fromEngine(error, 'Profiling');
  } finally {
    run.end();
    signal?.removeEventListener('abort', stop);
    core.running.delete(stop);
    await session.close();
  }
}

/** The asked number of repetitions, or as many as it takes until nothing changes any more. */
async function repeat(run: ProfileSession, turns: Parameters<ProfileSession['repetition']>[0], options: CheckedOptions): Promise<ProfileResult['stable']> {
  const history: RepetitionState[] = [];
  const limitMs = options.limit * 1000;
  for (let repetition = 0; ; repetition++) {
    history.push(await run.repetition(turns, repetition));
    const count = repetition + 1;
    if (!options.untilStable) {
      if (count >= options.repetitions) return null;
      continue;
    }
    const reached = isLevel(history) && count >= options.repetitions;
    if (reached || run.elapsedMs >= limitMs) return { reached, afterMs: Math.round(run.elapsedMs), firstRepetition: Math.max(0, count - levelRepetitions) };
  }
}

/** Prefill and decode of each turn have a window each. */
function expectedSeconds({ idle, prompt, repetitions, untilStable, limit }: CheckedOptions, windowMs: number): number {
  return 2 * idle + (untilStable ? limit : (2 * prompt.length * repetitions * windowMs) / 1000);
}
