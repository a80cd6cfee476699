// How far packed models are from the checkpoint they were made from, all on the same windows of the same texts in one run.
// README.md says how to read the numbers.
import { readFile, writeFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { parseArgs } from 'node:util';
import { inspectModel, loadModel } from '../dist/esm/index.js';

const help = `node benchmarks/quality.mjs --dense CHECKPOINT --text FILE [--text FILE ...] [options] MODEL [MODEL ...]

  --dense CHECKPOINT  what the models were made from
  --text FILE         a text; may be repeated
  --windows N         windows of each text (default 16)
  --window N          tokens of a window (default 1024)
  --skip N            windows of each text to pass over first (default 0)
  --threads N         (default one per core)
  --out FILE          also write the numbers as JSON`;

const { values, positionals: models } = parseArgs({
  allowPositionals: true,
  options: {
    dense: { type: 'string' },
    text: { type: 'string', multiple: true },
    windows: { type: 'string', default: '16' },
    window: { type: 'string', default: '1024' },
    skip: { type: 'string', default: '0' },
    threads: { type: 'string' },
    out: { type: 'string' },
    help: { type: 'boolean' },
  },
});
if (values.help || values.dense === undefined || values.text === undefined || models.length === 0) {
  process.stdout.write(`${help}\n`);
  process.exit(values.help ? 0 : 2);
}
const [windows, window, skip] = ['windows', 'window', 'skip'].map((name) => Number(values[name]));
const engine = values.threads === undefined ? {} : { threads: Number(values.threads) };

const dense = await loadModel(values.dense, engine);
const rows = [];
process.stdout.write('| model | MB | bits per weight | text | KL | same best | perplexity | of dense |\n|---|---|---|---|---|---|---|---|\n');
for (const path of models) {
  const { bytes, bitsPerWeight } = await inspectModel(path);
  const model = await loadModel(path, engine);
  for (const file of values.text) {
    const tokens = await dense.tokenizer.encodeLong(await readFile(file, 'utf8'), { maxTokens: (skip + windows) * window });
    const text = dense.tokenizer.decode(tokens.slice(skip * window));
    const result = await model.compare(dense, text, { window, maxTokens: windows * window });
    rows.push({ model: path, megabytes: bytes.total / 1e6, bitsPerWeight, text: file, ...result });
    const { divergence, topAgreement, perplexity, referencePerplexity } = result;
    const cells = [basename(path), (bytes.total / 1e6).toFixed(1), bitsPerWeight.toFixed(3), basename(file), divergence.toFixed(4),
      `${(100 * topAgreement).toFixed(1)} %`, perplexity.toFixed(2), (perplexity / referencePerplexity).toFixed(3)];
    process.stdout.write(`| ${cells.join(' | ')} |\n`);
  }
  await model.close();
}
await dense.close();
if (values.out !== undefined) await writeFile(values.out, `${JSON.stringify({ dense: values.dense, windows, window, skip, rows }, null, 1)}\n`);
