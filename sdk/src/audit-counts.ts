/**
 * Counts the arithmetic of one decoded token in one linear layer. Three ways to the same product are counted:
 *
 * - dense: a multiplication and an addition per weight;
 * - shift-add: the algorithm of the packed product with every scale applied as what it is, a sum of signed powers of two.
 *   Only row scales multiply;
 * - the CPU kernel (portable definition, `backends/cpu/kernels.h`): the same algorithm, but it rounds the scales to 16-bit
 *   integers and *multiplies* the 16 entries of each table by them. Tables are shared by all rows of a row group, which
 *   makes these multiplications few, not none.
 *
 * With K columns, R rows, P planes and C = ceil(K / 4) chunks, each chunk having a table of 2^4 signed sums (LUT-GEMM and
 * ShiftAddLLM use 2^8 for 8 columns; T-MAC and this package 2^4 for 4).
 */

/** Operations. A subtraction or a change of sign counts as an addition. */
export interface OperationCounts {
  multiplications: number;
  additions: number;
  shifts: number;
  lookups: number;
}

/** What the counts of a packed matrix depend on. */
export interface PackedProduct {
  rows: number;
  columns: number;
  planes: number;
  groupRows: number;
  groupColumns: number;
  hasRowScales: boolean;
  scales: ScaleUse;
}

/**
 * How often scales are applied, summed over row groups and planes: once per chunk for groups of 8 columns, once per
 * column for groups of one.
 */
export interface ScaleUse {
  /** By scales that are not zero. */
  applied: number;
  /** Powers of two in the applied scales. */
  terms: number;
}

export const chunkColumns = 4;
const tableEntries = 16;

/**
 * Additions for the 16 signed sums of a chunk: a + b, a - b, c + d, c - d (4), then every entry is the sum, difference or
 * negated sum of two of them (8 additions, and 8 changes of sign for the other half).
 */
export const tableAdditions = 4 + tableEntries;

// Of backends/cpu: columns are padded to quads of 16, row groups to tiles of 32 rows, and every part of at most 16 tiles
// of a row group builds its own tables.
const quadColumns = 16;
const chunksPerQuad = quadColumns / chunkColumns;
const tileRows = 32;
const partTiles = 16;

export function noOperations(): OperationCounts {
  return { multiplications: 0, additions: 0, shifts: 0, lookups: 0 };
}

export function sumOperations(all: readonly OperationCounts[]): OperationCounts {
  const sum = noOperations();
  for (const counts of all) {
    sum.multiplications += counts.multiplications;
    sum.additions += counts.additions;
    sum.shifts += counts.shifts;
    sum.lookups += counts.lookups;
  }
  return sum;
}

/**
 * Both changes of basis around the final norm of a rotated model (core/rotation.h): each a change of sign, a Walsh transform
 * and the Hadamard matrix's sums per number, and one multiplication.
 */
export function countRotation({ size, signs }: { size: number; signs: { length: number } }): OperationCounts {
  const perNumber = 1 + Math.log2(signs.length / size) + (size - 1);
  return { ...noOperations(), multiplications: 2 * signs.length, additions: 2 * signs.length * perNumber };
}

/** R K multiplications and as many additions. */
export function countDense({ rows, columns }: { rows: number; columns: number }): OperationCounts {
  return { ...noOperations(), multiplications: rows * columns, additions: rows * columns };
}

/** Signed sums of the activations, once per input however many matrices read it: 20 C additions. Groups of 8 columns only. */
export function countInputTables(columns: number): OperationCounts {
  return { ...noOperations(), additions: tableAdditions * Math.ceil(columns / chunkColumns) };
}

/**
 * The shift-add product of one token, without the input tables. With T powers of two in A applied scales (see ScaleUse):
 *
 *     scaled tables, groups of 8 columns:   16 T shifts, 16 (T - A) additions
 *     scaled tables, groups of one column:  T shifts, T - A additions, then 20 additions per row group, plane and chunk
 *     rows:                                 R P C look-ups, R P C additions
 *     row scales:                           R multiplications
 */
