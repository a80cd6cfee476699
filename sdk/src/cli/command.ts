/** What a command of the command line is: its arguments and options as data, and the function that runs it. */
import type { Rule } from '../options.js';
import { loadRules, samplingRules } from '../options.js';
import type { Terminal } from './terminal.js';

export interface CommandOption {
  /** How its value is checked, and its default. */
  rule: Rule;
  /** What stands for the value in the help, for example `N`. */
  value?: string;
  help: string;
  /** The default in words, where the rule has none. */
  otherwise?: string;
  /** May be given more than once; its value is a list. */
  repeatable?: boolean;
  /** The name that messages of the SDK use for it, where it is not the same in camel case. */
  sdkName?: string;
}

export type CommandOptions = Readonly<Record<string, CommandOption>>;

/** A value per option: what was given, else the default of its rule, else undefined. */
export type Values<O extends CommandOptions> = { readonly [K in keyof O]: ValueOf<O[K]> };

type ValueOf<O extends CommandOption> = O extends { repeatable: true }
  ? string[]
  : O['rule'] extends { kind: 'flag' }
    ? boolean
    : O['rule'] extends { kind: 'integer' | 'number' }
      ? number | undefined
      : string | undefined;

export interface Command<O extends CommandOptions = CommandOptions> {
  name: string;
  /** The arguments before the options, as in the help: `<model>` is required, `[model]` is not. */
  arguments: readonly string[];
  summary: string;
  /** Paragraphs of the help after the summary. */
  details?: readonly string[];
  options: O;
  /** What to type, each with what it does. */
  examples: readonly { command: string; does: string }[];
  run(call: Call<O>): Promise<void>;
}

/** One call of a command. */
export interface Call<O extends CommandOptions> {
  arguments: readonly string[];
  values: Values<O>;
  terminal: Terminal;
  /** Aborted when the user interrupts. */
  signal: AbortSignal;
}

/** Wrong usage: exit status 2. */
export class UsageError extends Error {
  constructor(
    message: string,
    /** The command whose help explains it. */
    readonly command?: string,
  ) {
    super(message);
    this.name = 'UsageError';
  }
}

/** Keeps the types of the options of one command. */
export function defineCommand<const O extends CommandOptions>(command: Command<O>): Command<O> {
  return command;
}

// Options that several commands share.

export const outputOptions = {
  json: { rule: { kind: 'flag', initial: false }, help: 'print one JSON document on standard output, notes on standard error' },
  quiet: { rule: { kind: 'flag', initial: false }, help: 'no notes and no progress on standard error' },
  help: { rule: { kind: 'flag', initial: false }, help: 'show this help' },
} as const;

const threads = { rule: loadRules.threads as Rule & { kind: 'integer' }, value: 'N', help: 'threads that compute', otherwise: 'one per core' } as const;

export const threadOptions = { threads } as const;

export const engineOptions = {
  backend: { rule: { kind: 'choice', among: ['auto', 'cpu', 'cuda', 'wasm'], initial: 'auto' }, value: 'NAME', help: 'what computes: an NVIDIA GPU where there is one, the processor, or WebAssembly where no native engine loads' },
  device: { rule: loadRules.device as Rule & { kind: 'integer' }, value: 'N', help: 'which GPU' },
  threads,
  precision: {
    rule: { kind: 'choice', among: ['fast', 'exact'], initial: 'fast' },
    value: 'NAME',
    help: 'of packed products: fast is within 0.7 % of exact',
  },
  'kv-cache': {
    rule: loadRules.kvCache as Rule & { kind: 'choice' },
    value: 'TYPE',
    help: 'numbers that the KV cache holds; int8 with the backend cuda',
    otherwise: 'f16 with precision fast, f32 with exact',
  },
} as const;

export const seedOption = {
  seed: { rule: samplingRules.seed as Rule & { kind: 'integer' }, value: 'N', help: 'start of the random numbers; the same seed gives the same result', otherwise: 'random' },
} as const;

/** The entries that are not undefined. */
export function given<T extends object>(values: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}
