/** Mistral: Llama with a window of attention. */
import { ConfigReader } from './config-reader.js';
import { Activation, type Family } from './family.js';
import { describeGatedDecoder } from './gated-decoder.js';

export const mistral: Family = {
  modelTypes: ['mistral'],

  describe(config, configPath) {
    const reader = new ConfigReader(config, configPath);
    reader.choice('hidden_act', { silu: Activation.silu }, 'silu');
    // Null means none; the family's default is 4096.
    const window = reader.cap('sliding_window', 4096);
    if (!Number.isInteger(window)) throw reader.bad('sliding_window', 'a positive integer or null');
    return describeGatedDecoder(reader, {
      modelType: 'mistral',
      keyValueHeads: 8,
      contextLimit: 131072,
      layers: (_, count, { sets }) => ({ sets, layers: Array.from({ length: count }, () => ({ window, rotary: 0 })) }),
    });
  },
};
