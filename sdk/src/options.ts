/**
 * Every option of the SDK: its type, range and default in one table per call, checked in one place. Unknown names are
 * rejected with the nearest known one.
 */

import { kvTypes } from './engine.js';

/** How one option is checked. `initial` is its default; undefined means none. */
export type Rule =
  | { kind: 'integer' | 'number'; least: number; most: number; initial?: number }
  | { kind: 'flag' | 'measure'; initial?: boolean }
  | { kind: 'text'; initial?: string }
  | { kind: 'texts'; initial?: string[] }
  | { kind: 'choice'; among: readonly string[]; initial?: string }
  | { kind: 'signal' | 'callback' | 'address' | 'object' | 'objects' | 'recorder' | 'schema' | 'tool-choice'; initial?: undefined };

export type RuleTable = Readonly<Record<string, Rule>>;

const integer = (least: number, most: number, initial?: number): Rule => ({ kind: 'integer', least, most, initial });
const number = (least: number, most: number, initial?: number): Rule => ({ kind: 'number', least, most, initial });
const flag = (initial?: boolean): Rule => ({ kind: 'flag', initial });
const text = (initial?: string): Rule => ({ kind: 'text', initial });
const choice = (among: readonly string[], initial?: string): Rule => ({ kind: 'choice', among, initial });
const signal: Rule = { kind: 'signal' };
const callback: Rule = { kind: 'callback' };
const object: Rule = { kind: 'object' };
const objects: Rule = { kind: 'objects' };
const schema: Rule = { kind: 'schema' };

/** The largest context that is opened unless one is asked for: its key/value cache must fit ordinary machines. */
export const defaultContextSize = 4096;

export const isaNames = ['portable', 'avx2', 'avx512', 'avx512vnni', 'neon', 'neondot', 'simd128', 'relaxedsimd'] as const;

export const backendChoices = ['auto', 'cpu', 'cuda', 'wasm'] as const;

export const loadRules = {
  backend: choice(backendChoices, 'auto'), // default: SHIFTADD_BACKEND, else the best there is
  threads: integer(1, 64), // default: one per core
  precision: choice(['fast', 'exact'], 'fast'),
  kvCache: choice(kvTypes), // default: f16 with precision fast, f32 with exact
  contextSize: integer(1, 2 ** 31 - 1), // default: the model's limit, at most defaultContextSize
  verify: flag(true),
  isa: choice(isaNames), // default: the widest this machine has
  device: integer(0, 63, 0),
  measure: { kind: 'measure', initial: false } as Rule,
  prefixCache: object, // default: none
  signal,
  onProgress: callback,
} as const;

export const prefixCacheRules = {
  sessions: integer(0, 1024, 4),
  bytes: integer(1, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER),
} as const;

export const samplingRules = {
  temperature: number(0, 100, 0),
  topK: integer(0, 2 ** 31 - 1, 0),
  topP: number(0, 1, 1),
  minP: number(0, 1, 0),
  repetitionPenalty: number(0.01, 100, 1),
  seed: integer(0, Number.MAX_SAFE_INTEGER), // default: random
} as const;

const weightRules = {
  logitBias: object, // default: none
  presencePenalty: number(-2, 2, 0),
  frequencyPenalty: number(-2, 2, 0),
} as const;

export const generateRules = {
  ...samplingRules,
  maxTokens: integer(0, 2 ** 31 - 1), // default: until the context is full
  stop: { kind: 'texts', initial: [] } as Rule,
  promptLookup: flag(false),
  logprobs: integer(0, 20), // default: none
  ...weightRules,
  schema,
  signal,
  addSpecialTokens: flag(true),
  parseSpecial: flag(true),
} as const;

export const sendRules = {
  ...samplingRules,
  maxTokens: integer(0, 2 ** 31 - 1),
  stop: { kind: 'texts', initial: [] } as Rule,
  promptLookup: flag(false),
  logprobs: integer(0, 20), // default: none
  ...weightRules,
  schema,
  tools: objects,
  toolChoice: { kind: 'tool-choice' } as Rule,
  parallelToolCalls: flag(false),
  signal,
} as const;

