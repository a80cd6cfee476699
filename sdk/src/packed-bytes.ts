/** The sizes of what a packed model is made of, before it exists. */
import { planeBytes } from './checkpoint/packed-tensors.js';
import type { ModelFolder } from './checkpoint/model-folder.js';
import type { EngineQuantizeSettings } from './engine.js';
import type { FamilySpec, FamilyTensor } from './families/index.js';
import { buildModelSpec, type ModelTensor } from './model-spec.js';
import type { QuantizeOptions } from './quantize-settings.js';
import { isFolded } from './rotation.js';
import { partOf } from './weight-bytes.js';

/** Bytes of one packed matrix: planes, scale codes and row scales. */
export function packedBytes(
  { shape }: Pick<FamilyTensor, 'shape'>,
  { planes, groupRows, groupColumns, rowScales }: EngineQuantizeSettings,
): number {
  const [rows, columns] = [shape[0]!, shape[1]!];
  const scales = Math.ceil(rows / groupRows) * Math.ceil(columns / groupColumns) * planes * 2;
  const planeData = planeBytes({ rows, columns, planes, groupRows, groupColumns, scaleExponent: 0 });
  return planeData + scales + (rowScales ? rows * 2 : 0);
}

/** Each stored tensor once, also where it holds parts of several. */
export function distinctTensors(tensors: readonly ModelTensor[]): ModelTensor[] {
  return [...new Map(tensors.map((tensor) => [tensor.dense!.name, tensor])).values()];
}

/** Tensors that stay dense when a model is packed. */
export function keptTensors(tensors: readonly ModelTensor[]): ModelTensor[] {
  return distinctTensors(tensors.filter(({ wanted }) => partOf(wanted.role) === 'norms'));
}

/** Bytes of the tensors that stay dense: fp32 when tuned, fp16 where a rotation made them 1, else as the checkpoint has them. */
export function normBytes(source: ModelFolder, family: FamilySpec, { tune }: QuantizeOptions, rotated: boolean): number {
  return keptTensors(buildModelSpec(source, family).tensors).reduce((sum, { wanted: { role, shape }, dense }) => {
    if (tune === 'full' || tune === 'blocks') return sum + 4 * shape[0]!;
    return sum + (rotated && isFolded(role) ? 2 * shape[0]! : dense!.bytes);
  }, 0);
}
