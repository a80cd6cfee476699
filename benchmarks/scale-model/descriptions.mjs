// What a packed and a dense scale model have in common: config.json, a tokenizer of bytes, and norms of ones.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beginToken, endToken, tokens } from './shape.mjs';

/** `more`: further fields of config.json. */
export async function writeDescriptions(folder, shape, more = {}) {
  await writeJson(join(folder, 'config.json'), { ...config(shape), ...more });
  await writeJson(join(folder, 'tokenizer.json'), tokenizer(shape));
  await writeJson(join(folder, 'tokenizer_config.json'), {
    tokenizer_class: 'PreTrainedTokenizerFast', bos_token: '<s>', eos_token: '</s>', model_max_length: shape.contextLimit,
  });
}

const writeJson = (path, value) => writeFile(path, `${JSON.stringify(value, null, 2)}\n`);

export function ones(name, count) {
  const bytes = new Uint8Array(new Float32Array(count).fill(1).buffer);
  return { name, dtype: 'F32', shape: [count], bytes: bytes.length, data: () => [bytes] };
}

function config(shape) {
  return {
    architectures: ['LlamaForCausalLM'], model_type: 'llama', torch_dtype: 'float16', hidden_act: 'silu',
    vocab_size: shape.vocabulary, hidden_size: shape.hidden, intermediate_size: shape.feedForward,
    num_hidden_layers: shape.layers, num_attention_heads: shape.heads, num_key_value_heads: shape.keyValueHeads,
    max_position_embeddings: shape.contextLimit, rope_theta: shape.ropeTheta, rms_norm_eps: shape.normEpsilon,
    tie_word_embeddings: true, attention_bias: false, mlp_bias: false, bos_token_id: beginToken, eos_token_id: endToken,
  };
}

/** Byte-level BPE without merges: text becomes bytes, the other tokens are only generated. */
function tokenizer(shape) {
  const list = tokens(shape);
  const special = (id) => ({ id, content: list[id], single_word: false, lstrip: false, rstrip: false, normalized: false, special: true });
  return {
    version: '1.0', truncation: null, padding: null, added_tokens: [special(beginToken), special(endToken)], normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null, decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE', dropout: null, unk_token: null, continuing_subword_prefix: null, end_of_word_suffix: null, fuse_unk: false,
      byte_fallback: false, ignore_merges: false, vocab: Object.fromEntries(list.map((token, id) => [token, id])), merges: [],
    },
  };
}
