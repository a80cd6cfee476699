/**
 * Makes config.json out of the metadata of a GGUF file. Names and conventions are those of llama.cpp's converter; what it
 * leaves out because its runtime knows it for each architecture is filled in here.
 */
import { ShiftAddError } from '../errors.js';
import { show } from '../options.js';
import type { GgufFile } from './gguf-header.js';
import type { Json, JsonObject } from './json-file.js';

/** Reads keys below `<architecture>.`. */
class Metadata {
  readonly architecture: string;

  constructor(readonly file: GgufFile) {
    const name = file.metadata.get('general.architecture');
    if (typeof name !== 'string') throw this.error('general.architecture', 'the name of an architecture');
    this.architecture = name;
  }

  error(key: string, wanted: string): ShiftAddError {
    const value = this.file.metadata.get(key);
    const found = value === undefined ? 'is missing' : `is ${show(value)}`;
    return new ShiftAddError('ERR_BAD_MODEL_FILE', `${this.file.path}: ${key} ${found}; it must be ${wanted}. Convert the checkpoint again.`);
  }

  optional(key: string): number | null {
    const name = `${this.architecture}.${key}`;
    const value = this.file.metadata.get(name);
    if (value === undefined) return null;
    // Some converters write one number per layer.
    const single = Array.isArray(value) && value.every((each) => each === value[0]) ? value[0] : value;
    if (typeof single !== 'number' || !Number.isFinite(single)) throw this.error(name, Array.isArray(value) ? 'the same number for every layer' : 'a number');
    return single;
  }

  number(key: string): number {
    const value = this.optional(key);
    if (value === null) throw this.error(`${this.architecture}.${key}`, 'a number');
    return value;
  }

  text(key: string): string | null {
    const value = this.file.metadata.get(`${this.architecture}.${key}`);
    return typeof value === 'string' ? value : null;
  }
}

interface Architecture {
  modelType: string;
  fields(metadata: Metadata): JsonObject;
}

/** The numbers that all have, under the names of Llama's config. */
function decoder(metadata: Metadata): JsonObject {
  const heads = metadata.number('attention.head_count');
  return {
    hidden_size: metadata.number('embedding_length'),
    num_hidden_layers: metadata.number('block_count'),
    num_attention_heads: heads,
    num_key_value_heads: metadata.optional('attention.head_count_kv') ?? heads,
    head_dim: metadata.optional('attention.key_length') ?? metadata.number('embedding_length') / heads,
    intermediate_size: metadata.number('feed_forward_length'),
    max_position_embeddings: metadata.number('context_length'),
    rms_norm_eps: metadata.number('attention.layer_norm_rms_epsilon'),
    ...rotary(metadata),
  };
}

function rotary(metadata: Metadata): JsonObject {
  const factor = metadata.optional('rope.scaling.factor') ?? metadata.optional('rope.scale_linear');
  const original = metadata.optional('rope.scaling.original_context_length');
  const headSize = metadata.optional('attention.key_length') ?? metadata.number('embedding_length') / metadata.number('attention.head_count');
  const part = (metadata.optional('rope.dimension_count') ?? headSize) / headSize;
  const common = {
    rope_theta: metadata.optional('rope.freq_base') ?? 10000,
    ...(part === 1 ? {} : { partial_rotary_factor: part }),
  };
  // Without a type, a factor is a linear one.
  const kind = metadata.text('rope.scaling.type') ?? (factor === null || factor === 1 ? 'none' : 'linear');
  switch (kind) {
    case 'none':
    case 'longrope': // its factors are tensors: `openGguf` adds them
      return { ...common, ...(original === null ? {} : { original_max_position_embeddings: original }) };
    case 'linear':
      return { ...common, rope_scaling: { rope_type: 'linear', factor } };
    case 'yarn': {
      const named = {
        factor,
        original_max_position_embeddings: original,
        attention_factor: metadata.optional('rope.scaling.attn_factor'),
        beta_fast: metadata.optional('rope.scaling.yarn_beta_fast'),
        beta_slow: metadata.optional('rope.scaling.yarn_beta_slow'),
      };
      for (const key of ['yarn_ext_factor', 'yarn_attn_factor', 'yarn_log_multiplier'])
        if ((metadata.optional(`rope.scaling.${key}`) ?? 1) !== 1) throw metadata.error(`${metadata.architecture}.rope.scaling.${key}`, '1 or left out');
      return { ...common, rope_scaling: { rope_type: 'yarn', ...Object.fromEntries(Object.entries(named).filter(([, value]) => value !== null)) } };
    }
    default:
      throw metadata.error(`${metadata.architecture}.rope.scaling.type`, "'none', 'linear', 'yarn' or 'longrope'");
  }
}

function gemma(metadata: Metadata): JsonObject {
  return { ...decoder(metadata), hidden_activation: 'gelu_pytorch_tanh' };
}

/** The largest model of the family scales by the hidden size, the others by the head size; not in the metadata. */
function attentionScalar(metadata: Metadata, layersOfLargest: number): number {
  const { hidden_size, num_attention_heads, head_dim, num_hidden_layers } = decoder(metadata) as Record<string, number>;
  return num_hidden_layers === layersOfLargest ? hidden_size! / num_attention_heads! : head_dim!;
}

