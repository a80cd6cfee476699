/** Tells models apart by what they compute: their description and their weights, not their path. */
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import type { ModelFolder, StoredTensor } from './checkpoint/model-folder.js';
import { fromFileSystem } from './errors.js';

// Of a dense tensor: all of a small one (norms, biases), else pieces spread evenly over it. Training changes all of a matrix.
const wholeBytes = 64 * 1024;
const pieces = 16;
const pieceBytes = 1024;

/**
 * SHA-256 in hexadecimal over the binary description (`core/model_spec.h`) and the weights: the recorded checksums of a packed
 * model; of a dense one, which has none, a sample of every tensor. A change of a few numbers within a dense matrix can go unseen.
 */
export async function identifyModel(folder: ModelFolder, numbers: Float64Array): Promise<string> {
  const hash = createHash('sha256');
  hash.update(new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength));
  if (folder.quantization !== null) {
    const sums = [...folder.quantization.checksums].sort(([a], [b]) => (a < b ? -1 : 1));
    for (const [name, sum] of sums) hash.update(new TextEncoder().encode(`${name} ${sum}\n`));
    return hash.digest('hex');
  }
  for (const [index, { path }] of folder.files.entries()) {
    const tensors = [...folder.stored.values()].filter(({ file }) => file === index).sort((a, b) => a.offset - b.offset);
    const file = await open(path, 'r').catch((error: unknown) => {
      throw fromFileSystem(error, path, 'The files of a model must stay where they are while it is used.');
    });
    try {
      for (const tensor of tensors)
        for (const { offset, bytes } of sampleOf(tensor)) {
          const { buffer, bytesRead } = await file.read(new Uint8Array(bytes), 0, bytes, offset);
          hash.update(buffer.subarray(0, bytesRead));
        }
    } finally {
      await file.close();
    }
  }
  return hash.digest('hex');
}

function sampleOf({ offset, bytes }: StoredTensor): { offset: number; bytes: number }[] {
  if (bytes <= wholeBytes) return [{ offset, bytes }];
  return Array.from({ length: pieces }, (_, i) => ({ offset: offset + Math.floor((i * (bytes - pieceBytes)) / (pieces - 1)), bytes: pieceBytes }));
}
