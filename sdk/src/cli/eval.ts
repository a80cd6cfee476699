/** `shiftadd eval`: how good a model is: perplexity on a text, distance from another model, or task items. */
import { readFile } from 'node:fs/promises';
import { fromFileSystem } from '../errors.js';
import { evaluatePerplexity, loadModel, taskPresets, type Model, type TaskItem } from '../index.js';
import { type Rule, evaluateRules, taskRules } from '../options.js';
import { type Call, UsageError, type Values, defineCommand, engineOptions, given, outputOptions } from './command.js';
import { loadOptions, loadWithProgress } from './load-model.js';
import { bytes, count, counted, duration, fixed, table } from './quantities.js';
import { checkChoices, readTaskItems, splitTasks } from './task-file.js';

type IntegerRule = Rule & { kind: 'integer' };

const options = {
  text: { rule: { kind: 'text' }, value: 'FILE', help: 'the text for the perplexity, in UTF-8' },
  compare: { rule: { kind: 'text' }, value: 'MODEL', help: 'compare with this model on the text: divergence and agreement of the next-token distributions' },
  tasks: { rule: { kind: 'text' }, value: 'FILE', help: 'score task items: JSONL of {"query", "choices", "gold"}, {"good", "bad"} or {"text"} (its last word); PRESET=FILE puts a query into the prompt of a known task' },
  template: { rule: { kind: 'text' }, value: 'TEXT', help: 'what a query becomes; {query} stands for it', otherwise: 'that of the preset, or Question: {query} and Answer: on two lines' },
  limit: { rule: taskRules.limit as IntegerRule, value: 'N', help: 'use only the first N task items', otherwise: 'all' },
  window: { rule: { ...(evaluateRules.window as IntegerRule), initial: undefined as never }, value: 'N', help: 'tokens per window', otherwise: '1024; 512 with --compare' },
  'max-tokens': { rule: evaluateRules.maxTokens as IntegerRule, value: 'N', help: 'use only the first N tokens of the text', otherwise: 'the whole text; 4096 with --compare' },
  ...engineOptions,
  ...outputOptions,
} as const;

type EvalCall = Call<typeof options>;
type EvalValues = Values<typeof options>;

export const evaluate = defineCommand({
  name: 'eval',
  arguments: ['[model]'],
  summary: 'measure how good a model is: perplexity on a text (lower is better), distance from another model, or tasks',
  details: [
    'The text is cut into windows that do not overlap; each is predicted from its own beginning. The mean goes over all predicted tokens.',
    'Tasks are scored by log-likelihood as lm-evaluation-harness does; normalized accuracy divides by the length of a choice.',
    `Presets: ${Object.keys(taskPresets).join(', ')}. --tasks PRESET alone says which file it needs.`,
  ],
  options,
  examples: [
    { command: 'shiftadd eval --text book.txt', does: 'the embedded chat model on a text' },
    { command: 'shiftadd eval ./my-model --text book.txt --window 512 --max-tokens 20000 --json', does: 'the start of a text, for a program' },
    { command: 'shiftadd eval ./packed --compare ./checkpoint --text book.txt', does: 'what quantizing has changed' },
    { command: 'shiftadd eval --tasks arc-easy.jsonl --limit 200', does: 'multiple choice, the first 200 questions' },
    { command: 'shiftadd eval --tasks boolq=boolq.jsonl', does: 'a task of the paper, with its prompt' },
  ],
  async run(call) {
    const { arguments: [name], values } = call;
    if ((values.text === undefined) === (values.tasks === undefined)) throw new UsageError('eval needs --text FILE or --tasks FILE', 'eval');
    if (values.compare !== undefined && values.text === undefined) throw new UsageError('--compare needs --text FILE', 'eval');
    const text = values.text === undefined ? null : await readText(values.text);
    const { file, preset } = values.tasks === undefined ? { file: null, preset: null } : splitTasks(values.tasks);
    const items = file === null ? null : await readTaskItems(file);
    if (preset !== null) checkChoices(items!, preset, file!);
    const model = await loadWithProgress(name, values, call);
    try {
      if (items !== null) await scoreTasks(model, items, preset?.template, call);
      else if (values.compare !== undefined) await compare(model, values.compare, text!, call);
      else await perplexity(model, text!, call);
    } finally {
      await model.close();
    }
  },
});

