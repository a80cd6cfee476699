/**
 * Makes tokenizer.json, tokenizer_config.json and the chat template out of the metadata of a GGUF file. The kinds of
 * pre-tokenizers and their expressions are those of llama.cpp.
 */
import { ShiftAddError } from '../errors.js';
import { show } from '../options.js';
import type { GgufFile } from './gguf-header.js';
import type { Json, JsonObject } from './json-file.js';
import type { TokenizerFiles } from './tokenizer-files.js';

/** Token types of GGUF. */
const unknownType = 2;
const controlType = 3;
const userDefinedType = 4;
const byteType = 6;

const gpt2Pattern = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const llama3Pattern =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

const split = (pattern: string): JsonObject => ({ type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false });
const digits: JsonObject = { type: 'Digits', individual_digits: true };
const byteLevel: JsonObject = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false };

/** Kinds whose texts begin with the begin token unless the file says otherwise, and whose whole words need no merges. */
const beginKinds = ['llama-bpe', 'llama3', 'llama-v3', 'falcon3', 'pixtral'];

/** What splits a text before bytes are merged, by `tokenizer.ggml.pre`. */
const preTokenizers: readonly (readonly [names: readonly string[], steps: JsonObject[]])[] = [
  [['gpt-2', 'gpt2', 'mpt', 'olmo', 'phi-2', 'jais', 'trillion', 'granite-docling'], [split(gpt2Pattern)]],
  [['smollm', 'starcoder', 'refact', 'command-r', 'codeshell', 'exaone', 'minerva-7b'], [digits, split(gpt2Pattern)]],
  [['llama-bpe', 'llama3', 'llama-v3', 'falcon3', 'pixtral', 'dbrx', 'smaug-bpe'], [split(llama3Pattern)]],
  [['qwen2', 'deepseek-r1-qwen', 'stablelm2', 'hunyuan', 'megrez'], [split(llama3Pattern.replace('\\p{N}{1,3}', '\\p{N}'))]],
  [['bloom', 'poro-chat', 'gpt3-finnish'], [split(' ?[^(\\s|.,!?…。，、।۔،)]+')]],
  [
    ['default'],
    [split('[\\p{P}\\$\\+<=>\\^~\\|]+'), split(gpt2Pattern.replace('|\\s+(?!\\S)|\\s+', '|\\s+(?!\\S)')), split('\\p{N}+'), split('[0-9][0-9][0-9]')],
  ],
];

/** ERR_TOKENIZER and ERR_UNSUPPORTED_MODEL name the key. */
export function ggufTokenizer(file: GgufFile): TokenizerFiles {
  const reader = new TokenizerMetadata(file);
  const kind = file.metadata.get('tokenizer.ggml.model');
  if (kind !== 'gpt2' && kind !== 'llama') {
    throw new ShiftAddError(
      'ERR_UNSUPPORTED_MODEL',
      `${file.path}: tokenizer.ggml.model is ${show(kind)}; this version converts 'gpt2' (byte-level BPE) and 'llama' (SentencePiece). Use the checkpoint with tokenizer.json instead.`,
    );
  }
  const tokens = reader.strings('tokens');
  const types = reader.numbers('token_type', tokens.length) ?? tokens.map(() => 1);
  const vocabulary = Object.fromEntries(tokens.map((token, id) => [token, id]));
  if (Object.keys(vocabulary).length !== tokens.length) throw reader.error('tokens', 'has a token twice');
  const special = tokens.flatMap((content, id) =>
    types[id] === controlType || types[id] === userDefinedType || (types[id] === unknownType && kind === 'llama')
      ? [{ id, content, single_word: false, lstrip: false, rstrip: stripsRight(file, content), normalized: false, special: types[id] !== userDefinedType }]
      : [],
  );
  const begin = reader.token('bos', tokens);
  const end = reader.token('eos', tokens);
  const addsBegin = reader.flag('add_bos_token', kind === 'llama' || beginKinds.includes(String(file.metadata.get('tokenizer.ggml.pre')))) && begin !== null;
  const addsEnd = reader.flag('add_eos_token', false) && end !== null;
  const template = file.metadata.get('tokenizer.chat_template');
  return {
    path: file.path,
    tokenizer: {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: special,
      ...(kind === 'gpt2' ? byteLevelParts(reader, vocabulary) : sentencePieceParts(reader, vocabulary, tokens, types)),
      post_processor: postProcessor(addsBegin ? begin : null, addsEnd ? end : null, vocabulary),
    },
    config: {
      ...(begin === null ? {} : { bos_token: begin }),
      ...(end === null ? {} : { eos_token: end }),
      ...namedTokens(reader, tokens),
      add_bos_token: addsBegin,
      clean_up_tokenization_spaces: false,
      ...(typeof template === 'string' ? { chat_template: template } : {}),
    },
    chatTemplate: typeof template === 'string' ? template : null,
  };
}

/** The special tokens of Phi 3 take white space behind them along; the file does not say so. */
function stripsRight(file: GgufFile, content: string): boolean {
  const isPhi = file.metadata.get('general.architecture') === 'phi3' && file.metadata.get('tokenizer.ggml.model') === 'llama';
  return isPhi && !['<unk>', '<s>', '<|endoftext|>'].includes(content);
}

function namedTokens(reader: TokenizerMetadata, tokens: string[]): JsonObject {
  const named = { unk_token: reader.token('unknown', tokens), pad_token: reader.token('padding', tokens) };
  return Object.fromEntries(Object.entries(named).filter(([, token]) => token !== null));
}

