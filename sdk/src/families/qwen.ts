/** Qwen2 (biases of query, key and value) and Qwen3 (norms of query and key). */
import { ConfigReader } from './config-reader.js';
import { Activation, type Family } from './family.js';
import { describeGatedDecoder, layerWindows, optionalWindow, type GatedDecoder } from './gated-decoder.js';

function begin(reader: ConfigReader): Pick<GatedDecoder, 'keyValueHeads' | 'contextLimit' | 'layers'> {
  reader.choice('hidden_act', { silu: Activation.silu }, 'silu');
  return {
    keyValueHeads: 32,
    contextLimit: 32768,
    layers(_, count, { sets }) {
      const window = optionalWindow(reader);
      const from = reader.field('max_window_layers') === 0 ? 0 : reader.count('max_window_layers', 28);
      const windows = layerWindows(reader, count, window, (layer) => window > 0 && layer >= from);
      return { sets, layers: windows.map((each) => ({ window: each, rotary: 0 })) };
    },
  };
}

export const qwen2: Family = {
  modelTypes: ['qwen2'],
  describe(config, configPath) {
    const reader = new ConfigReader(config, configPath);
    reader.only('use_mrope', false);
    return describeGatedDecoder(reader, { modelType: 'qwen2', ...begin(reader), biases: { input: true } });
  },
};

export const qwen3: Family = {
  modelTypes: ['qwen3'],
  describe(config, configPath) {
    const reader = new ConfigReader(config, configPath);
    const bias = reader.flag('attention_bias', false);
    return describeGatedDecoder(reader, {
      modelType: 'qwen3',
      ...begin(reader),
      headSize: 128,
      headNorms: true,
      biases: { input: bias, output: bias },
    });
  },
};
