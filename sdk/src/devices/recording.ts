/** The readings of one meter, and the energy of any window within them. Time comes from outside. */
import type { EnergyWindow, PowerSample } from './energy-meter.js';
import { type Series, type SeriesEnergy, energyOfCounter, energyOfPower, firstAtOrAfter, lastAtOrBefore, spanReadings, ticks } from './energy-window.js';
import { type MeterPlan, rootSumSquare } from './meter-plan.js';

/** An hour at the highest rate. */
const mostReadings = 180_000;

/** Readings this many updates before and after a window are looked at: some may have been missed. */
const marginUpdates = 20;

/** A window with fewer of its readings says nothing. */
const leastCoverage = 0.5;

export class Recording {
  readonly #plan: MeterPlan;
  readonly #periodMs: number;
  #times: number[] = [];
  #values: (number | null)[][] = [];
  readonly #lastRaw: (number | null)[];
  readonly #turned: number[];
  #resets: number[] = [];

  constructor(plan: MeterPlan, periodMs: number) {
    this.#plan = plan;
    this.#periodMs = periodMs;
    this.#lastRaw = plan.meter.rails.map(() => null);
    this.#turned = plan.meter.rails.map(() => 0);
  }

  get firstMs(): number | null {
    return this.#times[0] ?? null;
  }

