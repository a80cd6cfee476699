/** BLOOM: ALiBi instead of position embeddings, a norm behind the embedding, fused query, key and value. */
import { biasedDecoder, readHeads, thirds } from './biased-decoder.js';
import { ConfigReader } from './config-reader.js';
import { Activation, Role, type Family } from './family.js';
import { TensorList, type Size } from './tensor-list.js';

export const bloom: Family = {
  modelTypes: ['bloom'],

  describe(config, configPath) {
    const reader = new ConfigReader(config, configPath);
    const hiddenName = reader.field('hidden_size') === undefined ? 'n_embed' : 'hidden_size';
    reader.ignore('n_embed', 'hidden_size', 'skip_bias_add', 'skip_bias_add_qkv', 'bias_dropout_fusion', 'masked_softmax_fusion');
    reader.ignore('attention_softmax_in_fp32', 'slow_but_exact', 'pretraining_tp', 'unk_token_id', 'offset_alibi', 'num_attention_heads', 'n_head');
    const heads = reader.field('n_head') === undefined ? 'num_attention_heads' : 'n_head';
    const sizes = { ...readHeads(reader, { hidden: hiddenName, heads }), layers: reader.small('n_layer') };
    const hidden: Size = { value: sizes.hidden, rule: 'hidden_size' };
    const feedForward: Size = { value: 4 * sizes.hidden, rule: '4 x hidden_size' };
    const vocabulary: Size = { value: reader.count('vocab_size'), rule: 'vocab_size' };
    const contextLimit = reader.count('seq_length', 2048);
    const normEpsilon = reader.positive('layer_norm_epsilon', 1e-5);
    reader.only('apply_residual_connection_post_layernorm', false);
    const tied = reader.flag('tie_word_embeddings', true);
    reader.refuseUnknown();

    const list = new TensorList((layer) => `transformer.h.${layer}.`);
    list.add('transformer.word_embeddings.weight', Role.embedding, [vocabulary, hidden]);
    list.add('transformer.word_embeddings_layernorm.weight', Role.embeddingNorm, [hidden]);
    list.add('transformer.word_embeddings_layernorm.bias', Role.embeddingNormBias, [hidden]);
    const { rows, parts } = thirds(sizes.heads, sizes.headSize, hidden.rule);
    for (let layer = 0; layer < sizes.layers; layer++) {
      list.layerNorm(layer, 'input_layernorm', [Role.attentionNorm, Role.attentionNormBias], hidden);
      // Head by head: the rows of its query, its key, its value.
      parts.forEach(([name, role, biasRole], i) => {
        const from = { total: 3 * rows.value, first: i * sizes.headSize, run: sizes.headSize, every: 3 * sizes.headSize };
        list.part(layer, `self_attention.${name}.weight`, role, rows, hidden, { name: 'self_attention.query_key_value.weight', ...from });
        list.part(layer, `self_attention.${name}.bias`, biasRole, rows, null, { name: 'self_attention.query_key_value.bias', ...from });
      });
      list.linear(layer, 'self_attention.dense', [Role.attentionOutput, Role.attentionOutputBias], hidden, hidden);
      list.layerNorm(layer, 'post_attention_layernorm', [Role.feedForwardNorm, Role.feedForwardNormBias], hidden);
      list.linear(layer, 'mlp.dense_h_to_4h', [Role.up, Role.upBias], feedForward, hidden);
      list.linear(layer, 'mlp.dense_4h_to_h', [Role.down, Role.downBias], hidden, feedForward);
    }
    list.add('transformer.ln_f.weight', Role.finalNorm, [hidden]);
    list.add('transformer.ln_f.bias', Role.finalNormBias, [hidden]);
    if (!tied) list.add('lm_head.weight', Role.head, [vocabulary, hidden]);
    return biasedDecoder(sizes, {
      modelType: 'bloom',
      vocabularySize: vocabulary.value,
      feedForwardSize: feedForward.value,
      contextLimit,
      normEpsilon,
      activation: Activation.geluTanh,
      alibiSlopes: alibiSlopes(sizes.heads),
      tiedHead: tied,
      tensors: list.tensors,
      prefix: 'transformer.',
      ignored: tied ? [/^lm_head\.weight$/] : [],
    });
  },
};

/**
 * 2^(-8 i / n) for heads i = 1 .. n, n a power of two; between powers of two, every other slope of twice the lower power
 * follows. Source: arXiv 2108.12409.
 */
export function alibiSlopes(heads: number): number[] {
  const power = 2 ** Math.floor(Math.log2(heads));
  const slopes = Array.from({ length: power }, (_, i) => 2 ** ((-8 * (i + 1)) / power));
  for (let i = 0; slopes.length < heads; i++) slopes.push(2 ** ((-4 * (2 * i + 1)) / power));
  return slopes;
}
