/** The sizes of what a packed model is made of, before it exists. */
import { planeBytes } from './checkpoint/packed-tensors.js';
import type { ModelFolder } from './checkpoint/model-folder.js';
import type { EngineQuantizeSettings } from './engine.js';
import { Role, type FamilySpec, type FamilyTensor } from './families/index.js';
import type { QuantizeOptions } from './quantize-settings.js';

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

/** Bytes of the norms' gains: fp32 when tuned, fp16 where a rotation made them 1, else as the checkpoint has them. */
export function normBytes(source: ModelFolder, family: FamilySpec, { tune }: QuantizeOptions, rotated: boolean): number {
  const norms = family.tensors.filter(({ shape }) => shape.length === 1);
  return norms.reduce((sum, { name, role, shape }) => {
    if (tune === 'full' || tune === 'blocks') return sum + 4 * shape[0]!;
    return sum + (rotated && role !== Role.finalNorm ? 2 * shape[0]! : source.stored.get(name)!.bytes);
  }, 0);
}
