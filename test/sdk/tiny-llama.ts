// Small llama checkpoints of any size and type. Every weight is a multiple of 1/64 below 2, which fp32, fp16 and bf16
// all hold exactly, so that copies in these types are the same model.
import { mkdir, writeFile } from 'node:fs/promises';
import { randomIntegers } from '../../sdk/src/calibration.js';
import { writeSafetensors } from '../../sdk/src/checkpoint/safetensors-writer.js';
import { byteTokenizer, join, temporaryFolder } from './fixtures.js';

export interface TinyLlama {
  hidden?: number;
  heads?: number;
  keyHeads?: number;
  intermediate?: number;
  vocabulary?: number;
  layers?: number;
  tied?: boolean;
  dtype?: 'F32' | 'F16' | 'BF16';
  /** Weight files. */
  shards?: number;
  /** Changes a tensor before it is written. */
  edit?: (name: string, values: Float32Array) => void;
}

/** A checkpoint folder with a byte tokenizer; gone when the test ends. */
export async function tinyLlama(
  t: any,
  {
    hidden = 20,
    heads = 2,
    keyHeads = 1,
    intermediate = 27,
    vocabulary = 259,
    layers = 2,
    tied = true,
    dtype = 'F32',
    shards = 1,
    edit = () => undefined,
  }: TinyLlama = {},
): Promise<string> {
  const folder = join(await temporaryFolder(t), 'tiny');
  await mkdir(folder);
  const head = hidden / heads;
  const shapes: [string, number[]][] = [['model.embed_tokens.weight', [vocabulary, hidden]]];
  for (let layer = 0; layer < layers; layer++) {
    const add = (name: string, ...shape: number[]): unknown => shapes.push([`model.layers.${layer}.${name}.weight`, shape]);
    add('input_layernorm', hidden);
    add('self_attn.q_proj', hidden, hidden);
    add('self_attn.k_proj', keyHeads * head, hidden);
    add('self_attn.v_proj', keyHeads * head, hidden);
    add('self_attn.o_proj', hidden, hidden);
    add('post_attention_layernorm', hidden);
    add('mlp.gate_proj', intermediate, hidden);
    add('mlp.up_proj', intermediate, hidden);
    add('mlp.down_proj', hidden, intermediate);
  }
  shapes.push(['model.norm.weight', [hidden]]);
  if (!tied) shapes.push(['lm_head.weight', [vocabulary, hidden]]);

  const next = randomIntegers(7);
  const tensors = shapes.map(([name, shape]) => {
    const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
    for (let i = 0; i < values.length; i++) values[i] = shape.length === 1 ? 1 : (next(65) - 32) / 64;
    edit(name, values);
    const data = encode(values, dtype);
    return { name, dtype, shape, bytes: data.byteLength, data: () => [data] };
  });
  if (shards === 1) {
    await writeSafetensors(join(folder, 'model.safetensors'), tensors);
  } else {
    const weight_map: Record<string, string> = {};
    for (let shard = 0; shard < shards; shard++) {
      const file = `model-${shard + 1}-of-${shards}.safetensors`;
      const part = tensors.filter((_, i) => i % shards === shard);
      await writeSafetensors(join(folder, file), part);
      for (const { name } of part) weight_map[name] = file;
    }
    await writeFile(join(folder, 'model.safetensors.index.json'), JSON.stringify({ weight_map }));
  }
  const config = {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_act: 'silu',
    hidden_size: hidden,
    intermediate_size: intermediate,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: keyHeads,
    vocab_size: vocabulary,
    max_position_embeddings: 128,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    tie_word_embeddings: tied,
  };
  await writeFile(join(folder, 'config.json'), JSON.stringify(config));
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(byteTokenizer()));
  return folder;
}

function encode(values: Float32Array, dtype: 'F32' | 'F16' | 'BF16'): Uint8Array {
  const bits = new Uint32Array(values.buffer);
  if (dtype === 'F32') return new Uint8Array(values.buffer);
  const half = (word: number): number => {
    const magnitude = word & 0x7fffffff;
    const sign = (word >>> 16) & 0x8000;
    if (magnitude >= 0x7f800000) return sign | 0x7c00 | (magnitude > 0x7f800000 ? 0x200 : 0);
    return magnitude === 0 ? sign : sign | ((magnitude - 0x38000000) >>> 13);
  };
  return new Uint8Array(Uint16Array.from(bits, (word) => (dtype === 'BF16' ? word >>> 16 : half(word))).buffer);
}
