/** Counts the powers of two in stored scales; the encoding is in docs/model-file.md. */
import { open } from 'node:fs/promises';
import { ShiftAddError, fromFileSystem } from '../errors.js';
import type { PackedTensor } from './packed-tensors.js';

const readBytes = 4 * 1024 * 1024;

/** Scales that are not zero, and the powers of two in them. */
export interface StoredTerms {
  scales: number;
  terms: number;
}

export interface ScaleTerms {
  all: StoredTerms;
  /** Of the last column group of every row group, which may be cut. */
  lastGroup: StoredTerms;
}

/** `eeee sggg sggg sggg`: none where e = 0, else one and one more per field until the first with g = 0. */
export function termsOfScale(code: number): number {
  if (code >> 12 === 0) return 0;
  let terms = 1;
  for (let shift = 8; shift >= 0 && ((code >> shift) & 7) !== 0; shift -= 4) terms++;
  return terms;
}

/** Reads all scales of a packed tensor, a few megabytes at a time. ERR_NOT_FOUND, ERR_BAD_MODEL_FILE. */
export async function countScaleTerms({ scales, planes, columns, groupColumns }: PackedTensor): Promise<ScaleTerms> {
  const perRowGroup = Math.ceil(columns / groupColumns) * planes;
  const last = perRowGroup - planes;
  const result: ScaleTerms = { all: { scales: 0, terms: 0 }, lastGroup: { scales: 0, terms: 0 } };
  const fix = 'Download or copy the model folder again.';
  const file = await open(scales.path, 'r').catch((error: unknown) => {
    throw fromFileSystem(error, scales.path, fix);
  });
  try {
    const buffer = Buffer.alloc(Math.min(readBytes, scales.bytes));
    let index = 0;
    for (let done = 0; done < scales.bytes;) {
      const wanted = Math.min(buffer.length, scales.bytes - done);
      let got = 0;
      while (got < wanted) {
        const { bytesRead } = await file.read(buffer, got, wanted - got, scales.offset + done + got);
        if (bytesRead === 0) {
          throw new ShiftAddError('ERR_BAD_MODEL_FILE', `${scales.path} ended inside tensor ${scales.name}. ${fix}`);
        }
        got += bytesRead;
      }
      for (let at = 0; at < wanted; at += 2, index++) {
        const terms = termsOfScale(buffer.readUInt16LE(at));
        if (terms === 0) continue;
        result.all.scales++;
        result.all.terms += terms;
        if (index % perRowGroup < last) continue;
        result.lastGroup.scales++;
        result.lastGroup.terms += terms;
      }
      done += wanted;
    }
  } finally {
    await file.close();
  }
  return result;
}