async function readText(file: string): Promise<string> {
  return readFile(file, 'utf8').catch((error: unknown) => {
    throw fromFileSystem(error, file, 'Pass the path of a text file to --text.');
  });
}

const windows = (values: EvalValues): { window?: number; maxTokens?: number } =>
  given({ window: values.window, maxTokens: values['max-tokens'] });

const describe = (model: Model): { name: string; path: string } => ({ name: model.info.name, path: model.path });

async function perplexity(model: Model, text: string, { values, terminal, signal }: EvalCall): Promise<void> {
  const progress = terminal.progress('Evaluating');
  const result = await evaluatePerplexity(model, text, {
    ...windows(values),
    signal,
    onProgress: ({ phase, done, total, perplexity: soFar }) => {
      const detail = soFar === null ? phase : `window ${done} of ${total} · perplexity ${soFar.toFixed(3)}`;
      progress.update(phase === 'evaluate' ? done / total : 0, detail);
    },
  }).finally(() => progress.end());
  if (terminal.json) return terminal.document({ model: describe(model), text: values.text, ...result });
  const { backend } = result;
  terminal.line(
    table(
      ['measure', 'value'],
      [
        ['perplexity', result.perplexity.toFixed(4)],
        ['mean negative log-likelihood', `${result.negativeLogLikelihood.toFixed(5)} nats`],
        ['text', `${counted(result.tokens, 'token')}, ${counted(result.windows, 'window')} of ${count(result.window)}`],
        ['predicted', counted(result.predictedTokens, 'token')],
        ['time', `${duration(result.timings.evaluateMs)}, ${fixed(result.timings.tokensPerSecond, 1)} tokens per second`],
        ['backend', `${backend.name} (${backend.isa}, ${counted(backend.threads, 'thread')}, ${backend.precision}, ${backend.kvCache} cache)`],
        ['peak memory', bytes(result.memory.peakRssBytes!)],
      ],
    ),
  );
}

async function compare(model: Model, name: string, text: string, { values, terminal, signal }: EvalCall): Promise<void> {
  const reference = await loadModel(name, { ...loadOptions(values), signal });
  const progress = terminal.progress('Comparing');
  try {
    const result = await model.compare(reference, text, {
      ...windows(values),
      signal,
      onProgress: ({ done, total }) => progress.update(done / total, counted(done, 'token')),
    });
    progress.end();
    if (terminal.json)
      return terminal.document({ model: describe(model), reference: describe(reference), text: values.text, ...result });
    terminal.line(
      table(
        ['measure', model.info.name, `reference ${reference.info.name}`],
        [
          ['perplexity', result.perplexity.toFixed(4), result.referencePerplexity.toFixed(4)],
          ['divergence from the reference', `${result.divergence.toFixed(5)} nats`, '-'],
          ['same most likely token', `${(result.topAgreement * 100).toFixed(2)} %`, '-'],
          ['positions', `${count(result.positions)} in ${counted(result.windows, 'window')} of ${count(result.window)}`, ''],
        ],
      ),
    );
  } finally {
    progress.end();
    await reference.close();
  }
}

async function scoreTasks(model: Model, items: readonly TaskItem[], presetTemplate: string | undefined, { values, terminal, signal }: EvalCall): Promise<void> {
  const progress = terminal.progress('Scoring');
  const result = await model.evaluateTask(items, {
    ...given({ template: values.template ?? presetTemplate, limit: values.limit }),
    signal,
    onProgress: ({ done, total, accuracy }) => progress.update(done / total, `item ${done} of ${total} · accuracy ${(accuracy * 100).toFixed(1)} %`),
  }).finally(() => progress.end());
  if (terminal.json) return terminal.document({ model: describe(model), tasks: values.tasks, ...result });
  const percent = (share: number): string => `${(share * 100).toFixed(2)} %`;
  terminal.line(
    table(
      ['measure', 'value'],
      [
        ['accuracy', `${percent(result.accuracy)} (standard error ${percent(result.standardError)})`],
        ...(result.normalizedAccuracy === null ? [] : [['normalized accuracy', percent(result.normalizedAccuracy)]]),
        ...(result.perplexity === null ? [] : [['perplexity of the last word', result.perplexity.toFixed(3)]]),
        ['items', count(result.items)],
      ],
    ),
  );
}
