/** Takes the place of `node:crypto` in the worker: SHA-256 over parts, which Web Crypto does not offer. */
import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex } from '@noble/hashes/utils.js';

export function createHash(algorithm: 'sha256'): { update(bytes: Uint8Array): void; digest(encoding: 'hex'): string } {
  if (algorithm !== 'sha256') throw new TypeError(`Expected 'sha256' but received '${String(algorithm)}'`);
  const hash = sha256.create();
  return {
    update: (bytes) => void hash.update(bytes),
    digest: () => bytesToHex(hash.digest()),
  };
}
