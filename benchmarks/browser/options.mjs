// The command line of the browser benchmark, checked in one place.
import { join, resolve } from 'node:path';
import { root } from '../../scripts/setup.mjs';
import { formatHelp, parseOptions, readInteger, readPrecisions } from '../options.mjs';
import { blockTypes } from '../scale-model/gguf-blocks.mjs';

/** What each option is, in the order of the help. */
const rules = {
  'model': { value: 'LIST', initial: 'smollm2', help: 'smollm2, 1b (random weights of the 1B shape), or a packed model folder' },
  'threads': { value: 'LIST', initial: '1', help: 'numbers of threads' },
  'no-isolation': { help: 'serve the pages without cross-origin isolation; for one thread' },
  'rounds': { value: 'N', initial: '3', help: 'times that everything is measured; the table shows medians' },
  'prompt': { value: 'N', initial: '16', help: 'prompt tokens before the decode steps' },
  'steps': { value: 'N', initial: '64', help: 'tokens that are generated' },
  'prefill': { value: 'N', initial: '128', help: 'prompt tokens of the prefill measurement' },
  'precision': { value: 'LIST', initial: 'fast', help: 'of shiftadd: exact, fast or both' },
  'bits': { value: 'LIST', initial: '2,4', help: 'of our 1b models' },
  'types': { value: 'LIST', initial: 'Q4_K,Q2_K,TQ2_0', help: 'GGUF types of the 1b models that wllama runs' },
  'gguf': { value: 'FILES', help: 'what wllama runs beside smollm2 or a folder (default for smollm2: benchmarks/peers/smollm2.gguf)' },
  'models': { value: 'FOLDER', help: 'where random models are made and kept (default build/models)' },
  'build': { value: 'FOLDER', help: 'our browser build (default dist/browser)' },
  'peers': { value: 'FOLDER', help: 'node_modules folder with @wllama/wllama (default benchmarks/peers/browser/node_modules)' },
  'chromium': { value: 'FILE', initial: '/usr/bin/chromium', help: 'the browser' },
  'json': { value: 'FILE', help: 'the JSON file (default benchmarks/results/<date>-browser.json)' },
  'install-peers': { help: 'install wllama into benchmarks/peers/browser first' },
  'help': { help: 'this' },
};

export const help = formatHelp('node benchmarks/browser.mjs [options]    measures our browser build beside wllama', rules);

/** Throws TypeError or RangeError for what it does not understand. */
export function readBrowserOptions(words) {
  const { values, list } = parseOptions(rules, words);
  const file = (name, initial) => resolve(values[name] ?? join(root, ...initial));
  const integers = (name, least, most) => list(name).map((entry) => readInteger(`--${name}`, entry, least, least, most));
  const count = (name) => readInteger(`--${name}`, values[name], 1, 1, 2048);
  const models = list('model');
  if (models.length === 0) throw new TypeError('Expected at least one model for --model but received none');
  const threads = integers('threads', 1, 64);
  if (threads.length === 0) throw new TypeError('Expected at least one number for --threads but received none');
  const isolation = !values['no-isolation'];
  if (!isolation && threads.some((number) => number > 1)) throw new TypeError('Expected --threads 1 with --no-isolation: threads share memory, and only isolated pages may');
  const types = list('types');
  const unknown = types.find((type) => !Object.hasOwn(blockTypes, type));
  if (unknown !== undefined) throw new TypeError(`Expected ${Object.keys(blockTypes).join(', ')} for --types but received ${unknown}`);
  const steps = count('steps');
  if (steps < 2) throw new RangeError(`Expected at least 2 for --steps but received ${steps}`);
  return {
    help: values.help,
    installPeers: values['install-peers'],
    models, threads, isolation, types, steps,
    rounds: readInteger('--rounds', values.rounds, 3, 1, 1000),
    prompt: count('prompt'),
    prefill: count('prefill'),
    precisions: readPrecisions(list('precision')),
    bits: integers('bits', 1, 8),
    ggufFiles: list('gguf').map((entry) => resolve(entry)),
    modelsFolder: file('models', ['build', 'models']),
    build: file('build', ['dist', 'browser']),
    peers: values.peers === undefined ? null : resolve(values.peers),
    chromium: values.chromium,
    json: values.json === undefined ? null : resolve(values.json),
  };
}
