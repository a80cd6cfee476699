// Writes the scale model as a packed model folder (docs/model-file.md): random signs, random scales of one magnitude per
// plane, row scales near one. Every matrix is streamed to the disk and hashed on the way.
import { createHash } from 'node:crypto';
import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { formatVersion, planeBytes, scaleEncoding } from '../../build/modules/checkpoint/packed-tensors.js';
import { writeSafetensors } from '../../build/modules/checkpoint/safetensors-writer.js';
import { ones, writeDescriptions } from './descriptions.mjs';
import { RandomBytes } from './random-bytes.mjs';
import { deviationFor, embedding, linearLayers, norms } from './shape.mjs';

const groupColumns = 8;
// The exponent field of the first plane's scales; each further plane has half of it, as in a binary expansion.
const firstExponent = 15;

/** @param {{ bits: number, headBits: number, rowGroup: number }} settings */
export async function writePackedModel(folder, shape, { bits, headBits, rowGroup }) {
  const head = embedding(shape);
  const matrices = [head, ...linearLayers(shape)].map((matrix) => ({
    ...matrix, planes: matrix.name === head.name ? headBits : bits, groupRows: rowGroup, groupColumns,
    scaleExponent: Math.round(Math.log2(deviationFor(matrix.columns))),
  }));
  const checksums = {};
  // Planes first, then by falling element size: norms are F32, scales and row scales have 16 bits.
  const stored = [
    ...matrices.map(planes),
    ...norms(shape).map((norm) => ones(norm.name, shape.hidden)),
    ...matrices.flatMap((matrix) => [scales(matrix), rowScales(matrix)]),
  ].map((tensor) => withChecksum(tensor, checksums));
  const partial = `${folder}.partial`;
  await mkdir(partial, { recursive: true });
  try {
    await writeSafetensors(join(partial, 'model.safetensors'), stored, { format: 'pt' });
    const quantization = {
      quant_method: 'shiftadd', format_version: formatVersion(false), mode: 'lat', scale_encoding: scaleEncoding,
      row_group: rowGroup, tensors: Object.fromEntries(matrices.map((matrix) => [matrix.name, describe(matrix)])),
      settings: { bits, head_bits: headBits }, source: { name: 'random weights' }, checksums,
    };
    await writeDescriptions(partial, shape, { quantization_config: quantization });
    await rename(partial, folder);
  } catch (error) {
    await rm(partial, { recursive: true, force: true });
    throw error;
  }
}

const describe = ({ rows, columns, planes, groupRows, scaleExponent }) => ({
  rows, columns, planes, group_rows: groupRows, group_columns: groupColumns, scale_exponent: scaleExponent,
});

function planes(matrix) {
  const bytes = planeBytes(matrix);
  const random = new RandomBytes(`${matrix.name}.planes`);
  return { name: `${matrix.name}.planes`, dtype: 'U8', shape: [bytes], bytes, data: () => random.pieces(bytes) };
}

/** [row groups, column groups, planes] */
function scales(matrix) {
  const groups = [Math.ceil(matrix.rows / matrix.groupRows), matrix.columns / groupColumns];
  const random = new RandomBytes(`${matrix.name}.scales`);
  return halves(`${matrix.name}.scales`, 'U16', [...groups, matrix.planes], random, (number, index) => {
    const exponent = firstExponent - (index % matrix.planes);
    return (exponent << 12) | laterTerms[number % laterTerms.length];
  });
}

/** 0.75 to 1.5, each binary step equally likely. */
function rowScales({ name, rows }) {
  const random = new RandomBytes(`${name}.row_scales`);
  return halves(`${name}.row_scales`, 'F16', [rows], random, (number) => 0x3a00 + (number % 1024));
}

function halves(name, dtype, shape, random, code) {
  const bytes = 2 * shape.reduce((a, b) => a * b, 1);
  async function* data() {
    let index = 0;
    for (const piece of random.pieces(bytes, 2)) {
      for (let at = 0; at < piece.length; at += 2) piece.writeUInt16LE(code(piece.readUInt16LE(at), index++), at);
      yield piece;
    }
  }
  return { name, dtype, shape, bytes, data };
}

/** Every valid value of the twelve bits behind the exponent: up to three further terms `s ggg` with g = 1 to 7. */
const laterTerms = (() => {
  const terms = Array.from({ length: 16 }, (_, term) => term).filter((term) => (term & 7) !== 0);
  const valid = [0];
  for (const first of terms) {
    valid.push(first << 8);
    for (const second of terms) {
      valid.push((first << 8) | (second << 4));
      for (const third of terms) valid.push((first << 8) | (second << 4) | third);
    }
  }
  return valid;
})();

function withChecksum(tensor, checksums) {
  async function* data() {
    const hash = createHash('sha256');
    for await (const piece of tensor.data()) {
      hash.update(piece);
      yield piece;
    }
    checksums[tensor.name] = hash.digest('hex');
  }
  return { ...tensor, data };
}
