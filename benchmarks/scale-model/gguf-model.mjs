// Writes the scale model as a GGUF file, version 3: all linear layers of one type, the tied embedding Q6_K, norms F32.
import { open, rename, rm } from 'node:fs/promises';
import { blockTypes } from './gguf-blocks.mjs';
import { RandomBytes } from './random-bytes.mjs';
import { beginToken, deviationFor, embedding, endToken, linearLayers, norms, tokens } from './shape.mjs';

const alignment = 32;
const embeddingType = 'Q6_K';
const float32 = 0; // ggml's number of the type
const valueType = { uint32: 4, int32: 5, float32: 6, bool: 7, string: 8, array: 9 };
const tokenType = { normal: 1, control: 3 };

/** @param {string} typeName of the linear layers, a key of `blockTypes` */
export async function writeGgufModel(path, shape, typeName) {
  const tensors = [
    blocks(embedding(shape), embeddingType),
    ...linearLayers(shape).map((matrix) => blocks(matrix, typeName)),
    ...norms(shape).map((norm) => ones(norm.ggufName, shape.hidden)),
  ];
  const partial = `${path}.partial`;
  const file = await open(partial, 'wx');
  try {
    await file.writeFile(header(metadata(shape, typeName), tensors));
    for (const tensor of tensors) {
      for (const piece of tensor.data()) await file.writeFile(piece);
      await file.writeFile(Buffer.alloc(padding(tensor.bytes)));
    }
    await file.close();
    await rename(partial, path);
  } catch (error) {
    await file.close();
    await rm(partial, { force: true });
    throw error;
  }
}

const padding = (bytes) => (alignment - (bytes % alignment)) % alignment;

function blocks({ ggufName, rows, columns }, typeName) {
  const type = blockTypes[typeName];
  const bytes = ((rows * columns) / type.weights) * type.bytes;
  const random = new RandomBytes(`${typeName}.${ggufName}`);
  function* data() {
    for (const piece of random.pieces(bytes, type.bytes)) {
      for (let at = 0; at < piece.length; at += type.bytes) {
        type.finish(piece.subarray(at, at + type.bytes), deviationFor(columns));
      }
      yield piece;
    }
  }
  return { name: ggufName, dimensions: [columns, rows], type: type.id, bytes, data };
}

function ones(name, count) {
  const bytes = Buffer.from(new Float32Array(count).fill(1).buffer);
  return { name, dimensions: [count], type: float32, bytes: bytes.length, data: () => [bytes] };
}

function metadata(shape, typeName) {
  const list = tokens(shape);
  const control = [beginToken, endToken];
  return [
    ['general.architecture', string('llama')],
    ['general.name', string(`random weights, ${typeName}`)],
    ['general.quantization_version', number(valueType.uint32, 2)],
    ['llama.vocab_size', number(valueType.uint32, shape.vocabulary)],
    ['llama.context_length', number(valueType.uint32, shape.contextLimit)],
    ['llama.embedding_length', number(valueType.uint32, shape.hidden)],
    ['llama.block_count', number(valueType.uint32, shape.layers)],
    ['llama.feed_forward_length', number(valueType.uint32, shape.feedForward)],
    ['llama.rope.dimension_count', number(valueType.uint32, shape.hidden / shape.heads)],
    ['llama.rope.freq_base', number(valueType.float32, shape.ropeTheta)],
    ['llama.attention.head_count', number(valueType.uint32, shape.heads)],
    ['llama.attention.head_count_kv', number(valueType.uint32, shape.keyValueHeads)],
    ['llama.attention.layer_norm_rms_epsilon', number(valueType.float32, shape.normEpsilon)],
    ['tokenizer.ggml.model', string('gpt2')],
    ['tokenizer.ggml.pre', string('gpt-2')],
    ['tokenizer.ggml.tokens', array(list.map(string))],
    ['tokenizer.ggml.token_type', array(list.map((_, id) => number(valueType.int32, control.includes(id) ? tokenType.control : tokenType.normal)))],
    // The reader asks for a list of merges that is not empty.
    ['tokenizer.ggml.merges', array([string('a b')])],
    ['tokenizer.ggml.bos_token_id', number(valueType.uint32, beginToken)],
    ['tokenizer.ggml.eos_token_id', number(valueType.uint32, endToken)],
    ['tokenizer.ggml.add_bos_token', { type: valueType.bool, bytes: Buffer.from([0]) }],
  ];
}

function string(text) {
  return { type: valueType.string, bytes: textBytes(text) };
}

function number(type, value) {
  const bytes = Buffer.alloc(4);
  if (type === valueType.float32) bytes.writeFloatLE(value);
  else bytes.writeUInt32LE(value);
  return { type, bytes };
}

/** Of values that share a type. */
function array(values) {
  return { type: valueType.array, bytes: Buffer.concat([uint32(values[0].type), uint64(values.length), ...values.map((value) => value.bytes)]) };
}

const uint32 = (value) => number(valueType.uint32, value).bytes;

function uint64(value) {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function textBytes(text) {
  const bytes = Buffer.from(text);
  return Buffer.concat([uint64(bytes.length), bytes]);
}

/** Everything before the first tensor. Offsets count from the end of the header. */
function header(fields, tensors) {
  const parts = [Buffer.from('GGUF'), uint32(3), uint64(tensors.length), uint64(fields.length)];
  for (const [key, { type, bytes }] of fields) parts.push(textBytes(key), uint32(type), bytes);
  let offset = 0;
  for (const { name, dimensions, type, bytes } of tensors) {
    parts.push(textBytes(name), uint32(dimensions.length), ...dimensions.map(uint64), uint32(type), uint64(offset));
    offset += bytes + padding(bytes);
  }
  const whole = Buffer.concat(parts);
  return Buffer.concat([whole, Buffer.alloc(padding(whole.length))]);
}
