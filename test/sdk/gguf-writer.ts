// Writes GGUF files as llama.cpp's converter does: names, row orders, +1 in Gemma's norms, metadata.
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { readSafetensors } from '../../sdk/src/checkpoint/safetensors.js';
import { join } from './fixtures.js';

export type MetadataEntry = [key: string, type: number, value: any];

/** Numbers of metadata types. */
export const u32 = 4;
export const i32 = 5;
export const f32 = 6;
export const bool = 7;
export const string = 8;
export const list = (type: number): number => 1000 + type;

export interface GgufTensor {
  name: string;
  /** [rows, columns] */
  shape: number[];
  /** 0: F32, 1: F16, others of ggml. */
  type: number;
  data: Uint8Array;
}

export function ggufBytes(metadata: MetadataEntry[], tensors: GgufTensor[], { alignment = 32, version = 3 } = {}): Uint8Array {
  const parts: Buffer[] = [];
  const u = (value: number): void => void parts.push(Buffer.from(Uint32Array.of(value).buffer));
  const long = (value: number): void => void parts.push(Buffer.from(BigUint64Array.of(BigInt(value)).buffer));
  const text = (value: string): void => {
    const bytes = Buffer.from(value);
    long(bytes.length);
    parts.push(bytes);
  };
  const scalar = (type: number, value: any): void => {
    if (type === string) text(value);
    else if (type === bool) parts.push(Buffer.of(value ? 1 : 0));
    else if (type === f32) parts.push(Buffer.from(Float32Array.of(value).buffer));
    else u(value >>> 0);
  };
  parts.push(Buffer.from('GGUF'));
  u(version);
  long(tensors.length);
  long(metadata.length);
  for (const [key, type, value] of metadata) {
    text(key);
    if (type < 1000) {
      u(type);
      scalar(type, value);
      continue;
    }
    u(9);
    u(type - 1000);
    long(value.length);
    for (const each of value) scalar(type - 1000, each);
  }
  const aligned = (bytes: number): number => Math.ceil(bytes / alignment) * alignment;
  let offset = 0;
  for (const { name, shape, type, data } of tensors) {
    text(name);
    u(shape.length);
    for (const size of [...shape].reverse()) long(size);
    u(type);
    long(offset);
    offset += aligned(data.length);
  }
  const header = Buffer.concat(parts);
  const out = new Uint8Array(aligned(header.length) + offset);
  out.set(header);
  let at = aligned(header.length);
  for (const { data } of tensors) {
    out.set(data, at);
    at += aligned(data.length);
  }
  return out;
}

type Numbers = { shape: number[]; values: Float32Array };

/** Tensors of a fixture, widened. */
export async function readTensors(fixture: string): Promise<Map<string, Numbers>> {
  const path = join(fixture, 'model.safetensors');
  const file = readFileSync(path);
  const tensors = new Map<string, Numbers>();
  for (const { name, shape, offset, bytes } of (await readSafetensors(path)).tensors.values()) {
    const halves = new Uint16Array(file.buffer.slice(file.byteOffset + offset, file.byteOffset + offset + bytes));
    tensors.set(name, { shape, values: Float32Array.from(halves, widen) });
  }
  return tensors;
}

function widen(half: number): number {
  const exponent = (half >> 10) & 31;
  const mantissa = half & 1023;
  const value = exponent === 0 ? mantissa * 2 ** -24 : (1 + mantissa / 1024) * 2 ** (exponent - 15);
  return half & 0x8000 ? -value : value;
}

function rowsOf({ shape, values }: Numbers): Float32Array[] {
  const columns = shape[1] ?? 1;
  return Array.from({ length: shape[0]! }, (_, row) => values.subarray(row * columns, (row + 1) * columns));
}

function reorder(tensor: Numbers, order: (row: number) => number): Numbers {
  const rows = rowsOf(tensor);
  return { shape: tensor.shape, values: Float32Array.from(rows.flatMap((_, row) => [...rows[order(row)]!])) };
}

/** Row 2 i + j of a head from row i of its half j: pairs side by side. */
function paired(tensor: Numbers, headSize: number): Numbers {
  return reorder(tensor, (row) => {
    const inHead = row % headSize;
    return row - inHead + Math.floor(inHead / 2) + (inHead % 2) * (headSize / 2);
  });
}

