/** `shiftadd inspect`: what a model folder holds, without running it. */
import { auditModel, inspectModel, type PlanMemoryOptions } from '../index.js';
import { planMemoryRules, type Rule } from '../options.js';
import { UsageError, defineCommand, given, outputOptions, type Values } from './command.js';
import { inspectPage, inspectPageKind } from './inspect-page.js';
import { allDevices, planDevices, planParts, planSpeed, plansOf, verdict } from './inspect-plan.js';
import { auditRows, blockRows, parts, properties, tensorRows, type Cells } from './inspect-tables.js';
import { checkOutputPath, writeOutput } from './output-file.js';
import { table } from './quantities.js';
import type { Terminal } from './terminal.js';

const planOptions = {
  device: { rule: planMemoryRules.device, value: 'BOARD', help: `a board such as orin-nano-8gb, or ${allDevices}`, otherwise: 'this machine' },
  'power-mode': { rule: planMemoryRules.powerMode, value: 'MODE', help: 'name or number of a power mode of the board', otherwise: 'the fastest, or the one in effect' },
  context: { rule: planMemoryRules.contextSize as Rule & { kind: 'integer' }, value: 'N', help: 'tokens of the context', otherwise: "the model's limit, at most 4096", sdkName: 'contextSize' },
  free: { rule: planMemoryRules.freeBytes as Rule & { kind: 'integer' }, value: 'BYTES', help: 'free for the model', otherwise: 'what the device or this machine has', sdkName: 'freeBytes' },
  backend: { rule: planMemoryRules.backend, value: 'NAME', help: 'cpu, cuda or wasm', otherwise: 'what the board is best used with, else cpu' },
  'kv-cache': { rule: planMemoryRules.kvCache, value: 'TYPE', help: 'numbers that the KV cache holds: f32, f16, or int8 with cuda' },
  threads: { rule: planMemoryRules.threads as Rule & { kind: 'integer' }, value: 'N', help: 'threads that compute', otherwise: 'what the board is best used with, else 4' },
  'sys-root': { rule: planMemoryRules.sysRoot, value: 'DIR', help: 'where /proc and /sys of this machine lie', otherwise: '/' },
} as const;

export const inspect = defineCommand({
  name: 'inspect',
  arguments: ['[model]'],
  summary: 'show the layers, bits per weight, errors and operations of a model',
  details: [
    'Bits per weight count everything that is stored for a matrix: bit-planes, scales, row scales and padding. Errors are those that the quantizer recorded in the folder.',
    'A plan says, without loading anything, whether the model fits a device: weights, KV cache and scratch as the engine allocates them, and estimates of the rest and of the speed. Its options are those from --device to --sys-root.',
    'The audit counts what one decoded token costs in the matrices: as shifts, additions and look-ups, in the CPU kernels, and dense. Its energies are estimates from published 45 nm unit costs (microjoules per token), not measurements.',
  ],
  options: {
    all: { rule: { kind: 'flag', initial: false }, help: 'a row for every tensor; else alike tensors of all layers share one' },
    layers: { rule: { kind: 'flag', initial: false }, help: 'a row for every block: the bits of its matrices, output error and KL' },
    audit: { rule: { kind: 'flag', initial: false }, help: 'multiplications, additions, shifts and look-ups per token, with an energy estimate' },
    plan: { rule: { kind: 'flag', initial: false }, help: 'whether it fits a device, what would, and how fast it could be there' },
    ...planOptions,
    html: { rule: { kind: 'text' }, value: 'FILE', help: 'write all of it as one HTML page with charts; replaces a page that inspect wrote' },
    overwrite: { rule: { kind: 'flag', initial: false }, help: 'replace FILE whatever it is' },
    ...outputOptions,
  },
  examples: [
    { command: 'shiftadd inspect', does: 'the embedded chat model' },
    { command: 'shiftadd inspect ./my-model --all', does: 'every tensor of a model folder' },
    { command: 'shiftadd inspect --plan --device orin-nano-8gb --context 4096', does: 'whether it fits a board' },
    { command: 'shiftadd inspect --plan --device orin-nano-8gb --power-mode 15W', does: 'and how fast with less bandwidth' },
    { command: 'shiftadd inspect ./my-model --html report.html', does: 'a page to look at or to share' },
  ],
  async run({ arguments: [model], values, terminal }) {
    const { html, overwrite } = values;
    if (values.plan) return showPlan(model, values, terminal);
    const only = Object.keys(planOptions).find((name) => name !== 'kv-cache' && values[name as keyof typeof planOptions] !== undefined);
    if (only !== undefined) throw new UsageError(`--${only} needs --plan`, 'inspect');
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

async function showPlan(model: string | undefined, values: Values<typeof planOptions>, terminal: Terminal): Promise<void> {
  const { device, context, free, backend, threads, 'power-mode': powerMode } = values;
  if (device === allDevices && powerMode !== undefined) throw new UsageError(`--power-mode is that of one board, so it cannot be given with --device ${allDevices}`, 'inspect');
  const options = given({ device, powerMode, contextSize: context, freeBytes: free, backend, kvCache: values['kv-cache'], threads, sysRoot: values['sys-root'] }) as PlanMemoryOptions;
  const plans = await plansOf(model, options);
  const [first] = plans;
  if (terminal.json) return terminal.document(device === allDevices ? { plans } : { ...first! });
  const show = (cells: Cells): void => terminal.line(`\n${table(cells.header, cells.rows, cells.right)}`);
  terminal.line(first!.path);
  if (device === allDevices) return show(planDevices(plans));
  terminal.line(`\n${verdict(first!)}`);
  show(planParts(first!));
  terminal.line(`\n${[...planSpeed(first!), ...first!.notes].join('\n')}`);
}
