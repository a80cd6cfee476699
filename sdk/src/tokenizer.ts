/**
 * Text to token ids and back. Encoding is that of `@huggingface/tokenizers`; decoding is ours (`token-stream.ts`), and
 * so is the choice whether special tokens in a text count.
 */
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import { makeTokenizer } from './bpe-merge.js';
import { isJsonObject, type Json, type JsonObject } from './checkpoint/json-file.js';
import type { TokenizerFiles } from './checkpoint/tokenizer-files.js';
import { ShiftAddError } from './errors.js';
import type { EngineVocabulary } from './engine.js';
import { letEventsRun } from './event-loop.js';
import { show } from './options.js';
import { SpecialText } from './special-text.js';
import { TokenDecoder, type AddedToken, type TokenStream, type TokenStreamOptions } from './token-stream.js';

/** How text becomes ids. */
export interface EncodeOptions {
  /** Adds what the tokenizer puts around a text, such as the begin token; never a second begin token. Default true. */
  addSpecialTokens?: boolean;
  /** The text of a special token becomes that token; otherwise it stays plain text. Default true. */
  parseSpecial?: boolean;
}

export interface LongEncodeOptions {
  /** Stop after this many tokens. */
  maxTokens?: number;
  signal?: AbortSignal;
}

/** How ids become text. */
export interface DecodeOptions {
  /** Leaves out special tokens. Default true. */
  skipSpecialTokens?: boolean;
}

/** Text handled at a time when a long text can be cut safely; in UTF-16 units. */
const longPiece = 1 << 16;

/** Text to token ids and back. Made by `loadModel`. */
export class Tokenizer {
  /** Id of the begin token, or null. */
  readonly beginId: number | null;
  /** Ids of the end tokens that tokenizer_config.json names. */
  readonly endIds: number[];
  /** One more than the largest id. */
  readonly size: number;
  /** Names and texts of the special tokens for chat templates: bos_token, eos_token, ... */
  readonly specialTokens: Record<string, string>;

  private readonly inner: HuggingFaceTokenizer;
  /** The same, but special tokens are only found before normalization, where marks still hide their texts. */
  private readonly guarded: HuggingFaceTokenizer;
  private readonly special: SpecialText;
  private readonly decoder: TokenDecoder;
  private readonly prefix: number[];
  private readonly suffix: number[];
  private readonly canCutAtNewlines: boolean;
  /** The tokenizer also looks for special tokens in the normalized text, where a guarded one would be found. */
  private readonly specialsAreNormalized: boolean;

  /** ERR_TOKENIZER names the file. Use `loadModel` or `loadTokenizer`. */
  constructor(files: TokenizerFiles) {
    const json: JsonObject = {
      normalizer: null,
      pre_tokenizer: null,
      post_processor: null,
      decoder: null,
      ...files.tokenizer,
    };
    const added = readAddedTokens(json['added_tokens'], files.path);
    json['added_tokens'] ??= [];
    const specials = added.filter((token) => token.special);
    this.specialsAreNormalized =
      json['normalizer'] !== null &&
      (json['added_tokens'] as JsonObject[]).some((token) => token['special'] === true && token['normalized'] === true);
    this.special = new SpecialText(specials.map((token) => token.content));
    try {
      this.inner = makeTokenizer(json, files.config);
      this.guarded = this.makeGuarded(json, files.config);
    } catch (error) {
      throw new ShiftAddError(
        'ERR_TOKENIZER',
        `${files.path} cannot be used: ${(error as Error).message}. Copy tokenizer.json from the checkpoint again.`,
        error,
      );
    }
    this.decoder = new TokenDecoder(json['decoder'], added, (id) => this.inner.id_to_token(id), files.path);
    this.size = largestId(this.inner, added) + 1;
    this.specialTokens = {};
    for (const name of ['bos_token', 'eos_token', 'unk_token', 'pad_token', 'sep_token', 'cls_token', 'mask_token']) {
      const field = files.config[name];
      const content = isJsonObject(field) ? field['content'] : field;
      if (typeof content === 'string') this.specialTokens[name] = content;
    }
    const idOf = (name: string): number | null => this.inner.token_to_id(this.specialTokens[name] ?? '\0') ?? null;
    this.beginId = idOf('bos_token');
    const end = idOf('eos_token');
    this.endIds = end === null ? [] : [end];
    [this.prefix, this.suffix] = this.surroundings();
    this.canCutAtNewlines =
      json['normalizer'] === null &&
      splitsAtNewlines(json['pre_tokenizer'] ?? null) &&
      !(json['added_tokens'] as JsonObject[]).some(
        (token) => token['lstrip'] === true || token['rstrip'] === true || String(token['content']).includes('\n'),
      );
  }

