/** `shiftadd quantize`: turns a dense checkpoint into a packed model. */
import { estimateQuantizationTime, planQuantization, quantizeModel, type QuantizeOptions, type QuantizePlan, type QuantizeProgress, type QuantizeResult, type QuantizeTime } from '../index.js';
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
    bits: { rule: quantizeRules.bits as Rule & { kind: 'number' }, value: 'N', help: 'bit-planes of the linear layers; with --mode mixed their mean, such as 2.5', otherwise: '4' },
    budget: { rule: quantizeRules.budget as IntegerRule, value: 'BYTES', help: 'choose the bit-planes of every matrix so that all tensors together take no more (mode mixed)', otherwise: 'none' },
    tune: { rule: quantizeRules.tune as Rule & { kind: 'choice' }, value: 'NAME', help: 'tune scales and norm gains against the dense model afterwards: end to end (full) or block by block, with less memory and less gain (blocks)' },
    rotation: { rule: quantizeRules.rotation as Rule & { kind: 'choice' }, value: 'NAME', help: 'rotate the residual stream, so that large weights spread over all columns: smaller errors' },
    'tune-steps': { rule: quantizeRules.tuneSteps as IntegerRule, value: 'N', help: 'tuning steps', otherwise: '128, with blocks 32 for each' },
    'tune-windows': { rule: quantizeRules.tuneWindows as IntegerRule, value: 'N', help: 'windows of one tuning step' },
    sensitivity: { rule: quantizeRules.sensitivity as Rule & { kind: 'choice' }, value: 'NAME', help: 'what mode mixed minimises: the measured KL divergence (kl; kl-all measures every width, which takes four times as long), output errors, or the criterion of the paper' },
    'measure-tokens': { rule: quantizeRules.measureTokens as IntegerRule, value: 'N', help: 'calibration tokens on which kl is measured' },
    override: {
      rule: { kind: 'text' },
      value: 'NAME=BITS',
      repeatable: true,
      help: 'other bit-planes for tensors with these whole parts in their name, such as k_proj=5; the last match counts',
      sdkName: 'overrides',
    },
    'embedding-bits': { rule: quantizeRules.embeddingBits as IntegerRule, value: 'N', help: 'bit-planes of the embedding', otherwise: '6, with --budget what fits' },
    'head-bits': { rule: quantizeRules.headBits as IntegerRule, value: 'N', help: 'bit-planes of an output head that is not tied to the embedding', otherwise: 'as the embedding' },
    'row-group': { rule: quantizeRules.rowGroup as IntegerRule, value: 'N', help: 'rows that share a set of scales' },
    mode: { rule: quantizeRules.mode as Rule & { kind: 'choice' }, value: 'NAME', help: 'groups of 8 columns (lat, faster), of one column (acc, more exact and larger), or as lat with a width for every matrix (mixed)', otherwise: 'lat, with --budget mixed' },
    calibration: { rule: { kind: 'text' }, value: 'FILE', help: 'a text, a .jsonl file of {"messages": [...]} or {"text": ...}, or self: the model writes it', otherwise: 'self' },
    samples: { rule: quantizeRules.samples as IntegerRule, value: 'N', help: 'windows of calibration text', otherwise: '64, or 16 when the model writes it' },
    window: { rule: quantizeRules.window as IntegerRule, value: 'N', help: 'tokens per window' },
    seed: { ...seedOption.seed, rule: quantizeRules.seed as IntegerRule, help: 'chooses the windows, or what the model writes' },
    'dry-run': { rule: { kind: 'flag', initial: false }, help: 'show the size of the result, and the memory and time it takes to make it, then stop; reads no calibration' },
    resume: { rule: { kind: 'flag', initial: false }, help: 'go on with the layers that a stopped job with the same options left in <out>.partial' },
    'keep-measurements': { rule: { kind: 'flag', initial: false }, help: 'leave <out>.partial, so that another --bits or --budget of mode mixed takes seconds with --resume --overwrite' },
    'max-shard-bytes': { rule: quantizeRules.maxShardBytes as IntegerRule, value: 'N', help: 'no weight file becomes larger, except for one that holds a single larger matrix' },
    overwrite: { rule: { kind: 'flag', initial: false }, help: 'replace an existing model folder' },
    ...threadOptions,
    ...outputOptions,
  },
  examples: [
    { command: 'shiftadd quantize ./SmolLM2-135M-Instruct ./packed', does: 'four bit-planes, six for the embedding, calibrated on chats that the model writes' },
    { command: 'shiftadd quantize ./SmolLM2-135M-Instruct ./packed --calibration chats.jsonl', does: 'the same, calibrated on chats of your own' },
    { command: 'shiftadd quantize ./checkpoint ./packed --bits 3 --override down_proj=4 --calibration book.txt', does: 'three, but four for the down projections' },
    { command: 'shiftadd quantize ./checkpoint ./packed --budget 56000000 --calibration chats.jsonl', does: 'each matrix as wide as pays off, 56 MB in all' },
  ],
  async run({ arguments: [checkpoint, out], values, terminal, signal }) {
    const overrides = readOverrides(values.override);
    const options: QuantizeOptions = {
      ...given({
        bits: values.bits,
        embeddingBits: values['embedding-bits'],
        headBits: values['head-bits'],
        rowGroup: values['row-group'],
        mode: values.mode as QuantizeOptions['mode'],
        budget: values.budget,
        sensitivity: values.sensitivity as QuantizeOptions['sensitivity'],
        measureTokens: values['measure-tokens'],
        rotation: values.rotation as QuantizeOptions['rotation'],
        tune: values.tune as QuantizeOptions['tune'],
        tuneSteps: values['tune-steps'],
        tuneWindows: values['tune-windows'],
        samples: values.samples,
        window: values.window,
        seed: values.seed,
        threads: values.threads,
      }),
      ...(Object.keys(overrides).length === 0 ? {} : { overrides }),
    };
    if (values['dry-run']) {
      const calibrated = { ...options, ...given({ calibration: values.calibration }) };
      return showPlan(await planQuantization(checkpoint!, calibrated), await estimateQuantizationTime(checkpoint!, calibrated), terminal);
    }
    const progress = terminal.progress('Quantizing');
    let result: QuantizeResult;
    try {
      result = await quantizeModel(checkpoint!, out!, {
        ...options,
        ...given({ calibration: values.calibration }),
        ...given({ maxShardBytes: values['max-shard-bytes'] }),
        overwrite: values.overwrite,
        resume: values.resume,
        keepMeasurements: values['keep-measurements'],
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

function showPlan(plan: QuantizePlan, time: QuantizeTime, terminal: Terminal): void {
  if (terminal.json) return terminal.document({ ...plan, time });
  const memory = `about ${bytes(plan.workingBytes)} besides the checkpoint, which is mapped, and the program`;
  terminal.line(table(['part', 'value'], [...sizes(plan), ['memory to make it', memory], ['time to make it', `about ${duration(time.seconds * 1000)} on this machine`]]));
}

function describe({ phase, block, blocks, loss }: QuantizeProgress, calibration: string | undefined): string {
  if (phase === 'calibrate') return isSelfCalibration(calibration) ? 'writing the calibration text' : 'reading the calibration text';
  if (phase === 'rotate') return 'rotating the weights';
  if (phase === 'tune') return `tuning${loss === null ? '' : ` · loss ${loss.toPrecision(3)}`}`;
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
