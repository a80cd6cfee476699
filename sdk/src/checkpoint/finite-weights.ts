/** Finds NaN and infinite values in a dense checkpoint, before hours are spent on it. */
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { ShiftAddError } from '../errors.js';
import type { ModelFolder, StoredTensor } from './model-folder.js';

/** Bytes read at a time; a multiple of every element's size. */
const chunkBytes = 1 << 22;

/** Where the blocks of GGUF have their half floats. */
const blockHalves: Readonly<Record<string, { bytes: number; halves: number[] }>> = {
  Q8_0: { bytes: 34, halves: [0] },
  Q4_0: { bytes: 18, halves: [0] },
  Q4_1: { bytes: 20, halves: [0, 2] },
  Q5_0: { bytes: 22, halves: [0] },
  Q5_1: { bytes: 24, halves: [0, 2] },
  Q2_K: { bytes: 84, halves: [80, 82] },
  Q3_K: { bytes: 110, halves: [108] },
  Q4_K: { bytes: 144, halves: [0, 2] },
  Q5_K: { bytes: 176, halves: [0, 2] },
  Q6_K: { bytes: 210, halves: [208] },
  IQ4_NL: { bytes: 18, halves: [0] },
};

/** The exponent bits of an element: all set in NaN and infinity, and in nothing else. */
const exponents: Readonly<Record<string, { bytes: 2 | 4; mask: number; fraction: number }>> = {
  F16: { bytes: 2, mask: 0x7c00, fraction: 0x03ff },
  BF16: { bytes: 2, mask: 0x7f80, fraction: 0x007f },
  F32: { bytes: 4, mask: 0x7f800000, fraction: 0x007fffff },
};

/** ERR_NON_FINITE names the tensor and the place in it. Returns the SHA-256 of what it read, in hexadecimal. */
export async function checkFinite(folder: ModelFolder, signal?: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  const buffer = new ArrayBuffer(chunkBytes);
  for (const file of folder.files) {
    const handle = await open(file.path);
    try {
      for (const tensor of folder.stored.values()) {
        const kind = exponents[tensor.dtype];
        const blocks = blockHalves[tensor.dtype];
        if (tensor.path !== file.path || (kind === undefined && blocks === undefined)) continue;
        const step = blocks === undefined ? chunkBytes : Math.floor(chunkBytes / blocks.bytes) * blocks.bytes;
        for (let done = 0; done < tensor.bytes; done += step) {
          signal?.throwIfAborted();
          const bytes = Math.min(step, tensor.bytes - done);
          const { bytesRead } = await handle.read(new Uint8Array(buffer), 0, bytes, tensor.offset + done);
          hash.update(new Uint8Array(buffer, 0, bytesRead));
          if (kind === undefined) {
            checkBlocks(tensor, new DataView(buffer, 0, bytesRead), done / blocks!.bytes, blocks!);
            continue;
          }
          const count = Math.floor(bytesRead / kind.bytes);
          const elements = kind.bytes === 2 ? new Uint16Array(buffer, 0, count) : new Uint32Array(buffer, 0, count);
          const bad = firstNonFinite(elements, kind.mask);
          if (bad >= 0) throw nonFinite(tensor, done / kind.bytes + bad, (elements[bad]! & kind.fraction) !== 0);
        }
      }
    } finally {
      await handle.close();
    }
  }
  return hash.digest('hex');
}

function checkBlocks({ name, path }: StoredTensor, view: DataView, first: number, { bytes, halves }: { bytes: number; halves: number[] }): void {
  for (let at = 0; at + bytes <= view.byteLength; at += bytes)
    for (const half of halves) {
      if ((view.getUint16(at + half, true) & 0x7c00) !== 0x7c00) continue;
      throw new ShiftAddError('ERR_NON_FINITE', `Tensor ${name} in ${path} has a scale that is no finite number in block ${first + at / bytes}. Download the file again.`);
    }
}

function firstNonFinite(elements: Uint16Array | Uint32Array, mask: number): number {
  for (let i = 0; i < elements.length; i++) if ((elements[i]! & mask) === mask) return i;
  return -1;
}

function nonFinite({ name, path, shape }: StoredTensor, index: number, isNaN: boolean): ShiftAddError {
  const columns = shape.at(-1) ?? 1;
  const place = shape.length === 2 ? `row ${Math.floor(index / columns)}, column ${index % columns}` : `place ${index}`;
  return new ShiftAddError(
    'ERR_NON_FINITE',
    `Tensor ${name} in ${path} has ${isNaN ? 'NaN' : 'an infinite value'} at ${place}. Download the checkpoint again; if it was converted to fp16, take bf16 or fp32 instead.`,
  );
}
