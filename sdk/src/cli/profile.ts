/** `shiftadd profile`: what a token costs on this device, in joules, bytes and seconds. */
import { readFile } from 'node:fs/promises';
import { ShiftAddError, fromFileSystem } from '../errors.js';
import { parseProfile } from '../devices/profile-compare.js';
import { csvStart, profileCsv } from '../devices/profile-csv.js';
import { profileRules } from '../devices/profile-model.js';
import { compareProfiles, profileModel, type ProfileOptions, type ProfileResult } from '../index.js';
import { type Rule, loadRules } from '../options.js';
import { type Call, type CommandOptions, UsageError, type Values, defineCommand, engineOptions, given, outputOptions } from './command.js';
import type { Cells } from './inspect-tables.js';
import { loadWithProgress } from './load-model.js';
import { type OutputKind, checkOutputPath, writeOutput } from './output-file.js';
import { profilePage, profilePageKind } from './profile-page.js';
import { boardRows, comparisonRows, memoryRows, phaseRows, railRows, runRows } from './profile-tables.js';
import { table } from './quantities.js';
import type { Terminal } from './terminal.js';

type IntegerRule = Rule & { kind: 'integer' };

const csvKind: OutputKind = { mark: csvStart, noun: 'table of shiftadd profile', example: 'readings.csv' };

const profileOptions = {
  prompt: { rule: { kind: 'text' }, value: 'TEXT', help: 'what is said to the model', otherwise: 'a short question' },
  file: { rule: { kind: 'text' }, value: 'FILE', help: 'a file with the prompt' },
  turns: { rule: { kind: 'text' }, value: 'FILE', help: 'a file with a conversation: a turn per line, or a JSON list of texts' },
  tokens: { rule: profileRules.tokens, value: 'N', help: 'tokens of each answer; end tokens do not end it' },
  repetitions: { rule: profileRules.repetitions, value: 'N', help: 'of the measurement, for the intervals' },
  idle: { rule: profileRules.idle, value: 'SECONDS', help: 'of the idle board, before and after; 0 leaves out the net figures' },
  window: { rule: profileRules.window, value: 'SECONDS', help: 'least time of steady load per window', otherwise: '5 with a meter, 1 without' },
  'until-stable': { rule: profileRules.untilStable, help: 'go on until rate, power and temperature have levelled off, and report that state' },
  limit: { rule: profileRules.limit, value: 'SECONDS', help: 'ends --until-stable' },
  meter: { rule: { kind: 'text' }, value: 'NAME', help: 'which energy meter; shiftadd devices lists them', otherwise: 'the first that can be read and covers where the model runs' },
  rate: { rule: profileRules.rate, value: 'HZ', help: 'readings of the meter per second', otherwise: 'what it gives, at most 50' },
  'sys-root': { rule: { kind: 'text', initial: '/' }, value: 'FOLDER', help: 'where /proc and /sys of the machine lie, for containers' },
  context: { rule: loadRules.contextSize as IntegerRule, value: 'N', help: 'tokens that prompts and answers may take', otherwise: "the model's limit, at most 4096", sdkName: 'contextSize' },
  csv: { rule: { kind: 'text' }, value: 'FILE', help: 'write every reading as a table' },
  html: { rule: { kind: 'text' }, value: 'FILE', help: 'write a report with charts, one file that needs nothing else' },
  overwrite: { rule: { kind: 'flag', initial: false }, help: 'let --csv and --html replace a file of another kind' },
  compare: { rule: { kind: 'text' }, value: 'FILE', help: 'two saved runs side by side: --compare FIRST SECOND' },
  ...engineOptions,
  ...outputOptions,
} as const satisfies CommandOptions;

type ProfileValues = Values<typeof profileOptions>;

export const profile = defineCommand({
  name: 'profile',
  arguments: ['[model]'],
  summary: 'measure what a token costs on this device: joules, watts, bytes and seconds',
  details: [
    'The prompt is read and the answer is generated in windows of their own, each repeated until the meter can resolve it. Energy per token is given as measured, and net of what the idle board draws; both with 95 % intervals.',
    'Without a meter everything but joules is measured. A run in which the board throttled, swapped or changed its power mode is marked.',
  ],
  options: profileOptions,
  examples: [
    { command: 'shiftadd profile', does: 'the embedded chat model, about a minute' },
    { command: 'shiftadd profile ./my-model --html report.html --json > a.json', does: 'a report with charts, and the figures to compare later' },
    { command: 'shiftadd profile ./my-model --turns talk.txt --tokens 128 --repetitions 5', does: 'a conversation' },
    { command: 'shiftadd profile ./my-model --until-stable --limit 1200', does: 'what is left when the board is hot' },
    { command: 'shiftadd profile --compare a.json b.json', does: 'two saved runs side by side' },
  ],
  async run(call) {
    const { arguments: [name], values, terminal } = call;
    if (values.compare !== undefined) return compare(values.compare, name, call);
    const prompt = await readPrompt(values);
    const { csv, html, overwrite } = values;
    if (overwrite && csv === undefined && html === undefined) throw new UsageError('--overwrite needs --csv FILE or --html FILE', 'profile');
    // Before the work: nobody wants to lose a long run to a wrong name.
    if (csv !== undefined) await checkOutputPath(csv, csvKind, overwrite);
    if (html !== undefined) await checkOutputPath(html, profilePageKind, overwrite);
    const result = await measure(name, prompt, call);
    const files = {
      ...(csv === undefined ? {} : { csv: await writeOutput(csv, profileCsv(result), csvKind, overwrite) }),
      ...(html === undefined ? {} : { html: await writeOutput(html, profilePage(result), profilePageKind, overwrite) }),
    };
    if (terminal.json) return terminal.document({ ...result, files });
    print(result, terminal);
    for (const [kind, path] of Object.entries(files)) terminal.line(`\n${kind === 'csv' ? 'Readings' : 'Report'}: ${path}`);
  },
});

