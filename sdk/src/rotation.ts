/**
 * The change of basis of the residual stream that the quantizer folds into the weights (core/rotation.h): random signs, then
 * a Hadamard matrix of few rows times a Walsh matrix. Readers take both from the model file; only the quantizer makes them.
 */
import { randomIntegers } from './calibration.js';
import { Role } from './families/index.js';

export interface Rotation {
  /** Rows of the Hadamard matrix: the hidden size divided by a power of two. */
  size: number;
  /** One per hidden number, +1 or -1. */
  signs: Int8Array;
  /** size x size, row by row, +1 or -1. */
  matrix: Int8Array;
}

/** As core/rotation.h has it. */
export const largestRotation = 256;

/** Norms whose gains go into the linear layers behind them, so that only ones are left. */
export function isFolded(role: number): boolean {
  return role === Role.attentionNorm || role === Role.feedForwardNorm;
}

/** The signs are part of the format of a job, not of its randomness: the same for every seed. */
const signSeed = 1;

/** For a hidden size; null for one that no known matrix divides. */
export function makeRotation(hiddenSize: number): Rotation | null {
  const odd = oddPart(hiddenSize);
  for (let size = odd; size <= Math.min(hiddenSize, largestRotation); size *= 2) {
    const matrix = hadamard(size);
    if (matrix === null) continue;
    const next = randomIntegers(signSeed);
    return { size, signs: Int8Array.from({ length: hiddenSize }, () => (next(2) === 0 ? -1 : 1)), matrix };
  }
  return null;
}

function oddPart(value: number): number {
  while (value % 2 === 0) value /= 2;
  return value;
}

/** By the two constructions of Paley (1933), over the residues of a prime; null where neither has this size. */
function hadamard(size: number): Int8Array | null {
  if (size === 1) return Int8Array.of(1);
  if (size % 4 !== 0) return null;
  if (isPrime(size - 1) && (size - 1) % 4 === 3) return paleyFirst(size - 1);
  if (isPrime(size / 2 - 1) && (size / 2 - 1) % 4 === 1) return paleySecond(size / 2 - 1);
  return null;
}

function isPrime(value: number): boolean {
  for (let divisor = 2; divisor * divisor <= value; divisor++) if (value % divisor === 0) return false;
  return value > 1;
}

/** +1 for squares of the prime's residues, -1 for the others, 0 for 0. */
function quadraticCharacter(prime: number): (value: number) => number {
  const squares = new Set(Array.from({ length: prime - 1 }, (_, i) => ((i + 1) * (i + 1)) % prime));
  return (value) => {
    const residue = ((value % prime) + prime) % prime;
    return residue === 0 ? 0 : squares.has(residue) ? 1 : -1;
  };
}

/** I + S of order prime + 1, S skew: 0, a row of ones, a column of -1, and the characters of row - column. */
function paleyFirst(prime: number): Int8Array {
  const character = quadraticCharacter(prime);
  const size = prime + 1;
  return Int8Array.from({ length: size * size }, (_, index) => {
    const [row, column] = [Math.floor(index / size), index % size];
    if (row === column || row === 0) return 1;
    return column === 0 ? -1 : character(row - column);
  });
}

/** Order 2 (prime + 1): the symmetric conference matrix with 2 x 2 blocks in the place of its entries. */
function paleySecond(prime: number): Int8Array {
  const character = quadraticCharacter(prime);
  const size = 2 * (prime + 1);
  return Int8Array.from({ length: size * size }, (_, index) => {
    const [row, column] = [Math.floor(index / size), index % size];
    const [i, j] = [row >> 1, column >> 1];
    const bothOdd = row % 2 === 1 && column % 2 === 1;
    if (i === j) return row % 2 === 0 && column % 2 === 0 ? 1 : -1; // of a 0: [[1, -1], [-1, -1]]
    const entry = i === 0 || j === 0 ? 1 : character(i - j);
    return bothOdd ? -entry : entry; // of an entry: [[1, 1], [1, -1]] times it
  });
}

/** As the model file has it: 1 bits are +1, the first in the highest place, zero bits up to whole bytes. */
export function signsToHex(signs: Int8Array): string {
  const bytes = new Uint8Array(Math.ceil(signs.length / 8));
  signs.forEach((sign, i) => (bytes[i >> 3]! |= sign > 0 ? 128 >> (i & 7) : 0));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** Null when it is not the hexadecimal form of `count` signs. */
export function signsFromHex(hex: unknown, count: number): Int8Array | null {
  if (typeof hex !== 'string' || hex.length !== 2 * Math.ceil(count / 8) || !/^[0-9a-f]*$/.test(hex)) return null;
  const byteAt = (i: number): number => Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16);
  const signs = Int8Array.from({ length: count }, (_, i) => (byteAt(i >> 3) & (128 >> (i & 7)) ? 1 : -1));
  return signsToHex(signs) === hex ? signs : null; // no bits behind the last sign
}
