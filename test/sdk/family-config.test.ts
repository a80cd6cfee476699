// Field reports C2 to C6: options of config.json that change the arithmetic.
import t from 'tap';
import { openModelFolder } from '../../sdk/src/checkpoint/model-folder.js';
import { withDenseModel } from '../../sdk/src/dense-model.js';
import { alibiSlopes } from '../../sdk/src/families/bloom.js';
import { describeFamily } from '../../sdk/src/families/index.js';
import { buildModelSpec } from '../../sdk/src/model-spec.js';
import { copyOf, editJson, families, join, readNumbers } from './fixtures.js';

async function described(path: string) {
  const folder = await openModelFolder(path);
  const family = describeFamily(folder.config, folder.configPath);
  return { folder, family, spec: buildModelSpec(folder, family) };
}

async function logitsOf(path: string, fixture: string): Promise<Float32Array> {
  const { folder, family } = await described(path);
  const tokens = Int32Array.from((await readNumbers(join(families, fixture, 'expected.safetensors'), 'input_ids')).slice(0, 48));
  return withDenseModel(folder, family, {}, 'Testing', async (model) => (await model.openSession(64)).prefillLogits(tokens));
}

const changed = (a: Float32Array, b: Float32Array): number => a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);

/** A copy of the fixture with an edited config.json. */
async function edited(t: any, fixture: string, edit: (config: any) => void): Promise<string> {
  const path = await copyOf(t, join(families, fixture));
  await editJson(join(path, 'config.json'), edit);
  return path;
}

t.test('C2: spellings of the rotary block', async (t) => {
  const same = async (fixture: string, edit: (config: any) => void): Promise<void> => {
    const straight = [...(await described(join(families, fixture))).spec.numbers];
    t.same([...(await described(await edited(t, fixture, edit))).spec.numbers], straight, fixture);
  };
  for (const key of ['rope_type', 'type'])
    await same('llama3', (config) => {
      const { rope_theta, rope_type, ...rest } = config.rope_parameters;
      delete config.rope_parameters;
      Object.assign(config, { rope_theta, rope_scaling: { [key]: rope_type, ...rest } });
    });
  await same('gptneox', (config) => {
    delete config.rope_parameters;
    Object.assign(config, { rotary_pct: 0.25, rotary_emb_base: 10000 });
  });
  await same('gemma3', (config) => {
    delete config.rope_parameters;
    Object.assign(config, { rope_theta: 1_000_000, rope_local_base_freq: 10_000 });
  });
  const broken = await edited(t, 'llama3', (config) => delete config.rope_parameters.factor);
  await t.rejects(described(broken), { code: 'ERR_UNSUPPORTED_MODEL', message: /rope_parameters\.factor/ });
});

t.test('C3: the head size of a family', async (t) => {
  const path = await edited(t, 'qwen3', (config) => delete config.head_dim);
  await t.rejects(described(path), {
    code: 'ERR_BAD_MODEL_FILE',
    message: /q_proj\.weight has shape \[128, 64\] but config\.json gives \[512, 64\]/,
  });
});

t.test('C5: epsilons', async (t) => {
  const straight = await logitsOf(join(families, 'gemma'), 'gemma');
  t.ok(changed(await logitsOf(await edited(t, 'gemma', (config) => (config.rms_norm_eps = 1e-2)), 'gemma'), straight) > 1e-2);
  t.same(await logitsOf(await edited(t, 'gemma', (config) => delete config.rms_norm_eps), 'gemma'), straight);
  const odd = join(families, 'llama-odd');
  t.same(await logitsOf(await edited(t, 'llama-odd', (config) => delete config.rms_norm_eps), 'llama-odd'), await logitsOf(odd, 'llama-odd'));
});

t.test('C6: soft caps and the scale of attention', async (t) => {
  const straight = await logitsOf(join(families, 'gemma2'), 'gemma2');
  const after = async (edit: (config: any) => void): Promise<Float32Array> => logitsOf(await edited(t, 'gemma2', edit), 'gemma2');
  t.ok(changed(await after((config) => (config.attn_logit_softcapping = 0.05)), straight) > 1e-3);
  const none = await after((config) => (config.attn_logit_softcapping = null));
  t.ok(changed(await after((config) => (config.attn_logit_softcapping = 1e9)), none) < 1e-2, 'no cap and a wide one');
  t.ok(changed(none, straight) > 0);
  const capped = await after((config) => (config.final_logit_softcapping = 0.25));
  t.ok(capped.every((logit) => Math.abs(logit) <= 0.25));
  t.ok(changed(await after((config) => (config.query_pre_attn_scalar = 64)), straight) > 1e-3);
  t.same(
    await after((config) => delete config.query_pre_attn_scalar),
    await after((config) => (config.query_pre_attn_scalar = 256)),
    'the default of the family',
  );
});