async function measure(name: string | undefined, prompt: string[] | undefined, call: Call<typeof profileOptions>): Promise<ProfileResult> {
  const { values, terminal, signal } = call;
  const model = await loadWithProgress(name, values, call, { contextSize: values.context });
  const progress = terminal.progress('Profiling');
  try {
    const options: ProfileOptions = {
      ...given({ prompt, window: values.window, meter: values.meter, rate: values.rate, tokens: values.tokens, repetitions: values.repetitions, idle: values.idle, limit: values.limit }),
      untilStable: values['until-stable'],
      sysRoot: values['sys-root']!,
      signal,
      onProgress: ({ phase, done, total }) => progress.update(total === 0 ? 1 : done / total, phase),
    };
    return await profileModel(model, options);
  } finally {
    progress.end();
    await model.close();
  }
}

/** Undefined: the default of the SDK. */
async function readPrompt({ prompt, file, turns }: ProfileValues): Promise<string[] | undefined> {
  const given = Object.entries({ prompt, file, turns }).filter(([, value]) => value !== undefined);
  if (given.length > 1) throw new UsageError(`${given.map(([name]) => `--${name}`).join(' and ')} cannot be given together`, 'profile');
  if (prompt !== undefined) return [prompt];
  if (file !== undefined) return filled([await read(file, '--file')], file);
  if (turns !== undefined) return filled(turnsOf(await read(turns, '--turns'), turns), turns);
  return undefined;
}

function filled(texts: string[], path: string): string[] {
  if (texts.length === 0 || texts.some((text) => text.trim() === '')) throw new ShiftAddError('ERR_PROFILE', `${path} has no text to say, or an empty turn.`);
  return texts;
}

function turnsOf(text: string, path: string): string[] {
  if (!text.trimStart().startsWith('[')) return text.split(/\r?\n/).filter((line) => line.trim() !== '');
  let list: unknown;
  try {
    list = JSON.parse(text);
  } catch (error) {
    throw new ShiftAddError('ERR_PROFILE', `${path} is not valid JSON: ${(error as Error).message}. Write a list of texts, or a turn per line.`, error);
  }
  if (!Array.isArray(list) || list.some((entry) => typeof entry !== 'string')) throw new ShiftAddError('ERR_PROFILE', `${path} should hold a list of texts.`);
  return list as string[];
}

function read(path: string, option: string): Promise<string> {
  return readFile(path, 'utf8').catch((error: unknown) => {
    throw fromFileSystem(error, path, `Pass the path of a text file to ${option}.`);
  });
}

/** What must not be given together with --compare: it measures nothing. */
const measuring = ['prompt', 'file', 'turns', 'csv', 'html'] as const;

async function compare(first: string, second: string | undefined, { values, terminal }: Call<typeof profileOptions>): Promise<void> {
  const extra = measuring.find((name) => values[name] !== undefined);
  if (extra !== undefined) throw new UsageError(`--compare measures nothing, so --${extra} cannot be given with it`, 'profile');
  if (second === undefined) throw new UsageError('--compare needs two saved runs: --compare FIRST SECOND', 'profile');
  const [a, b] = await Promise.all([first, second].map(async (path) => parseProfile(await read(path, '--compare'), path)));
  const comparison = compareProfiles(a!, b!);
  if (terminal.json) return terminal.document({ kind: 'comparison', first, second, ...comparison });
  terminal.line(`first: ${first}\nsecond: ${second}`);
  if (comparison.differences.length > 0) terminal.line(`\n${comparison.differences.join('\n')}`);
  showCells(comparisonRows(comparison), terminal);
  if (comparison.warnings.length > 0) terminal.line(`\n${comparison.warnings.join('\n')}`);
}

function print(result: ProfileResult, terminal: Terminal): void {
  if (!result.valid) terminal.line(`This run is not valid: ${result.problems.join('; ')}.\n`);
  showCells(phaseRows(result), terminal, '');
  const unresolved = [...new Set([result.prefill, result.decode].map(({ energy }) => energy.problem).filter((problem) => problem !== null))];
  if (unresolved.length > 0) terminal.line(`\nNo joules: ${unresolved.join('; ')}.`);
  for (const cells of [railRows(result), memoryRows(result), runRows(result), boardRows(result)]) if (cells !== null) showCells(cells, terminal);
  if (result.notes.length > 0) terminal.line(`\n${result.notes.join('\n')}`);
}

function showCells({ header, rows, right }: Cells, terminal: Terminal, before = '\n'): void {
  terminal.line(`${before}${table(header, rows, right)}`);
}
