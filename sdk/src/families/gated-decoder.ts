/**
 * What Llama and its relatives share: root mean square norms in front, rotary positions, grouped-query attention, gated
 * feed-forward layers. A family says how it differs.
 */
import { ShiftAddError } from '../errors.js';
import { ConfigReader } from './config-reader.js';
import { Activation, Role, type FamilySpec, type LayerSpec, type RotarySet } from './family.js';
import { readRope, type Rope } from './rope.js';
import { TensorList, type Size } from './tensor-list.js';

export interface GatedDecoder {
  modelType: string;
  activation?: number;
  /** Default hidden_size / num_attention_heads. */
  headSize?: number;
  keyValueHeads?: number;
  contextLimit?: number;
  normEpsilon?: number;
  tied?: boolean;
  /** Biases of query, key and value; of the attention's output; of the feed-forward layers. */
  biases?: { input?: boolean; output?: boolean; feedForward?: boolean };
  /** Query and key are normalized head by head. */
  headNorms?: boolean;
  /** Norms behind attention and feed-forward layers, and the names of all four. */
  fourNorms?: boolean;
  /** Gains are stored minus 1. */
  gainsMinusOne?: boolean;
  /** q, k and v are stored as one matrix, gate and up as another. */
  fused?: boolean;
  embeddingFactor?: (hidden: number) => number;
  attentionScale?: (headSize: number) => number;
  attentionCap?: number;
  logitCap?: number;
  rope?: (reader: ConfigReader, headSize: number) => Rope;
  /** Rotary sets and the windows of layers; by default one set and no windows. */
  layers?: (reader: ConfigReader, count: number, rope: Rope, headSize: number) => { sets: RotarySet[]; layers: LayerSpec[] };
}

/** ERR_UNSUPPORTED_MODEL and ERR_BAD_MODEL_FILE name the field. */
export function describeGatedDecoder(reader: ConfigReader, family: GatedDecoder): FamilySpec {
  const hidden = reader.count('hidden_size');
  const count = reader.small('num_hidden_layers');
  const heads = reader.small('num_attention_heads');
  const keyValueHeads = reader.small('num_key_value_heads', family.keyValueHeads ?? heads);
  if (heads % keyValueHeads !== 0) throw reader.bad('num_key_value_heads', `a divisor of num_attention_heads (${heads})`);
  if (family.headSize === undefined && reader.field('head_dim') === undefined && hidden % heads !== 0) {
    throw reader.bad('head_dim', `given, because hidden_size ${hidden} is no multiple of ${heads} heads`);
  }
  const headSize = reader.small('head_dim', family.headSize ?? hidden / heads);
  if (headSize % 2 !== 0) {
    throw new ShiftAddError('ERR_UNSUPPORTED_MODEL', `${reader.path}: head_dim is ${headSize}; rotary positions need an even head size.`);
  }
  const feedForward = reader.count('intermediate_size');
  const vocabulary = reader.count('vocab_size');
  const tied = reader.flag('tie_word_embeddings', family.tied ?? false);
  const rope = (family.rope ?? readRope)(reader, headSize);
  const { sets, layers } = family.layers?.(reader, count, rope, headSize) ?? {
    sets: rope.sets,
    layers: Array.from({ length: count }, () => ({ window: 0, rotary: 0 })),
  };
  const contextLimit = reader.count('max_position_embeddings', family.contextLimit ?? 2048);
  const normEpsilon = reader.positive('rms_norm_eps', family.normEpsilon ?? 1e-6);
  reader.refuseUnknown();
  const sizes = { hidden, heads: heads * headSize, keys: keyValueHeads * headSize, headSize, feedForward, vocabulary };
  return {
    modelType: family.modelType,
    vocabularySize: vocabulary,
    hiddenSize: hidden,
    layers: count,
    heads,
    keyValueHeads,
    headSize,
    feedForwardSize: feedForward,
    contextLimit,
    normEpsilon,
    attentionScale: family.attentionScale?.(headSize) ?? 1 / Math.sqrt(headSize),
    layerNorm: false,
    normBehind: false,
    parallelBlocks: false,
    activation: family.activation ?? Activation.silu,
    gated: true,
    embeddingSize: hidden,
    embeddingFactor: family.embeddingFactor?.(hidden) ?? 1,
    attentionCap: family.attentionCap ?? 0,
    logitCap: family.logitCap ?? 0,
    firstPosition: 0,
    rotarySize: rope.size,
    rotarySets: sets,
    rotarySwitch: rope.switchAt,
    alibiSlopes: [],
    layerSpecs: layers,
    tiedHead: tied,
    tensors: listTensors(family, count, tied, sizes),
    prefix: 'model.',
    // A tied model may carry a second copy of its embedding.
    ignored: tied
      ? [/\.rotary_emb\.inv_freq$/, /^lm_head\.weight(\.planes|\.scales|\.row_scales)?$/]
      : [/\.rotary_emb\.inv_freq$/],
  };
}