  /** Token ids of a text. Linear in its length. */
  encode(text: string, options: EncodeOptions = {}): number[] {
    if (typeof text !== 'string') throw new TypeError(`Expected a string for text but received ${show(text)}`);
    const ids = (options.parseSpecial ?? true) ? this.run(this.inner, text) : this.encodeGuarded(this.guard(text));
    return (options.addSpecialTokens ?? true) ? this.surround(ids) : ids;
  }

  /** The ids of a long text without special tokens around it: yields to the event loop and stops at `maxTokens`. */
  async encodeLong(text: string, { maxTokens = Infinity, signal }: LongEncodeOptions = {}): Promise<Int32Array> {
    const parts: number[][] = [];
    let count = 0;
    for (let start = 0; start < text.length && count < maxTokens;) {
      signal?.throwIfAborted();
      const end = this.canCutAtNewlines ? nextCut(text, start + longPiece) : text.length;
      const ids = this.encode(text.slice(start, end), { addSpecialTokens: false, parseSpecial: false });
      parts.push(ids);
      count += ids.length;
      start = end;
      await letEventsRun();
    }
    const all = new Int32Array(Math.min(count, maxTokens));
    let at = 0;
    for (const part of parts) {
      all.set(part.length > all.length - at ? part.slice(0, all.length - at) : part, at);
      at += part.length;
    }
    return all;
  }

  /** Hides special tokens in a part of a text that will be encoded with `encodeGuarded`. */
  guard(text: string): string {
    return this.special.guard(text);
  }

  /** The text behind `guard`. */
  restore(text: string): string {
    return this.special.restore(text);
  }

  /** Encodes a text whose guarded parts stay plain; special tokens elsewhere count. Adds nothing around it. */
  encodeGuarded(text: string): number[] {
    return this.run(this.specialsAreNormalized || this.special.marks(text) ? this.guarded : this.inner, text);
  }

  /** Puts around ids what the tokenizer puts around a text, but never a second begin token. */
  surround(ids: number[]): number[] {
    const already = this.prefix.length > 0 && this.prefix.every((id, i) => ids[i] === id);
    return [...(already ? [] : this.prefix), ...ids, ...this.suffix];
  }

  /** Puts the begin token in front where the tokenizer would and it is not there yet. */
  begin(ids: number[]): number[] {
    const already = this.prefix.every((id, i) => ids[i] === id);
    return already ? ids : [...this.prefix, ...ids];
  }

  /** The text of ids: added tokens verbatim, spaces untouched, broken bytes as U+FFFD. RangeError for a bad id. */
  decode(ids: Iterable<number>, options: DecodeOptions = {}): string {
    const stream = this.stream(options);
    let text = '';
    for (const id of ids) {
      if (!Number.isInteger(id) || id < 0 || id >= this.size) {
        throw new RangeError(`Expected token ids from 0 to ${this.size - 1} but received ${show(id)}`);
      }
      text += stream.push(id);
    }
    return text + stream.end();
  }

  /**
   * The bytes of the first `size` tokens, for constrained answers; none for special tokens and ids without a token. ERR_TOKENIZER for
   * a tokenizer whose text is more than its tokens' bytes.
   */
  vocabulary(size: number, endIds: number[]): EngineVocabulary {
    const parts: Uint8Array[] = [];
    const ends = new Uint32Array(size);
    let count = 0;
    for (let id = 0; id < size; id++) {
      const bytes = this.decoder.bytesOf(id);
      parts.push(bytes);
      ends[id] = count += bytes.length;
    }
    const bytes = new Uint8Array(count);
    parts.forEach((part, id) => bytes.set(part, ends[id]! - part.length));
    return { bytes, ends, endTokens: Int32Array.from(endIds.filter((id) => id < size)) };
  }

  /** What one token adds to a text; of a special token, its name. RangeError for a bad id. */
  bytesOf(id: number): Uint8Array {
    const name = this.decode([id], { skipSpecialTokens: false });
    const isSpecial = name !== '' && this.decode([id]) === '';
    return isSpecial ? new TextEncoder().encode(name) : this.decoder.bytesOf(id);
  }

