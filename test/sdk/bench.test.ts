// The benchmark of whole models: the random models that it makes, a short run, its command line and its arithmetic.
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import t from 'tap';
import { loadModel } from '../../sdk/src/index.js';
import { temporaryFolder } from './fixtures.js';

const script = (name: string): string => resolve('benchmarks', name);
const folder = await temporaryFolder(t);
const model = join(folder, 'tiny');
const shape = '--layers 2 --hidden 256 --feed-forward 512 --heads 4 --key-value-heads 2 --vocabulary 512'.split(' ');

function run(name: string, ...words: string[]): Promise<{ status: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [script(name), ...words], (error, stdout, stderr) =>
      resolve({ status: error === null ? 0 : Number(error.code), stdout, stderr }),
    );
  });
}

t.test('a model with random weights', async (t) => {
  const made = await run('scale-model.mjs', model, '--bits', '3', '--head-bits', '4', '--row-group', '64', ...shape);
  t.equal(made.status, 0, made.stderr);
  await using loaded = await loadModel(model);
  t.match(loaded.info, { layers: 2, vocabularySize: 512, packed: true });
  t.ok(loaded.info.bitsPerWeight! > 3 && loaded.info.bitsPerWeight! < 4.5, `${loaded.info.bitsPerWeight} bits per weight`);
  const { tokens } = await loaded.generate([300, 301, 302], { maxTokens: 16, temperature: 1, seed: 1 }).result();
  t.ok(new Set(tokens).size > 1, 'it does not say one thing only');
  const again = await run('scale-model.mjs', model, '--bits', '3');
  t.equal(again.status, 1);
  t.match(again.stderr, /is there already/);
});

t.test('the same as a GGUF file', async (t) => {
  for (const [type, blockBytes] of [['TQ2_0', 66], ['Q2_K', 84], ['Q3_K', 110], ['Q4_0', 8 * 18]] as const) {
    const path = join(folder, `${type}.gguf`);
    t.equal((await run('scale-model.mjs', path, '--gguf', type, ...shape)).status, 0, type);
    const file = await readFile(path);
    t.equal(file.toString('latin1', 0, 4), 'GGUF');
    t.equal(file.readUInt32LE(4), 3);
    t.equal(Number(file.readBigUInt64LE(8)), 20, 'tensors: an embedding, 7 matrices and 2 norms per layer, a norm');
    const weights = 2 * (2 * 256 * 256 + 2 * 128 * 256 + 3 * 256 * 512);
    const data = (weights / 256) * blockBytes + 512 * 210 + 5 * 256 * 4;
    const rest = file.length - data;
    t.ok(rest > 0 && rest < 32_000, `${rest} bytes of header and padding`);
  }
});

t.test('a run', async (t) => {
  const out = join(folder, 'out.json');
  const options = ['--model', model, '--threads', '1', '--precision', 'fast', '--rounds', '2', '--steps', '4', '--out', out];
  const { status, stdout, stderr } = await run('run.mjs', ...options);
  t.equal(status, 0, stderr);
  t.match(stdout, /\| tiny +\| +1 \| shiftadd fast \|/);
  const text = await readFile(out, 'utf8');
  t.notOk(text.includes(folder), 'no paths');
  const { version, samples, summary, failures } = JSON.parse(text);
  t.equal(version, 1);
  t.strictSame(failures, []);
  t.equal(samples.length, 2);
  t.match(samples[0], { model: 'tiny', engine: 'shiftadd', kind: 'speed', round: 1, used: { backend: 'cpu', threads: 1 } });
  for (const [name, value] of Object.entries(samples[0].metrics)) t.ok((value as number) > 0, name);
  t.equal(summary[0].contenders[0].metrics.decodeShortTokensPerSecond.count, 2);
});

t.test('wrong usage', async (t) => {
  for (const [words, message] of [
    [['--modle', 'x'], /Unknown option '--modle'/],
    [['--threads', 'two'], /integer from 1 to 64 for --threads but received two/],
    [['--precision', 'double'], /exact or fast for --precision but received double/],
    [['--model', 'scale-9'], /Expected scale-2, scale-3, scale-4 but received scale-9/],
  ] as const) {
    const { status, stderr } = await run('run.mjs', ...words);
    t.equal(status, 2, words.join(' '));
    t.match(stderr, message);
  }
  t.equal((await run('run.mjs', '--peers', folder)).status, 1, 'a peers folder without the peer');
  t.equal((await run('scale-model.mjs', join(folder, 'x'), '--bits', '2', '--hidden', '100')).status, 2);
});

t.test('medians, and ratios within a round', async (t) => {
  const { summarize } = await import(pathToFileURL(script('summary.mjs')).href);
  const sample = (engine: string, round: number, speed: number) => ({
    model: 'm', threads: 1, label: engine, engine, kind: 'speed', round, metrics: { speed, readShare: null },
  });
  const samples = [[1, 10, 5], [2, 40, 10], [3, 30, 30]].flatMap(([round, ours, theirs]) => [
    sample('shiftadd', round!, ours!),
    sample('peer', round!, theirs!),
  ]);
  const [line] = summarize(samples);
  t.strictSame(line.contenders[0].metrics, { speed: { median: 30, least: 10, most: 40, count: 3 } });
  t.strictSame(line.ratios, [{ ours: 'shiftadd', peer: 'peer', metrics: { speed: 2 } }]);
});
