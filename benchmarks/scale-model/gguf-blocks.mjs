// Random blocks of the GGUF tensor types that the peer runs. A block is random bytes whose half-precision factors are then
// set so that the weights have the wanted standard deviation. Layouts are those of ggml.
import { float16Bits } from './float16.mjs';

/**
 * @typedef {object} BlockType
 * @property {number} id of ggml
 * @property {number} weights per block
 * @property {number} bytes per block
 * @property {(block: Buffer, deviation: number) => void} finish turns random bytes into a valid block
 */

const writeFactor = (block, at, value) => block.writeUInt16LE(float16Bits(value), at);

/** Random bytes with four base-3 digits each: ternary weights in fields of two bits. */
const ternary = Uint8Array.from({ length: 256 }, (_, byte) => {
  const digit = (place) => Math.floor((byte % 81) / 3 ** place) % 3;
  return digit(0) | (digit(1) << 2) | (digit(2) << 4) | (digit(3) << 6);
});

/** @type {Record<string, BlockType>} */
export const blockTypes = {
  // Factor, then 16 bytes of nibbles q: factor x (q - 8). The deviation of q - 8 is 4.64.
  Q4_0: {
    id: 2, weights: 32, bytes: 18,
    finish: (block, deviation) => writeFactor(block, 0, deviation / 4.64),
  },
  // Factor, then 32 signed bytes q: factor x q. The deviation of q is 73.9.
  Q8_0: {
    id: 8, weights: 32, bytes: 34,
    finish: (block, deviation) => writeFactor(block, 0, deviation / 73.9),
  },
  // 16 bytes with a scale s and a minimum m, 64 bytes of two-bit q, two factors: d x s x q - e x m. With e = 1.5 d the mean
  // is 0 and the deviation 13.9 d.
  Q2_K: {
    id: 10, weights: 256, bytes: 84,
    finish(block, deviation) {
      writeFactor(block, 80, deviation / 13.9);
      writeFactor(block, 82, (1.5 * deviation) / 13.9);
    },
  },
  // 96 bytes of three-bit q (from -4 to 3, deviation 2.35 about zero), 12 bytes of six-bit scales s, factor:
  // factor x (s - 32) x q; the deviation of s - 32 is 18.5.
  Q3_K: {
    id: 11, weights: 256, bytes: 110,
    finish: (block, deviation) => writeFactor(block, 108, deviation / (18.5 * 2.35)),
  },
  // Two factors, 12 bytes of eight six-bit scales s and minima m, 128 bytes of nibbles q: d x s x q - e x m. Without the upper
  // bits of the first eight bytes, half of the scales and minima are at most 31 and half at most 15: the factors stay normal
  // numbers of half precision. With e = 7.5 d the mean is 0 and the deviation 101 d.
  Q4_K: {
    id: 12, weights: 256, bytes: 144,
    finish(block, deviation) {
      writeFactor(block, 0, deviation / 101);
      writeFactor(block, 2, (7.5 * deviation) / 101);
      for (let at = 4; at < 12; at++) block[at] &= 31;
    },
  },
  // 192 bytes of six-bit q (deviation of q - 32: 18.5), 16 signed bytes of scales, factor. Scales of 0 to 31, whose
  // quadratic mean is 18, keep the factor among the normal numbers of half precision.
  Q6_K: {
    id: 14, weights: 256, bytes: 210,
    finish(block, deviation) {
      for (let at = 192; at < 208; at++) block[at] &= 31;
      writeFactor(block, 208, deviation / (18.5 * 18));
    },
  },
  // 64 bytes of ternary q, factor: factor x (q - 1); the deviation of q - 1 is 0.816.
  TQ2_0: {
    id: 35, weights: 256, bytes: 66,
    finish(block, deviation) {
      for (let at = 0; at < 64; at++) block[at] = ternary[block[at]];
      writeFactor(block, 64, deviation / 0.816);
    },
  },
};
