/**
 * What OPT, BLOOM, GPT-2 and GPT-NeoX share: layer norms with biases, linear layers with biases, as many key/value heads as
 * heads, feed-forward layers without gate.
 */
import type { ConfigReader } from './config-reader.js';
import { Activation, Role, type FamilySpec } from './family.js';
import type { Size } from './tensor-list.js';

export const activations: Record<string, number> = {
  relu: Activation.relu,
  gelu: Activation.gelu,
  gelu_new: Activation.geluTanh,
  gelu_fast: Activation.geluTanh,
  gelu_pytorch_tanh: Activation.geluTanh,
};

/** hidden_size and num_attention_heads under the names of the family. */
export function readHeads(reader: ConfigReader, names: { hidden: string; heads: string }): { hidden: number; heads: number; headSize: number } {
  const hidden = reader.count(names.hidden);
  const heads = reader.small(names.heads);
  if (hidden % heads !== 0) throw reader.bad(names.heads, `a divisor of ${names.hidden} (${hidden})`);
  if (hidden / heads > 4096) throw reader.bad(names.hidden, `at most 4096 for each of the ${heads} heads`);
  return { hidden, heads, headSize: hidden / heads };
}

/** All that these families have in common; the rest overrides it. */
export function biasedDecoder(
  sizes: { hidden: number; heads: number; headSize: number; layers: number },
  rest: Pick<FamilySpec, 'modelType' | 'vocabularySize' | 'feedForwardSize' | 'contextLimit' | 'normEpsilon' | 'activation' | 'tiedHead' | 'tensors' | 'prefix' | 'ignored'> &
    Partial<FamilySpec>,
): FamilySpec {
  const { hidden, heads, headSize, layers } = sizes;
  return {
    hiddenSize: hidden,
    layers,
    heads,
    keyValueHeads: heads,
    headSize,
    attentionScale: 1 / Math.sqrt(headSize),
    layerNorm: true,
    normBehind: false,
    parallelBlocks: false,
    gated: false,
    embeddingSize: hidden,
    embeddingFactor: 1,
    attentionCap: 0,
    logitCap: 0,
    firstPosition: 0,
    rotarySize: 0,
    rotarySets: [],
    rotarySwitch: 0,
    alibiSlopes: [],
    layerSpecs: Array.from({ length: layers }, () => ({ window: 0, rotary: -1 })),
    ...rest,
  };
}

/** Rows of q, k and v, which are stored as one tensor. */
export function thirds(heads: number, headSize: number, rule: string): { rows: Size; parts: readonly (readonly [name: string, role: number, bias: number])[] } {
  return {
    rows: { value: heads * headSize, rule },
    parts: [
      ['query', Role.query, Role.queryBias],
      ['key', Role.key, Role.keyBias],
      ['value', Role.value, Role.valueBias],
    ],
  };
}
