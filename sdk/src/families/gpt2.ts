/** GPT-2: learned positions; all linear layers are stored transposed, query, key and value as one. */
import { activations, biasedDecoder, readHeads, thirds } from './biased-decoder.js';
import { ConfigReader } from './config-reader.js';
import { Role, type Family } from './family.js';
import { TensorList, type Size } from './tensor-list.js';

export const gpt2: Family = {
  modelTypes: ['gpt2'],

  describe(config, configPath) {
    const reader = new ConfigReader(config, configPath);
    const sizes = { ...readHeads(reader, { hidden: 'n_embd', heads: 'n_head' }), layers: reader.small('n_layer') };
    const hidden: Size = { value: sizes.hidden, rule: 'n_embd' };
    const feedForward: Size = { value: reader.count('n_inner', 4 * sizes.hidden), rule: 'n_inner' };
    const vocabulary: Size = { value: reader.count('vocab_size'), rule: 'vocab_size' };
    const contextLimit = reader.count('n_positions', 1024);
    const activation = reader.choice('activation_function', activations, 'gelu_new');
    const normEpsilon = reader.positive('layer_norm_epsilon', 1e-5);
    reader.only('scale_attn_weights', true);
    reader.only('scale_attn_by_inverse_layer_idx', false);
    reader.only('add_cross_attention', false);
    reader.ignore('n_ctx', 'reorder_and_upcast_attn');
    const tied = reader.flag('tie_word_embeddings', true);
    reader.refuseUnknown();

    const list = new TensorList((layer) => `transformer.h.${layer}.`);
    list.add('transformer.wte.weight', Role.embedding, [vocabulary, hidden]);
    list.add('transformer.wpe.weight', Role.positionEmbedding, [{ value: contextLimit, rule: 'n_positions' }, hidden]);
    const { rows, parts } = thirds(sizes.heads, sizes.headSize, hidden.rule);
    for (let layer = 0; layer < sizes.layers; layer++) {
      list.layerNorm(layer, 'ln_1', [Role.attentionNorm, Role.attentionNormBias], hidden);
      parts.forEach(([name, role, biasRole], i) => {
        const from = { total: 3 * rows.value, first: i * rows.value };
        list.part(layer, `attn.${name}.weight`, role, rows, hidden, { name: 'attn.c_attn.weight', ...from, transposed: true });
        list.part(layer, `attn.${name}.bias`, biasRole, rows, null, { name: 'attn.c_attn.bias', ...from });
      });
      list.transposed(layer, 'attn.c_proj', [Role.attentionOutput, Role.attentionOutputBias], hidden, hidden);
      list.layerNorm(layer, 'ln_2', [Role.feedForwardNorm, Role.feedForwardNormBias], hidden);
      list.transposed(layer, 'mlp.c_fc', [Role.up, Role.upBias], feedForward, hidden);
      list.transposed(layer, 'mlp.c_proj', [Role.down, Role.downBias], hidden, feedForward);
    }
    list.add('transformer.ln_f.weight', Role.finalNorm, [hidden]);
    list.add('transformer.ln_f.bias', Role.finalNormBias, [hidden]);
    if (!tied) list.add('lm_head.weight', Role.head, [vocabulary, hidden]);
    return biasedDecoder(sizes, {
      modelType: 'gpt2',
      vocabularySize: vocabulary.value,
      feedForwardSize: feedForward.value,
      contextLimit,
      normEpsilon,
      activation,
      tiedHead: tied,
      tensors: list.tensors,
      prefix: 'transformer.',
      // The causal mask was once stored beside the weights.
      ignored: [/\.attn\.(bias|masked_bias)$/, ...(tied ? [/^lm_head\.weight$/] : [])],
    });
  },
};
