/** Numbers between bounds and multiples of a step as rules over their decimal digits, without exponents. */
import type { GrammarRules } from './grammar-rules.js';

export interface NumberBounds {
  integer: boolean;
  minimum?: number;
  exclusiveMinimum?: number;
  maximum?: number;
  exclusiveMaximum?: number;
  multiplesOf: readonly number[];
}

/** Thrown for bounds that cannot be kept exactly; says why, for a message after "the schema". */
export class DecimalError extends Error {}

/** Digits that every double keeps. */
const exactDigits = 15;
const mostFractionDigits = 10;
const largestModulus = 1000n;
const largestInteger = BigInt(Number.MAX_SAFE_INTEGER);

/** A decimal as an integer over a power of ten. */
interface Decimal {
  value: bigint;
  scale: number;
}

function decimalOf(number: number): Decimal {
  const found = /^(-?)(\d+)(?:\.(\d+))?(?:e([+-]\d+))?$/.exec(String(number));
  if (found === null) throw new DecimalError(`has the bound ${number}, which is no finite number`);
  const [, sign, whole, fraction = '', exponent = '0'] = found;
  const value = BigInt(`${whole}${fraction}`) * (sign === '-' ? -1n : 1n);
  const scale = fraction.length - Number(exponent);
  return scale < 0 ? { value: value * 10n ** BigInt(-scale), scale: 0 } : { value, scale };
}

function divideUp(a: bigint, b: bigint): bigint {
  return a / b + (a % b > 0n ? 1n : 0n);
}

function divideDown(a: bigint, b: bigint): bigint {
  return a / b - (a % b < 0n ? 1n : 0n);
}

/** The whole numbers over 10^scale that keep the bounds. */
interface Range {
  low: bigint;
  high: bigint;
  scale: number;
  modulus: bigint;
}

function rangeOf(bounds: NumberBounds): Range {
  const given = [bounds.minimum, bounds.exclusiveMinimum, bounds.maximum, bounds.exclusiveMaximum].filter((bound) => bound !== undefined);
  const steps = bounds.multiplesOf.map(decimalOf);
  if (bounds.multiplesOf.some((step) => !(step > 0))) throw new DecimalError('has a multipleOf that is not above 0');
  const wholeDigits = Math.max(1, ...given.map((bound) => String(Math.trunc(Math.abs(bound))).replace(/e.*/, '0'.repeat(exactDigits)).length));
  const stepScale = Math.max(0, ...steps.map((step) => step.scale));
  let scale = bounds.integer ? 0 : Math.max(0, Math.min(mostFractionDigits, exactDigits - wholeDigits));
  if (steps.length > 0 && !bounds.integer) {
    if (stepScale > scale) throw new DecimalError(`has a multipleOf with more than ${scale} decimal places`);
    scale = stepScale;
  }
  const unit = 10n ** BigInt(scale);
  const limit = bounds.integer ? largestInteger : 10n ** BigInt(exactDigits) * unit - 1n;
  let [low, high] = [-limit, limit];
  const raise = (bound: bigint): void => void (low = bound > low ? bound : low);
  const lower = (bound: bigint): void => void (high = bound < high ? bound : high);
  const scaled = (number: number, divide: (a: bigint, b: bigint) => bigint): bigint => {
    const { value, scale: own } = decimalOf(number);
    return divide(value * unit, 10n ** BigInt(own));
  };
  if (bounds.minimum !== undefined) raise(scaled(bounds.minimum, divideUp));
  if (bounds.exclusiveMinimum !== undefined) raise(scaled(bounds.exclusiveMinimum, divideDown) + 1n);
  if (bounds.maximum !== undefined) lower(scaled(bounds.maximum, divideDown));
  if (bounds.exclusiveMaximum !== undefined) lower(scaled(bounds.exclusiveMaximum, divideUp) - 1n);
  // A whole number is a multiple of a/b where it is one of a, once a/b is reduced.
  const modulus = steps.reduce((all, { value, scale: own }) => {
    const denominator = 10n ** BigInt(own);
    const numerator = value * unit;
    const reduced = numerator / greatestDivisor(numerator, denominator);
    return (all * reduced) / greatestDivisor(all, reduced);
  }, 1n);
  if (modulus > largestModulus) throw new DecimalError(`has a multipleOf that is too large to be kept exactly (at most ${largestModulus} units of its last decimal place)`);
  if (modulus > 1n) { // remainders for every number of digits: fewer digits keep this small
    const most = 10n ** 9n * unit;
    raise(-most);
    lower(most);
  }
  return { low, high, scale, modulus };
}

