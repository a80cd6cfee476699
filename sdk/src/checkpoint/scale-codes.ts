/** Finds the 16-bit scale codes (docs/model-file.md) that express given numbers exactly, where there are any. */

const mantissaBits = 21; // three gaps of at most 7 below the first term
const largestField = 15;
const exponentLimit = 100;

/** Low 12 bits of a code by the mantissa that they express, in units of 2^-21 of the first term. */
const fieldsOf = new Map<number, number>();

function addSums(sum: number, term: number, shift: number, fields: number): void {
  if (!fieldsOf.has(sum)) fieldsOf.set(sum, fields);
  if (shift < 0) return;
  for (let gap = 1; gap <= 7; gap++) {
    const next = term >> gap;
    addSums(sum + next, next, shift - 4, fields | (gap << shift));
    addSums(sum - next, next, shift - 4, fields | ((8 | gap) << shift));
  }
}
addSums(1 << mantissaBits, 1 << mantissaBits, 8, 0);

export interface ExactScales {
  scaleExponent: number;
  codes: Uint16Array;
}

/** Codes with exactly these values (finite, >= 0), or null: terms may be too far apart, or values too far from others. */
export function exactScales(values: Float32Array): ExactScales | null {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  let scaleExponent = -exponentLimit;
  for (const value of bits) {
    if (isZero(value)) continue;
    const exponent = sumOf(value, -exponentLimit - largestField)?.exponent;
    if (exponent === undefined || exponent > exponentLimit) return null;
    scaleExponent = Math.max(scaleExponent, exponent);
  }
  const codes = new Uint16Array(bits.length);
  for (let i = 0; i < bits.length; i++) {
    if (isZero(bits[i]!)) continue;
    const sum = sumOf(bits[i]!, scaleExponent - largestField + 1);
    if (sum === null || sum.exponent > scaleExponent) return null;
    codes[i] = ((sum.exponent - scaleExponent + largestField) << 12) | sum.fields;
  }
  return { scaleExponent, codes };
}

function isZero(bits: number): boolean {
  return bits << 1 === 0;
}

/** The sum of powers of two with the smallest first term, but at least 2^least, that is this float; null if none is. */
function sumOf(bits: number, least: number): { exponent: number; fields: number } | null {
  const exponent = (bits >>> 23) - 127;
  if (exponent === -127) return null;
  const mantissa = (bits & 0x7fffff) | 0x800000;
  // Terms behind the first can take seven eighths of it away, so it lies up to three powers above the float's own.
  for (let up = 0; up <= 3; up++) {
    const shift = 23 - mantissaBits + up;
    if ((mantissa & ((1 << shift) - 1)) !== 0) return null;
    const fields = fieldsOf.get(mantissa >> shift);
    if (fields !== undefined && exponent + up >= least) return { exponent: exponent + up, fields };
  }
  return null;
}
