// Writes the scale model as a dense fp16 checkpoint with nearly normal weights, to time quantizing on it. Streamed to the disk.
import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { writeSafetensors } from '../../build/modules/checkpoint/safetensors-writer.js';
import { ones, writeDescriptions } from './descriptions.mjs';
import { float16Bits } from './float16.mjs';
import { RandomBytes } from './random-bytes.mjs';
import { deviationFor, embedding, linearLayers, norms } from './shape.mjs';

const summedBytes = 4;
const mean = (summedBytes * 255) / 2;
const deviation = Math.sqrt((summedBytes * (256 ** 2 - 1)) / 12);

export async function writeDenseModel(folder, shape) {
  const stored = [...norms(shape).map((norm) => ones(norm.name, shape.hidden)), ...[embedding(shape), ...linearLayers(shape)].map(weights)];
  const partial = `${folder}.partial`;
  await mkdir(partial, { recursive: true });
  try {
    await writeSafetensors(join(partial, 'model.safetensors'), stored, { format: 'pt' });
    await writeDescriptions(partial, shape);
    await rename(partial, folder);
  } catch (error) {
    await rm(partial, { recursive: true, force: true });
    throw error;
  }
}

/** Sums of random bytes, as numbers of half precision by a table. */
function weights({ name, rows, columns }) {
  const bits = Uint16Array.from({ length: summedBytes * 255 + 1 }, (_, sum) => {
    const value = ((sum - mean) / deviation) * deviationFor(columns);
    return value === 0 ? 0 : float16Bits(Math.abs(value)) | (value < 0 ? 0x8000 : 0);
  });
  async function* data() {
    for (const piece of new RandomBytes(name).pieces(rows * columns * summedBytes, summedBytes)) {
      const halves = new Uint16Array(piece.length / summedBytes);
      for (let i = 0, at = 0; i < halves.length; i++, at += summedBytes) {
        halves[i] = bits[piece[at] + piece[at + 1] + piece[at + 2] + piece[at + 3]];
      }
      yield new Uint8Array(halves.buffer);
    }
  }
  return { name, dtype: 'F16', shape: [rows, columns], bytes: rows * columns * 2, data };
}
