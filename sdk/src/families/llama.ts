/** Llama: RMS norm, rotary positions, grouped-query attention, gated SiLU, tied or untied head. */
import { ConfigReader } from './config-reader.js';
import { Role, type Family, type FamilyTensor } from './family.js';
import { checkHeadSize, readRopeFrequencies } from './rope.js';

export const llama: Family = {
  modelTypes: ['llama'],

  describe(config, configPath) {
    const reader = new ConfigReader(config, configPath);
    reader.only('hidden_act', 'silu');
    reader.only('attention_bias', false);
    reader.only('mlp_bias', false);
    reader.only('pretraining_tp', 1);
    reader.only('sliding_window');
    reader.only('partial_rotary_factor', 1);
    for (const field of ['layer_types', 'attn_logit_softcapping', 'final_logit_softcapping', 'query_pre_attn_scalar']) {
      reader.only(field);
    }
    const hidden = reader.count('hidden_size');
    const layers = reader.count('num_hidden_layers');
    const heads = reader.count('num_attention_heads');
    const keyValueHeads = reader.count('num_key_value_heads', heads);
    if (heads % keyValueHeads !== 0) {
      throw reader.bad('num_key_value_heads', `a divisor of num_attention_heads (${heads})`);
    }
    if (reader.field('head_dim') === undefined && hidden % heads !== 0) {
      throw reader.bad('head_dim', `given, because hidden_size ${hidden} is no multiple of ${heads} heads`);
    }
    const headSize = reader.count('head_dim', hidden / heads);
    checkHeadSize(headSize, configPath);
    const feedForward = reader.count('intermediate_size');
    const vocabulary = reader.count('vocab_size');
    const tied = reader.flag('tie_word_embeddings', false);

    const tensors: FamilyTensor[] = [
      {
        name: 'model.embed_tokens.weight',
        role: Role.embedding,
        layer: 0,
        shape: [vocabulary, hidden],
        shapeRule: 'vocab_size, hidden_size',
      },
    ];
    for (let layer = 0; layer < layers; layer++) {
      const add = (name: string, role: number, shape: number[], shapeRule: string): void => {
        tensors.push({ name: `model.layers.${layer}.${name}.weight`, role, layer, shape, shapeRule });
      };
      const queries = 'num_attention_heads x head_dim';
      const keys = 'num_key_value_heads x head_dim';
      add('input_layernorm', Role.attentionNorm, [hidden], 'hidden_size');
      add('self_attn.q_proj', Role.query, [heads * headSize, hidden], `${queries}, hidden_size`);
      add('self_attn.k_proj', Role.key, [keyValueHeads * headSize, hidden], `${keys}, hidden_size`);
      add('self_attn.v_proj', Role.value, [keyValueHeads * headSize, hidden], `${keys}, hidden_size`);
      add('self_attn.o_proj', Role.attentionOutput, [hidden, heads * headSize], `hidden_size, ${queries}`);
      add('post_attention_layernorm', Role.feedForwardNorm, [hidden], 'hidden_size');
      add('mlp.gate_proj', Role.gate, [feedForward, hidden], 'intermediate_size, hidden_size');
      add('mlp.up_proj', Role.up, [feedForward, hidden], 'intermediate_size, hidden_size');
      add('mlp.down_proj', Role.down, [hidden, feedForward], 'hidden_size, intermediate_size');
    }
    tensors.push({
      name: 'model.norm.weight',
      role: Role.finalNorm,
      layer: 0,
      shape: [hidden],
      shapeRule: 'hidden_size',
    });
    if (!tied) {
      tensors.push({
        name: 'lm_head.weight',
        role: Role.head,
        layer: 0,
        shape: [vocabulary, hidden],
        shapeRule: 'vocab_size, hidden_size',
      });
    }

    return {
      modelType: 'llama',
      vocabularySize: vocabulary,
      hiddenSize: hidden,
      layers,
      heads,
      keyValueHeads,
      headSize,
      feedForwardSize: feedForward,
      contextLimit: reader.count('max_position_embeddings', 2048),
      normEpsilon: reader.positive('rms_norm_eps', 1e-6),
      attentionScale: 1 / Math.sqrt(headSize),
      ropeFrequencies: readRopeFrequencies(reader, headSize),
      tiedHead: tied,
      rotatable: true,
      tensors,
      // A tied model may carry a second copy of its embedding.
      ignored: tied
        ? [/\.rotary_emb\.inv_freq$/, /^lm_head\.weight(\.planes|\.scales|\.row_scales)?$/]
        : [/\.rotary_emb\.inv_freq$/],
    };
  },
};