type Sizes = Record<'hidden' | 'heads' | 'keys' | 'headSize' | 'feedForward' | 'vocabulary', number>;

function listTensors(family: GatedDecoder, layers: number, tied: boolean, sizes: Sizes): FamilySpec['tensors'] {
  const hidden: Size = { value: sizes.hidden, rule: 'hidden_size' };
  const queries: Size = { value: sizes.heads, rule: 'num_attention_heads x head_dim' };
  const keys: Size = { value: sizes.keys, rule: 'num_key_value_heads x head_dim' };
  const feedForward: Size = { value: sizes.feedForward, rule: 'intermediate_size' };
  const headSize: Size = { value: sizes.headSize, rule: 'head_dim' };
  const vocabulary: Size = { value: sizes.vocabulary, rule: 'vocab_size' };
  const { biases = {}, gainsMinusOne = false } = family;
  const added = gainsMinusOne ? 1 : 0;
  const list = new TensorList((layer) => `model.layers.${layer}.`);
  list.add('model.embed_tokens.weight', Role.embedding, [vocabulary, hidden]);
  for (let layer = 0; layer < layers; layer++) {
    const fused = (from: string, parts: readonly (readonly [string, number, Size])[]): void => {
      const total = parts.reduce((sum, [, , { value }]) => sum + value, 0);
      let first = 0;
      for (const [name, role, rows] of parts) {
        list.part(layer, `${name}.weight`, role, rows, hidden, { name: `${from}.weight`, total, first });
        first += rows.value;
      }
    };
    list.vector(layer, 'input_layernorm.weight', Role.attentionNorm, hidden, added);
    const inputs = [
      ['self_attn.q_proj', Role.query, queries, Role.queryBias],
      ['self_attn.k_proj', Role.key, keys, Role.keyBias],
      ['self_attn.v_proj', Role.value, keys, Role.valueBias],
    ] as const;
    const expansions = [
      ['mlp.gate_proj', Role.gate, feedForward, Role.gateBias],
      ['mlp.up_proj', Role.up, feedForward, Role.upBias],
    ] as const;
    if (family.fused) fused('self_attn.qkv_proj', inputs.map(([name, role, rows]) => [name, role, rows] as const));
    else for (const [name, role, rows, bias] of inputs) list.linear(layer, name, [role, biases.input ? bias : null], rows, hidden);
    if (family.headNorms) {
      list.vector(layer, 'self_attn.q_norm.weight', Role.queryNorm, headSize, added);
      list.vector(layer, 'self_attn.k_norm.weight', Role.keyNorm, headSize, added);
    }
    list.linear(layer, 'self_attn.o_proj', [Role.attentionOutput, biases.output ? Role.attentionOutputBias : null], hidden, queries);
    if (family.fourNorms) {
      list.vector(layer, 'post_attention_layernorm.weight', Role.postAttentionNorm, hidden, added);
      list.vector(layer, 'pre_feedforward_layernorm.weight', Role.feedForwardNorm, hidden, added);
      list.vector(layer, 'post_feedforward_layernorm.weight', Role.postFeedForwardNorm, hidden, added);
    } else {
      list.vector(layer, 'post_attention_layernorm.weight', Role.feedForwardNorm, hidden, added);
    }
    if (family.fused) fused('mlp.gate_up_proj', expansions.map(([name, role, rows]) => [name, role, rows] as const));
    else for (const [name, role, rows, bias] of expansions) list.linear(layer, name, [role, biases.feedForward ? bias : null], rows, hidden);
    list.linear(layer, 'mlp.down_proj', [Role.down, biases.feedForward ? Role.downBias : null], hidden, feedForward);
  }
  list.add('model.norm.weight', Role.finalNorm, [hidden], added);
  if (!tied) list.add('lm_head.weight', Role.head, [vocabulary, hidden]);
  return list.tensors;
}

/**
 * The windows of layers out of layer_types, or by `slides` where there is none. `window`: positions, 0 without windows.
 */
export function layerWindows(reader: ConfigReader, count: number, window: number, slides: (layer: number) => boolean): number[] {
  const types = reader.list('layer_types');
  if (types !== null && types.length !== count) throw reader.bad('layer_types', `a list of ${count} entries, one per layer`);
  return Array.from({ length: count }, (_, layer) => {
    const type = types?.[layer] ?? (slides(layer) ? 'sliding_attention' : 'full_attention');
    if (type === 'full_attention') return 0;
    if (type !== 'sliding_attention') throw reader.unsupported('layer_types', type, "known: 'full_attention', 'sliding_attention'");
    if (window === 0) throw reader.bad('sliding_window', 'given, because layer_types has sliding_attention');
    return window;
  });
}

/** sliding_window where use_sliding_window is true; else 0. `initial`: where it is absent, 0 for none. */
export function optionalWindow(reader: ConfigReader, initial = 4096): number {
  const used = reader.flag('use_sliding_window', false);
  const window = reader.field('sliding_window') === undefined ? (reader.has('sliding_window') ? 0 : initial) : reader.count('sliding_window');
  return used ? window : 0;
}
