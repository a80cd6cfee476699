/**
 * Gives the tensors of a GGUF file the names and the layout that the families know from Hugging Face folders. Names and row
 * orders are those of llama.cpp's converter.
 */
import { ShiftAddError } from '../errors.js';
import type { RowMap } from '../families/index.js';
import type { GgufFile } from './gguf-header.js';
import type { JsonObject } from './json-file.js';
import type { StoredTensor } from './model-folder.js';

interface Names {
  /** Of tensors outside the blocks, with their endings. */
  outside: Record<string, string>;
  block: (layer: string) => string;
  /** Of tensors in a block, without ".weight" and ".bias". Three names: stored as one, their rows one after the other. */
  inside: Record<string, string | [string, string, string]>;
}

const llama: Names = {
  outside: { 'token_embd.weight': 'model.embed_tokens.weight', 'output_norm.weight': 'model.norm.weight', 'output.weight': 'lm_head.weight' },
  block: (layer) => `model.layers.${layer}.`,
  inside: {
    attn_norm: 'input_layernorm',
    attn_q: 'self_attn.q_proj',
    attn_k: 'self_attn.k_proj',
    attn_v: 'self_attn.v_proj',
    attn_output: 'self_attn.o_proj',
    attn_q_norm: 'self_attn.q_norm',
    attn_k_norm: 'self_attn.k_norm',
    ffn_norm: 'post_attention_layernorm',
    ffn_gate: 'mlp.gate_proj',
    ffn_up: 'mlp.up_proj',
    ffn_down: 'mlp.down_proj',
  },
};

const fourNorms: Names = {
  ...llama,
  inside: {
    ...llama.inside,
    post_attention_norm: 'post_attention_layernorm',
    ffn_norm: 'pre_feedforward_layernorm',
    post_ffw_norm: 'post_feedforward_layernorm',
  },
};

const bloom: Names = {
  outside: {
    'token_embd.weight': 'transformer.word_embeddings.weight',
    'token_embd_norm.weight': 'transformer.word_embeddings_layernorm.weight',
    'token_embd_norm.bias': 'transformer.word_embeddings_layernorm.bias',
    'output_norm.weight': 'transformer.ln_f.weight',
    'output_norm.bias': 'transformer.ln_f.bias',
    'output.weight': 'lm_head.weight',
  },
  block: (layer) => `transformer.h.${layer}.`,
  inside: {
    attn_norm: 'input_layernorm',
    attn_qkv: ['self_attention.query', 'self_attention.key', 'self_attention.value'],
    attn_output: 'self_attention.dense',
    ffn_norm: 'post_attention_layernorm',
    ffn_up: 'mlp.dense_h_to_4h',
    ffn_down: 'mlp.dense_4h_to_h',
  },
};

const namesOf: Record<string, Names> = {
  llama,
  qwen2: llama,
  qwen3: llama,
  smollm3: llama,
  phi3: { ...llama, inside: { ...llama.inside, attn_qkv: 'self_attn.qkv_proj', ffn_up: 'mlp.gate_up_proj' } },
  gemma: llama,
  gemma2: fourNorms,
  gemma3: fourNorms,
  gpt2: {
    outside: {
      'token_embd.weight': 'transformer.wte.weight',
      'position_embd.weight': 'transformer.wpe.weight',
      'output_norm.weight': 'transformer.ln_f.weight',
      'output_norm.bias': 'transformer.ln_f.bias',
      'output.weight': 'lm_head.weight',
    },
    block: (layer) => `transformer.h.${layer}.`,
    inside: {
      attn_norm: 'ln_1',
      attn_qkv: ['attn.query', 'attn.key', 'attn.value'],
      attn_output: 'attn.c_proj',
      ffn_norm: 'ln_2',
      ffn_up: 'mlp.c_fc',
      ffn_down: 'mlp.c_proj',
    },
  },
  bloom,
  gptneox: {
    outside: {
      'token_embd.weight': 'gpt_neox.embed_in.weight',
      'output_norm.weight': 'gpt_neox.final_layer_norm.weight',
      'output_norm.bias': 'gpt_neox.final_layer_norm.bias',
      'output.weight': 'embed_out.weight',
    },
    block: (layer) => `gpt_neox.layers.${layer}.`,
    inside: {
      ...bloom.inside,
      attn_qkv: ['attention.query', 'attention.key', 'attention.value'],
      attn_output: 'attention.dense',
    },
  },
};