export const chatRules = {
  ...samplingRules,
  maxTokens: integer(0, 2 ** 31 - 1),
  stop: { kind: 'texts', initial: [] } as Rule,
  promptLookup: flag(false),
  system: text(),
  history: objects,
  tools: objects,
  contextSize: integer(1, 2 ** 31 - 1),
  overflow: choice(['throw', 'drop-oldest-turns'], 'throw'),
} as const;

const { system: _system, history: _history, ...restorable } = chatRules;
/** System message and history are those of the saved chat. */
export const restoreRules = restorable;

export const evaluateRules = {
  window: integer(2, 2 ** 31 - 1, 1024),
  maxTokens: integer(2, 2 ** 31 - 1), // default: the whole text
  signal,
  onProgress: callback,
} as const;

export const embedRules = {
  pooling: choice(['mean', 'last', 'cls'], 'mean'),
  normalize: flag(true),
  truncate: flag(false),
  addSpecialTokens: flag(true),
  signal,
} as const;

export const compareRules = {
  window: integer(2, 2 ** 31 - 1, 512),
  maxTokens: integer(2, 2 ** 31 - 1, 4096),
  signal,
  onProgress: callback,
} as const;

export const taskRules = {
  template: text('Question: {query}\nAnswer:'),
  limit: integer(1, 2 ** 31 - 1), // default: all
  signal,
  onProgress: callback,
} as const;

export const benchmarkRules = {
  promptTokens: integer(1, 2 ** 31 - 1), // default: 16 and 512
  steps: integer(1, 2 ** 20, 64),
  rounds: integer(1, 1000, 3),
  signal,
  onProgress: callback,
} as const;

export const quantizeRules = {
  bits: number(1, 8), // default: 4; whole unless mode is mixed
  budget: integer(1, Number.MAX_SAFE_INTEGER), // default: none
  tune: choice(['off', 'blocks', 'full'], 'off'),
  tuneSteps: integer(1, 2 ** 20), // default: 128, or 32 for each block
  tuneWindows: integer(1, 1024, 2),
  sensitivity: choice(['kl', 'kl-all', 'output', 'criterion'], 'kl'),
  measureTokens: integer(1, 2 ** 24, 1024),
  overrides: object, // default: none
  embeddingBits: integer(1, 8), // default: 6; chosen under a budget
  headBits: integer(1, 8), // default: embeddingBits
  rowGroup: integer(1, 2 ** 20, 96),
  mode: choice(['lat', 'acc', 'mixed']), // default: lat; mixed with a budget
  rowScales: flag(true),
  rotation: choice(['on', 'off'], 'on'),
  scaleTerms: integer(1, 4, 4),
  fitRounds: integer(0, 1000, 30),
  refits: integer(0, 100, 2),
  sweeps: integer(0, 100, 3),
  damping: number(0, 10, 0.01),
  calibration: text(), // default: the model writes it itself
  samples: integer(1, 2 ** 20), // default: 64, or 16 when the model writes the text itself
  window: integer(2, 2 ** 20, 512),
  seed: integer(0, Number.MAX_SAFE_INTEGER, 1),
  threads: integer(1, 64),
  maxShardBytes: integer(1024, Number.MAX_SAFE_INTEGER, 2_000_000_000),
  overwrite: flag(false),
  resume: flag(false),
  keepMeasurements: flag(false),
  signal,
  onProgress: callback,
} as const;

export const pullRules = {
  revision: text(),
  file: text(),
  cache: text(),
  endpoint: text(),
  token: text(),
  offline: flag(),
  signal,
  onProgress: callback,
} as const;

export const importRules = {
  base: text(),
  maxShardBytes: integer(1024, Number.MAX_SAFE_INTEGER, 2_000_000_000),
  overwrite: flag(false),
  signal,
  onProgress: callback,
} as const;

export const planMemoryRules = {
  device: text(), // default: this machine
  powerMode: text(), // default: the fastest, or the one in effect
  freeBytes: integer(1, Number.MAX_SAFE_INTEGER),
  contextSize: integer(1, 2 ** 31 - 1), // default: the model's limit, at most defaultContextSize
  backend: choice(['cpu', 'cuda', 'wasm']), // default: what the profile recommends, else cpu
  kvCache: choice(kvTypes, 'f16'),
  threads: integer(1, 64),
  sysRoot: text(), // default: /
} as const;

