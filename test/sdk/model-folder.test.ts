// Field reports C1, C2 and C3, shards, and agreement of the fixtures with their expected logits.
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import t from 'tap';
import { openModelFolder } from '../../sdk/src/checkpoint/model-folder.js';
import { readSafetensors } from '../../sdk/src/checkpoint/safetensors.js';
import { writeSafetensors, type TensorToWrite } from '../../sdk/src/checkpoint/safetensors-writer.js';
import { loadNativeEngine } from '../../sdk/src/engine-native.js';
import { describeFamily } from '../../sdk/src/families/index.js';
import { buildModelSpec } from '../../sdk/src/model-spec.js';
import { inspectModel, loadModel } from '../../sdk/src/index.js';
import { copyOf, editJson, join, llama, llamaOdd, readNumbers, stories } from './fixtures.js';

async function open(path: string) {
  const folder = await openModelFolder(path);
  return buildModelSpec(folder, describeFamily(folder.config, folder.configPath));
}

/** Logits of the last position after the first 48 ids of the fixture. */
async function lastLogits(path: string, fixture: string): Promise<number[]> {
  const ids = (await readNumbers(join(fixture, 'expected.safetensors'), 'input_ids')).slice(0, 48);
  const spec = await open(path);
  const model = await loadNativeEngine().openModel(spec.numbers, spec.paths, { threads: 1, precision: 'exact', kvCache: 'f32' });
  const session = await model.openSession(64);
  await session.prefill(Int32Array.from(ids));
  const logits = [...session.logits()];
  await model.close();
  return logits;
}

/** Writes the tensors of a file again, changed by `edit`, which may return any number of tensors for one. */
async function rewrite(
  path: string,
  edit: (tensor: TensorToWrite, data: Uint8Array) => TensorToWrite[],
): Promise<TensorToWrite[]> {
  const file = await readSafetensors(path);
  const bytes = await readFile(path);
  const tensors = [...file.tensors.values()].flatMap((entry) => {
    const data = Uint8Array.from(bytes.subarray(entry.offset, entry.offset + entry.bytes));
    return edit({ ...entry, data: () => [data] }, data);
  });
  await rm(path);
  await writeSafetensors(path, tensors);
  return tensors;
}

const largestDifference = (a: number[], b: number[]) => Math.max(...a.map((value, i) => Math.abs(value - b[i]!)));

t.test('logits of the fixtures', async (t) => {
  for (const fixture of [llama, llamaOdd]) {
    const expected = (await readNumbers(join(fixture, 'expected.safetensors'), 'logits')).slice(47 * 256, 48 * 256);
    t.ok(largestDifference(await lastLogits(fixture, fixture), expected) < 1e-3, fixture);
  }
});

t.test('C1: tied and untied heads', async (t) => {
  const straight = await lastLogits(llamaOdd, llamaOdd);
  const copied = await copyOf(t, llamaOdd);
  await rewrite(join(copied, 'model.safetensors'), (tensor) =>
    tensor.name === 'model.embed_tokens.weight' ? [tensor, { ...tensor, name: 'lm_head.weight' }] : [tensor],
  );
  t.same(await lastLogits(copied, llamaOdd), straight, 'a second copy of a tied head is not used');
  t.equal((await inspectModel(copied)).bytes.total, (await inspectModel(llamaOdd)).bytes.total);

  const missing = { code: 'ERR_BAD_MODEL_FILE', message: /tensor lm_head\.weight is missing/ };
  const headless = await copyOf(t, llama);
  await rewrite(join(headless, 'model.safetensors'), (tensor) => (tensor.name === 'lm_head.weight' ? [] : [tensor]));
  await t.rejects(open(headless), missing);
  const unsaid = await copyOf(t, llamaOdd);
  await editJson(join(unsaid, 'config.json'), (config) => delete config.tie_word_embeddings);
  await t.rejects(open(unsaid), missing);
});

t.test('C2: rotary settings', async (t) => {
  const folder = await copyOf(t, llama);
  const config = join(folder, 'config.json');
  const straight = [...(await open(llama)).numbers];
  const set = (edit: (config: any) => void) =>
    editJson(config, (value) => {
      delete value.rope_parameters;
      delete value.rope_theta;
      delete value.rope_scaling;
      edit(value);
    });
  for (const scaling of [null, {}, undefined, { rope_type: 'default' }, { type: 'default' }]) {
    await set((value) => Object.assign(value, { rope_theta: 10000, rope_scaling: scaling }));
    t.same([...(await open(folder)).numbers], straight, JSON.stringify(scaling));
  }
  await set((value) => (value.rope_scaling = { type: 'wizard', factor: 2 }));
  await t.rejects(open(folder), { code: 'ERR_UNSUPPORTED_MODEL', message: /rope_scaling\.rope_type is 'wizard'/ });
  await set((value) => (value.rope_parameters = { rope_type: 'default', rope_theta: 10000, factor: 2 }));
  await t.rejects(open(folder), { code: 'ERR_UNSUPPORTED_MODEL', message: /rope_parameters\.factor/ });
});