/** [head][q, k, v][size] to [q, k, v][head][size]. */
function ungrouped(tensor: Numbers, heads: number): Numbers {
  const size = tensor.shape[0]! / heads / 3;
  return reorder(tensor, (row) => {
    const [part, head, i] = [Math.floor(row / (heads * size)), Math.floor(row / size) % heads, row % size];
    return (head * 3 + part) * size + i;
  });
}

function transposed({ shape, values }: Numbers): Numbers {
  const [rows, columns] = [shape[0]!, shape[1]!];
  return { shape: [columns, rows], values: values.map((_, i) => values[(i % rows) * columns + Math.floor(i / rows)]!) };
}

const llamaNames: [RegExp, string][] = [
  [/^model\.embed_tokens/, 'token_embd'],
  [/^model\.norm/, 'output_norm'],
  [/^lm_head/, 'output'],
  [/^model\.layers\.(\d+)\.input_layernorm/, 'blk.$1.attn_norm'],
  [/^model\.layers\.(\d+)\.self_attn\.([qkv])_proj/, 'blk.$1.attn_$2'],
  [/^model\.layers\.(\d+)\.self_attn\.qkv_proj/, 'blk.$1.attn_qkv'],
  [/^model\.layers\.(\d+)\.self_attn\.o_proj/, 'blk.$1.attn_output'],
  [/^model\.layers\.(\d+)\.self_attn\.([qk])_norm/, 'blk.$1.attn_$2_norm'],
  [/^model\.layers\.(\d+)\.mlp\.gate_up_proj/, 'blk.$1.ffn_up'],
  [/^model\.layers\.(\d+)\.mlp\.(gate|up|down)_proj/, 'blk.$1.ffn_$2'],
  [/^model\.layers\.(\d+)\.pre_feedforward_layernorm/, 'blk.$1.ffn_norm'],
  [/^model\.layers\.(\d+)\.post_feedforward_layernorm/, 'blk.$1.post_ffw_norm'],
  [/^model\.layers\.(\d+)\.post_attention_layernorm/, 'blk.$1.ffn_norm'],
];
const biasedNames: [RegExp, string][] = [
  [/^transformer\.word_embeddings_layernorm/, 'token_embd_norm'],
  [/^transformer\.wte|^transformer\.word_embeddings|^gpt_neox\.embed_in/, 'token_embd'],
  [/^transformer\.wpe/, 'position_embd'],
  [/^transformer\.ln_f|^gpt_neox\.final_layer_norm/, 'output_norm'],
  [/^embed_out/, 'output'],
  [/^[\w.]+\.(\d+)\.(ln_1|input_layernorm)/, 'blk.$1.attn_norm'],
  [/^[\w.]+\.(\d+)\.(ln_2|post_attention_layernorm)/, 'blk.$1.ffn_norm'],
  [/^[\w.]+\.(\d+)\.\w+\.(c_attn|query_key_value)/, 'blk.$1.attn_qkv'],
  [/^[\w.]+\.(\d+)\.(attn\.c_proj|(self_)?attention\.dense)/, 'blk.$1.attn_output'],
  [/^[\w.]+\.(\d+)\.mlp\.(c_fc|dense_h_to_4h)/, 'blk.$1.ffn_up'],
  [/^[\w.]+\.(\d+)\.mlp\.(c_proj|dense_4h_to_h)/, 'blk.$1.ffn_down'],
];

/** The fixture's config.json. */
function configOf(fixture: string): any {
  return JSON.parse(readFileSync(join(fixture, 'config.json'), 'utf8'));
}

/** Tensors of a fixture in the order and under the names that the converter gives them, in F32. */
export async function ggufTensorsOf(fixture: string): Promise<GgufTensor[]> {
  const config = configOf(fixture);
  const architecture = architectureOf(config);
  const heads = config.num_attention_heads ?? config.n_head;
  const headSize = config.head_dim ?? config.hidden_size / heads;
  const names = [...llamaNames];
  if (config.model_type.startsWith('gemma2') || config.model_type.startsWith('gemma3')) names.splice(-1, 1, [/^model\.layers\.(\d+)\.post_attention_layernorm/, 'blk.$1.post_attention_norm']);
  return [...(await readTensors(fixture))].map(([name, tensor]) => {
    const found = [...names, ...biasedNames].find(([pattern]) => pattern.test(name));
    if (found === undefined) throw new Error(`no name for ${name}`);
    let { shape, values } = tensor;
    if (/llama|smollm3/.test(architecture) && /[qk]_proj/.test(name)) ({ shape, values } = paired(tensor, headSize));
    if (/query_key_value/.test(name)) ({ shape, values } = ungrouped(tensor, heads));
    if (/c_(attn|proj|fc)\.weight/.test(name)) ({ shape, values } = transposed(tensor));
    if (/gemma/.test(architecture) && /norm/.test(name)) values = values.map((value) => value + 1);
    const match = found[0].exec(name)!;
    const stem = match[0].replace(...found);
    return { name: `${stem}.${name.endsWith('.bias') ? 'bias' : 'weight'}`, shape, type: 0, data: new Uint8Array(Float32Array.from(values).buffer) };
  });
}

