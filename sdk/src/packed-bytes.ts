/** The size of a packed matrix, before it exists. */
import { planeBytes } from './checkpoint/packed-tensors.js';
import type { EngineQuantizeSettings } from './engine.js';
import type { FamilyTensor } from './families/index.js';

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
