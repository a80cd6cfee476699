/** The text of `--help`, made from the tables of the commands. */
import type { Command, CommandOption } from './command.js';

const WIDTH = 100;
const INDENT = 2;

export function overview(commands: readonly Command[]): string {
  return [
    'Run and quantize language models with shift-and-add weights.',
    '',
    'Usage: shiftadd <command> [arguments] [options]',
    '',
    'Commands:',
    ...columns(commands.map(({ name, arguments: words, summary }) => [[name, ...words].join(' '), summary])),
    '',
    'Options:',
    ...columns([
      ['-h, --help', 'show this help, or that of a command'],
      ['--version', 'show the version'],
    ]),
    '',
    'A model is a folder or the name of an embedded model; without one, the embedded chat model is used.',
    'Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.',
  ].join('\n');
}

export function commandHelp(command: Command): string {
  const lines = [`Usage: shiftadd ${[command.name, ...command.arguments].join(' ')} [options]`, '', ...wrap(`${capital(command.summary)}.`, WIDTH)];
  for (const paragraph of command.details ?? []) lines.push('', ...wrap(paragraph, WIDTH));
  lines.push('', 'Options:', ...columns(Object.entries(command.options).map(([name, option]) => [flagText(name, option), describe(option)])));
  lines.push('', 'Examples:');
  for (const { command: words, does } of command.examples) lines.push(`  # ${does}`, `  ${words}`);
  return lines.join('\n');
}

function flagText(name: string, option: CommandOption): string {
  const long = option.value === undefined ? `--${name}` : `--${name} ${option.value}`;
  return name === 'help' ? `-h, ${long}` : long;
}

function describe({ rule, help, otherwise, repeatable }: CommandOption): string {
  const notes: string[] = [];
  if (rule.kind === 'choice') notes.push(rule.among.join(' or '));
  const initial = rule.initial ?? otherwise;
  if (rule.kind !== 'flag' && initial !== undefined) notes.push(`default ${String(initial)}`);
  if (repeatable) notes.push('may be repeated');
  return notes.length === 0 ? help : `${help} (${notes.join('; ')})`;
}

function columns(rows: readonly (readonly [string, string])[]): string[] {
  const left = Math.max(...rows.map(([first]) => first.length)) + INDENT;
  return rows.flatMap(([first, second]) =>
    wrap(second, WIDTH - left - INDENT).map((line, index) => ' '.repeat(INDENT) + (index === 0 ? first : '').padEnd(left) + line),
  );
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = '';
    }
    line += line === '' ? word : ` ${word}`;
  }
  return [...lines, line];
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
