/** Counts the bytes of a model's parts and its bits per weight, all scales and padding included. */
import { Role } from './families/index.js';
import type { ModelTensor } from './model-spec.js';

/** Bytes in the files. */
export interface WeightBytes {
  linearLayers: number;
  embedding: number;
  /** 0 when the head is the embedding. */
  head: number;
  /** Norms, biases and what else stays dense in a packed model. */
  norms: number;
  total: number;
}

type Part = Exclude<keyof WeightBytes, 'total'>;

const linearRoles: number[] = [Role.query, Role.key, Role.value, Role.attentionOutput, Role.gate, Role.up, Role.down];

export function partOf(role: number): Part {
  if (role === Role.embedding) return 'embedding';
  if (role === Role.head) return 'head';
  return linearRoles.includes(role) ? 'linearLayers' : 'norms';
}

export function tensorBytes({ wanted, dense, part, packed }: ModelTensor): number {
  if (packed !== null) return packed.planeData.bytes + packed.scales.bytes + (packed.rowScales?.bytes ?? 0);
  if (dense === null) return 0;
  if (part === null) return dense.bytes;
  const share = wanted.shape.reduce((a, b) => a * b, 1) / dense.shape.reduce((a, b) => a * b, 1);
  return Math.round(dense.bytes * share);
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