function byteLevelParts(reader: TokenizerMetadata, vocab: JsonObject): JsonObject {
  const pre = reader.file.metadata.get('tokenizer.ggml.pre') ?? 'default';
  const steps = preTokenizers.find(([names]) => names.includes(String(pre)))?.[1];
  if (steps === undefined) {
    const known = preTokenizers.flatMap(([names]) => names).join(', ');
    throw new ShiftAddError(
      'ERR_UNSUPPORTED_MODEL',
      `${reader.file.path}: tokenizer.ggml.pre is ${show(pre)}; this version splits texts as ${known}. Use the checkpoint with tokenizer.json instead.`,
    );
  }
  const merges = reader.strings('merges').map((merge): Json => {
    const at = merge.indexOf(' ', 1);
    if (at < 1 || at === merge.length - 1) throw reader.error('merges', `has ${show(merge)}, which is not two tokens`);
    return [merge.slice(0, at), merge.slice(at + 1)];
  });
  return {
    normalizer: null,
    pre_tokenizer: { type: 'Sequence', pretokenizers: [...steps, byteLevel] },
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: { type: 'BPE', dropout: null, unk_token: null, continuing_subword_prefix: null, end_of_word_suffix: null, fuse_unk: false, byte_fallback: false, ignore_merges: beginKinds.includes(String(pre)), vocab, merges },
  };
}

function sentencePieceParts(reader: TokenizerMetadata, vocab: JsonObject, tokens: string[], types: number[]): JsonObject {
  const prefix = reader.flag('add_space_prefix', true);
  const replace = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
  const unknown = tokens.find((_, id) => types[id] === unknownType) ?? null;
  return {
    normalizer: prefix ? { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '▁' }, replace] } : replace,
    pre_tokenizer: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(prefix ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
      ],
    },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: unknown,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: true,
      byte_fallback: types.includes(byteType),
      ignore_merges: false,
      vocab,
      merges: mergesOf(reader, tokens, types),
    },
  };
}

/** Every way to put a token together from two others, the best scores first; ties by the tokens' order. */
function mergesOf(reader: TokenizerMetadata, tokens: string[], types: number[]): Json[] {
  const scores = reader.numbers('scores', tokens.length);
  if (scores === null) throw reader.error('scores', 'is missing');
  const ids = new Map(tokens.map((token, id) => [token, id]));
  const merges: { left: string; right: string; score: number }[] = [];
  for (const [id, token] of tokens.entries()) {
    if (types[id] === controlType || types[id] === byteType || types[id] === unknownType) continue;
    const points = [...token];
    const found: { left: string; right: string; order: number[] }[] = [];
    let left = '';
    for (let cut = 1; cut < points.length; cut++) {
      left += points[cut - 1]!;
      const right = token.slice(left.length);
      const order = [ids.get(left), ids.get(right)];
      if (order[0] !== undefined && order[1] !== undefined) found.push({ left, right, order: order as number[] });
    }
    found.sort((a, b) => a.order[0]! - b.order[0]! || a.order[1]! - b.order[1]!);
    for (const { left, right } of found) merges.push({ left, right, score: scores[id]! });
  }
  return merges
    .sort((a, b) => b.score - a.score || b.left.length - a.left.length || b.right.length - a.right.length)
    .map(({ left, right }) => [left, right]);
}

function postProcessor(begin: string | null, end: string | null, vocab: JsonObject): JsonObject | null {
  if (begin === null && end === null) return null;
  const special = (token: string): JsonObject => ({ SpecialToken: { id: token, type_id: 0 } });
  const around = [begin, end].filter((token) => token !== null);
  const sequence = (id: string): Json[] => [
    ...(begin === null ? [] : [special(begin)]),
    { Sequence: { id, type_id: 0 } },
    ...(end === null ? [] : [special(end)]),
  ];
  return {
    type: 'TemplateProcessing',
    single: sequence('A'),
    pair: [...sequence('A'), ...sequence('B')],
    special_tokens: Object.fromEntries(around.map((token) => [token, { id: token, ids: [vocab[token]!], tokens: [token] }])),
  };
}

class TokenizerMetadata {
  constructor(readonly file: GgufFile) {}

  error(key: string, what: string): ShiftAddError {
    return new ShiftAddError('ERR_TOKENIZER', `${this.file.path}: tokenizer.ggml.${key} ${what}. Download or convert the file again.`);
  }

  strings(key: string): string[] {
    const value = this.file.metadata.get(`tokenizer.ggml.${key}`);
    if (!Array.isArray(value) || !value.every((each) => typeof each === 'string')) throw this.error(key, 'is no list of strings');
    return value as string[];
  }

  /** Null when there is none. */
  numbers(key: string, count: number): number[] | null {
    const value = this.file.metadata.get(`tokenizer.ggml.${key}`);
    if (value === undefined) return null;
    if (!Array.isArray(value) || value.length !== count || !value.every((each) => typeof each === 'number'))
      throw this.error(key, `is no list of ${count} numbers`);
    return value as number[];
  }

  flag(key: string, initial: boolean): boolean {
    const value = this.file.metadata.get(`tokenizer.ggml.${key}`) ?? initial;
    if (typeof value !== 'boolean') throw this.error(key, 'is neither true nor false');
    return value;
  }

  /** The text of the token whose id a key names; null without the key. */
  token(name: string, tokens: string[]): string | null {
    const id = this.file.metadata.get(`tokenizer.ggml.${name}_token_id`);
    if (id === undefined) return null;
    const token = typeof id === 'number' ? tokens[id] : undefined;
    if (token === undefined) throw this.error(`${name}_token_id`, `is ${show(id)}, no token of the vocabulary`);
    return token;
  }
}