  /** Until when energy is known: the last reading, or the last movement of a counter. */
  get knownMs(): number | null {
    const last = this.lastMs;
    if (last === null) return null;
    const series = this.#series(null, last, last);
    return (this.#isSlowCounter ? ticks(series) : series).times.at(-1) ?? null;
  }

  get lastMs(): number | null {
    return this.#times.at(-1) ?? null;
  }

  /** Values in the order of the rails: watts, or joules of a counter as the hardware shows them; null where reading failed. */
  add(atMs: number, values: readonly (number | null)[]): void {
    // A reading that is not later than the last one adds nothing.
    if (atMs <= (this.#times.at(-1) ?? -Infinity)) return;
    this.#times.push(atMs);
    this.#values.push(this.#plan.meter.method === 'counter' ? values.map((value, rail) => this.#unwrapped(atMs, rail, value)) : [...values]);
    if (this.#times.length > mostReadings * 1.1) {
      this.#times = this.#times.slice(-mostReadings);
      this.#values = this.#values.slice(-mostReadings);
    }
  }

  /** RangeError when no reading is that early. */
  between(startMs: number, endMs: number): EnergyWindow {
    if (!(Number.isFinite(startMs) && endMs > startMs)) throw new RangeError(`Expected a window that ends after it starts but received ${startMs} to ${endMs}`);
    if (this.firstMs === null || startMs < this.firstMs) throw new RangeError(`Expected a window within the recording but received a start ${this.firstMs === null ? 'before the first reading' : `${Math.round(this.firstMs - startMs)} ms too early`}`);
    const { meter, steps } = this.#plan;
    const total = this.#energy(this.#series(null, startMs, endMs), rootSumSquare(steps.filter((_, rail) => meter.rails[rail]!.inTotal)), startMs, endMs);
    const problem = this.#problem(total, startMs, endMs);
    const known = problem === null ? total : null;
    return {
      startMs,
      endMs,
      joules: known?.joules ?? null,
      uncertainty: known?.uncertainty ?? null,
      averageWatts: known?.averageWatts ?? null,
      peakWatts: known?.peakWatts ?? null,
      rails: meter.rails.map(({ name, inTotal }, rail) => {
        const energy = problem === null ? this.#energy(this.#series(rail, startMs, endMs), steps[rail]!, startMs, endMs) : null;
        return { name, inTotal, joules: energy?.joules ?? null, averageWatts: energy?.averageWatts ?? null, peakWatts: energy?.peakWatts ?? null };
      }),
      samples: total?.samples ?? 0,
      coverage: total?.coverage ?? 0,
      problem,
    };
  }

  samples(startMs: number, endMs: number): PowerSample[] {
    const first = firstAtOrAfter(this.#times, startMs);
    const last = lastAtOrBefore(this.#times, endMs);
    if (first < 0 || last < first) return [];
    if (this.#isSlowCounter) return this.#movements(first, last);
    const samples: PowerSample[] = [];
    for (let i = first; i <= last; i++) {
      const rails = this.#values[i]!.map((value, rail) => (this.#plan.meter.method === 'counter' ? this.#powerOfCounter(i, rail) : value));
      samples.push({ atMs: this.#times[i]!, watts: this.#total(rails), rails });
    }
    return samples;
  }

  /** Read more often than it moves. */
  get #isSlowCounter(): boolean {
    return this.#plan.meter.method === 'counter' && this.#plan.meter.updateMs > this.#periodMs;
  }

  /** Mean power between movements of the counter: between two readings it would be nothing, then far too much. */
  #movements(first: number, last: number): PowerSample[] {
    const samples: PowerSample[] = [];
    let moved: number | null = null;
    const margin = marginUpdates * Math.ceil(this.#plan.meter.updateMs / this.#periodMs);
    for (let i = Math.max(first - margin, 1); i <= last; i++) {
      const [before, now] = [this.#total(this.#values[i - 1]!), this.#total(this.#values[i]!)];
      if (before === null || now === null || before === now) continue;
      if (moved !== null && this.#times[i]! - this.#times[moved]! < spanReadings * this.#periodMs) continue;
      if (moved !== null && i >= first) {
        const since = moved;
        const rails = this.#values[i]!.map((_, rail) => this.#powerOfCounter(i, rail, since));
        samples.push({ atMs: (this.#times[i - 1]! + this.#times[i]!) / 2, watts: this.#total(rails), rails });
      }
      moved = i;
    }
    return samples;
  }

  #energy(series: Series, step: number, startMs: number, endMs: number): SeriesEnergy | null {
    const { meter, gain } = this.#plan;
    const options = { periodMs: this.#periodMs, updateMs: meter.updateMs, step, gain };
    return meter.method === 'counter' ? energyOfCounter(series, startMs, endMs, options) : energyOfPower(series, startMs, endMs, options);
  }

  #problem(total: SeriesEnergy | null, startMs: number, endMs: number): string | null {
    const { meter } = this.#plan;
    const length = endMs - startMs;
    // A hair of tolerance: the two moments come from a clock with more digits than the meter's own figures.
    if (length < meter.shortestWindowMs * 0.999) return `${meter.name} cannot resolve ${round(length)} ms; the shortest window is ${round(meter.shortestWindowMs)} ms`;
    if (this.#resets.some((ms) => ms > startMs && ms <= endMs)) return `${meter.name} started its counter again within the window`;
    if (total === null) return meter.method === 'counter' ? `the counter of ${meter.name} did not move around the window` : `${meter.name} gave too few readings in the window`;
    // Nothing that runs takes no power: the counter is frozen, or the sensor is switched off.
    if (total.joules === 0 && total.peakWatts === 0) return meter.method === 'counter' ? `the counter of ${meter.name} did not move in the window` : `${meter.name} showed 0 W throughout the window`;
    if (total.coverage < leastCoverage) return `${meter.name} missed ${Math.round((1 - total.coverage) * 100)} % of the window`;
    return null;
  }

  /** The total (`rail` null) or one rail around these times, without missed readings. */
  #series(rail: number | null, startMs: number, endMs: number): Series {
    const times: number[] = [];
    const values: number[] = [];
    const margin = marginUpdates * Math.max(this.#periodMs, this.#plan.meter.updateMs);
    const from = Math.max(lastAtOrBefore(this.#times, startMs - margin), 0);
    const to = lastAtOrBefore(this.#times, endMs + margin);
    for (let i = from; i <= to; i++) {
      const value = rail === null ? this.#total(this.#values[i]!) : this.#values[i]![rail]!;
      if (value === null) continue;
      times.push(this.#times[i]!);
      values.push(value);
    }
    return { times, values };
  }

  /** Null when a rail of the total is missing. */
  #total(values: readonly (number | null)[]): number | null {
    const { rails } = this.#plan.meter;
    let sum = 0;
    for (const [rail, value] of values.entries()) {
      if (!rails[rail]!.inTotal) continue;
      if (value === null) return null;
      sum += value;
    }
    return sum;
  }

  #unwrapped(atMs: number, rail: number, raw: number | null): number | null {
    if (raw === null) return null;
    const previous = this.#lastRaw[rail]!;
    if (previous !== null && raw < previous) {
      const range = this.#plan.ranges[rail]!;
      this.#turned[rail] = this.#turned[rail]! + (range ?? previous);
      if (range === null) this.#resets.push(atMs);
    }
    this.#lastRaw[rail] = raw;
    return raw + this.#turned[rail]!;
  }

  /** Mean watts since an earlier reading, the one before. */
  #powerOfCounter(index: number, rail: number, since = index - 1): number | null {
    const value = this.#values[index]![rail]!;
    const before = this.#values[since]?.[rail] ?? null;
    return value === null || before === null ? null : ((value - before) / (this.#times[index]! - this.#times[since]!)) * 1000;
  }
}

function round(ms: number): number {
  return Math.round(ms * 10) / 10;
}