t.test('windows and layers', async (t) => {
  const windows = async (fixture: string, edit: (config: any) => void = () => undefined): Promise<number[][]> =>
    (await described(await edited(t, fixture, edit))).family.layerSpecs.map(({ window, rotary }) => [window, rotary]);
  t.same(await windows('mistral', (config) => (config.sliding_window = null)), [[0, 0], [0, 0]]);
  t.same(await windows('mistral', (config) => delete config.sliding_window), [[4096, 0], [4096, 0]]);
  t.same(await windows('gemma2', (config) => delete config.layer_types), [[16, 0], [0, 0]]);
  t.same(await windows('gemma3'), [[16, 1], [16, 1], [0, 0], [16, 1]]);
  t.same(await windows('gemma3', (config) => (delete config.layer_types, (config._sliding_window_pattern = 2))), [[16, 1], [0, 0], [16, 1], [0, 0]]);
  t.same(await windows('smollm3'), [[0, 0], [0, 0], [0, 0], [0, -1]]);
  t.same(await windows('smollm3', (config) => (delete config.no_rope_layers, (config.no_rope_layer_interval = 2))), [[0, 0], [0, -1], [0, 0], [0, -1]]);
  for (const [fixture, field, value] of [
    ['mistral', 'sliding_window', 1.5],
    ['gemma2', 'layer_types', ['full_attention']],
    ['gemma2', 'layer_types', ['full_attention', 'chunked_attention']],
    ['smollm3', 'no_rope_layers', [1, 1, 2, 1]],
    ['bloom', 'apply_residual_connection_post_layernorm', true],
    ['gpt2', 'scale_attn_by_inverse_layer_idx', true],
    ['opt', 'enable_bias', false],
    ['opt', 'activation_function', 'swish'],
    ['gemma', 'hidden_activation', 'silu'],
    ['phi3', 'residual_multiplier', 0.5],
  ] as const) {
    const path = await edited(t, fixture, (config) => (config[field] = value));
    await t.rejects(described(path), { code: /ERR_(UNSUPPORTED_MODEL|BAD_MODEL_FILE)/, message: new RegExp(field) }, `${fixture} ${field}`);
  }
});

t.test('fields of published configs that change nothing', async (t) => {
  for (const [fixture, fields] of [
    ['llama', { is_llama_config: true, rope_interleaved: false, 'transformers.js_config': { a: 1 }, pretraining_tp: 2, max_length: 4096, max_sequence_length: 2048 }],
    ['gemma2', { sliding_window_size: 16, cache_implementation: 'hybrid' }],
    ['gpt2', { n_special: 0, predict_special_tokens: true, n_ctx: 128, task_specific_params: {}, summary_use_proj: true }],
    ['bloom', { offset_alibi: 100, num_attention_heads: 4, seq_length: 2048, masked_softmax_fusion: true }],
    ['phi3', { full_attn_mod: 1, interpolate_factor: 1, auto_map: {}, lm_head_bias: false }],
    ['smollm3', { pretraining_tp: 2, max_window_layers: 28 }],
    ['opt', { prefix: '</s>', init_std: 0.02 }],
  ] as const)
    await described(await edited(t, fixture, (config) => Object.assign(config, fields)));
  await t.rejects(described(await edited(t, 'llama', (config) => (config.rope_interleaved = true))), { message: /rope_interleaved/ });
  const { family } = await described(await edited(t, 'smollm3', (config) => Object.assign(config, { use_sliding_window: true, sliding_window: 8, layer_types: null })));
  t.same(family.layerSpecs.map(({ window }) => window), [0, 0, 0, 8], 'windows where there is no rope');
});

t.test('sizes that would fill the memory with lists', async (t) => {
  for (const [fixture, fields] of [
    ['llama', { num_hidden_layers: 2 ** 31 - 1 }],
    ['llama', { head_dim: 2 ** 30 }],
    ['llama', { hidden_size: 2 ** 31 - 4, head_dim: null }],
    ['bloom', { n_layer: 1e9 }],
    ['bloom', { n_head: 2 ** 30, hidden_size: 2 ** 30 }],
    ['gptneox', { hidden_size: 2 ** 31 - 4 }],
  ] as const) {
    const path = await edited(t, fixture, (config) => Object.assign(config, fields));
    await t.rejects(described(path), { code: 'ERR_BAD_MODEL_FILE', message: /at most 4096/ }, JSON.stringify(fields));
  }
});

t.test('ALiBi slopes', async (t) => {
  t.same(alibiSlopes(4), [0.25, 0.0625, 0.015625, 0.00390625]);
  t.same(alibiSlopes(6), [0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125]);
});

t.test('names without the prefix of the family', async (t) => {
  const path = await copyOf(t, join(families, 'gpt2'));
  const { readFile, writeFile } = await import('node:fs/promises');
  const file = join(path, 'model.safetensors');
  const bytes = await readFile(file);
  const length = Number(bytes.readBigUInt64LE(0));
  const header = bytes.toString('utf8', 8, 8 + length).replaceAll('"transformer.', '"').padEnd(length);
  await writeFile(file, Buffer.concat([bytes.subarray(0, 8), Buffer.from(header), bytes.subarray(8 + length)]));
  t.same(await logitsOf(path, 'gpt2'), await logitsOf(join(families, 'gpt2'), 'gpt2'));
});
