/**
 * Energy between two moments from a series of readings: of power by trapezoids, of a counter by difference, both
 * interpolated at the exact edges. With it half of a 95 % interval. No clock is read here.
 *
 * The parts of the uncertainty, combined in quadrature:
 * - readings at moments of a load that changes between them: 1.96 sigma / sqrt(n), sigma from differences of neighbours,
 *   so that a slow change of the load does not count as noise;
 * - steps of the converter: 1.96 step / sqrt(12) / sqrt(m), where m is 1 as long as the readings stay within a step: noise
 *   below that does not average out;
 * - edges: the power may change anywhere between the two readings around an edge;
 * - readings that were missed: the power may have been anything seen elsewhere in the window;
 * - the gain of the meter, in proportion to the energy.
 * The offset of a sensor is not in it: it is the same with and without load, so a difference of two windows is free of it.
 */

/** One rail, or the total. Times ascend; missed readings are left out. */
export interface Series {
  times: readonly number[];
  /** Watts, or joules of a counter that never decreases. */
  values: readonly number[];
}

export interface SeriesMeter {
  /** Nominal time between readings. */
  periodMs: number;
  /** The hardware shows a new value about this often. */
  updateMs: number;
  /** Watts or joules. */
  step: number;
  /** Share of the energy, half of a 95 % interval. */
  gain: number;
}

export interface SeriesEnergy {
  joules: number;
  uncertainty: number;
  averageWatts: number;
  peakWatts: number;
  /** Readings of a counter or of power inside the window. */
  samples: number;
  /** Part of the window between readings not further apart than three periods, updates or 150 ms. */
  coverage: number;
}

/** A tick of a slow counter is known to half a reading, so power is told over as many readings: that makes it a tenth. */
export const spanReadings = 10;

/** However long a reading takes, there are 20 in a second. */
const slowestMs = 50;

const sigmas = 1.96;
/** Half of a 95 % interval of a uniform distribution of width 1, taken as normal. */
const uniform = sigmas / Math.sqrt(12);

/** Null when readings do not reach both edges or fewer than two lie inside. */
export function energyOfPower(series: Series, startMs: number, endMs: number, meter: SeriesMeter): SeriesEnergy | null {
  const { times } = series;
  const first = lastAtOrBefore(times, startMs);
  const last = firstAtOrAfter(times, endMs);
  if (first < 0 || last < 0 || last - first < 3) return null;
  const seconds = (endMs - startMs) / 1000;
  let joules = 0;
  // A slow or busy meter is read less often than was asked for.
  const expected = 3 * Math.max(meter.periodMs, meter.updateMs, slowestMs);
  let covered = 0;
  let gaps = 0;
  let lowest = Infinity;
  let highest = -Infinity;
  for (let i = first; i < last; i++) {
    const from = Math.max(times[i]!, startMs);
    const to = Math.min(times[i + 1]!, endMs);
    const a = valueAt(series, i, from);
    const b = valueAt(series, i, to);
    joules += (((a + b) / 2) * (to - from)) / 1000;
    const gap = times[i + 1]! - times[i]!;
    if (gap <= expected) covered += to - from;
    else gaps += ((to - from) / 1000) ** 2;
    lowest = Math.min(lowest, a, b);
    highest = Math.max(highest, a, b);
  }
  const independent = spaced(series, first + 1, last - 1, meter.updateMs);
  const n = independent.length;
  if (n < 2) return null;
  let squares = 0;
  let jumps = 1;
  for (let i = 1; i < n; i++) {
    const difference = independent[i]! - independent[i - 1]!;
    squares += difference * difference;
    if (Math.abs(difference) >= 1.5 * meter.step) jumps++;
  }
  const sigma = Math.sqrt(squares / (2 * (n - 1)));
  // The factor of few readings: 2.7 of five, as Student's distribution has it.
  const statistical = sigmas * (1 + 2 / n) * (sigma / Math.sqrt(n)) * seconds;
  const quantisation = (uniform * meter.step * seconds) / Math.sqrt(jumps);
  const edges = Math.hypot(powerEdge(series, startMs, meter.updateMs), powerEdge(series, endMs, meter.updateMs));
  const missed = Math.sqrt(gaps) * ((highest - lowest) / 2);
  return {
    joules,
    uncertainty: Math.hypot(statistical, quantisation, edges, missed, meter.gain * joules),
    averageWatts: joules / seconds,
    peakWatts: highest,
    samples: last - first - 1,
    coverage: covered / (endMs - startMs),
  };
}