export function architectureOf(config: any): string {
  return ({ gpt_neox: 'gptneox', gemma3_text: 'gemma3', mistral: 'llama' } as Record<string, string>)[config.model_type] ?? config.model_type;
}

/** Metadata of a fixture, with a tokenizer of bytes. */
export function ggufMetadataOf(fixture: string): MetadataEntry[] {
  const config = configOf(fixture);
  const architecture = architectureOf(config);
  const heads = config.num_attention_heads ?? config.n_head;
  const hidden = config.hidden_size ?? config.n_embd;
  const entries: MetadataEntry[] = [
    ['general.architecture', string, architecture],
    [`${architecture}.block_count`, u32, config.num_hidden_layers ?? config.n_layer],
    [`${architecture}.context_length`, u32, config.max_position_embeddings ?? config.n_positions ?? 2048],
    [`${architecture}.embedding_length`, u32, hidden],
    [`${architecture}.feed_forward_length`, u32, config.intermediate_size ?? 4 * hidden],
    [`${architecture}.attention.head_count`, u32, heads],
    [`${architecture}.attention.head_count_kv`, u32, config.num_key_value_heads ?? heads],
  ];
  if (config.head_dim !== undefined) entries.push([`${architecture}.attention.key_length`, u32, config.head_dim]);
  const rms = config.rms_norm_eps !== undefined;
  entries.push([`${architecture}.attention.layer_norm${rms ? '_rms' : ''}_epsilon`, f32, config.rms_norm_eps ?? config.layer_norm_epsilon ?? config.layer_norm_eps]);
  const rope = config.rope_parameters?.full_attention ?? config.rope_parameters;
  if (rope !== undefined) entries.push([`${architecture}.rope.freq_base`, f32, rope.rope_theta]);
  if (architecture === 'gptneox') {
    entries.push(['gptneox.rope.dimension_count', u32, (hidden / heads) * rope.partial_rotary_factor]);
    entries.push(['gptneox.use_parallel_residual', bool, config.use_parallel_residual]);
  }
  if (config.sliding_window && /gemma/.test(architecture)) entries.push([`${architecture}.attention.sliding_window`, u32, config.sliding_window]);
  if (architecture === 'gemma2') {
    entries.push(['gemma2.attn_logit_softcapping', f32, config.attn_logit_softcapping]);
    entries.push(['gemma2.final_logit_softcapping', f32, config.final_logit_softcapping]);
  }
  return [...entries, ...byteTokenizerEntries(config.vocab_size)];
}

/** A byte-level vocabulary; further ids are unused tokens. */
function byteTokenizerEntries(size: number): MetadataEntry[] {
  const points: number[] = [];
  for (let byte = 0; byte < 256; byte++) if ((byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae) points.push(byte);
  for (let stand = 0x100; points.length < size; stand++) points.push(stand);
  return [
    ['tokenizer.ggml.model', string, 'gpt2'],
    ['tokenizer.ggml.pre', string, 'gpt-2'],
    ['tokenizer.ggml.tokens', list(string), points.slice(0, size).map((point) => String.fromCharCode(point))],
    ['tokenizer.ggml.token_type', list(i32), points.slice(0, size).map(() => 1)],
    ['tokenizer.ggml.merges', list(string), []],
    ['tokenizer.ggml.eos_token_id', u32, 1],
  ];
}

export async function writeGguf(path: string, fixture: string, edit: (metadata: MetadataEntry[], tensors: GgufTensor[]) => void = () => undefined): Promise<void> {
  const metadata = ggufMetadataOf(fixture);
  const tensors = await ggufTensorsOf(fixture);
  edit(metadata, tensors);
  await writeFile(path, ggufBytes(metadata, tensors));
}
