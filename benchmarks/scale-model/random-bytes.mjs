// Random bytes that are the same for the same seed: the AES-CTR key stream, faster than a file can be written.
import { createCipheriv, createHash } from 'node:crypto';

const pieceBytes = 4 * 1024 * 1024;

export class RandomBytes {
  /** @param {string} seed */
  constructor(seed) {
    const key = createHash('sha256').update(seed).digest().subarray(0, 16);
    this.cipher = createCipheriv('aes-128-ctr', key, Buffer.alloc(16));
  }

  /** @param {number} count @returns {Buffer} */
  take(count) {
    return this.cipher.update(Buffer.alloc(count));
  }

  /** `total` bytes in pieces that are multiples of `unit`, so that memory stays small. */
  *pieces(total, unit = 1) {
    const most = Math.floor(pieceBytes / unit) * unit;
    for (let done = 0; done < total; done += most) yield this.take(Math.min(most, total - done));
  }
}