const architectures: Record<string, Architecture> = {
  llama: { modelType: 'llama', fields: decoder },
  qwen2: { modelType: 'qwen2', fields: decoder },
  qwen3: { modelType: 'qwen3', fields: decoder },
  smollm3: { modelType: 'smollm3', fields: (metadata) => ({ ...decoder(metadata), no_rope_layer_interval: 4 }) },
  phi3: {
    modelType: 'phi3',
    fields: (metadata) => ({ ...decoder(metadata), sliding_window: metadata.optional('attention.sliding_window') || null }),
  },
  gemma: { modelType: 'gemma', fields: gemma },
  gemma2: {
    modelType: 'gemma2',
    fields: (metadata) => ({
      ...gemma(metadata),
      sliding_window: metadata.optional('attention.sliding_window') ?? 4096,
      attn_logit_softcapping: metadata.optional('attn_logit_softcapping') ?? 50,
      final_logit_softcapping: metadata.optional('final_logit_softcapping') ?? 30,
      query_pre_attn_scalar: attentionScalar(metadata, 46),
    }),
  },
  gemma3: {
    modelType: 'gemma3_text',
    fields: (metadata) => ({
      ...gemma(metadata),
      sliding_window: metadata.number('attention.sliding_window'),
      sliding_window_pattern: 6,
      rope_local_base_freq: 10000,
      query_pre_attn_scalar: attentionScalar(metadata, 62),
    }),
  },
  gpt2: {
    modelType: 'gpt2',
    fields: (metadata) => ({
      n_embd: metadata.number('embedding_length'),
      n_layer: metadata.number('block_count'),
      n_head: metadata.number('attention.head_count'),
      n_inner: metadata.number('feed_forward_length'),
      n_positions: metadata.number('context_length'),
      layer_norm_epsilon: metadata.number('attention.layer_norm_epsilon'),
    }),
  },
  bloom: {
    modelType: 'bloom',
    fields: (metadata) => ({
      hidden_size: metadata.number('embedding_length'),
      n_layer: metadata.number('block_count'),
      n_head: metadata.number('attention.head_count'),
      seq_length: metadata.number('context_length'),
      layer_norm_epsilon: metadata.number('attention.layer_norm_epsilon'),
    }),
  },
  gptneox: {
    modelType: 'gpt_neox',
    fields: (metadata) => ({
      hidden_size: metadata.number('embedding_length'),
      num_hidden_layers: metadata.number('block_count'),
      num_attention_heads: metadata.number('attention.head_count'),
      intermediate_size: metadata.number('feed_forward_length'),
      max_position_embeddings: metadata.number('context_length'),
      layer_norm_eps: metadata.number('attention.layer_norm_epsilon'),
      use_parallel_residual: metadata.file.metadata.get('gptneox.use_parallel_residual') !== false,
      rotary_emb_base: metadata.optional('rope.freq_base') ?? 10000,
      rotary_pct: metadata.number('rope.dimension_count') / (metadata.number('embedding_length') / metadata.number('attention.head_count')),
    }),
  },
};

/** Tokens that end a turn or a text, by what they are called in the known vocabularies. */
const endTexts = ['<|eot_id|>', '<|im_end|>', '<|end|>', '<end_of_turn>', '<|endoftext|>', '<|end_of_text|>', '<|eom_id|>', '<EOT>', '_<EOT>'];

function tokenId(file: GgufFile, name: string): number | null {
  const id = file.metadata.get(`tokenizer.ggml.${name}_token_id`);
  return typeof id === 'number' ? id : null;
}

/** Files name one end token; chats end with others as well. */
function endIds(file: GgufFile): number[] {
  const ids = new Set(['eos', 'eot', 'eom'].map((name) => tokenId(file, name)).filter((id) => id !== null));
  const tokens = file.metadata.get('tokenizer.ggml.tokens');
  const types = file.metadata.get('tokenizer.ggml.token_type');
  if (Array.isArray(tokens))
    for (const text of endTexts) {
      const id = tokens.indexOf(text);
      // Texts of ordinary tokens end nothing.
      if (id >= 0 && (!Array.isArray(types) || types[id] !== 1)) ids.add(id);
    }
  return [...ids];
}

export interface GgufConfig {
  architecture: string;
  config: JsonObject;
}

/** `file`: the first of a split model. `has`: whether the model has a tensor of this name. ERR_UNSUPPORTED_MODEL, ERR_BAD_MODEL_FILE. */
export function ggufConfig(file: GgufFile, rows: (tensor: string) => number | null): GgufConfig {
  const metadata = new Metadata(file);
  const known = architectures[metadata.architecture];
  if (known === undefined) {
    throw new ShiftAddError(
      'ERR_UNSUPPORTED_MODEL',
      `${file.path}: general.architecture is ${show(metadata.architecture)}; this version runs ${Object.keys(architectures).join(', ')}.`,
    );
  }
  const vocabulary = rows('token_embd.weight');
  if (vocabulary === null) throw new ShiftAddError('ERR_BAD_MODEL_FILE', `${file.path} has no tensor token_embd.weight. Download or copy the file again.`);
  const tokens = { bos_token_id: 'bos', eos_token_id: 'eos', pad_token_id: 'padding' } as const;
  const ids: [string, Json][] = Object.entries(tokens).map(([name, key]) => [name, tokenId(file, key)]);
  ids.push(['eos_token_id', endIds(file)]);
  const config: JsonObject = {
    model_type: known.modelType,
    vocab_size: vocabulary,
    ...known.fields(metadata),
    tie_word_embeddings: rows('output.weight') === null,
    ...Object.fromEntries(ids),
  };
  // Only the tensors tell whether Llama has biases.
  if (known.modelType === 'llama') {
    config['attention_bias'] = rows('blk.0.attn_q.bias') !== null;
    config['mlp_bias'] = rows('blk.0.ffn_up.bias') !== null;
  }
  return { architecture: metadata.architecture, config };
}
