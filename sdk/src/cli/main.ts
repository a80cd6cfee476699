#!/usr/bin/env node
/** The command line: finds the command, runs it, and turns what happened into messages and an exit status. */
import { ShiftAddError } from '../errors.js';
import { nearest } from '../options.js';
import { packageVersion } from '../package-root.js';
import { checkArgumentCount, parseArguments } from './arguments.js';
import { type Command, type CommandOptions, UsageError } from './command.js';
import { commandHelp, overview } from './help.js';
import { Terminal, endQuietlyWithoutReader } from './terminal.js';

// In the order of the help. Only the command that is called is read: it brings the parts of the SDK that it needs.
const commands: Readonly<Record<string, () => Promise<Command>>> = {
  chat: async () => (await import('./chat.js')).chat,
  pull: async () => (await import('./pull.js')).pull,
  quantize: async () => (await import('./quantize.js')).quantize,
  import: async () => (await import('./import.js')).importCommand,
  eval: async () => (await import('./eval.js')).evaluate,
  bench: async () => (await import('./bench.js')).bench,
  profile: async () => (await import('./profile.js')).profile,
  serve: async () => (await import('./serve.js')).serveCommand,
  inspect: async () => (await import('./inspect.js')).inspect,
  devices: async () => (await import('./devices.js')).devices,
  doctor: async () => (await import('./doctor.js')).doctor,
};

const FAILED = 1;
const WRONG_USAGE = 2;
const INTERRUPTED = 130;

async function main(words: string[]): Promise<void> {
  endQuietlyWithoutReader();
  // Errors of reading the options are reported as these words ask, because the options are not read then.
  const plain = new Terminal(words.includes('--json'), false);
  const interrupt = new AbortController();
  onInterrupt(interrupt);
  let command: Command | undefined;
  try {
    const [name, ...rest] = words;
    if (name === '--version') return plain.line(packageVersion());
    if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
      const topic = name === 'help' ? rest[0] : undefined;
      return plain.line(topic === undefined ? overview(await Promise.all(Object.values(commands).map((load) => load()))) : commandHelp(await findCommand(topic)));
    }
    command = await findCommand(name);
    await run(command, rest, interrupt.signal);
  } catch (error) {
    process.exitCode = report(error, command, plain.json, interrupt.signal);
  }
}

async function run(command: Command, words: string[], signal: AbortSignal): Promise<void> {
  const { arguments: positional, values } = parseArguments(command, words);
  const { json, quiet, help } = values as { json?: boolean; quiet?: boolean; help?: boolean };
  const terminal = new Terminal(json === true, quiet === true);
  if (help === true) return terminal.line(commandHelp(command));
  checkArgumentCount(command, positional);
  await command.run({ arguments: positional, values, terminal, signal });
}

async function findCommand(name: string): Promise<Command> {
  if (Object.hasOwn(commands, name)) return commands[name]!();
  const near = nearest(name, Object.keys(commands));
  const what = name.startsWith('-') ? 'option' : 'command';
  throw new UsageError(`unknown ${what} '${name}'${near === null ? '' : `; did you mean ${near}?`}`);
}

/** The first interrupt lets the command end in order, a second one ends the program at once. */
function onInterrupt(controller: AbortController): void {
  process.on('SIGINT', () => {
    if (controller.signal.aborted) process.exit(INTERRUPTED);
    controller.abort(new Error('interrupted'));
  });
}

/** Tells the user about a failure and returns the exit status. */
function report(error: unknown, command: Command | undefined, json: boolean, signal: AbortSignal): number {
  const interrupted = signal.aborted && error === signal.reason;
  const wrongUsage = error instanceof UsageError || isWrongArgument(error);
  const message = inOptionNames(error instanceof Error ? error.message : String(error), command?.options);
  const code = interrupted ? 'ERR_CANCELLED' : error instanceof ShiftAddError ? error.code : wrongUsage ? 'ERR_USAGE' : 'ERR_FAILED';
  if (json) new Terminal(true, false).document({ error: { code, message } });
  process.stderr.write(`shiftadd: ${message}\n`);
  if (error instanceof UsageError) process.stderr.write(`Try: shiftadd ${error.command === undefined ? '' : `${error.command} `}--help\n`);
  else if (code === 'ERR_FAILED' && !isSystemError(error)) process.stderr.write(`${stackOf(error)}\n`);
  if (interrupted) return INTERRUPTED;
  return wrongUsage ? WRONG_USAGE : FAILED;
}

/** The SDK throws TypeError and RangeError for wrong arguments, and its sentences begin alike; other ones are bugs. */
function isWrongArgument(error: unknown): boolean {
  return (error instanceof RangeError || error instanceof TypeError) && /^(Expected|Unknown option) /.test(error.message);
}

/** Messages of the SDK name its options (`contextSize`); the command line has its own names for them (`--context`). */
function inOptionNames(message: string, options: CommandOptions | undefined): string {
  let text = message;
  for (const [name, { sdkName }] of Object.entries(options ?? {})) {
    const inSdk = sdkName ?? name.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase());
    // A name that is one plain word is part of sentences too; only "for <name>" surely means the option.
    const pattern = inSdk === inSdk.toLowerCase() ? new RegExp(`(?<=\\bfor )${inSdk}(?= (but|\\())`, 'g') : new RegExp(`(?<!-)\\b${inSdk}\\b`, 'g');
    text = text.replace(pattern, `--${name}`);
  }
  return text;
}

/** A failure of the operating system, such as a file that is not there, is told by its message alone. */
function isSystemError(error: unknown): boolean {
  return typeof (error as NodeJS.ErrnoException).syscall === 'string';
}

function stackOf(error: unknown): string {
  return (error instanceof Error ? error.stack?.split('\n').slice(1).join('\n') : undefined) ?? '';
}

void main(process.argv.slice(2));
