/** Phi 3 and 4 mini: Llama with fused projections, long rope and an optional window. */
import { ConfigReader } from './config-reader.js';
import { Activation, type Family } from './family.js';
import { describeGatedDecoder } from './gated-decoder.js';

export const phi3: Family = {
  modelTypes: ['phi3'],

  describe(config, configPath) {
    const reader = new ConfigReader(config, configPath);
    reader.choice('hidden_act', { silu: Activation.silu }, 'silu');
    reader.only('attention_bias', false);
    reader.only('lm_head_bias', false);
    reader.only('mlp_bias', false);
    reader.only('full_attn_mod', 1);
    reader.only('interpolate_factor', 1);
    reader.ignore('original_max_position_embeddings'); // of longrope
    const window = reader.field('sliding_window') === undefined ? 0 : reader.count('sliding_window');
    return describeGatedDecoder(reader, {
      modelType: 'phi3',
      contextLimit: 4096,
      normEpsilon: 1e-5,
      fused: true,
      layers: (_, count, { sets }) => ({ sets, layers: Array.from({ length: count }, () => ({ window, rotary: 0 })) }),
    });
  },
};