export function countShiftAdd(matrix: PackedProduct): OperationCounts {
  const { rows, columns, planes, groupRows, groupColumns, hasRowScales, scales } = matrix;
  const chunks = Math.ceil(columns / chunkColumns);
  const tables = planes * chunks * Math.ceil(rows / groupRows);
  const scaled = groupColumns === 1 ? 1 : tableEntries;
  const lookups = rows * planes * chunks;
  return {
    multiplications: hasRowScales ? rows : 0,
    additions: scaled * (scales.terms - scales.applied) + (groupColumns === 1 ? tableAdditions * tables : 0) + lookups,
    shifts: scaled * scales.terms,
    lookups,
  };
}

/** Quads that share one range; `scale_block_quads` of backends/cpu/kernels.h. */
export function scaleBlockQuads({ planes, groupColumns }: { planes: number; groupColumns: number }): number {
  if (planes <= 4) return 8;
  return groupColumns === 8 ? 4 : 1;
}

/**
 * Preparing the activations in the CPU kernel, once per input and size of scale block, per chunk of the padded columns:
 * 3 additions for the range, 48 for the signed sums, 16 multiplications that round them to 16 bits.
 */
export function countKernelInput(columns: number): OperationCounts {
  const chunks = Math.ceil(columns / quadColumns) * chunksPerQuad;
  return { ...noOperations(), multiplications: tableEntries * chunks, additions: (3 + 3 * tableEntries) * chunks };
}

/**
 * One token in the CPU kernel, without preparing the activations. Rows and columns are the padded ones.
 *
 *     tables, groups of 8 columns:   16 multiplications, additions (rounding) and shifts per part, plane and chunk
 *     tables, groups of one column:  8 multiplications and 67 additions per part, plane and chunk
 *     rows:                          2 look-ups and additions (low and high byte) per row, plane and chunk
 *     sums to float:                 1 multiplication, 3 additions, 1 shift per row and scale block
 *     ranges:                        2 multiplications per part and scale block
 *     row scales:                    R multiplications
 *
 * Comparisons, roundings to integers, divisions (one per scale block) and moves are not counted. Wide kernels do the
 * same on many lanes at once, and save half of the signed sums by symmetry.
 */
export function countKernel(matrix: PackedProduct): OperationCounts {
  const { rows, columns, planes, groupRows, groupColumns, hasRowScales } = matrix;
  const quads = Math.ceil(columns / quadColumns);
  const chunks = quads * chunksPerQuad;
  const blocks = Math.ceil(quads / scaleBlockQuads(matrix));
  let parts = 0;
  let paddedRows = 0;
  for (let row = 0; row < rows; row += groupRows) {
    const tiles = Math.ceil(Math.min(groupRows, rows - row) / tileRows);
    parts += Math.ceil(tiles / partTiles);
    paddedRows += tiles * tileRows;
  }
  const tables = parts * planes * chunks;
  const bytes = 2 * paddedRows * planes * chunks;
  const columnWise = groupColumns === 1;
  const joins = paddedRows * blocks;
  return {
    multiplications: (columnWise ? 8 : tableEntries) * tables + joins + 2 * parts * blocks + (hasRowScales ? rows : 0),
    additions: (columnWise ? 3 + 4 * tableEntries : tableEntries) * tables + bytes + 3 * joins,
    shifts: (columnWise ? 0 : tableEntries) * tables + joins,
    lookups: bytes,
  };
}

/**
 * Reading one row of a packed matrix, as the embedding does: each scale of the row's group is put together from its
 * powers of two, then added or subtracted per column and plane. `scales`: of the stored scales of one row group.
 */
export function countRow(matrix: PackedProduct, scales: ScaleUse): OperationCounts {
  const { columns, planes, hasRowScales } = matrix;
  return {
    multiplications: hasRowScales ? columns : 0,
    additions: scales.terms - scales.applied + columns * planes,
    shifts: scales.terms,
    lookups: 0,
  };
}
