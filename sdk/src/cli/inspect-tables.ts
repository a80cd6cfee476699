/** The tables of `shiftadd inspect` as text: cells and headers, without their alignment on a terminal or a page. */
import type { AuditResult } from '../audit.js';
import type { OperationCounts } from '../audit-counts.js';
import type { InspectResult, InspectedTensor } from '../inspect.js';
import { knownMean, rolesOf, type BlockRole } from '../inspect-blocks.js';
import { bytes, count, fixed } from './quantities.js';

/** What `table` of quantities.ts and the page show. */
export interface Cells {
  header: string[];
  rows: string[][];
  /** Columns of numbers. */
  right: number[];
}

export const roleTitles: Readonly<Record<BlockRole, string>> = {
  query: 'query',
  key: 'key',
  value: 'value',
  attentionOutput: 'output',
  gate: 'gate',
  up: 'up',
  down: 'down',
};

/** Shares as percent: `0.71 %`. */
export function share(value: number | null): string {
  return value === null ? '-' : `${(value * 100).toFixed(2)} %`;
}

/** Divergences, in nats: three digits of whatever size. */
export function nats(value: number | null): string {
  if (value === null) return '-';
  return value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential(2) : value.toFixed(4);
}

export function properties(result: InspectResult): Cells {
  const rows = [
    ['architecture', result.architecture],
    ['parameters', count(result.parameters)],
    ['layers', String(result.layers)],
    ['hidden size', String(result.hiddenSize)],
    ['attention heads', `${result.heads} (${result.keyValueHeads} key-value, size ${result.headSize})`],
    ['feed-forward size', String(result.feedForwardSize)],
    ['vocabulary', count(result.vocabularySize)],
    ['context limit', count(result.contextLimit)],
    ['output head', result.tiedHead ? 'tied to the embedding' : 'its own'],
  ];
  if (result.packed) rows.push(['packed', `groups of ${result.mode === 'acc' ? 'one column' : '8 columns'} (${result.mode})`], ['rotation', result.rotated ? 'of the residual stream' : 'none']);
  else rows.push(['packed', 'no']);
  if (result.bitsPerWeight !== null) rows.push(['bits per weight', `${result.bitsPerWeight.toFixed(3)} over the linear layers`]);
  return { header: ['property', 'value'], rows, right: [] };
}

export function parts({ bytes: of, tiedHead }: InspectResult): Cells {
  const row = (name: string, size: number): string[] => [name, count(size), bytes(size)];
  const rows = [
    row('linear layers', of.linearLayers),
    row(tiedHead ? 'embedding and head' : 'embedding', of.embedding),
    ...(tiedHead ? [] : [row('head', of.head)]),
    row('norms', of.norms),
    row('all tensors', of.total),
    row('weight files', of.weightFiles),
    row('tokenizer files', of.tokenizer),
  ];
  return { header: ['part', 'bytes', ''], rows, right: [1] };
}

/** A row for every tensor, or one for the alike tensors of all layers, with the mean of their errors. */
export function tensorRows({ tensors }: InspectResult, all: boolean): Cells {
  const groups = all ? tensors.map((tensor) => ({ label: tensor.name, members: [tensor] })) : alike(tensors);
  const known = tensors.some((tensor) => tensor.outputError !== null);
  const rows = groups.map(({ label, members }) => {
    const [first] = members as [InspectedTensor];
    const mean = (of: (tensor: InspectedTensor) => number | null): number | null => knownMean(members.map(of));
    return [
      label,
      String(members.length),
      `${first.rows} x ${first.columns}`,
      first.type,
      fixed(first.planes, 0),
      first.groupRows === null ? '-' : `${first.groupRows} x ${first.groupColumns}`,
      first.bitsPerWeight.toFixed(3),
      count(members.reduce((sum, tensor) => sum + tensor.bytes.total, 0)),
      ...(known ? [share(mean((tensor) => tensor.weightError)), share(mean((tensor) => tensor.outputError))] : []),
      ...(known ? [nats(mean((tensor) => tensor.kl))] : []),
    ];
  });
  const header = ['tensor', 'count', 'shape', 'type', 'planes', 'group', 'bits/weight', 'bytes'];
  if (known) header.push('weight error', 'output error', 'KL');
  return { header, rows, right: [1, 2, 4, 5, 6, 7, 8, 9, 10] };
}

function alike(tensors: readonly InspectedTensor[]): { label: string; members: InspectedTensor[] }[] {
  const groups = new Map<string, { label: string; members: InspectedTensor[] }>();
  for (const tensor of tensors) {
    const label = tensor.name.replace(/\.\d+\./, '.*.');
    const key = [label, tensor.type, tensor.rows, tensor.columns, tensor.planes, tensor.groupRows, tensor.groupColumns].join(' ');
    const group = groups.get(key);
    if (group === undefined) groups.set(key, { label, members: [tensor] });
    else group.members.push(tensor);
  }
  return [...groups.values()];
}

/** A row per block: the bits of its matrices, and what quantizing them cost. */
export function blockRows({ blocks }: InspectResult): Cells {
  const roles = rolesOf(blocks);
  const header = ['block', ...roles.map((role) => roleTitles[role]), 'bits/weight', 'output error', 'KL (sensitivity)'];
  const rows = blocks.map(({ index, bits, bitsPerWeight, outputError, kl }) => [
    String(index),
    ...roles.map((role) => String(bits[role])),
    bitsPerWeight.toFixed(3),
    share(outputError),
    nats(kl),
  ]);
  return { header, rows, right: header.map((_, column) => column) };
}

/** What one decoded token costs: the packed product, what the CPU kernels do, and dense. */
export function auditRows({ packed, cpuKernel, dense }: AuditResult): Cells {
  const models = [
    ...(packed === null ? [] : [{ title: 'shift-add', parts: packed }]),
    ...(cpuKernel === null ? [] : [{ title: 'CPU kernel', kernel: cpuKernel }]),
    { title: packed === null ? 'dense' : 'dense, 16 bits', parts: dense },
  ];
  const rows = (
    [
      ['linear layers', 'linearLayers'],
      ['head', 'head'],
      ['embedding row', 'embedding'],
      ['all', 'total'],
    ] as const
  ).flatMap(([label, part]) =>
    models.map((model) => {
      const { title } = model;
      if (model.kernel !== undefined) return [label, title, ...operationCells(model.kernel[part]), '-', '-', '-'];
      const { operations, weightBits, energyEstimate } = model.parts[part];
      const energy = [energyEstimate.arithmetic, energyEstimate.total].map((value) => value.toFixed(2));
      return [label, title, ...operationCells(operations), count(Math.round(weightBits / 8)), ...energy];
    }),
  );
  return {
    header: ['part', 'product', 'multiplications', 'additions', 'shifts', 'look-ups', 'weight bytes', 'arithmetic uJ', 'with traffic uJ'],
    rows,
    right: [2, 3, 4, 5, 6, 7, 8],
  };
}

function operationCells({ multiplications, additions, shifts, lookups }: OperationCounts): string[] {
  return [multiplications, additions, shifts, lookups].map(count);
}
