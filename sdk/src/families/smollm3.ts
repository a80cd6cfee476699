/** SmolLM3: Llama with layers that have no rotary positions. */
import { ConfigReader } from './config-reader.js';
import { Activation, type Family } from './family.js';
import { describeGatedDecoder, layerWindows, optionalWindow } from './gated-decoder.js';
import { readRope } from './rope.js';

export const smollm3: Family = {
  modelTypes: ['smollm3'],

  describe(config, configPath) {
    const reader = new ConfigReader(config, configPath);
    reader.choice('hidden_act', { silu: Activation.silu }, 'silu');
    reader.ignore('pretraining_tp', 'max_window_layers');
    const attention = reader.flag('attention_bias', false);
    const feedForward = reader.flag('mlp_bias', false);
    return describeGatedDecoder(reader, {
      modelType: 'smollm3',
      keyValueHeads: 4,
      contextLimit: 32768,
      tied: true,
      biases: { input: attention, output: attention, feedForward },
      rope: (_, headSize) => readRope(reader, headSize, { defaultTheta: 2_000_000 }),
      layers(_, count, { sets }) {
        const interval = reader.count('no_rope_layer_interval', 4);
        const rotated = reader.list('no_rope_layers'); // 1: with, 0: without
        if (rotated !== null && (rotated.length !== count || rotated.some((each) => each !== 0 && each !== 1)))
          throw reader.bad('no_rope_layers', `a list of ${count} entries, 0 or 1`);
        const has = (layer: number): boolean => (rotated === null ? (layer + 1) % interval !== 0 : rotated[layer] === 1);
        const window = optionalWindow(reader, 0);
        const windows = layerWindows(reader, count, window, (layer) => window > 0 && !has(layer));
        return { sets, layers: windows.map((each, layer) => ({ window: each, rotary: has(layer) ? 0 : -1 })) };
      },
    });
  },
};