/** Checks `given` against the table and fills in the defaults. Throws TypeError or RangeError. */
export function readOptions<T extends object>(rules: RuleTable, given: T | undefined, call: string): T {
  if (given !== undefined && (typeof given !== 'object' || given === null || Array.isArray(given))) {
    throw new TypeError(`Expected an object of options for ${call} but received ${show(given)}`);
  }
  const values = (given ?? {}) as Record<string, unknown>;
  for (const name of Object.keys(values)) {
    if (!Object.hasOwn(rules, name)) {
      const near = nearest(name, Object.keys(rules));
      throw new TypeError(
        `Unknown option ${show(name)} for ${call}.${near === null ? '' : ` Did you mean '${near}'?`}`,
      );
    }
  }
  const checked: Record<string, unknown> = {};
  for (const [name, rule] of Object.entries(rules)) {
    const value = values[name];
    checked[name] = value === undefined ? rule.initial : checkValue(name, rule, value);
  }
  return checked as T;
}

function checkValue(name: string, rule: Rule, value: unknown): unknown {
  const wrong = (wanted: string): TypeError =>
    new TypeError(`Expected ${wanted} for ${name} but received ${show(value)}`);
  switch (rule.kind) {
    case 'integer':
    case 'number': {
      const wanted = `${rule.kind === 'integer' ? 'an integer' : 'a number'} from ${rule.least} to ${rule.most}`;
      if (typeof value !== 'number') throw wrong(wanted);
      const whole = rule.kind === 'number' || Number.isInteger(value);
      if (!(whole && value >= rule.least && value <= rule.most)) {
        throw new RangeError(`Expected ${wanted} for ${name} but received ${show(value)}`);
      }
      return value;
    }
    case 'flag':
      if (typeof value !== 'boolean') throw wrong('true or false');
      return value;
    case 'text':
      if (typeof value !== 'string') throw wrong('a string');
      return value;
    case 'texts': {
      const list = typeof value === 'string' ? [value] : value;
      const right = Array.isArray(list) && list.every((entry) => typeof entry === 'string' && entry.length > 0);
      if (!right) throw wrong('a list of non-empty strings');
      return list;
    }
    case 'choice':
      if (typeof value !== 'string' || !rule.among.includes(value)) {
        throw wrong(`one of ${rule.among.map((entry) => `'${entry}'`).join(', ')}`);
      }
      return value;
    case 'signal':
      if (!(value instanceof AbortSignal)) throw wrong('an AbortSignal');
      return value;
    case 'callback':
      if (typeof value !== 'function') throw wrong('a function');
      return value;
    case 'address':
      if (!(typeof value === 'string' || value instanceof URL)) throw wrong('an address');
      return value;
    case 'object':
      if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong('an object');
      return value;
    case 'measure':
      if (typeof value !== 'boolean' && !isRecorder(value)) throw wrong('true, false or an energy recorder');
      return value;
    case 'recorder':
      if (value !== null && !isRecorder(value)) throw wrong('an energy recorder or null');
      return value;
    case 'tool-choice':
      return value; // with the tools, in sdk/src/tools
    case 'schema':
      // Some libraries' schemas are functions.
      if ((typeof value !== 'object' && typeof value !== 'function') || value === null || Array.isArray(value)) throw wrong('a JSON schema or a schema object');
      return value;
    case 'objects':
      if (!Array.isArray(value) || !value.every((entry) => typeof entry === 'object' && entry !== null)) throw wrong('a list of objects');
      return value;
  }
}

function isRecorder(value: unknown): boolean {
  const { between, meter } = (value ?? {}) as { between?: unknown; meter?: unknown };
  return typeof between === 'function' && typeof meter === 'object';
}

/** A value as it appears in an error message: short, quoted when it is text. */
export function show(value: unknown): string {
  if (typeof value === 'string') return `'${value.length > 60 ? `${value.slice(0, 57)}...` : value}'`;
  if (typeof value === 'function') return 'a function';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object' && value !== null) return 'an object';
  return String(value);
}

/** The known name that is at most three edits (and a third of the length) away, or null. */
export function nearest(name: string, known: string[]): string | null {
  let best: string | null = null;
  let least = Math.min(3, Math.ceil(name.length / 3)) + 1;
  for (const candidate of known) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (distance < least) [best, least] = [candidate, distance];
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const swap = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, swap));
    }
    row = next;
  }
  return row[b.length]!;
}
