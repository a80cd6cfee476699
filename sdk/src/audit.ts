/**
 * The multiplication audit: what one decoded token costs in the matrices of a model, packed and dense. The formulas are in
 * `audit-counts.ts`, the unit costs of the energy estimate in `audit-energy.ts`.
 */
import {
  chunkColumns,
  countDense,
  countInputTables,
  countKernel,
  countKernelInput,
  countRotation,
  countRow,
  countShiftAdd,
  noOperations,
  scaleBlockQuads,
  sumOperations,
  type OperationCounts,
  type PackedProduct,
  type ScaleUse,
} from './audit-counts.js';
import { estimateEnergy, sumEnergy, unitCosts, type EnergyEstimate, type UnitCosts } from './audit-energy.js';
import { openModelFolder } from './checkpoint/model-folder.js';
import type { PackedTensor } from './checkpoint/packed-tensors.js';
import { countScaleTerms, type ScaleTerms } from './checkpoint/scale-terms.js';
import { Role, describeFamily } from './families/index.js';
import { buildModelSpec, type ModelTensor } from './model-spec.js';
import { resolveModel } from './resolve-model.js';
import { partOf, tensorBytes } from './weight-bytes.js';

/** One part of a model, for one decoded token. */
export interface AuditedPart {
  operations: OperationCounts;
  /** Bits that are read for its weights, scales and padding included. */
  weightBits: number;
  /** An estimate in microjoules per token, 45 nm constants; not a measurement. */
  energyEstimate: EnergyEstimate;
}

/** Operations of one token, part by part. */
export interface AuditedModel {
  /** The linear layers of all blocks. */
  linearLayers: AuditedPart;
  /** The output head, with the rotation around the final norm; a tied embedding is read as a whole here. */
  head: AuditedPart;
  /** Reading the token's row. */
  embedding: AuditedPart;
  total: AuditedPart;
}

/** Operations without an energy estimate: the unit costs are those of a chip, not of a CPU. */
export type KernelOperations = Record<keyof AuditedModel, OperationCounts>;

/** Operations per token of a model, packed and dense. */
export interface AuditResult {
  path: string;
  /** The product as shifts, additions and look-ups; null for a dense model. */
  packed: AuditedModel | null;
  /** What the CPU kernels do for the same result: they multiply table entries by integer scales. Null for a dense model. */
  cpuKernel: KernelOperations | null;
  /** The same shapes without packing: as stored, or with 16-bit weights where the model is packed. */
  dense: AuditedModel;
  /** Picojoules per operation, 45 nm. */
  unitCosts: UnitCosts;
  /** What the numbers leave out. */
  notes: string[];
}

const notes = [
  'One decoded token; attention, norms, activation functions and sampling are left out.',
  'Energy is an estimate from published 45 nm unit costs and weight traffic at 200 pJ per 16 bits of DRAM, not a measurement.',
  'Shifts are exact counts of the powers of two in the stored scales.',
  'The CPU kernels round scales to 16-bit integers and multiply table entries by them, once per row group.',
];

const parts = ['linearLayers', 'head', 'embedding'] as const;
type Part = (typeof parts)[number];

/** What is added up per part. */
interface Tally {
  operations: OperationCounts[];
  weightBits: number;
  energy: EnergyEstimate[];
}

/**
 * Counts multiplications, additions, shifts and look-ups of one decoded token, reading headers and scales only. Needs no
 * backend. ERR_NOT_FOUND, ERR_BAD_MODEL_FILE, ERR_UNSUPPORTED_MODEL.
 */
export async function auditModel(folderOrName?: string | URL): Promise<AuditResult> {
  const folder = await openModelFolder(await resolveModel(folderOrName));
  const family = describeFamily(folder.config, folder.configPath);
  const tensors = buildModelSpec(folder, family).tensors.filter(({ wanted }) => partOf(wanted.role) !== 'norms');
  const isPacked = folder.quantization !== null;
  const dense = newTallies();
  const packed = newTallies();
  const kernel = newTallies();
  const tablesOnce = firstUse();
  const kernelOnce = firstUse();
  for (const tensor of tensors) {
    const product = tensor.packed === null ? null : await describeProduct(tensor.packed);
    for (const part of partsOf(tensor, family.tiedHead)) {
      const row = part === 'embedding';
      addDense(dense[part], tensor, row, isPacked);
      if (product === null) {
        addDense(packed[part], tensor, row, false);
        addDense(kernel[part], tensor, row, false);
        continue;
      }
      addPacked(packed[part], tensor, product, part, tablesOnce);
      addKernel(kernel[part], tensor, product, part, kernelOnce);
    }
  }
  if (folder.rotation !== null)
    for (const tally of [packed, kernel]) add(tally.head, countRotation(folder.rotation), 0);
  return {
    path: folder.path,
    packed: isPacked ? auditedModel(packed) : null,
    cpuKernel: isPacked ? kernelOperations(kernel) : null,
    dense: auditedModel(dense),
    unitCosts: { ...unitCosts },
    notes: isPacked ? [...notes] : notes.slice(0, 2),
  };
}

/** A packed matrix, and how its scales are used in a product and in one row. */
interface Product extends PackedProduct {
  row: ScaleUse;
}

