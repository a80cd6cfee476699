// The shape of the scale model: a Llama of any size with a tied embedding. Names, sizes and the made-up vocabulary are
// the same in both file formats.

/**
 * @typedef {{ layers: number, hidden: number, feedForward: number, heads: number, keyValueHeads: number, vocabulary: number,
 *   contextLimit: number, normEpsilon: number, ropeTheta: number }} Shape
 */
/** @typedef {{ name: string, ggufName: string, rows: number, columns: number }} Matrix rows are outputs */

/** Llama-3.2-1B, with a vocabulary of 32768. */
export const oneBillion = {
  layers: 16, hidden: 2048, feedForward: 8192, heads: 32, keyValueHeads: 8, vocabulary: 32768,
  contextLimit: 4096, normEpsilon: 1e-5, ropeTheta: 10000,
};

const byteTokens = 256;
export const beginToken = byteTokens;
export const endToken = byteTokens + 1;

// Tiles of 32 rows and quads of 16 columns without padding in a packed model, blocks of 256 columns in a GGUF file.
const rowMultiple = 32;
const columnMultiple = 256;

/** Throws RangeError for a shape that would need padding, or that is no Llama. */
export function checkShape(shape) {
  const { hidden, feedForward, heads, keyValueHeads, vocabulary } = shape;
  const multiple = (name, value, of) => {
    if (value % of !== 0) throw new RangeError(`Expected a multiple of ${of} for ${name} but received ${value}`);
  };
  multiple('hidden', hidden, columnMultiple);
  multiple('feed-forward', feedForward, columnMultiple);
  multiple('vocabulary', vocabulary, rowMultiple);
  multiple('hidden', hidden, 2 * heads);
  multiple('heads', heads, keyValueHeads);
  multiple('key-value-heads x head size', keyValueHeads * (hidden / heads), rowMultiple);
  if (vocabulary <= endToken) throw new RangeError(`Expected more than ${endToken} for vocabulary but received ${vocabulary}`);
}

export const embedding = (shape) => ({
  name: 'model.embed_tokens.weight', ggufName: 'token_embd.weight', rows: shape.vocabulary, columns: shape.hidden,
});

/** The linear layers in the order of the model. @returns {Matrix[]} */
export function linearLayers(shape) {
  const { hidden, feedForward, heads, keyValueHeads } = shape;
  const keyValue = keyValueHeads * (hidden / heads);
  return layerNumbers(shape).flatMap((layer) => {
    const matrix = (name, ggufName, rows, columns) => ({
      name: `model.layers.${layer}.${name}.weight`, ggufName: `blk.${layer}.${ggufName}.weight`, rows, columns,
    });
    return [
      matrix('self_attn.q_proj', 'attn_q', hidden, hidden),
      matrix('self_attn.k_proj', 'attn_k', keyValue, hidden),
      matrix('self_attn.v_proj', 'attn_v', keyValue, hidden),
      matrix('self_attn.o_proj', 'attn_output', hidden, hidden),
      matrix('mlp.gate_proj', 'ffn_gate', feedForward, hidden),
      matrix('mlp.up_proj', 'ffn_up', feedForward, hidden),
      matrix('mlp.down_proj', 'ffn_down', hidden, feedForward),
    ];
  });
}

/** Names of the norms, each a vector of `hidden` ones. */
export function norms(shape) {
  return [
    ...layerNumbers(shape).flatMap((layer) => [
      { name: `model.layers.${layer}.input_layernorm.weight`, ggufName: `blk.${layer}.attn_norm.weight` },
      { name: `model.layers.${layer}.post_attention_layernorm.weight`, ggufName: `blk.${layer}.ffn_norm.weight` },
    ]),
    { name: 'model.norm.weight', ggufName: 'output_norm.weight' },
  ];
}

/** Weights of this deviation keep the size of what they are applied to. */
export const deviationFor = (columns) => 1 / Math.sqrt(columns);

/** The 256 bytes in the spelling of byte-level BPE, begin, end, then made-up words. @returns {string[]} */
export function tokens(shape) {
  const list = byteSpellings();
  list.push('<s>', '</s>');
  while (list.length < shape.vocabulary) list.push(`w${list.length}`);
  return list;
}

/** Printable bytes stand for themselves, the others for the characters from U+0100 on. */
function byteSpellings() {
  let stand = 0x100;
  const printable = (byte) => (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xff && byte !== 0xad);
  return Array.from({ length: byteTokens }, (_, byte) => String.fromCodePoint(printable(byte) ? byte : stand++));
}

const layerNumbers = (shape) => Array.from({ length: shape.layers }, (_, layer) => layer);