/** Null when the counter did not move before the start and after the end. */
export function energyOfCounter(series: Series, startMs: number, endMs: number, meter: SeriesMeter): SeriesEnergy | null {
  const slow = meter.updateMs > meter.periodMs;
  const points = slow ? ticks(series) : { ...series, halfGap: 0 };
  const { times, values } = points;
  const first = lastAtOrBefore(times, startMs);
  const last = firstAtOrAfter(times, endMs);
  if (first < 0 || last < 0) return null;
  const at = (ms: number, index: number): number => valueAt(points, Math.min(index, times.length - 2), ms);
  if (times.length < 2) return null;
  const joules = at(endMs, Math.max(last - 1, 0)) - at(startMs, first);
  const seconds = (endMs - startMs) / 1000;
  const watts = (i: number): number | null => (i < 0 || i + 1 >= times.length ? null : ((values[i + 1]! - values[i]!) / (times[i + 1]! - times[i]!)) * 1000);
  const edge = (index: number): number => {
    const around = [watts(index - 1), watts(index), watts(index + 1)].filter((value) => value !== null);
    if (around.length === 0) return 0;
    const gap = times[Math.min(index + 1, times.length - 1)]! - times[index]!;
    const change = Math.max(...around) - Math.min(...around);
    // The moment of a tick is known to half a reading period, and a fast counter to its own step in time.
    return (change * (gap / 2)) / 1000 + (Math.max(...around) * Math.max(points.halfGap, slow ? 0 : meter.updateMs / 2)) / 1000;
  };
  let covered = 0;
  let peak = -Infinity;
  let samples = 0;
  const expected = 3 * Math.max(meter.periodMs, meter.updateMs);
  for (let i = first; i < last; i++) {
    const from = Math.max(times[i]!, startMs);
    const to = Math.min(times[i + 1]!, endMs);
    if (times[i + 1]! - times[i]! <= expected) covered += to - from;
    const until = slow ? firstAtOrAfter(times, times[i]! + spanReadings * meter.periodMs) : i + 1;
    if (until > 0 && until <= last) peak = Math.max(peak, ((values[until]! - values[i]!) / (times[until]! - times[i]!)) * 1000);
    if (times[i]! >= startMs && times[i]! <= endMs) samples++;
  }
  const quantisation = uniform * meter.step * Math.SQRT2;
  return {
    joules,
    uncertainty: Math.hypot(quantisation, edge(first), edge(Math.max(last - 1, 0)), meter.gain * joules),
    averageWatts: joules / seconds,
    peakWatts: Number.isFinite(peak) ? peak : joules / seconds,
    samples,
    coverage: covered / (endMs - startMs),
  };
}

/** Where the counter moved, at the middle of the two readings between which it did. */
export function ticks({ times, values }: Series): Series & { halfGap: number } {
  const found: { times: number[]; values: number[] } = { times: [], values: [] };
  let widest = 0;
  for (let i = 1; i < times.length; i++) {
    if (values[i] === values[i - 1]) continue;
    const half = (times[i]! - times[i - 1]!) / 2;
    found.times.push(times[i]! - half);
    found.values.push(values[i]!);
    widest = Math.max(widest, half);
  }
  return { ...found, halfGap: widest };
}

/** Joules that may lie on the wrong side of an edge. */
function powerEdge(series: Series, edgeMs: number, updateMs: number): number {
  const { times, values } = series;
  const before = lastAtOrBefore(times, edgeMs);
  const after = Math.min(before + 1, times.length - 1);
  const gap = times[after]! - times[before]!;
  let lowest = Infinity;
  let highest = -Infinity;
  // A reading that is an average over its update shows a change that much later.
  for (let i = before; i >= 0 && (i === before || times[i]! >= edgeMs - updateMs - gap); i--) [lowest, highest] = [Math.min(lowest, values[i]!), Math.max(highest, values[i]!)];
  for (let i = after; i < times.length && (i === after || times[i]! <= edgeMs + updateMs + gap); i++) [lowest, highest] = [Math.min(lowest, values[i]!), Math.max(highest, values[i]!)];
  return ((highest - lowest) * (gap / 2 + updateMs)) / 1000;
}

/** The values from `first` to `last` that are at least an update apart: in between the hardware shows the old one. */
function spaced({ times, values }: Series, first: number, last: number, updateMs: number): number[] {
  const chosen: number[] = [];
  let previous = -Infinity;
  for (let i = first; i <= last; i++) {
    if (times[i]! - previous < updateMs) continue;
    chosen.push(values[i]!);
    previous = times[i]!;
  }
  return chosen;
}

/** Linear between the points `index` and `index + 1`. */
function valueAt({ times, values }: Series, index: number, ms: number): number {
  const span = times[index + 1]! - times[index]!;
  if (span === 0) return values[index]!;
  return values[index]! + ((values[index + 1]! - values[index]!) * (ms - times[index]!)) / span;
}

/** -1 when there is none. */
export function lastAtOrBefore(times: readonly number[], ms: number): number {
  let low = 0;
  let high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle]! <= ms) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** -1 when there is none. */
export function firstAtOrAfter(times: readonly number[], ms: number): number {
  let low = 0;
  let high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle]! < ms) low = middle + 1;
    else high = middle;
  }
  return low < times.length ? low : -1;
}
