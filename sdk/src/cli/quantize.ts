/** `shiftadd quantize`: turns a dense checkpoint into a packed model. */
import { planQuantization, quantizeModel, type QuantizeOptions, type QuantizePlan, type QuantizeProgress, type QuantizeResult } from '../index.js';
import { isSelfCalibration } from '../calibration.js';
import { type Rule, quantizeRules, show } from '../options.js';
import { UsageError, defineCommand, given, outputOptions, seedOption, threadOptions } from './command.js';
import { bytes, duration, table } from './quantities.js';
import type { Terminal } from './terminal.js';

type IntegerRule = Rule & { kind: 'integer' };

export const quantize = defineCommand({
  name: 'quantize',
  arguments: ['<checkpoint>', '<out>'],
  summary: 'turn a dense checkpoint (a Hugging Face folder) into a packed model folder',
  details: [
    'The linear layers, the embedding and the output head become bit-planes with scales that are sums of powers of two. The calibration text shows the quantizer which errors matter; take one like what the model will be used for.',
    'Without a calibration text, the model first writes one itself: chats, or plain text when it has no chat template. That takes as long as it takes to generate samples x window tokens, by default 8,192, with the dense model: some minutes for a small one, longer than quantizing for a large one.',
  ],
  options: {
    bits: { rule: quantizeRules.bits as IntegerRule, value: 'N', help: 'bit-planes of the linear layers' },
    override: {
      rule: { kind: 'text' },
      value: 'NAME=BITS',
      repeatable: true,
      help: 'other bit-planes for tensors with these whole parts in their name, such as k_proj=5; the last match counts',
      sdkName: 'overrides',
    },
    'embedding-bits': { rule: quantizeRules.embeddingBits as IntegerRule, value: 'N', help: 'bit-planes of the embedding' },
    'head-bits': { rule: quantizeRules.headBits as IntegerRule, value: 'N', help: 'bit-planes of an output head that is not tied to the embedding', otherwise: 'as the embedding' },
    'row-group': { rule: quantizeRules.rowGroup as IntegerRule, value: 'N', help: 'rows that share a set of scales' },
    mode: { rule: quantizeRules.mode as Rule & { kind: 'choice' }, value: 'NAME', help: 'groups of 8 columns (lat, faster) or of one column (acc, more exact and larger)' },
    calibration: { rule: { kind: 'text' }, value: 'FILE', help: 'a text, a .jsonl file of {"messages": [...]}, or self: the model writes it', otherwise: 'self' },
    samples: { rule: quantizeRules.samples as IntegerRule, value: 'N', help: 'windows of calibration text', otherwise: '64, or 16 when the model writes it' },
    window: { rule: quantizeRules.window as IntegerRule, value: 'N', help: 'tokens per window' },
    seed: { ...seedOption.seed, rule: quantizeRules.seed as IntegerRule, help: 'chooses the windows, or what the model writes' },
    'dry-run': { rule: { kind: 'flag', initial: false }, help: 'show the size of the result and the memory it takes to make it, then stop; needs no calibration' },
    overwrite: { rule: { kind: 'flag', initial: false }, help: 'replace an existing model folder' },
    ...threadOptions,
    ...outputOptions,
  },
  examples: [
    { command: 'shiftadd quantize ./SmolLM2-135M-Instruct ./packed', does: 'four bit-planes, six for the embedding, calibrated on chats that the model writes' },
    { command: 'shiftadd quantize ./SmolLM2-135M-Instruct ./packed --calibration chats.jsonl', does: 'the same, calibrated on chats of your own' },
    { command: 'shiftadd quantize ./checkpoint ./packed --bits 3 --override down_proj=4 --calibration book.txt', does: 'three, but four for the down projections' },
  ],
  async run({ arguments: [checkpoint, out], values, terminal, signal }) {
    const overrides = readOverrides(values.override);
    const options: QuantizeOptions = {
      ...given({
        bits: values.bits,
        embeddingBits: values['embedding-bits'],
        headBits: values['head-bits'],
        rowGroup: values['row-group'],
        mode: values.mode as 'lat' | 'acc' | undefined,
        samples: values.samples,
        window: values.window,
        seed: values.seed,
        threads: values.threads,
      }),
      ...(Object.keys(overrides).length === 0 ? {} : { overrides }),
    };
    if (values['dry-run']) return showPlan(await planQuantization(checkpoint!, options), terminal);
    const progress = terminal.progress('Quantizing');
    let result: QuantizeResult;
    try {
      result = await quantizeModel(checkpoint!, out!, {
        ...options,
        ...given({ calibration: values.calibration }),
        overwrite: values.overwrite,
        signal,
        onProgress: (state) => progress.update(state.done, describe(state, values.calibration), state.remainingMs),
      });
    } finally {
      progress.end();
    }
    for (const warning of result.warnings) terminal.note(warning);
    if (terminal.json) return terminal.document(result);
    const worst = [...result.tensors].sort((a, b) => b.outputError - a.outputError)[0];
    terminal.line(
      table(
        ['part', 'value'],
        [
          ['model', result.path],
          ...sizes(result),
          ...(worst === undefined ? [] : [['largest output error', `${(worst.outputError * 100).toFixed(2)} % (${worst.name})`]]),
          ['time', duration(result.seconds * 1000)],
        ],
      ),
    );
  },
});

function sizes({ bitsPerWeight, bytes: parts }: Pick<QuantizePlan, 'bitsPerWeight' | 'bytes'>): string[][] {
  return [
    ['bits per weight', `${bitsPerWeight.toFixed(3)} over the linear layers`],
    ['linear layers', bytes(parts.linearLayers)],
    ['embedding', bytes(parts.embedding)],
    ...(parts.head > 0 ? [['head', bytes(parts.head)]] : []),
    ['all tensors', bytes(parts.total)],
  ];
}

function showPlan(plan: QuantizePlan, terminal: Terminal): void {
  if (terminal.json) return terminal.document(plan);
  const memory = `about ${bytes(plan.workingBytes)} besides the checkpoint, which is mapped, and the program`;
  terminal.line(table(['part', 'value'], [...sizes(plan), ['memory to make it', memory]]));
}

function describe({ phase, block, blocks }: QuantizeProgress, calibration: string | undefined): string {
  if (phase === 'calibrate') return isSelfCalibration(calibration) ? 'writing the calibration text' : 'reading the calibration text';
  if (phase === 'write') return 'writing';
  return block > blocks ? 'embedding and head' : `block ${block} of ${blocks}`;
}

function readOverrides(words: readonly string[]): Record<string, number> {
  const overrides: Record<string, number> = {};
  const { least, most } = quantizeRules.bits as IntegerRule;
  for (const word of words) {
    const match = /^(.+)=(\d+)$/.exec(word);
    const bits = Number(match?.[2]);
    if (match === null || bits < least || bits > most) {
      throw new UsageError(`--override expects NAME=BITS with BITS from ${least} to ${most} but received ${show(word)}`, 'quantize');
    }
    overrides[match[1]!] = bits;
  }
  return overrides;
}
