/** OPT: learned positions, norms in front of the layers or behind them, projections where the embedding is narrower. */
import { activations, biasedDecoder, readHeads } from './biased-decoder.js';
import { ConfigReader } from './config-reader.js';
import { Role, type Family } from './family.js';
import { TensorList, type Size } from './tensor-list.js';

/** Position 0 has row 2 of the position embedding. */
const firstPosition = 2;

export const opt: Family = {
  modelTypes: ['opt'],

  describe(config, configPath) {
    const reader = new ConfigReader(config, configPath);
    const sizes = { ...readHeads(reader, { hidden: 'hidden_size', heads: 'num_attention_heads' }), layers: reader.small('num_hidden_layers') };
    const feedForward: Size = { value: reader.count('ffn_dim'), rule: 'ffn_dim' };
    const vocabulary: Size = { value: reader.count('vocab_size'), rule: 'vocab_size' };
    const embedding: Size = { value: reader.count('word_embed_proj_dim', sizes.hidden), rule: 'word_embed_proj_dim' };
    const hidden: Size = { value: sizes.hidden, rule: 'hidden_size' };
    const contextLimit = reader.count('max_position_embeddings', 2048);
    const activation = reader.choice('activation_function', activations, 'relu');
    const before = reader.flag('do_layer_norm_before', true);
    const finalNorm = before && !reader.flag('_remove_final_layer_norm', false);
    reader.only('enable_bias', true);
    reader.only('layer_norm_elementwise_affine', true);
    const tied = reader.flag('tie_word_embeddings', true);
    reader.refuseUnknown();

    const list = new TensorList((layer) => `model.decoder.layers.${layer}.`);
    list.add('model.decoder.embed_tokens.weight', Role.embedding, [vocabulary, embedding]);
    const positions = { value: firstPosition + contextLimit, rule: 'max_position_embeddings + 2' };
    list.add('model.decoder.embed_positions.weight', Role.positionEmbedding, [positions, hidden]);
    if (embedding.value !== hidden.value) {
      list.add('model.decoder.project_in.weight', Role.projectIn, [hidden, embedding]);
      list.add('model.decoder.project_out.weight', Role.projectOut, [embedding, hidden]);
    }
    for (let layer = 0; layer < sizes.layers; layer++) {
      list.layerNorm(layer, 'self_attn_layer_norm', [Role.attentionNorm, Role.attentionNormBias], hidden);
      list.linear(layer, 'self_attn.q_proj', [Role.query, Role.queryBias], hidden, hidden);
      list.linear(layer, 'self_attn.k_proj', [Role.key, Role.keyBias], hidden, hidden);
      list.linear(layer, 'self_attn.v_proj', [Role.value, Role.valueBias], hidden, hidden);
      list.linear(layer, 'self_attn.out_proj', [Role.attentionOutput, Role.attentionOutputBias], hidden, hidden);
      list.layerNorm(layer, 'final_layer_norm', [Role.feedForwardNorm, Role.feedForwardNormBias], hidden);
      list.linear(layer, 'fc1', [Role.up, Role.upBias], feedForward, hidden);
      list.linear(layer, 'fc2', [Role.down, Role.downBias], hidden, feedForward);
    }
    if (finalNorm) {
      list.add('model.decoder.final_layer_norm.weight', Role.finalNorm, [hidden]);
      list.add('model.decoder.final_layer_norm.bias', Role.finalNormBias, [hidden]);
    }
    if (!tied) list.add('lm_head.weight', Role.head, [vocabulary, embedding]);
    return biasedDecoder(sizes, {
      modelType: 'opt',
      vocabularySize: vocabulary.value,
      feedForwardSize: feedForward.value,
      contextLimit,
      normEpsilon: 1e-5,
      activation,
      normBehind: !before,
      embeddingSize: embedding.value,
      firstPosition,
      tiedHead: tied,
      tensors: list.tensors,
      prefix: 'model.',
      ignored: tied ? [/^lm_head\.weight$/] : [],
    });
  },
};
