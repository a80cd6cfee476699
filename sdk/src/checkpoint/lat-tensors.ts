/**
 * The tensors of a published Lat. checkpoint, one file per matrix, in the form of our packed matrices:
 *   bWeight int32 [columns, rows / 32, planes]: bit t of word r is the sign of row 32 r + t, 1 for +1
 *   alpha float32 [columns / 8, row groups, planes]
 */
import type { PickledTensor } from './pickle.js';
import { planeBytes, type PackedShape } from './packed-tensors.js';
import { readTensor, tensorOf, type TorchFile } from './torch-file.js';
import { badFile } from './zip-archive.js';

const wordRows = 32;
const groupColumns = 8;
const tileRows = 32;
const quadColumns = 16;
const kBlockColumns = 128;
const blockBytes = 64;
/** Of a float scale, 2^101: `valid_float_scale` of core/packed_matrix.h. */
const largestScale = 2 ** 101;

export interface LatMatrix {
  file: TorchFile;
  /** `scaleExponent` is 0. */
  shape: PackedShape;
  signs: PickledTensor;
  alpha: PickledTensor;
}

/** The parts of `{model}_{layer}.{module}_{q}bit.pt`, or null. */
export function parseLatName(name: string): { model: string; module: string; planes: number } | null {
  const match = /^(.+)_(\d+\.[\w.]+)_(\d+)bit\.pt$/.exec(name);
  return match === null ? null : { model: match[1]!, module: match[2]!, planes: Number(match[3]) };
}

/** Checks the shapes in a file against the matrix that the base has. ERR_BAD_MODEL_FILE. */
export function describeLatMatrix(file: TorchFile, rows: number, columns: number, planes: number): LatMatrix {
  const { path } = file.archive;
  if (rows % wordRows !== 0 || columns % groupColumns !== 0)
    throw badFile(path, `is for a matrix of ${rows} x ${columns} by the base; Lat. checkpoints have multiples of ${wordRows} x ${groupColumns}`);
  const signs = tensorOf(file, 'bWeight', 'I32');
  const alpha = tensorOf(file, 'alpha', 'F32');
  const expect = (name: string, found: readonly number[], wanted: (number | string)[]): void => {
    if (found.length === wanted.length && wanted.every((size, i) => size === found[i] || typeof size === 'string')) return;
    throw badFile(path, `has a ${name} of shape [${found.join(', ')}] where the base and the file name want [${wanted.join(', ')}]`);
  };
  expect('bWeight', signs.shape, [columns, rows / wordRows, planes]);
  expect('alpha', alpha.shape, [columns / groupColumns, 'row groups', planes]);
  const rowGroups = alpha.shape[1]!;
  if (rowGroups === 0 || rows % rowGroups !== 0)
    throw badFile(path, `has scales for ${rowGroups} row groups, which do not divide ${rows} rows`);
  return { file, signs, alpha, shape: { rows, columns, planes, groupRows: rows / rowGroups, groupColumns, scaleExponent: 0 } };
}

/** The scales as values [row group][column group][plane]. ERR_BAD_MODEL_FILE where one is no scale. */
export async function readLatScales({ file, alpha, shape }: LatMatrix): Promise<Float32Array> {
  const bytes = await readTensor(file, alpha);
  const source = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  const [columnGroups, rowGroups] = alpha.shape as [number, number];
  const { planes } = shape;
  const scales = new Float32Array(source.length);
  for (let column = 0, from = 0; column < columnGroups; column++)
    for (let row = 0; row < rowGroups; row++)
      for (let plane = 0; plane < planes; plane++, from++) {
        const value = source[from]!;
        if (!(value >= 0 && value <= largestScale))
          throw badFile(file.archive.path, `has the value ${value} at alpha[${column}, ${row}, ${plane}], which is no scale`);
        scales[(row * columnGroups + column) * planes + plane] = value;
      }
  return scales;
}

/** The bit-planes in the order of the model file. */
export async function readLatPlanes({ file, signs, shape }: LatMatrix): Promise<Uint8Array> {
  const bytes = await readTensor(file, signs);
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  const { rows, columns, planes, groupRows } = shape;
  const wordsPerColumn = rows / wordRows;
  const planeData = new Uint8Array(planeBytes(shape));

  /** Signs of the rows [first, first + count) of one column and plane, the first in bit 0. */
  const window = (column: number, plane: number, first: number, count: number): number => {
    const word = (index: number): number => words[(column * wordsPerColumn + index) * planes + plane]!;
    const index = first >>> 5;
    const shift = first & 31;
    const low = word(index) >>> shift;
    const bits = shift === 0 || shift + count <= wordRows ? low : low | (word(index + 1) << (wordRows - shift));
    return count === wordRows ? bits : bits & ((1 << count) - 1);
  };

  const quad = new Uint32Array(quadColumns);
  let at = 0;
  for (let group = 0; group < rows; group += groupRows)
    for (let kBlock = 0; kBlock < columns; kBlock += kBlockColumns)
      for (let tile = 0; tile < groupRows; tile += tileRows)
        for (let first = kBlock; first < Math.min(kBlock + kBlockColumns, columns); first += quadColumns)
          for (let plane = 0; plane < planes; plane++, at += blockBytes) {
            const count = Math.min(tileRows, groupRows - tile);
            for (let t = 0; t < quadColumns; t++)
              quad[t] = first + t < columns ? window(first + t, plane, group + tile, count) : 0;
            packBlock(quad, planeData, at);
          }
  return planeData;
}

/** 16 columns of 32 signs as one block: byte 16 j + r holds columns 4 j to 4 j + 3 of row r, and of row r + 16. */
function packBlock(quad: Uint32Array, out: Uint8Array, at: number): void {
  const both = 0x10001; // rows r and r + 16
  for (let j = 0; j < 4; j++) {
    const [a, b, c, d] = [quad[4 * j]!, quad[4 * j + 1]!, quad[4 * j + 2]!, quad[4 * j + 3]!];
    for (let r = 0; r < 16; r++) {
      const nibbles =
        ((a >>> r) & both) | (((b >>> r) & both) << 1) | (((c >>> r) & both) << 2) | (((d >>> r) & both) << 3);
      out[at + 16 * j + r] = (nibbles & 15) | (nibbles >>> 12);
    }
  }
}