async function describeProduct(packed: PackedTensor): Promise<Product> {
  const { rows, columns, planes, groupRows, groupColumns } = packed;
  const stored = await countScaleTerms(packed);
  const rowGroups = Math.ceil(rows / groupRows);
  return {
    rows,
    columns,
    planes,
    groupRows,
    groupColumns,
    hasRowScales: packed.rowScales !== null,
    scales: scaleUse(stored, columns, groupColumns),
    // Which row is read depends on the token: the mean over the row groups.
    row: { applied: Math.round(stored.all.scales / rowGroups), terms: Math.round(stored.all.terms / rowGroups) },
  };
}

/** A scale of 8 columns is applied to two chunks, in a cut last group perhaps to one. */
function scaleUse({ all, lastGroup }: ScaleTerms, columns: number, groupColumns: number): ScaleUse {
  if (groupColumns === 1) return { applied: all.scales, terms: all.terms };
  const chunks = groupColumns / chunkColumns;
  const missing = chunks * Math.ceil(columns / groupColumns) - Math.ceil(columns / chunkColumns);
  return {
    applied: chunks * all.scales - missing * lastGroup.scales,
    terms: chunks * all.terms - missing * lastGroup.terms,
  };
}

function partsOf({ wanted }: ModelTensor, tiedHead: boolean): Part[] {
  const part = partOf(wanted.role);
  if (part === 'embedding') return tiedHead ? ['embedding', 'head'] : ['embedding'];
  return [part as 'linearLayers' | 'head'];
}

/** Matrices that read the same activations share their tables. */
function inputOf({ wanted: { role, layer } }: ModelTensor, part: Part): string {
  if (part === 'head') return 'head';
  const attention = role === Role.query || role === Role.key || role === Role.value;
  const feedForward = role === Role.gate || role === Role.up;
  return `${layer} ${attention ? 'attention' : feedForward ? 'feed-forward' : role}`;
}

function weightBits(tensor: ModelTensor, row: boolean): number {
  const bits = tensorBytes(tensor) * 8;
  return row ? Math.round(bits / tensor.wanted.shape[0]!) : bits;
}

function addDense(tally: Tally, tensor: ModelTensor, row: boolean, assume16: boolean): void {
  const [rows, columns] = [tensor.wanted.shape[0]!, tensor.wanted.shape[1]!];
  const counts = row ? noOperations() : countDense({ rows, columns });
  const bits = assume16 ? (row ? 1 : rows) * columns * 16 : weightBits(tensor, row);
  add(tally, counts, bits, !assume16 && tensor.dense?.dtype === 'F32');
}

type Once = (input: string) => boolean;

function addPacked(tally: Tally, tensor: ModelTensor, product: Product, part: Part, once: Once): void {
  const bits = weightBits(tensor, part === 'embedding');
  if (part === 'embedding') return add(tally, countRow(product, product.row), bits);
  const builds = product.groupColumns !== 1 && once(inputOf(tensor, part));
  add(tally, sumOperations([countShiftAdd(product), ...(builds ? [countInputTables(product.columns)] : [])]), bits);
}

function addKernel(tally: Tally, tensor: ModelTensor, product: Product, part: Part, once: Once): void {
  const bits = weightBits(tensor, part === 'embedding');
  if (part === 'embedding') return add(tally, countRow(product, product.row), bits);
  const builds = product.groupColumns !== 1 && once(`${inputOf(tensor, part)} ${scaleBlockQuads(product)} quads`);
  add(tally, sumOperations([countKernel(product), ...(builds ? [countKernelInput(product.columns)] : [])]), bits);
}

/** Says once per input that its tables are still to be built. */
function firstUse(): Once {
  const seen = new Set<string>();
  return (input) => !seen.has(input) && Boolean(seen.add(input));
}

function add(tally: Tally, counts: OperationCounts, bits: number, wide = false): void {
  tally.operations.push(counts);
  tally.weightBits += bits;
  tally.energy.push(estimateEnergy(counts, bits, wide));
}

function newTallies(): Record<Part, Tally> {
  const tally = (): Tally => ({ operations: [], weightBits: 0, energy: [] });
  return { linearLayers: tally(), head: tally(), embedding: tally() };
}

function auditedModel(tallies: Record<Part, Tally>): AuditedModel {
  const part = (of: Tally[]): AuditedPart => ({
    operations: sumOperations(of.flatMap(({ operations }) => operations)),
    weightBits: of.reduce((sum, tally) => sum + tally.weightBits, 0),
    energyEstimate: sumEnergy(of.flatMap(({ energy }) => energy)),
  });
  const { linearLayers, head, embedding } = tallies;
  return {
    linearLayers: part([linearLayers]),
    head: part([head]),
    embedding: part([embedding]),
    total: part(parts.map((name) => tallies[name])),
  };
}

function kernelOperations(tallies: Record<Part, Tally>): KernelOperations {
  const { linearLayers, head, embedding, total } = auditedModel(tallies);
  return {
    linearLayers: linearLayers.operations,
    head: head.operations,
    embedding: embedding.operations,
    total: total.operations,
  };
}
