/** GPT-NeoX and Pythia: attention and feed-forward layers side by side, rotary positions of a part of each head. */
import { activations, biasedDecoder, readHeads, thirds } from './biased-decoder.js';
import { ConfigReader } from './config-reader.js';
import { Role, type Family } from './family.js';
import { readRope } from './rope.js';
import { TensorList, type Size } from './tensor-list.js';

export const gptneox: Family = {
  modelTypes: ['gpt_neox'],

  describe(config, configPath) {
    const reader = new ConfigReader(config, configPath);
    const sizes = { ...readHeads(reader, { hidden: 'hidden_size', heads: 'num_attention_heads' }), layers: reader.small('num_hidden_layers') };
    const hidden: Size = { value: sizes.hidden, rule: 'hidden_size' };
    const feedForward: Size = { value: reader.count('intermediate_size'), rule: 'intermediate_size' };
    const vocabulary: Size = { value: reader.count('vocab_size'), rule: 'vocab_size' };
    const contextLimit = reader.count('max_position_embeddings', 2048);
    const activation = reader.choice('hidden_act', activations, 'gelu');
    const normEpsilon = reader.positive('layer_norm_eps', 1e-5);
    const rope = readRope(reader, sizes.headSize, { theta: 'rotary_emb_base', partial: 'rotary_pct', defaultPartial: 0.25 });
    const parallel = reader.flag('use_parallel_residual', true);
    const attentionBias = reader.flag('attention_bias', true);
    const tied = reader.flag('tie_word_embeddings', false);
    reader.refuseUnknown();

    const list = new TensorList((layer) => `gpt_neox.layers.${layer}.`);
    list.add('gpt_neox.embed_in.weight', Role.embedding, [vocabulary, hidden]);
    const { rows, parts } = thirds(sizes.heads, sizes.headSize, hidden.rule);
    for (let layer = 0; layer < sizes.layers; layer++) {
      list.layerNorm(layer, 'input_layernorm', [Role.attentionNorm, Role.attentionNormBias], hidden);
      // Head by head: the rows of its query, its key, its value.
      parts.forEach(([name, role, biasRole], i) => {
        const from = { total: 3 * rows.value, first: i * sizes.headSize, run: sizes.headSize, every: 3 * sizes.headSize };
        list.part(layer, `attention.${name}.weight`, role, rows, hidden, { name: 'attention.query_key_value.weight', ...from });
        if (attentionBias) list.part(layer, `attention.${name}.bias`, biasRole, rows, null, { name: 'attention.query_key_value.bias', ...from });
      });
      list.linear(layer, 'attention.dense', [Role.attentionOutput, attentionBias ? Role.attentionOutputBias : null], hidden, hidden);
      list.layerNorm(layer, 'post_attention_layernorm', [Role.feedForwardNorm, Role.feedForwardNormBias], hidden);
      list.linear(layer, 'mlp.dense_h_to_4h', [Role.up, Role.upBias], feedForward, hidden);
      list.linear(layer, 'mlp.dense_4h_to_h', [Role.down, Role.downBias], hidden, feedForward);
    }
    list.add('gpt_neox.final_layer_norm.weight', Role.finalNorm, [hidden]);
    list.add('gpt_neox.final_layer_norm.bias', Role.finalNormBias, [hidden]);
    if (!tied) list.add('embed_out.weight', Role.head, [vocabulary, hidden]);
    return biasedDecoder(sizes, {
      modelType: 'gpt_neox',
      vocabularySize: vocabulary.value,
      feedForwardSize: feedForward.value,
      contextLimit,
      normEpsilon,
      activation,
      parallelBlocks: parallel,
      rotarySize: rope.size,
      rotarySets: rope.sets,
      rotarySwitch: rope.switchAt,
      layerSpecs: Array.from({ length: sizes.layers }, () => ({ window: 0, rotary: 0 })),
      tiedHead: tied,
      tensors: list.tensors,
      prefix: 'gpt_neox.',
      ignored: [/\.attention\.(bias|masked_bias)$/, /\.rotary_emb\.inv_freq$/, ...(tied ? [/^embed_out\.weight$/] : [])],
    });
  },
};
