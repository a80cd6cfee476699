/** `shiftadd inspect`: what a model folder holds, without running it. */
import { auditModel, inspectModel } from '../index.js';
import { UsageError, defineCommand, outputOptions } from './command.js';
import { inspectPage, inspectPageKind } from './inspect-page.js';
import { auditRows, blockRows, parts, properties, tensorRows, type Cells } from './inspect-tables.js';
import { checkOutputPath, writeOutput } from './output-file.js';
import { table } from './quantities.js';

export const inspect = defineCommand({
  name: 'inspect',
  arguments: ['[model]'],
  summary: 'show the layers, bits per weight, errors and operations of a model',
  details: [
    'Bits per weight count everything that is stored for a matrix: bit-planes, scales, row scales and padding. Errors are those that the quantizer recorded in the folder.',
    'The audit counts what one decoded token costs in the matrices: as shifts, additions and look-ups, in the CPU kernels, and dense. Its energies are estimates from published 45 nm unit costs (microjoules per token), not measurements.',
  ],
  options: {
    all: { rule: { kind: 'flag', initial: false }, help: 'a row for every tensor; else alike tensors of all layers share one' },
    layers: { rule: { kind: 'flag', initial: false }, help: 'a row for every block: the bits of its matrices, output error and KL' },
    audit: { rule: { kind: 'flag', initial: false }, help: 'multiplications, additions, shifts and look-ups per token, with an energy estimate' },
    html: { rule: { kind: 'text' }, value: 'FILE', help: 'write all of it as one HTML page with charts; replaces a page that inspect wrote' },
    overwrite: { rule: { kind: 'flag', initial: false }, help: 'replace FILE whatever it is' },
    ...outputOptions,
  },
  examples: [
    { command: 'shiftadd inspect', does: 'the embedded chat model' },
    { command: 'shiftadd inspect ./my-model --all', does: 'every tensor of a model folder' },
    { command: 'shiftadd inspect ./my-model --html report.html', does: 'a page to look at or to share' },
  ],
  async run({ arguments: [model], values, terminal }) {
    const { html, overwrite } = values;
    if (overwrite && html === undefined) throw new UsageError('--overwrite needs --html FILE', 'inspect');
    if (html !== undefined) await checkOutputPath(html, inspectPageKind, overwrite);
    const result = await inspectModel(model);
    const audit = html !== undefined || values.audit || terminal.json ? await auditModel(model) : null;
    const page = html === undefined ? null : await writeOutput(html, inspectPage(result, audit!), inspectPageKind, overwrite);
    if (terminal.json) return terminal.document({ ...result, audit, ...(page === null ? {} : { page }) });
    const chosen = values.all || values.layers || values.audit;
    if (chosen || page === null) {
      const show = (cells: Cells): void => terminal.line(`\n${table(cells.header, cells.rows, cells.right)}`);
      terminal.line(result.path);
      show(properties(result));
      show(parts(result));
      if (values.layers) show(blockRows(result));
      if (values.all || !chosen) show(tensorRows(result, values.all));
      if (values.audit) {
        show(auditRows(audit!));
        terminal.line(`\n${audit!.notes.join('\n')}`);
      }
    }
    if (page !== null) terminal.line(`${chosen ? '\n' : ''}Page: ${page}`);
  },
});
