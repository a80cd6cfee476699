/** Puts the matrices of a model into their blocks: where the bits are, and where it hurts. */
import { Role } from './families/index.js';

/** What a tensor does in the model. */
export type TensorRole = keyof typeof Role;

/** The matrices of a block, in the order in which they are used. */
export const blockRoles = ['query', 'key', 'value', 'attentionOutput', 'gate', 'up', 'down'] as const;

/** What a matrix does in its layer. */
export type BlockRole = (typeof blockRoles)[number];

/** The matrices that blocks of this model have. */
export function rolesOf(blocks: readonly InspectedBlock[]): BlockRole[] {
  return blockRoles.filter((role) => blocks.some(({ bits }) => bits[role] !== undefined));
}

/** One block of the model: its linear layers together. */
export interface InspectedBlock {
  index: number;
  /** Bit-planes of each matrix; of a dense matrix the bits of its element type. */
  bits: Partial<Record<BlockRole, number>>;
  /** Over the block's linear layers, all scales and padding counted. */
  bitsPerWeight: number;
  /** Mean over its matrices; null when none is known. */
  weightError: number | null;
  /** Mean over its matrices; null when none is known. */
  outputError: number | null;
  /** Sum over its matrices, in nats per token; null when none is known. */
  kl: number | null;
}

interface BlockTensor {
  role: TensorRole;
  block: number | null;
  rows: number;
  columns: number;
  planes: number | null;
  bitsPerWeight: number;
  bytes: { total: number };
  weightError: number | null;
  outputError: number | null;
  kl: number | null;
}

const roleNames = new Map(Object.entries(Role).map(([name, role]) => [role as number, name as TensorRole]));

/** The name of a role number of core/model_spec.h. */
export function roleName(role: number): TensorRole {
  return roleNames.get(role)!;
}

/** Sum of the numbers that are known; null when none is. */
export function knownSum(values: readonly (number | null)[]): number | null {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : known.reduce((sum, value) => sum + value, 0);
}

/** Mean of the numbers that are known; null when none is. */
export function knownMean(values: readonly (number | null)[]): number | null {
  const sum = knownSum(values);
  return sum === null ? null : sum / values.filter((value) => value !== null).length;
}

/** One entry per block, in order. */
export function inspectBlocks(tensors: readonly BlockTensor[]): InspectedBlock[] {
  const blocks = new Map<number, BlockTensor[]>();
  for (const tensor of tensors) {
    if (tensor.block === null || !isBlockRole(tensor.role)) continue;
    const members = blocks.get(tensor.block);
    if (members === undefined) blocks.set(tensor.block, [tensor]);
    else members.push(tensor);
  }
  return [...blocks].sort(([a], [b]) => a - b).map(([index, members]) => {
    const weights = members.reduce((sum, { rows, columns }) => sum + rows * columns, 0);
    const bytes = members.reduce((sum, member) => sum + member.bytes.total, 0);
    return {
      index,
      bits: Object.fromEntries(
        members.map(({ role, planes, bitsPerWeight }) => [role, planes ?? bitsPerWeight]),
      ) as InspectedBlock['bits'],
      bitsPerWeight: (bytes * 8) / weights,
      weightError: knownMean(members.map((member) => member.weightError)),
      outputError: knownMean(members.map((member) => member.outputError)),
      kl: knownSum(members.map((member) => member.kl)),
    };
  });
}

function isBlockRole(role: TensorRole): role is BlockRole {
  return (blockRoles as readonly string[]).includes(role);
}
