/** Gemma 1 to 3 (text): gains stored minus 1, scaled embeddings; 2 adds soft caps and windows, 3 norms of query and key. */
import { ConfigReader } from './config-reader.js';
import { Activation, type Family } from './family.js';
import { describeGatedDecoder, layerWindows, type GatedDecoder } from './gated-decoder.js';
import { readPlainRope, readRope, readRopeOf } from './rope.js';

/** The activation is the tanh form even where hidden_act says gelu: hidden_activation took its place. */
function begin(reader: ConfigReader): GatedDecoder {
  reader.choice('hidden_activation', { gelu_pytorch_tanh: 1 }, 'gelu_pytorch_tanh');
  reader.only('hidden_act', 'gelu_pytorch_tanh', 'gelu');
  reader.only('use_bidirectional_attention', false);
  const bias = reader.flag('attention_bias', false);
  return {
    modelType: 'gemma',
    activation: Activation.geluTanh,
    headSize: 256,
    contextLimit: 8192,
    tied: true,
    biases: { input: bias, output: bias },
    gainsMinusOne: true,
    embeddingFactor: Math.sqrt,
  };
}

export const gemma: Family = {
  modelTypes: ['gemma'],
  describe(config, configPath) {
    const reader = new ConfigReader(config, configPath);
    return describeGatedDecoder(reader, { ...begin(reader), keyValueHeads: 16 });
  },
};

/** Of Gemma 2 and 3. */
function beginCapped(reader: ConfigReader, caps: { attention: number; logits: number }): GatedDecoder {
  const scalar = reader.positive('query_pre_attn_scalar', 256);
  return {
    ...begin(reader),
    keyValueHeads: 4,
    fourNorms: true,
    attentionScale: () => scalar ** -0.5,
    attentionCap: reader.cap('attn_logit_softcapping', caps.attention),
    logitCap: reader.cap('final_logit_softcapping', caps.logits),
  };
}

export const gemma2: Family = {
  modelTypes: ['gemma2'],
  describe(config, configPath) {
    const reader = new ConfigReader(config, configPath);
    reader.only('sliding_window_size', reader.field('sliding_window') ?? 4096); // an older name beside it
    return describeGatedDecoder(reader, {
      ...beginCapped(reader, { attention: 50, logits: 30 }),
      modelType: 'gemma2',
      layers(_, count, { sets }) {
        const windows = layerWindows(reader, count, reader.count('sliding_window', 4096), (layer) => layer % 2 === 0);
        return { sets, layers: windows.map((window) => ({ window, rotary: 0 })) };
      },
    });
  },
};

export const gemma3: Family = {
  modelTypes: ['gemma3_text'],
  describe(config, configPath) {
    const reader = new ConfigReader(config, configPath);
    return describeGatedDecoder(reader, {
      ...beginCapped(reader, { attention: 0, logits: 0 }),
      modelType: 'gemma3_text',
      contextLimit: 131072,
      headNorms: true,
      // Layers with windows rotate faster than the others.
      rope: (_, headSize) =>
        readRopeOf(reader, 'full_attention', headSize) ??
        (reader.field('rope_parameters') === undefined
          ? readPlainRope(reader, headSize, reader.positive('rope_theta', 1_000_000), true)
          : readRope(reader, headSize)),
      layers(_, count, full, headSize) {
        const local =
          readRopeOf(reader, 'sliding_attention', headSize) ??
          readPlainRope(reader, headSize, reader.positive('rope_local_base_freq', 10_000), false);
        reader.ignore('rope_theta', 'rope_local_base_freq', 'rope_scaling');
        const pattern = reader.count('sliding_window_pattern', reader.count('_sliding_window_pattern', 6));
        const windows = layerWindows(reader, count, reader.count('sliding_window', 4096), (layer) => (layer + 1) % pattern !== 0);
        return {
          sets: [...full.sets, ...local.sets],
          layers: windows.map((window) => ({ window, rotary: window > 0 ? full.sets.length : 0 })),
        };
      },
    });
  },
};
