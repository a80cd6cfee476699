/** What a model would save with fewer bit-planes in its linear layers. */
import { loadedWeights } from './model-bytes.js';
import type { ModelTensor } from './model-spec.js';
import { packedBytes } from './packed-bytes.js';
import { quantizeRules, type Rule } from './options.js';
import type { BackendName } from './select-backend.js';
import { partOf } from './weight-bytes.js';

/** Rows that share scales unless told otherwise. */
const defaultRowGroup = (quantizeRules.rowGroup as Rule & { kind: 'integer' }).initial!;
/** Widths that still give usable text, the mildest first. */
const widths = [4, 3, 2];

/** Bytes that the linear layers would take less, packed as `quantizeModel` does by default; only widths that save something. */
export function fewerPlanes(tensors: readonly ModelTensor[], backend: BackendName): { planes: number; saved: number }[] {
  const linear = tensors.filter(({ wanted }) => partOf(wanted.role) === 'linearLayers');
  const now = sumOf(linear, backend);
  return widths.map((planes) => ({ planes, saved: now - sumOf(linear.map((tensor) => packedWith(tensor, planes)), backend) })).filter(({ saved }) => saved > 0);
}

function sumOf(tensors: readonly ModelTensor[], backend: BackendName): number {
  const { mapped, held } = loadedWeights(tensors, backend);
  return mapped + held;
}

function packedWith(tensor: ModelTensor, planes: number): ModelTensor {
  const [rows, columns] = [tensor.wanted.shape[0]!, tensor.wanted.shape[1]!];
  const groupRows = Math.min(defaultRowGroup, rows);
  const shape = { rows, columns, planes, groupRows, groupColumns: 8 as const, scaleExponent: 0 };
  const settings = { ...shape, rowScales: true, scaleTerms: 4, fitRounds: 0, refits: 0, sweeps: 0, damping: 0, identity: 0 };
  const all = packedBytes(tensor.wanted, settings);
  const part = (name: string, bytes: number) => ({ name, dtype: 'U8', shape: [bytes], offset: 0, bytes, file: 0, path: '' });
  const packed = { ...shape, name: tensor.wanted.name, planeData: part('planes', all - 2 * rows), scales: part('scales', 0), rowScales: part('row_scales', 2 * rows) };
  return { ...tensor, dense: null, part: null, packed };
}
