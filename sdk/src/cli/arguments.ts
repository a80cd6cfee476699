/** Reads the words of a command line by the table of a command. Every error names the option and what it expects. */
import { parseArgs } from 'node:util';
import type { Rule } from '../options.js';
import { nearest, show } from '../options.js';
import type { Command, CommandOption, CommandOptions, Values } from './command.js';
import { UsageError } from './command.js';

const shortNames: Readonly<Record<string, string>> = { help: 'h' };

export interface ParsedArguments<O extends CommandOptions> {
  arguments: string[];
  values: Values<O>;
}

export function parseArguments<O extends CommandOptions>(command: Command<O>, words: string[]): ParsedArguments<O> {
  const fail = (message: string): UsageError => new UsageError(message, command.name);
  const { tokens } = parseArgs({
    args: words,
    strict: false,
    allowPositionals: true,
    tokens: true,
    options: Object.fromEntries(
      Object.entries(command.options).map(([name, { rule }]) => [
        name,
        { type: rule.kind === 'flag' ? ('boolean' as const) : ('string' as const), ...shortOf(name) },
      ]),
    ),
  });
  const positional: string[] = [];
  const values: Record<string, unknown> = {};
  for (const [name, option] of Object.entries(command.options)) values[name] = option.repeatable ? [] : option.rule.initial;
  for (const token of tokens) {
    if (token.kind === 'positional') positional.push(token.value);
    if (token.kind !== 'option') continue;
    const option = Object.hasOwn(command.options, token.name) ? command.options[token.name] : undefined;
    if (option === undefined) throw unknownOption(token.rawName, token.name, command);
    const value = checkValue(token.rawName, option, token.value, token.inlineValue ?? false, fail);
    if (option.repeatable) (values[token.name] as unknown[]).push(value);
    else values[token.name] = value;
  }
  return { arguments: positional, values: values as Values<O> };
}

/** Apart from `parseArguments`, so that `--help` is answered first. */
export function checkArgumentCount<O extends CommandOptions>(command: Command<O>, positional: readonly string[]): void {
  const missing = command.arguments[positional.length];
  if (missing?.startsWith('<')) throw new UsageError(`${command.name} needs ${missing}`, command.name);
  const extra = positional[command.arguments.length];
  if (extra !== undefined) throw new UsageError(`${command.name} does not expect a further argument: ${show(extra)}`, command.name);
}

function shortOf(name: string): { short?: string } {
  const short = shortNames[name];
  return short === undefined ? {} : { short };
}

function unknownOption(rawName: string, name: string, command: Command<CommandOptions>): UsageError {
  const near = nearest(name, Object.keys(command.options));
  return new UsageError(`unknown option ${rawName}${near === null ? '' : `; did you mean --${near}?`}`, command.name);
}

function checkValue(
  rawName: string,
  { rule }: CommandOption,
  value: string | undefined,
  inline: boolean,
  fail: (message: string) => UsageError,
): unknown {
  if (rule.kind === 'flag') {
    if (value !== undefined) throw fail(`${rawName} takes no value but received ${show(value)}`);
    return true;
  }
  const expected = expectation(rule);
  if (value === undefined || (!inline && value.startsWith('--'))) throw fail(`${rawName} expects ${expected} but received nothing`);
  const wrong = (): UsageError => fail(`${rawName} expects ${expected} but received ${rule.kind === 'choice' ? show(value) : value || "''"}`);
  switch (rule.kind) {
    case 'integer':
    case 'number': {
      const number = Number(value);
      const readable = rule.kind === 'integer' ? /^[+-]?\d+$/.test(value) : value.trim() !== '' && Number.isFinite(number);
      if (!readable || number < rule.least || number > rule.most) throw wrong();
      return number;
    }
    case 'choice':
      if (!rule.among.includes(value)) throw wrong();
      return value;
    default:
      if (value === '') throw wrong();
      return value;
  }
}

/** What an option expects, as in "expects an integer from 1 to 64". */
function expectation(rule: Rule): string {
  switch (rule.kind) {
    case 'integer':
    case 'number': {
      const noun = rule.kind === 'integer' ? 'an integer' : 'a number';
      // A limit that only bounds the type of the number tells the user nothing.
      return rule.most >= 2 ** 31 - 1 ? `${noun} of at least ${rule.least}` : `${noun} from ${rule.least} to ${rule.most}`;
    }
    case 'choice':
      return `one of ${rule.among.join(', ')}`;
    default:
      return 'a text';
  }
}
