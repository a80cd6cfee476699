/** `shiftadd inspect`: what a model folder holds, without running it. */
import { inspectModel, type InspectResult, type InspectedTensor } from '../index.js';
import { defineCommand, outputOptions } from './command.js';
import { bytes, count, table } from './quantities.js';

export const inspect = defineCommand({
  name: 'inspect',
  arguments: ['[model]'],
  summary: 'show the layers, bits per weight and bytes of a model',
  details: ['Bits per weight count everything that is stored for a matrix: bit-planes, scales, row scales and padding.'],
  options: {
    all: { rule: { kind: 'flag', initial: false }, help: 'a row for every tensor; else alike tensors of all layers share one' },
    ...outputOptions,
  },
  examples: [
    { command: 'shiftadd inspect', does: 'the embedded chat model' },
    { command: 'shiftadd inspect ./my-model --all', does: 'every tensor of a model folder' },
  ],
  async run({ arguments: [model], values, terminal }) {
    const result = await inspectModel(model);
    if (terminal.json) return terminal.document(result);
    terminal.line(`${result.path}\n`);
    terminal.line(table(['property', 'value'], properties(result)));
    terminal.line();
    terminal.line(table(['part', 'bytes', ''], parts(result), [1]));
    terminal.line();
    const rows = (values.all ? result.tensors.map((tensor) => ({ ...tensor, label: tensor.name, tensors: 1 })) : alike(result.tensors)).map(tensorRow);
    terminal.line(table(['tensor', 'count', 'shape', 'type', 'planes', 'group', 'bits/weight', 'bytes'], rows, [1, 2, 4, 5, 6, 7]));
  },
});

function properties(result: InspectResult): string[][] {
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
  if (result.packed) rows.push(['packed', `groups of ${result.mode === 'acc' ? 'one column' : '8 columns'} (${result.mode})`]);
  else rows.push(['packed', 'no']);
  if (result.bitsPerWeight !== null) rows.push(['bits per weight', `${result.bitsPerWeight.toFixed(3)} over the linear layers`]);
  return rows;
}

function parts({ bytes: of, tiedHead }: InspectResult): string[][] {
  const row = (name: string, size: number): string[] => [name, count(size), bytes(size)];
  return [
    row('linear layers', of.linearLayers),
    row(tiedHead ? 'embedding and head' : 'embedding', of.embedding),
    ...(tiedHead ? [] : [row('head', of.head)]),
    row('norms', of.norms),
    row('all tensors', of.total),
    row('weight files', of.weightFiles),
    row('tokenizer files', of.tokenizer),
  ];
}

type Row = InspectedTensor & { label: string; tensors: number };

/** One row for the tensors of several layers that differ in nothing but the layer's number. */
function alike(tensors: readonly InspectedTensor[]): Row[] {
  const rows = new Map<string, Row>();
  for (const tensor of tensors) {
    const label = tensor.name.replace(/\.\d+\./, '.*.');
    const key = [label, tensor.type, tensor.rows, tensor.columns, tensor.planes, tensor.groupRows, tensor.groupColumns].join(' ');
    const row = rows.get(key);
    if (row === undefined) rows.set(key, { ...tensor, label, tensors: 1, bytes: { ...tensor.bytes } });
    else {
      row.tensors++;
      row.bytes.total += tensor.bytes.total;
    }
  }
  return [...rows.values()];
}

function tensorRow(row: Row): string[] {
  const group = row.groupRows === null ? '-' : `${row.groupRows} x ${row.groupColumns}`;
  return [
    row.label,
    String(row.tensors),
    `${row.rows} x ${row.columns}`,
    row.type,
    row.planes === null ? '-' : String(row.planes),
    group,
    row.bitsPerWeight.toFixed(3),
    count(row.bytes.total),
  ];
}
