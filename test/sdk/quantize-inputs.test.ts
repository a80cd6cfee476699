// What checkpoints and options can bring: odd sizes, types and shards, dead inputs, zeros, values that are not finite.
import { readFile, readdir, stat, writeFile } from 'node:fs/promises';
import t from 'tap';
import { inspectModel, loadModel, quantizeModel, type QuantizeOptions } from '../../sdk/src/index.js';
import { shiftadd } from './cli-process.js';
import { byteTokenizer, copyOf, join, llamaOdd, temporaryFolder } from './fixtures.js';
import { tinyLlama, type TinyLlama } from './tiny-llama.js';

const quick: QuantizeOptions = { samples: 2, window: 64, fitRounds: 2, refits: 1, sweeps: 1 };
const text = 'Once upon a time, there was a little girl named Lily. She loved to play outside in the park. '.repeat(8);

async function calibrationFile(t: any, content = text): Promise<string> {
  const path = join(await temporaryFolder(t), 'text.txt');
  await writeFile(path, content);
  return path;
}

async function quantize(t: any, folder: string, options: QuantizeOptions = {}) {
  const out = join(await temporaryFolder(t), 'packed');
  const calibration = options.calibration ?? (await calibrationFile(t));
  return quantizeModel(folder, out, { ...quick, ...options, calibration });
}

/** Every weight file of a folder, by name. */
async function weightFiles(folder: string): Promise<[string, string][]> {
  const names = (await readdir(folder)).filter((name) => name.endsWith('.safetensors')).sort();
  return Promise.all(names.map(async (name): Promise<[string, string]> => [name, (await readFile(join(folder, name))).toString('base64')]));
}

/** The packed matrices: checksums without those of the norms, which keep their type. */
async function matrices(folder: string): Promise<object> {
  const { checksums } = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')).quantization_config;
  return Object.fromEntries(Object.entries(checksums).filter(([name]) => !name.includes('norm')));
}

const finite = async (folder: string) => {
  const model = await loadModel(folder);
  const { perplexity } = await model.evaluate(text, { window: 32, maxTokens: 64 });
  await model.close();
  return Number.isFinite(perplexity);
};

t.test('Q1: dead inputs, equal columns and few tokens finish, and the result says which tensors', async (t) => {
  const edit: TinyLlama['edit'] = (name, values) => {
    if (name === 'model.layers.0.input_layernorm.weight') values[3] = 0;
    if (name === 'model.embed_tokens.weight') for (let i = 0; i < values.length; i += 64) values[i + 9] = values[i + 8]!;
  };
  const folder = await tinyLlama(t, { hidden: 64, heads: 4, keyHeads: 2, intermediate: 96, edit });
  const cases: [string, string, QuantizeOptions][] = [
    ['rank 8 of 64', 'Eight ch', { samples: 1, window: 8 }],
    ['2,000 times the same token', 'a'.repeat(2000), {}],
    ['no damping', text, { damping: 0 }],
    ['no damping and rank 1', 'a'.repeat(2000), { damping: 0 }],
  ];
  for (const [what, content, options] of cases) {
    const file = await calibrationFile(t, content);
    t.ok(await finite((await quantize(t, folder, { ...options, calibration: file })).path), `${what}, rotated`);
    const result = await quantize(t, folder, { ...options, calibration: file, rotation: 'off' }); // dead inputs stay apart
    const dead = result.tensors.filter((tensor) => tensor.deadColumns > 0).map((tensor) => tensor.name);
    for (const part of ['q', 'k', 'v']) t.ok(dead.includes(`model.layers.0.self_attn.${part}_proj.weight`), `${what}: ${part}`);
    t.notOk(dead.includes('model.layers.0.self_attn.o_proj.weight'), what);
    t.ok(result.tensors.every((tensor) => Number.isFinite(tensor.weightError) && Number.isFinite(tensor.outputError)), what);
    t.ok(result.tensors.every((tensor) => tensor.plainFit || tensor.damping > 0 || options.damping === 0), what);
    const plain = result.tensors.filter((tensor) => tensor.plainFit);
    const warned = result.warnings.filter((warning) => warning.includes('fitted without calibration'));
    t.equal(warned.length, plain.length, `${what}: a warning for each plain fit`);
    t.ok(plain.every(({ name }, i) => warned[i]!.startsWith(name)));
    t.ok(await finite(result.path), what);
  }
});

