// A second reader of packed folders, by docs/model-file.md alone: writes them as dense fp32 folders.
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { openModelFolder } from '../../sdk/src/checkpoint/model-folder.js';
import type { PackedTensor } from '../../sdk/src/checkpoint/packed-tensors.js';
import { denseTensor } from '../../sdk/src/checkpoint/packed-writer.js';
import { writeSafetensors, type TensorToWrite } from '../../sdk/src/checkpoint/safetensors-writer.js';
import { describeFamily } from '../../sdk/src/families/index.js';
import { join } from './fixtures.js';

/** Rows x columns of a matrix without rotation, in double precision. */
export async function unpack(tensor: PackedTensor, path: (file: number) => string): Promise<Float64Array> {
  const { rows, columns, planes, groupRows, groupColumns, scaleExponent } = tensor;
  const bytesOf = async ({ file, offset, bytes }: { file: number; offset: number; bytes: number }) =>
    new Uint8Array((await readFile(path(file))).subarray(offset, offset + bytes));
  const [planeData, scaleData] = [await bytesOf(tensor.planeData), await bytesOf(tensor.scales)];
  const rowData = tensor.rowScales === null ? null : await bytesOf(tensor.rowScales);
  const codes = new Uint16Array(scaleData.buffer);
  const columnGroups = Math.ceil(columns / groupColumns);
  const out = new Float64Array(rows * columns);
  let block = 0;
  for (let group = 0; group * groupRows < rows; group++) {
    const groupSize = Math.min(groupRows, rows - group * groupRows);
    for (let firstColumn = 0; firstColumn < columns; firstColumn += 128)
      for (let tile = 0; tile * 32 < groupSize; tile++)
        for (let quad = firstColumn; quad < Math.min(columns, firstColumn + 128); quad += 16)
          for (let plane = 0; plane < planes; plane++, block++)
            for (let row = 0; row < Math.min(32, groupSize - tile * 32); row++)
              for (let c = quad; c < Math.min(columns, quad + 16); c++) {
                const j = Math.floor((c - quad) / 4);
                const byte = planeData[block * 64 + 16 * j + (row % 16)]!;
                const sign = (byte >> ((row < 16 ? 0 : 4) + ((c - quad) % 4))) & 1 ? 1 : -1;
                const scale = (group * columnGroups + Math.floor(c / groupColumns)) * planes + plane;
                out[(group * groupRows + tile * 32 + row) * columns + c]! += sign * decodeScale(codes[scale]!, scaleExponent);
              }
  }
  if (rowData !== null) {
    const halves = new Uint16Array(rowData.buffer);
    for (let i = 0; i < out.length; i++) out[i]! *= decodeHalf(halves[Math.floor(i / columns)]!);
  }
  return out;
}

function decodeScale(code: number, exponent: number): number {
  if (code >> 12 === 0) return 0;
  let term = 2 ** (exponent + (code >> 12) - 15);
  let sum = term;
  for (const shift of [8, 4, 0]) {
    const field = (code >> shift) & 15;
    if ((field & 7) === 0) break;
    term *= 2 ** -(field & 7);
    sum += field & 8 ? -term : term;
  }
  return sum;
}

function decodeHalf(half: number): number {
  const exponent = (half >> 10) & 31;
  const mantissa = half & 1023;
  const value = exponent === 0 ? mantissa * 2 ** -24 : (1 + mantissa / 1024) * 2 ** (exponent - 15);
  return half & 0x8000 ? -value : value;
}

/** Of a packed folder without rotation; matrices under their packed names. */
export async function writeUnpacked(packed: string, out: string): Promise<void> {
  const folder = await openModelFolder(packed);
  const family = describeFamily(folder.config, folder.configPath);
  await mkdir(out);
  const tensors: TensorToWrite[] = [...folder.stored.values()].filter(({ name }) => !/\.(planes|scales|row_scales)$/.test(name)).map(denseTensor);
  for (const [name, tensor] of folder.packed) {
    const values = await unpack(tensor, (file) => folder.files[file]!.path);
    const { rows, columns } = tensor;
    const transposed = family.tensors.find((wanted) => wanted.name === name)!.stored?.name === name;
    const stored = Float32Array.from(values, (_, i) => (transposed ? values[(i % rows) * columns + Math.floor(i / rows)]! : values[i]!));
    const shape = transposed ? [columns, rows] : [rows, columns];
    tensors.push({ name, dtype: 'F32', shape, bytes: stored.byteLength, data: () => [new Uint8Array(stored.buffer)] });
  }
  await writeSafetensors(join(out, 'model.safetensors'), tensors);
  const { quantization_config: _, ...config } = folder.config;
  await writeFile(join(out, 'config.json'), JSON.stringify(config));
  await copyFile(join(packed, 'tokenizer.json'), join(out, 'tokenizer.json'));
}
