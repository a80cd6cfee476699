/** Llama 1 to 3 and models of the same shape, such as SmolLM and SmolLM2. */
import { ConfigReader } from './config-reader.js';
import { Activation, type Family } from './family.js';
import { describeGatedDecoder } from './gated-decoder.js';

export const llama: Family = {
  modelTypes: ['llama'],

  describe(config, configPath) {
    const reader = new ConfigReader(config, configPath);
    reader.choice('hidden_act', { silu: Activation.silu }, 'silu');
    reader.ignore('pretraining_tp'); // splits products, which changes nothing
    reader.only('sliding_window');
    reader.only('rope_interleaved', false);
    const attention = reader.flag('attention_bias', false);
    const feedForward = reader.flag('mlp_bias', false);
    return describeGatedDecoder(reader, { modelType: 'llama', biases: { input: attention, output: attention, feedForward } });
  },
};
