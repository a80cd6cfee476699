/** Figures with the interval that they are known to, and the arithmetic of such figures. */

export interface Figure {
  value: number;
  /** Half of the 95 % interval, in the unit of the value; null when one measurement says nothing about it. */
  uncertainty: number | null;
}

/** Two-sided 95 % quantiles of Student's distribution for 1 to 30 degrees of freedom. */
const student = [
  12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131, 2.12, 2.11, 2.101, 2.093,
  2.086, 2.08, 2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048, 2.045, 2.042,
];
const normal = 1.96;

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/**
 * The mean of repeated measurements (at least one). `own` are half-intervals of each measurement by itself; what repeats
 * differ by and the root mean square of `own` are added in quadrature. `own` is not divided by the root of the number of
 * repeats: a part of it, the gain of a meter, is the same in all of them.
 */
export function repeated(values: readonly number[], own: readonly number[] = []): Figure {
  const value = mean(values);
  const n = values.length;
  const scatter = n < 2 ? null : (student[n - 2] ?? normal) * (deviation(values) / Math.sqrt(n));
  const single = own.length === 0 ? null : Math.sqrt(mean(own.map((half) => half * half)));
  if (scatter === null && single === null) return { value, uncertainty: null };
  return { value, uncertainty: Math.hypot(scatter ?? 0, single ?? 0) };
}

/** Standard deviation of a sample of at least two. */
function deviation(values: readonly number[]): number {
  const middle = mean(values);
  return Math.sqrt(values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1));
}

/** 1 / figure; null for 0. */
export function inverse({ value, uncertainty }: Figure): Figure | null {
  if (value === 0) return null;
  return { value: 1 / value, uncertainty: uncertainty === null ? null : uncertainty / (value * value) };
}

/** Two figures beside each other. */
export interface Comparison {
  /** b / a. Null when a is 0. */
  ratio: Figure | null;
  /** False when the difference is within the intervals of the two; null when one of them has none. */
  differs: boolean | null;
}

export function compareFigures(a: Figure, b: Figure): Comparison {
  const known = a.uncertainty !== null && b.uncertainty !== null;
  const value = b.value / a.value;
  // Not from relative errors, which have none at b = 0.
  const half = known ? Math.hypot(b.uncertainty! / a.value, (value * a.uncertainty!) / a.value) : null;
  return {
    ratio: a.value === 0 ? null : { value, uncertainty: half },
    differs: known ? Math.abs(b.value - a.value) > Math.hypot(a.uncertainty!, b.uncertainty!) : null,
  };
}
