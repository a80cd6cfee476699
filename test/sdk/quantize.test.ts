// The whole path: quantize, inspect, load, generate, evaluate; and bad output and packed files.
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import t from 'tap';
import { inspectModel, loadModel, quantizeModel, type QuantizeOptions } from '../../sdk/src/index.js';
import { byteTokenizer, copyOf, editJson, join, llamaOdd, patchTensor, stories, temporaryFolder } from './fixtures.js';

const quick: QuantizeOptions = { samples: 4, window: 64, fitRounds: 2, refits: 1, sweeps: 1 };
const prompt = 'Once upon a time, there was a little girl named Lily.';

const story = await (async () => {
  const model = await loadModel(stories);
  const parts = await Promise.all(
    [1, 2, 3, 4].map((seed) => model.generate('Once upon a time', { temperature: 0.9, seed, maxTokens: 250 }).text()),
  );
  await model.close();
  return parts.map((part) => `Once upon a time${part}\n`).join('');
})();

async function calibrationFile(t: any, text = story, name = 'text.txt'): Promise<string> {
  const path = join(await temporaryFolder(t), name);
  await writeFile(path, text);
  return path;
}

async function quantized(t: any, options: QuantizeOptions = {}): Promise<string> {
  const out = join(await temporaryFolder(t), 'packed');
  await quantizeModel(stories, out, { ...quick, calibration: await calibrationFile(t), ...options });
  return out;
}

t.test('quantize, inspect, load, run', async (t) => {
  const parent = await temporaryFolder(t);
  const out = join(parent, 'packed');
  const calibration = await calibrationFile(t);
  const phases = new Set<string>();
  let done = 0;
  const result = await quantizeModel(stories, out, {
    ...quick,
    calibration,
    overrides: { k_proj: 5, 'layers.1.mlp': 3 },
    maxShardBytes: 20_000,
    onProgress: (progress) => {
      phases.add(progress.phase);
      t.ok(progress.done >= done && progress.done <= 1);
      done = progress.done;
    },
  });
  t.same([...phases], ['calibrate', 'rotate', 'quantize', 'write']);
  t.equal(done, 1);
  t.same(await readdir(parent), ['packed']);

  const files = (await readdir(out)).filter((name) => name.endsWith('.safetensors'));
  t.ok(files.length > 1);
  // The embedding alone is larger: it has a file of its own.
  const large = [];
  for (const name of files) if ((await stat(join(out, name))).size > 20_000) large.push(name);
  t.equal(large.length, 1);
  const { weight_map } = JSON.parse(await readFile(join(out, 'model.safetensors.index.json'), 'utf8'));
  for (const [name, file] of Object.entries(weight_map))
    t.equal(name.startsWith('model.embed_tokens.'), file === large[0], name);

  const inspected = await inspectModel(out);
  t.equal(inspected.bitsPerWeight, result.bitsPerWeight);
  t.equal(inspected.bytes.total, result.bytes.total);
  t.ok(result.bitsPerWeight > 4 && result.bitsPerWeight < 5);
  const planes = (name: string) => inspected.tensors.find((tensor) => tensor.name.includes(name))!.planes;
  t.same(['layers.0.self_attn.k_proj', 'layers.1.mlp.up', 'layers.0.mlp.up', 'embed_tokens'].map(planes), [5, 3, 4, 6]);
  t.equal(inspected.tensors.find((tensor) => tensor.name === 'model.norm.weight')!.type, 'F16');
  t.equal(result.tensors.length, 5 * 7 + 1);
  t.ok(result.tensors.every((tensor) => tensor.outputError >= 0 && tensor.outputError < 0.2));

  const phasesOfLoad = new Set<string>();
  const model = await loadModel(out, { onProgress: (progress) => phasesOfLoad.add(progress.phase) });
  t.teardown(() => model.close());
  t.same([...phasesOfLoad], ['open', 'verify', 'load']);
  t.match(model.info, { packed: true, bitsPerWeight: result.bitsPerWeight });
  t.match(await model.generate(prompt, { maxTokens: 3 }).text(), / \w+/);

  const dense = await loadModel(stories);
  t.teardown(() => dense.close());
  const options = { window: 64, maxTokens: 640 };
  const [ours, theirs] = [await model.evaluate(story, options), await dense.evaluate(story, options)];
  t.ok(ours.perplexity < theirs.perplexity * 1.5, `${ours.perplexity} against ${theirs.perplexity}`);
  t.match(ours, { windows: 10, window: 64, predictedTokens: 630, tokens: 640 });
});

