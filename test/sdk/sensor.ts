// A simulated power sensor: a known curve of power, read as a real one reads it (steps of the converter, noise, jitter, missed
// readings, counters that turn over), and the energy of the curve itself. No clock and no random numbers of the machine.
import type { MeterPlan } from '../../sdk/src/devices/meter-plan.js';
import { Recording } from '../../sdk/src/devices/recording.js';

/** Mulberry32: the same numbers for the same seed, everywhere. */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function normal(random: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

/** Power that changes linearly between corners; two corners at one time are a step. */
export type Curve = readonly { ms: number; watts: number }[];

export function wattsAt(curve: Curve, ms: number): number {
  if (ms <= curve[0]!.ms) return curve[0]!.watts;
  for (let i = 1; i < curve.length; i++) {
    const [a, b] = [curve[i - 1]!, curve[i]!];
    if (ms < b.ms) return a.watts + ((b.watts - a.watts) * (ms - a.ms)) / (b.ms - a.ms);
  }
  return curve.at(-1)!.watts;
}

/** Exact, joules. */
export function energyOf(curve: Curve, startMs: number, endMs: number): number {
  const cuts = [startMs, ...curve.map(({ ms }) => ms).filter((ms) => ms > startMs && ms < endMs), endMs];
  let joules = 0;
  for (let i = 1; i < cuts.length; i++) {
    const [a, b] = [cuts[i - 1]!, cuts[i]!];
    // At the ends of a piece from inside it, so that steps are on the right side.
    const inside = (b - a) * 1e-6;
    joules += (((wattsAt(curve, a + inside) + wattsAt(curve, b - inside)) / 2) * (b - a)) / 1000;
  }
  return joules;
}

export interface Sensor {
  /** Volts of the rail; the chip shows steps of 8 mV and `ampereStep`. */
  volts: number;
  ampereStep: number;
  noiseWatts: number;
  /** Share of the period. */
  jitter: number;
  /** Share of readings. */
  missed: number;
  /** Relative error of every reading. */
  gain: number;
}

export const orinNano: Sensor = { volts: 4.976, ampereStep: 0.008, noiseWatts: 0.05, jitter: 0.2, missed: 0, gain: 0 };

export function planFor(method: 'sampled' | 'counter', figures: { step: number; updateMs: number; gain?: number; range?: number | null; shortestWindowMs?: number }): MeterPlan {
  const { step, updateMs, gain = 0, range = null, shortestWindowMs = 100 } = figures;
  return {
    meter: { name: 'simulated', method, scope: 'module', rails: [{ name: 'VDD_IN', feeds: ['all'], inTotal: true }], total: 'VDD_IN', updateMs, step, shortestWindowMs },
    source: { kind: 'files', rails: [] },
    steps: [step],
    ranges: [range],
    gain,
    mostHz: 50,
  };
}

/** What such a sensor shows of the curve at 50 Hz. */
export function recordPower(curve: Curve, sensor: Sensor, random: () => number, gain = 0): Recording {
  const period = 20;
  const recording = new Recording(planFor('sampled', { step: sensor.volts * sensor.ampereStep, updateMs: 7, gain }), period);
  const end = curve.at(-1)!.ms;
  for (let ms = curve[0]!.ms; ms <= end; ms += period * (1 + sensor.jitter * (2 * random() - 1))) {
    if (random() < sensor.missed) {
      recording.add(ms, [null]);
      continue;
    }
    const watts = (wattsAt(curve, ms) + sensor.noiseWatts * normal(random)) * (1 + sensor.gain);
    const volts = Math.round(sensor.volts / 0.008) * 0.008;
    recording.add(ms, [Math.round(watts / sensor.volts / sensor.ampereStep) * sensor.ampereStep * volts]);
  }
  return recording;
}

/** A counter in joules that ticks every `updateMs`, turns over at `range` and is read every `periodMs`. */
export function recordCounter(curve: Curve, { updateMs, step, range, startJoules = 0, periodMs = 20 }: { updateMs: number; step: number; range: number | null; startJoules?: number; periodMs?: number }, random: () => number): Recording {
  const recording = new Recording(planFor('counter', { step, updateMs, range }), periodMs);
  const begin = curve[0]!.ms;
  const phase = random() * updateMs;
  for (let ms = begin; ms <= curve.at(-1)!.ms; ms += periodMs * (1 + 0.2 * (2 * random() - 1))) {
    const tick = Math.max(begin, Math.floor((ms - begin + phase) / updateMs) * updateMs - phase + begin);
    const joules = startJoules + energyOf(curve, begin, tick + 1e-9);
    const shown = Math.floor(joules / step) * step;
    recording.add(ms, [range === null ? shown : shown % range]);
  }
  return recording;
}