  /** An incremental detokeniser. */
  stream(options: TokenStreamOptions = {}): TokenStream {
    return this.decoder.stream(options);
  }

  private run(inner: HuggingFaceTokenizer, text: string): number[] {
    if (text === '') return [];
    try {
      return inner.encode(text, { add_special_tokens: false }).ids as number[];
    } catch (error) {
      throw new ShiftAddError(
        'ERR_TOKENIZER',
        `The tokenizer failed on a text of ${text.length} characters: ${(error as Error).message}`,
        error,
      );
    }
  }

  private makeGuarded(json: JsonObject, config: JsonObject): HuggingFaceTokenizer {
    const added = (json['added_tokens'] as JsonObject[]).map((token) =>
      token['special'] === true ? { ...token, normalized: false } : token,
    );
    const emptyModel = { type: 'BPE', vocab: {}, merges: [], unk_token: null };
    const guarded = new HuggingFaceTokenizer({ ...json, added_tokens: added, model: emptyModel }, config);
    guarded.model = this.inner.model;
    const normalizer = guarded.normalizer as unknown as ((text: string) => string) | null;
    const preTokenizer = guarded.pre_tokenizer as unknown as ((text: string, options: object) => string[]) | null;
    // A text that is nothing but a special token stays marked one stage longer: the package looks once more in between.
    let marked: string | null = null;
    const normalize = (text: string): string => {
      const restored = this.special.restore(text);
      const normalized = normalizer === null ? restored : normalizer(restored);
      marked = text !== normalized && this.special.isSpecial(normalized) ? this.special.guard(normalized) : null;
      return marked ?? normalized;
    };
    const split = (text: string, options: object): string[] => {
      const restored = text === marked ? this.special.restore(text) : text;
      return preTokenizer === null ? [restored] : preTokenizer(restored, options);
    };
    guarded.normalizer = normalize as unknown as typeof guarded.normalizer;
    guarded.pre_tokenizer = split as unknown as typeof guarded.pre_tokenizer;
    return guarded;
  }

  /** Ids that the post-processor puts before and after a text. */
  private surroundings(): [number[], number[]] {
    const probe: number[] = this.inner.encode('a', { add_special_tokens: false }).ids;
    const whole: number[] = this.inner.encode('a').ids;
    for (let start = 0; start + probe.length <= whole.length; start++) {
      if (probe.every((id, i) => whole[start + i] === id))
        return [whole.slice(0, start), whole.slice(start + probe.length)];
    }
    return [[], []];
  }
}

function readAddedTokens(field: Json | undefined, path: string): AddedToken[] {
  const list = field ?? [];
  const right =
    Array.isArray(list) &&
    list.every((entry) => isJsonObject(entry) && Number.isInteger(entry['id']) && typeof entry['content'] === 'string');
  if (!right)
    throw new ShiftAddError('ERR_TOKENIZER', `${path}: added_tokens must be a list of tokens with id and content.`);
  return (list as JsonObject[]).map((entry) => ({
    id: entry['id'] as number,
    content: entry['content'] as string,
    special: entry['special'] === true,
  }));
}

function largestId(inner: HuggingFaceTokenizer, added: AddedToken[]): number {
  let largest = -1;
  const { tokens_to_ids: ids } = inner.model as unknown as { tokens_to_ids: Map<string, number> };
  for (const id of ids.values()) if (id > largest) largest = id;
  for (const { id } of added) if (id > largest) largest = id;
  return largest;
}

/** True for the byte-level splitter of GPT-2, whose pieces never run across a line end between printable characters. */
function splitsAtNewlines(preTokenizer: Json): boolean {
  const steps =
    isJsonObject(preTokenizer) && preTokenizer['type'] === 'Sequence' ? preTokenizer['pretokenizers'] : [preTokenizer];
  if (!Array.isArray(steps)) return false;
  const known = steps.every(
    (step) => isJsonObject(step) && (step['type'] === 'ByteLevel' || step['type'] === 'Digits'),
  );
  return (
    known &&
    (steps as JsonObject[]).some(
      (step) => step['type'] === 'ByteLevel' && step['use_regex'] !== false && step['add_prefix_space'] !== true,
    )
  );
}

/** The first place at or after `from` that follows a line end between printable ASCII characters. */
function nextCut(text: string, from: number): number {
  const pattern = /[!-~]\n(?=[!-~])/g;
  pattern.lastIndex = from;
  const found = pattern.exec(text);
  return found === null ? text.length : found.index + 2;
}
