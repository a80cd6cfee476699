/** Counts the bytes of a model's parts and its bits per weight, all scales and padding included. */
import { Role } from './families/index.js';
import type { ModelTensor } from './model-spec.js';

/** Bytes in the files. */
export interface WeightBytes {
  linearLayers: number;
  embedding: number;
  /** 0 when the head is the embedding. */
  head: number;
  norms: number;
  total: number;
}

type Part = Exclude<keyof WeightBytes, 'total'>;

export function partOf(role: number): Part {
  if (role === Role.embedding) return 'embedding';
  if (role === Role.head) return 'head';
  return role === Role.finalNorm || role === Role.attentionNorm || role === Role.feedForwardNorm
    ? 'norms'
    : 'linearLayers';
}

export function tensorBytes({ dense, packed }: ModelTensor): number {
  if (packed === null) return dense?.bytes ?? 0;
  return packed.planeData.bytes + packed.scales.bytes + (packed.rowScales?.bytes ?? 0);
}

export function measureWeights(tensors: ModelTensor[]): { bytes: WeightBytes; bitsPerWeight: number } {
  const bytes: WeightBytes = { linearLayers: 0, embedding: 0, head: 0, norms: 0, total: 0 };
  let weights = 0;
  for (const tensor of tensors) {
    const part = partOf(tensor.wanted.role);
    bytes[part] += tensorBytes(tensor);
    bytes.total += tensorBytes(tensor);
    if (part === 'linearLayers') weights += tensor.wanted.shape.reduce((a, b) => a * b, 1);
  }
  return { bytes, bitsPerWeight: (bytes.linearLayers * 8) / weights };
}
