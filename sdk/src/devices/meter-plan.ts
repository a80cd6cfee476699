/** A meter with what a sampler needs to read it. Plain data: it crosses to a worker. */
import type { EnergyMeter } from './energy-meter.js';

export interface MeterPlan {
  meter: EnergyMeter;
  source: MeterSource;
  /** Smallest step of each rail, watts or joules. */
  steps: number[];
  /** Where the counter of each rail starts again, joules; null without an end and for sampled meters. */
  ranges: (number | null)[];
  /** Share by which readings may be wrong throughout, half of a 95 % interval. */
  gain: number;
  /** The meter is read at most this often, Hz. */
  mostHz: number;
}

/** `scale` times the product of the numbers in its files: watts, or joules of a counter. `only`: missed unless that file says so. */
export interface FileRail {
  files: string[];
  scale: number;
  only?: { file: string; is: string };
}

export type MeterSource =
  | { kind: 'files'; rails: FileRail[] }
  | { kind: 'nvml'; device: number; counter: boolean }
  | { kind: 'pmic'; way: PmicWay; rails: string[]; /** The board's power from their sum instead of each. */ estimate: boolean }
  /** A program that prints a line for each interval until it is stopped. */
  | { kind: 'tegrastats'; program: string; rails: string[] };

/** How the firmware of a Raspberry Pi is asked: through its device, or by a program that prints all rails each time it runs. */
export type PmicWay = { device: string } | { program: string };

/** The fastest that anything is read. */
export const highestHz = 50;

/** Readings that a window must span before it says anything. */
const readingsPerWindow = 5;

/** The shortest window of a meter that shows a new value each `updateMs` and is read at `hz`. */
export function shortestWindow(updateMs: number, hz: number): number {
  return readingsPerWindow * Math.max(updateMs, 1000 / hz);
}

/** Steps of independent rails add up like this. */
export function rootSumSquare(values: readonly number[]): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
}
