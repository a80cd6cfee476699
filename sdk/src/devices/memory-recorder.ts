/**
 * Records memory while work runs, then tells how much any part of that time took. Readings come from a timer of the calling
 * thread: a thread of its own would add its heap to what is measured. What a blocked timer misses, the kernel's own peak tells.
 */
import { ShiftAddError } from '../errors.js';
import { readOptions, type RuleTable } from '../options.js';
import { monotonicMs } from './energy-meter.js';
import { memoryNumbers, MemoryReader, readMemoryRules, type MemoryNumber, type MemoryReading } from './memory-reading.js';

/** How often, and of which process. */
export interface MemoryRecorderOptions {
  /** Readings per second, 1 to 200. Default 20. */
  rateHz?: number;
  /** Where the files of the kernel are. Default '/'. */
  sysRoot?: string;
}

/** One number over a window; null throughout where the machine does not tell it. */
export interface MemoryChange {
  /** At the last reading before the window. */
  start: number | null;
  /** At the first reading after it. */
  end: number | null;
  /** The largest reading; of `rssBytes`, the kernel's own peak where that rose in the window. */
  peak: number | null;
  least: number | null;
  /** `peak - start`; of `availableBytes`, how far it fell: `start - least`. */
  growth: number | null;
}

/** Readings between two times, in bytes. */
export interface MemoryTimeline {
  startMs: number;
  endMs: number;
  numbers: Record<MemoryNumber, MemoryChange>;
  samples: MemoryReading[];
  /** Why times and energies of the window do not count: pages moved between memory and a disk or swap. Null when they do. */
  invalid: string | null;
}

/** Reads memory in the background until it is closed. */
export interface MemoryRecorder {
  /** Times are milliseconds of `monotonicMs`. Waits until readings reach `endMs`. RangeError when the window was not recorded. */
  between(startMs: number, endMs: number): Promise<MemoryTimeline>;
  /** Takes a reading out of turn, for the exact start or end of a window. */
  read(): MemoryReading;
  /** Idempotent. */
  close(): void;
}

export const memoryRecorderRules = {
  ...readMemoryRules,
  rateHz: { kind: 'number', least: 1, most: 200, initial: 20 },
} as const satisfies RuleTable;

/** Older readings are dropped: 16 minutes at the default rate. */
const mostSamples = 20_000;

/** Starts to record at once. The timer keeps no program alive. TypeError and RangeError for wrong options. */
export function openMemoryRecorder(options?: MemoryRecorderOptions): MemoryRecorder {
  const { rateHz, sysRoot } = readOptions<MemoryRecorderOptions>(memoryRecorderRules, options, 'openMemoryRecorder');
  const reader = new MemoryReader(sysRoot!);
  const samples: MemoryReading[] = [];
  let closed = false;
  const read = (): MemoryReading => {
    if (closed) throw new ShiftAddError('ERR_CLOSED', 'This memory recorder is closed.');
    const sample = reader.read();
    samples.push(sample);
    if (samples.length >= 2 * mostSamples) samples.splice(0, samples.length - mostSamples);
    return sample;
  };
  read();
  const timer = setInterval(read, 1000 / rateHz!);
  timer.unref();
  return {
    read,
    async between(startMs, endMs) {
      if (!(startMs <= endMs)) throw new RangeError(`Expected a window that ends after it begins but received ${startMs} to ${endMs}`);
      while (samples.at(-1)!.atMs < endMs) {
        const wait = endMs - monotonicMs();
        if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait)); // may end up to a millisecond early
        read();
      }
      return timeline(samples, startMs, endMs);
    },
    close() {
      if (closed) return;
      closed = true;
      clearInterval(timer);
      reader.close();
    },
  };
}

/** `samples` in the order of time, from before the window to after it. RangeError when they begin later or end earlier. */
export function timeline(samples: readonly MemoryReading[], startMs: number, endMs: number): MemoryTimeline {
  const before = samples.findLastIndex(({ atMs }) => atMs <= startMs);
  const after = samples.findIndex(({ atMs }) => atMs >= endMs);
  if (before < 0 || after < 0) throw new RangeError(`The time from ${startMs} to ${endMs} was not recorded`);
  const held = samples.slice(before, Math.max(before, after) + 1);
  const numbers = Object.fromEntries(memoryNumbers.map((name) => [name, change(held, name)])) as Record<MemoryNumber, MemoryChange>;
  const { rssBytes, peakRssBytes } = numbers;
  if (rssBytes.start !== null && peakRssBytes.growth !== null && peakRssBytes.growth > 0) {
    rssBytes.peak = Math.max(rssBytes.peak!, peakRssBytes.end!);
    rssBytes.growth = rssBytes.peak - rssBytes.start;
  }
  return { startMs, endMs, numbers, samples: held, invalid: invalidity(numbers) };
}

function change(samples: readonly MemoryReading[], name: MemoryNumber): MemoryChange {
  const values = samples.map((sample) => sample[name]).filter((value) => value !== null);
  const [start, end] = [samples[0]![name], samples.at(-1)![name]];
  if (values.length === 0) return { start, end, peak: null, least: null, growth: null };
  const [peak, least] = [values.reduce((a, b) => Math.max(a, b)), values.reduce((a, b) => Math.min(a, b))];
  const growth = start === null ? null : name === 'availableBytes' ? start - least : peak - start;
  return { start, end, peak, least, growth };
}

function invalidity(numbers: Record<MemoryNumber, MemoryChange>): string | null {
  const moved = (name: MemoryNumber): boolean => numbers[name].peak !== numbers[name].least;
  const reasons: string[] = [];
  const { majorFaults } = numbers;
  if (moved('majorFaults')) reasons.push(`the process waited ${majorFaults.peak! - majorFaults.least!} times for a page from a disk or from swap`);
  if (moved('swappedBytes')) reasons.push('pages of the process moved to or from swap');
  else if (moved('swapUsedBytes')) reasons.push('the machine moved pages to or from swap');
  return reasons.length === 0 ? null : reasons.join('; ');
}