t.test('evaluate', async (t) => {
  const model = await loadModel(stories);
  t.teardown(() => model.close());
  const short = await model.evaluate('Once upon a time');
  t.match(short, { windows: 1, window: short.tokens, predictedTokens: short.tokens - 1 });
  await t.rejects(model.evaluate(''), RangeError);
  await t.rejects(model.evaluate(5 as any), TypeError);
  await t.rejects(model.evaluate(story, { window: 513 }), { code: 'ERR_CONTEXT_OVERFLOW', message: /513.*512/ });
  t.equal(
    await model.evaluate(story, { window: 32, signal: AbortSignal.abort('no') }).catch((reason: unknown) => reason),
    'no',
  );
  const controller = new AbortController();
  const stopped = model.evaluate(story, {
    window: 32,
    signal: controller.signal,
    onProgress: ({ done }) => done === 2 && controller.abort('enough'),
  });
  t.equal(await stopped.catch((reason: unknown) => reason), 'enough');
});

t.test('odd sizes and column-wise groups', async (t) => {
  const folder = await copyOf(t, llamaOdd);
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(byteTokenizer()));
  const calibration = await calibrationFile(t);
  for (const options of [
    { mode: 'acc', bits: 3 },
    { rowGroup: 1 },
    { rowGroup: 7, rowScales: false },
    { bits: 8, embeddingBits: 1 },
  ] as const) {
    const out = join(await temporaryFolder(t), 'packed');
    const result = await quantizeModel(folder, out, { ...quick, calibration, ...options });
    const model = await loadModel(out);
    t.equal(
      (await model.generate([1, 2, 3], { maxTokens: 2 }).result()).usage.promptTokens,
      3,
      JSON.stringify(options),
    );
    t.equal(model.info.bitsPerWeight, result.bitsPerWeight);
    await model.close();
  }
});

t.test('output folder, overrides, abort', async (t) => {
  const calibration = await calibrationFile(t);
  const parent = await temporaryFolder(t);
  const out = join(parent, 'packed');
  await quantizeModel(stories, out, { ...quick, calibration });
  const before = await readFile(join(out, 'config.json'), 'utf8');
  await t.rejects(quantizeModel(stories, out, { ...quick, calibration }), { code: 'ERR_OUTPUT_EXISTS' });
  await t.rejects(quantizeModel(stories, parent, { ...quick, calibration, overwrite: true }), {
    code: 'ERR_OUTPUT_EXISTS',
    message: /not a model folder/,
  });
  await t.rejects(quantizeModel(stories, stories, { ...quick, calibration, overwrite: true }), {
    code: 'ERR_OUTPUT_EXISTS',
    message: /checkpoint itself/,
  });
  await t.rejects(quantizeModel(out, `${out}2`, { ...quick, calibration }), {
    code: 'ERR_UNSUPPORTED_MODEL',
    message: /packed already/,
  });
  await t.rejects(
    quantizeModel(stories, `${out}2`, { ...quick, calibration, overrides: { q_pro: 5 } }),
    /Did you mean 'q_proj'/,
  );
  await t.rejects(quantizeModel(stories, `${out}2`, { ...quick, calibration, overrides: { q_proj: 9 } }), RangeError);
  await t.rejects(quantizeModel(stories, `${out}2`, { ...quick, calibration, rowGroup: 0 }), RangeError);

  const controller = new AbortController();
  const job = quantizeModel(stories, out, {
    ...quick,
    calibration,
    overwrite: true,
    signal: controller.signal,
    onProgress: ({ block }) => block === 3 && controller.abort('enough'),
  });
  t.equal(await job.catch((reason: unknown) => reason), 'enough');
  t.same(await readdir(parent), ['packed', 'packed.partial'], 'the finished layers stay for resume');
  t.equal(await readFile(join(out, 'config.json'), 'utf8'), before, 'the old folder is untouched');
  await quantizeModel(stories, out, { ...quick, calibration, overwrite: true, bits: 3 });
  t.same(await readdir(parent), ['packed']);
  t.equal((await inspectModel(out)).tensors[2]!.planes, 3);
});