t.test('Q1: inputs that are all zero give a plain fit with a warning; an embedding without a head needs none', async (t) => {
  const edit: TinyLlama['edit'] = (name, values) => {
    if (name === 'model.layers.1.post_attention_layernorm.weight') values.fill(0);
  };
  const result = await quantize(t, await tinyLlama(t, { tied: false, edit }), { rotation: 'off' });
  const plain = result.tensors.filter((tensor) => tensor.plainFit).map((tensor) => tensor.name);
  t.same(plain, [
    'model.layers.1.mlp.gate_proj.weight',
    'model.layers.1.mlp.up_proj.weight',
    'model.layers.1.mlp.down_proj.weight',
    'model.embed_tokens.weight',
  ]);
  const warned = result.warnings.filter((warning) => warning.includes('fitted without calibration'));
  t.same(warned.map((warning) => warning.split(' ')[0]), plain.slice(0, 3));
});

t.test('Q1: matrices and rows of zeros are packed', async (t) => {
  const edit: TinyLlama['edit'] = (name, values) => {
    if (name === 'model.layers.0.self_attn.v_proj.weight') values.fill(0);
    if (name === 'model.layers.1.mlp.up_proj.weight') values.fill(0, 0, 20);
  };
  for (const options of [{}, { rowScales: false }, { mode: 'acc' }] as QuantizeOptions[]) {
    const result = await quantize(t, await tinyLlama(t, { edit }), options);
    const zeros = result.tensors.find(({ name }) => name === 'model.layers.0.self_attn.v_proj.weight')!;
    t.match(zeros, { weightError: 0, outputError: 0 });
    t.ok(await finite(result.path), JSON.stringify(options));
  }
});

t.test('values that are not finite are refused with the tensor and the place', async (t) => {
  for (const dtype of ['F32', 'F16', 'BF16'] as const) {
    for (const [value, word] of [[NaN, 'NaN'], [-Infinity, 'an infinite value']] as const) {
      const edit: TinyLlama['edit'] = (name, values) => {
        if (name === 'model.layers.1.mlp.down_proj.weight') values[3 * 27 + 5] = value;
      };
      await t.rejects(quantize(t, await tinyLlama(t, { dtype, edit })), {
        code: 'ERR_NON_FINITE',
        message: new RegExp(`^Tensor model\\.layers\\.1\\.mlp\\.down_proj\\.weight in .*model\\.safetensors has ${word} at row 3, column 5\\. .*bf16`),
      });
    }
  }
  const norm: TinyLlama['edit'] = (name, values) => {
    if (name === 'model.norm.weight') values[7] = NaN;
  };
  await t.rejects(quantize(t, await tinyLlama(t, { shards: 3, edit: norm })), {
    code: 'ERR_NON_FINITE',
    message: /^Tensor model\.norm\.weight in .*of-3\.safetensors has NaN at place 7\./,
  });
  const overflow: TinyLlama['edit'] = (name, values) => {
    if (name === 'model.layers.1.input_layernorm.weight') values.fill(2e38);
  };
  const large = /weight: a weight is not finite or too large for fp16 after the rotation; leave the rotation off/;
  await t.rejects(quantize(t, await tinyLlama(t, { edit: overflow })), { code: 'ERR_NON_FINITE', message: large });
  await t.rejects(quantize(t, await tinyLlama(t, { edit: overflow }), { rotation: 'off' }), {
    code: 'ERR_NON_FINITE',
    message: /model\.layers\.1\.self_attn\.q_proj\.weight: the activations before it overflow/,
  });
  const huge: TinyLlama['edit'] = (name, values) => {
    if (name === 'model.layers.0.self_attn.k_proj.weight') values[21] = 1e18;
  };
  await t.rejects(quantize(t, await tinyLlama(t, { edit: huge })), { message: large });
  await t.rejects(quantize(t, await tinyLlama(t, { edit: huge }), { rotation: 'off' }), {
    code: 'ERR_BAD_MODEL_FILE',
    message: /model\.layers\.0\.self_attn\.k_proj\.weight: .* above 2\^52.* row 1, column 1/,
  });
});

