// The command line of the benchmark, checked in one place.
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { StepError } from '../scripts/run-step.mjs';
import { root } from '../scripts/setup.mjs';

export const precisions = ['exact', 'fast'];

/** What each option is, in the order of the help. */
const rules = {
  'model': { value: 'LIST', initial: 'smollm2', help: 'smollm2, scale-2, scale-3, scale-4 (random weights of the 1B shape), or packed model folders' },
  'threads': { value: 'LIST', initial: '1,2', help: 'numbers of threads' },
  'precision': { value: 'LIST', initial: 'exact,fast', help: 'of shiftadd: exact, fast or both' },
  'rounds': { value: 'N', initial: '3', help: 'times that everything is measured; the table shows medians' },
  'steps': { value: 'N', initial: '128', help: 'decode steps of a measurement' },
  'peers': { value: 'FOLDER', help: 'node_modules folder with node-llama-cpp (default benchmarks/peers/node_modules)' },
  'gguf': { value: 'FILES', help: 'what the peer runs beside smollm2 or a folder (default for smollm2: benchmarks/peers/smollm2.gguf)' },
  'models': { value: 'FOLDER', help: 'where random models are made and kept (default build/models)' },
  'out': { value: 'FILE', help: 'the JSON file (default benchmarks/results/<date>-<name>.json)' },
  'name': { value: 'NAME', initial: 'models', help: 'part of the name of the JSON file' },
  'install-peers': { help: 'install node-llama-cpp into benchmarks/peers first' },
  'help': { help: 'this' },
};

export const help = formatHelp(
  'npm run bench -- [options]    measures whole models, ours beside node-llama-cpp where it is installed', rules,
);

/** Throws TypeError or RangeError for what it does not understand. */
export function readOptions(words) {
  const { values, list } = parseOptions(rules, words);
  const models = list('model');
  if (models.length === 0) throw new TypeError('Expected at least one model for --model but received none');
  if (!/^[\w.-]+$/.test(values.name)) throw new TypeError(`Expected letters, digits, '.', '_' and '-' for --name but received ${values.name}`);
  return {
    help: values.help,
    installPeers: values['install-peers'],
    models,
    threads: list('threads').map((entry) => readInteger('--threads', entry, 1, 1, 64)),
    precisions: readPrecisions(list('precision')),
    rounds: readInteger('--rounds', values.rounds, 3, 1, 1000),
    steps: readInteger('--steps', values.steps, 128, 1, 2048),
    peers: values.peers === undefined ? null : resolve(values.peers),
    ggufFiles: list('gguf').map((file) => resolve(file)),
    modelsFolder: resolve(values.models ?? join(root, 'build', 'models')),
    name: values.name,
    out: values.out === undefined ? null : resolve(values.out),
  };
}

/** One line per option, in the order of the rules. */
export function formatHelp(head, rules) {
  return [head, '', ...Object.entries(rules).map(([name, { value, initial, help }]) => {
    const left = `  --${name}${value === undefined ? '' : ` ${value}`}`;
    return `${left.padEnd(22)}${help}${initial === undefined ? '' : ` (default ${initial})`}`;
  })].join('\n');
}

/** The texts and flags on the command line, and `list` to read one that is a list. */
export function parseOptions(rules, words) {
  const { values } = parseArgs({
    args: words,
    options: Object.fromEntries(
      Object.entries(rules).map(([name, { value, initial }]) => [
        name, value === undefined ? { type: 'boolean', default: false } : { type: 'string', ...(initial === undefined ? {} : { default: initial }) },
      ]),
    ),
  });
  const list = (name) => (values[name] ?? '').split(',').map((entry) => entry.trim()).filter((entry) => entry !== '');
  return { values, list };
}

export function readPrecisions(chosen) {
  const unknown = chosen.find((entry) => !precisions.includes(entry));
  if (unknown !== undefined || chosen.length === 0) {
    throw new TypeError(`Expected ${precisions.join(' or ')} for --precision but received ${unknown ?? 'nothing'}`);
  }
  return chosen;
}

/** The integer that `text` spells, or `initial` without one. */
export function readInteger(name, text, initial, least, most) {
  if (text === undefined) return initial;
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= least && value <= most) return value;
  throw new RangeError(`Expected an integer from ${least} to ${most} for ${name} but received ${text}`);
}

/** Runs `read`; a complaint about the command line ends the program with status 2 and without a stack trace. */
export function usageErrors(read) {
  try {
    return read();
  } catch (error) {
    if (error instanceof TypeError || error instanceof RangeError) throw new StepError(error.message, 2);
    throw error;
  }
}