t.test('C3: head sizes', async (t) => {
  const straight = [...(await open(llama)).numbers];
  const folder = await copyOf(t, llama);
  const config = join(folder, 'config.json');
  for (const edit of [(value: any) => delete value.head_dim, (value: any) => (value.head_dim = null)]) {
    await editJson(config, edit);
    t.same([...(await open(folder)).numbers], straight);
  }
  await editJson(config, (value) => (value.head_dim = 32));
  await t.rejects(open(folder), {
    code: 'ERR_BAD_MODEL_FILE',
    message: /self_attn\.q_proj\.weight has shape \[64, 64\] but config\.json gives \[128, 64\]/,
  });

  const repeated = await copyOf(t, llama);
  await rewrite(join(repeated, 'model.safetensors'), (tensor, data) => {
    if (!/[kv]_proj/.test(tensor.name)) return [tensor];
    const half = data.length / 2;
    const parts = [data.subarray(0, half), data.subarray(0, half), data.subarray(half), data.subarray(half)];
    return [{ ...tensor, shape: [tensor.shape[0]! * 2, tensor.shape[1]!], bytes: tensor.bytes * 2, data: () => parts }];
  });
  const expected = await lastLogits(llama, llama);
  for (const heads of [undefined, null, 4]) {
    await editJson(join(repeated, 'config.json'), (value) => (value.num_key_value_heads = heads));
    t.ok(largestDifference(await lastLogits(repeated, llama), expected) < 1e-5, String(heads));
  }
});

t.test('what this version cannot run is named', async (t) => {
  const folder = await copyOf(t, llama);
  const config = join(folder, 'config.json');
  const original = await readFile(config, 'utf8');
  for (const [field, value, code] of [
    ['model_type', 'mamba', 'ERR_UNSUPPORTED_MODEL'],
    ['model_type', undefined, 'ERR_UNSUPPORTED_MODEL'],
    ['hidden_act', 'gelu', 'ERR_UNSUPPORTED_MODEL'],
    ['logit_scale', 0.5, 'ERR_UNSUPPORTED_MODEL'],
    ['sliding_window', 64, 'ERR_UNSUPPORTED_MODEL'],
    ['hidden_size', '64', 'ERR_BAD_MODEL_FILE'],
    ['num_hidden_layers', 0, 'ERR_BAD_MODEL_FILE'],
    ['num_key_value_heads', 3, 'ERR_BAD_MODEL_FILE'],
    ['rms_norm_eps', -1, 'ERR_BAD_MODEL_FILE'],
    ['tie_word_embeddings', 'no', 'ERR_BAD_MODEL_FILE'],
  ] as const) {
    await writeFile(config, original);
    await editJson(config, (object) => (object[field] = value));
    await t.rejects(open(folder), { code, message: new RegExp(field) }, `${field} ${value}`);
  }
  for (const [field, tensor] of [
    ['attention_bias', 'self_attn.q_proj.bias'],
    ['mlp_bias', 'mlp.gate_proj.bias'],
  ] as const) {
    await writeFile(config, original);
    await editJson(config, (object) => (object[field] = true));
    await t.rejects(open(folder), { code: 'ERR_BAD_MODEL_FILE', message: new RegExp(`${tensor} is missing`) });
  }
  await writeFile(config, original);
  const weights = join(folder, 'model.safetensors');
  const extra = await rewrite(weights, (tensor) =>
    tensor.name === 'model.norm.weight'
      ? [tensor, { ...tensor, name: 'model.layers.0.self_attn.rotary_emb.inv_freq' }, { ...tensor, name: 'model.odd' }]
      : [tensor],
  );
  t.ok(extra.length > 0);
  await t.rejects(open(folder), { code: 'ERR_UNSUPPORTED_MODEL', message: /tensor model\.odd \(F16\) has no place/ });
  await rewrite(weights, (tensor) => (tensor.name === 'model.odd' ? [] : [tensor]));
  await open(folder);
  await rewrite(weights, (tensor) =>
    tensor.name.endsWith('q_proj.weight') ? [{ ...tensor, dtype: 'I16' }] : [tensor],
  );
  await t.rejects(open(folder), { code: 'ERR_UNSUPPORTED_MODEL', message: /q_proj\.weight is I16/ });
  // L6: types that would have to be scaled or mean something else.
  for (const dtype of ['F8_E4M3', 'I8', 'BOOL', 'F64']) {
    const other = await copyOf(t, llama);
    const file = join(other, 'model.safetensors');
    await rewrite(file, (tensor, data) => {
      if (tensor.name !== 'model.layers.1.mlp.up_proj.weight') return [tensor];
      const bytes = dtype === 'F64' ? data.length * 4 : data.length / 2;
      return [{ ...tensor, dtype, bytes, data: () => [new Uint8Array(bytes)] }];
    });
    await t.rejects(open(other), { code: 'ERR_UNSUPPORTED_MODEL', message: new RegExp(`layers\\.1\\.mlp\\.up_proj\\.weight is ${dtype}`) });
    await rewrite(file, (tensor) => [{ ...tensor, ...(tensor.name.includes('up_proj') ? { name: `${tensor.name}_scale_inv` } : {}) }]);
    await t.rejects(open(other), { code: /ERR_(UNSUPPORTED_MODEL|BAD_MODEL_FILE)/ });
  }
});