t.test('damaged packed folders', async (t) => {
  const good = await quantized(t);
  const name = 'model.layers.0.self_attn.q_proj.weight';
  const damaged = async (edit: (folder: string) => Promise<void>) => {
    const folder = await copyOf(t, good);
    await edit(folder);
    return loadModel(folder);
  };
  const config = (edit: (quantization: any) => void) => (folder: string) =>
    editJson(join(folder, 'config.json'), (value) => edit(value.quantization_config));
  const bad = (message: RegExp) => ({ code: 'ERR_BAD_MODEL_FILE', message });

  const flip = async (folder: string) =>
    patchTensor(join(folder, 'model.safetensors'), `${name}.planes`, 5, Uint8Array.of(0xa5));
  await t.rejects(damaged(flip), { code: 'ERR_CHECKSUM', message: /q_proj\.weight\.planes/ });
  const norm = async (folder: string) =>
    patchTensor(join(folder, 'model.safetensors'), 'model.norm.weight', 0, Uint8Array.of(1, 1));
  await t.rejects(damaged(norm), { code: 'ERR_CHECKSUM', message: /model\.norm\.weight/ });
  const folder = await copyOf(t, good);
  await flip(folder);
  await (await loadModel(folder, { verify: false })).close();

  for (const [edit, message] of [
    [(q: any) => (q.quant_method = 'gptq'), /quant_method is 'gptq'/],
    [(q: any) => (q.format_version = 3), /format_version is 3/],
    [(q: any) => delete q.rotation, /rotation must be an object/],
    [(q: any) => (q.rotation.size = 0), /rotation\.size is 0/],
    [(q: any) => (q.rotation.signs += '00'), /rotation\.signs/],
    [(q: any) => (q.rotation.signs = q.rotation.signs.toUpperCase().replace(/^../, 'G0')), /rotation\.signs/],
    [(q: any) => (q.rotation.size = 9), /rotation\.matrix/],
    [(q: any) => Object.assign(q.rotation, { size: 2, matrix: 'f0' }), /not orthogonal/],
    [(q: any) => (q.mode = 'x'), /mode is 'x'/],
    [(q: any) => (q.scale_encoding = 'x'), /scale_encoding/],
    [(q: any) => (q.row_group = 0), /row_group is 0/],
    [(q: any) => (q.tensors = []), /tensors must be an object/],
    [(q: any) => (q.tensors[name].planes = 9), /q_proj\.weight'\]\.planes is 9/],
    [
      (q: any) => (q.tensors[name].planes = 3),
      /q_proj\.weight\.planes is U8 \[\d+\] but quantization_config asks for U8 \[\d+\]/,
    ],
    [(q: any) => (q.tensors[name].group_columns = 4), /group_columns is 4/],
    [(q: any) => (q.tensors[name].group_columns = 1), /q_proj\.weight\.scales is U16/],
    [(q: any) => (q.tensors[name].rows = 32), /q_proj/],
    [(q: any) => (q.tensors[name].scale_exponent = 'x'), /scale_exponent/],
    [(q: any) => delete q.tensors[name], /q_proj\.weight\.planes is not listed/],
    [(q: any) => (q.tensors.odd = q.tensors[name]), /odd\.planes is in no safetensors file/],
    [
      (q: any) => delete q.checksums[`${name}.scales`],
      /no entry for tensor model\.layers\.0\.self_attn\.q_proj\.weight\.scales/,
    ],
    [(q: any) => (q.checksums.odd = q.checksums[`${name}.scales`]), /names the tensor odd/],
    [(q: any) => (q.checksums[`${name}.scales`] = 'x'), /not a SHA-256/],
  ] as const) {
    await t.rejects(damaged(config(edit)), bad(message), String(message));
  }
  await t.rejects(
    damaged((folder) => editJson(join(folder, 'config.json'), (value) => (value.hidden_size = 72))),
    bad(/rotation\.signs must have one bit per hidden number/),
  );
});