t.test('Q3: group sizes', async (t) => {
  const folder = await copyOf(t, llamaOdd); // 72 and 100 columns
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(byteTokenizer()));
  for (const rowGroup of [-1, 0, 1.5, 2 ** 20 + 1])
    await t.rejects(quantize(t, folder, { rowGroup }), { name: 'RangeError', message: /integer from 1 to 1048576 for rowGroup/ });
  let smallest = 0;
  for (const rowGroup of [1, 7, 8, 24, 32, 64, 128, 2 ** 20]) {
    const result = await quantize(t, folder, { rowGroup });
    t.ok(await finite(result.path), `group of ${rowGroup}`);
    const inspected = await inspectModel(result.path);
    t.equal(inspected.bitsPerWeight, result.bitsPerWeight);
    t.equal(inspected.bytes.total, result.bytes.total, 'file bytes are reported bytes');
    const [file] = (await readdir(result.path)).filter((name) => name.endsWith('.safetensors'));
    const { size } = await stat(join(result.path, file!));
    t.ok(size >= result.bytes.total && size < result.bytes.total + 16384, 'and nothing else but a header');
    const error = result.tensors.reduce((sum, tensor) => sum + tensor.weightError, 0);
    t.ok(error > smallest * 0.98, `the error grows with the group: ${error}`);
    smallest = Math.max(error, smallest);
  }
  const usage = await shiftadd(['quantize', 'a', 'b', '--row-group', '0']);
  t.equal(usage.status, 2);
  t.match(usage.notes, /--row-group expects an integer from 1 to 1048576 but received 0/);
});

t.test('Q3: widths that are no multiple of 8, 16 or 32', async (t) => {
  const sizes: TinyLlama[] = [
    { hidden: 20, intermediate: 27 },
    { hidden: 6, heads: 1, intermediate: 3, vocabulary: 256 },
    { hidden: 36, heads: 3, keyHeads: 3, intermediate: 50, vocabulary: 301, tied: false },
    { hidden: 68, heads: 2, intermediate: 129, layers: 1 },
  ];
  for (const size of sizes) {
    for (const mode of ['lat', 'acc'] as const) {
      const result = await quantize(t, await tinyLlama(t, size), { mode, bits: 5 });
      t.ok(await finite(result.path), `${JSON.stringify(size)} ${mode}`);
      t.ok(result.tensors.every((tensor) => tensor.weightError < 0.02), 'every matrix has the planes that were asked for');
      t.ok(result.tensors.every((tensor) => tensor.planes === (tensor.name.includes('layers') ? 5 : 6)));
    }
  }
});

t.test('the same bytes for 1, 2 and 3 threads', async (t) => {
  const folder = await tinyLlama(t, { hidden: 68, intermediate: 129, tied: false });
  const calibration = await calibrationFile(t);
  const [one, ...others] = await Promise.all(
    [1, 2, 3].map(async (threads) => weightFiles((await quantize(t, folder, { threads, calibration })).path)),
  );
  for (const other of others) t.same(other, one);
});

t.test('fp32, fp16 and bf16 copies give the same matrices; shards give the same bytes as one file', async (t) => {
  const calibration = await calibrationFile(t);
  const size: TinyLlama = { hidden: 36, heads: 3, intermediate: 50, tied: false };
  const pack = async (more: TinyLlama) => (await quantize(t, await tinyLlama(t, { ...size, ...more }), { calibration })).path;
  const whole = await pack({ dtype: 'F32' });
  for (const dtype of ['F16', 'BF16'] as const) t.same(await matrices(await pack({ dtype })), await matrices(whole), dtype);
  for (const shards of [2, 5]) t.same(await weightFiles(await pack({ dtype: 'F32', shards })), await weightFiles(whole), `${shards} shards`);
});