t.test('shards', async (t) => {
  const folder = await copyOf(t, llama);
  const whole = join(folder, 'model.safetensors');
  const bytes = await readFile(whole);
  const entries = [...(await readSafetensors(whole)).tensors.values()];
  const index = join(folder, 'model.safetensors.index.json');
  const map: Record<string, string> = {};
  await rm(whole);
  for (const [name, part] of [
    ['a.safetensors', entries.slice(0, 5)],
    ['b.safetensors', entries.slice(5)],
  ] as const) {
    await writeSafetensors(
      join(folder, name),
      part.map((entry) => ({ ...entry, data: () => [bytes.subarray(entry.offset, entry.offset + entry.bytes)] })),
    );
    for (const entry of part) map[entry.name] = name;
  }
  const write = (weightMap: object) => writeFile(index, JSON.stringify({ metadata: {}, weight_map: weightMap }));
  await write(map);
  t.same(await lastLogits(folder, llama), await lastLogits(llama, llama));
  const first = entries[0]!.name;
  for (const [change, message] of [
    [{ [first]: 'b.safetensors' }, /into 'b\.safetensors', but it is in a\.safetensors/],
    [{ extra: 'a.safetensors' }, /extra into 'a\.safetensors', but it is not there/],
    [{ [first]: undefined }, /nowhere, but it is in a\.safetensors/],
    [{ [first]: '../a.safetensors' }, /not the name of a file in this folder/],
    [{ [first]: 5 }, /not the name of a file/],
  ] as const) {
    await write({ ...map, ...change });
    await t.rejects(open(folder), { code: 'ERR_BAD_MODEL_FILE', message }, String(message));
  }
  await write({ ...map, extra: 'c.safetensors' });
  await t.rejects(open(folder), { code: 'ERR_NOT_FOUND', message: /c\.safetensors/ });
});

t.test('added tokens without a row in the embedding are left out', async (t) => {
  const folder = await copyOf(t, stories);
  await editJson(join(folder, 'tokenizer.json'), (tokenizer) => tokenizer.added_tokens.push({ id: 512, content: '<image>', special: true, normalized: false }));
  await using model = await loadModel(folder);
  t.notOk(model.tokenizer.encode('<image>').includes(512));
});

t.test('other kinds of tokenizers', async (t) => {
  const folder = await copyOf(t, stories);
  await rm(join(folder, 'tokenizer.json'));
  await writeFile(join(folder, 'tokenizer.model'), 'x');
  await t.rejects(loadModel(folder), { code: 'ERR_NOT_FOUND', message: /has tokenizer\.model alone; convert it: python3 -c/ });
});

t.test('missing files are named', async (t) => {
  await t.rejects(loadModel('no-such-model'), {
    code: 'ERR_NOT_FOUND',
    message: /no-such-model.*models.*@shiftadd\/no-such-model/,
  });
  await t.rejects(loadModel('./no/such/folder'), { code: 'ERR_NOT_FOUND' });
  await t.rejects(loadModel(5 as any), TypeError);
  const folder = await copyOf(t, stories);
  await rm(join(folder, 'tokenizer.json'));
  await t.rejects(loadModel(folder), { code: 'ERR_NOT_FOUND', message: /tokenizer\.json/ });
  await rm(join(folder, 'model.safetensors'));
  await t.rejects(loadModel(folder), { code: 'ERR_NOT_FOUND', message: /has none of model\.safetensors/ });
  await writeFile(join(folder, 'config.json'), '[]');
  await t.rejects(loadModel(folder), { code: 'ERR_BAD_MODEL_FILE', message: /config\.json must hold a JSON object/ });
  await rm(join(folder, 'config.json'));
  await mkdir(join(folder, 'config.json'));
  await t.rejects(loadModel(folder), { code: 'ERR_NOT_FOUND', message: /config\.json.*folder/ });
  const url = new URL(`file://${stories}`);
  const model = await loadModel(url);
  t.equal(model.info.name, 'stories-260k');
  await model.close();
});