function greatestDivisor(a: bigint, b: bigint): bigint {
  while (b !== 0n) [a, b] = [b, a % b];
  return a;
}

/** Adds the numbers between two nodes. Throws DecimalError. Adds nothing where no number keeps the bounds. */
export function addDecimals(rules: GrammarRules, from: number, to: number, bounds: NumberBounds): void {
  const { low, high, scale, modulus } = rangeOf(bounds);
  const digits = new Digits(rules, to, scale, modulus);
  if (high >= 0n) digits.add(from, low > 0n ? low : 0n, high);
  if (low < 0n) {
    const minus = rules.text(from, '-');
    digits.add(minus, high < 0n ? -high : 1n, -low);
  }
}

class Digits {
  /** Nodes by what is still open there. */
  private readonly nodes = new Map<string, number>();

  constructor(
    private readonly rules: GrammarRules,
    private readonly to: number,
    private readonly scale: number,
    private readonly modulus: bigint,
  ) {}

  /** Magnitudes from `low` to `high`, neither negative, one length of the whole part after the other. */
  add(from: number, low: bigint, high: bigint): void {
    const length = Math.max(1, String(high).length - this.scale);
    for (let whole = 1; whole <= length; whole++) {
      const least = whole === 1 ? 0n : 10n ** BigInt(whole - 1 + this.scale);
      const most = 10n ** BigInt(whole + this.scale) - 1n;
      const [a, b] = [low > least ? low : least, high < most ? high : most];
      if (a > b) continue;
      const pad = (value: bigint): string => String(value).padStart(whole + this.scale, '0');
      this.rules.empty(from, this.node(whole, pad(a), pad(b), 0n, false));
    }
  }

  /**
   * `whole` digits of the whole part are to come. `low` and `high` are the digits to come that bind still; '' where none do.
   * `inFraction`: the point has been written.
   */
  private node(whole: number, low: string, high: string, remainder: bigint, inFraction: boolean, fraction = this.scale): number {
    const key = `${whole},${low},${high},${remainder},${inFraction},${fraction}`;
    const known = this.nodes.get(key);
    if (known !== undefined) return known;
    const node = this.rules.node();
    this.nodes.set(key, node);
    if (whole === 0) {
      // Digits that are not written are zeros.
      const zeros = (remainder * 10n ** BigInt(fraction)) % this.modulus === 0n && /^0*$/.test(low);
      if (zeros && (!inFraction || fraction < this.scale)) this.rules.empty(node, this.to);
      if (fraction > 0 && !inFraction) {
        const behind = this.node(0, low, high, remainder, true, fraction);
        this.rules.text(node, '.', behind);
        return node;
      }
    }
    if (whole === 0 && fraction === 0) return node;
    const least = low === '' ? 0 : Number(low[0]);
    const most = high === '' ? 9 : Number(high[0]);
    for (let digit = least; digit <= most; digit++) {
      const next = this.node(
        Math.max(0, whole - 1),
        digit === least ? low.slice(1) : '',
        digit === most ? high.slice(1) : '',
        (remainder * 10n + BigInt(digit)) % this.modulus,
        inFraction,
        whole === 0 ? fraction - 1 : fraction,
      );
      this.rules.bytes(node, 0x30 + digit, 0x30 + digit, next);
    }
    return node;
  }
}