/** Rotary pairs lie side by side in these; the families have the first halves of a head, then the second. */
const pairedRows = ['llama', 'smollm3'];
/** Norms hold the 1 that these families add. */
const gainsAreWhole = ['gemma', 'gemma2', 'gemma3'];
const rotaryFactors = { frequencies: 'rope_freqs.weight', short: 'rope_factors_short.weight', long: 'rope_factors_long.weight' };

const inOrder: RowMap = { first: 0, inner: 1, innerStride: 0, middle: 1, middleStride: 0, outerStride: 1 };

/** By the names of the family. ERR_UNSUPPORTED_MODEL names a tensor without a place, ERR_BAD_MODEL_FILE one in two files. */
export function ggufTensors(files: GgufFile[], architecture: string, config: JsonObject): Map<string, StoredTensor> {
  const names = namesOf[architecture]!;
  const stored = new Map<string, StoredTensor>();
  const add = (tensor: StoredTensor): void => {
    const other = stored.get(tensor.name);
    if (other !== undefined) throw new ShiftAddError('ERR_BAD_MODEL_FILE', `Tensor ${tensor.name} is twice in ${other.path} and ${tensor.path}. Download the model again.`);
    stored.set(tensor.name, tensor);
  };
  files.forEach((file, index) => {
    for (const entry of file.tensors.values()) {
      if (Object.values(rotaryFactors).includes(entry.name)) continue; // in config.json
      const [, layer, stem, ending] = /^blk\.(\d+)\.(\w+)\.(weight|bias)$/.exec(entry.name) ?? [];
      const inside = stem === undefined ? undefined : names.inside[stem];
      const place = { ...entry, path: file.path, file: index };
      if (Array.isArray(inside)) {
        for (const [part, name] of inside.entries()) {
          const rows = entry.shape[0]! / 3;
          add({ ...place, name: `${names.block(layer!)}${name}.${ending}`, shape: [rows, ...entry.shape.slice(1)], bytes: entry.bytes / 3, offset: entry.offset + (part * entry.bytes) / 3, rowOrder: inOrder });
        }
        continue;
      }
      const name = inside === undefined ? names.outside[entry.name] : `${names.block(layer!)}${inside}.${ending}`;
      if (name === undefined) throw new ShiftAddError('ERR_UNSUPPORTED_MODEL', `${file.path}: tensor ${entry.name} has no place in a ${architecture} model.`);
      const isNorm = /norm/.test(entry.name) && gainsAreWhole.includes(architecture);
      // Conv1D weights are stored the usual way round here.
      const order = architecture === 'gpt2' ? inOrder : pairedOrder(stem, architecture, config);
      add({ ...place, name, ...(order === null ? {} : { rowOrder: order }), ...(isNorm ? { holdsAdded: 1 } : {}) });
    }
  });
  return stored;
}

function pairedOrder(stem: string | undefined, architecture: string, config: JsonObject): RowMap | null {
  if (!pairedRows.includes(architecture) || (stem !== 'attn_q' && stem !== 'attn_k')) return null;
  const half = Number(config['head_dim']) / 2;
  // Row i of half j of a head is stored row 2 i + j of it.
  return { first: 0, inner: half, innerStride: 2, middle: 2, middleStride: 1, outerStride: 2 * half };
}

/** The names of tensors with factors on rotary frequencies. */
export { rotaryFactors };
