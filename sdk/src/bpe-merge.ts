/**
 * Byte-pair merging with the results of `@huggingface/tokenizers`, but on integers in flat arrays: the time grows with
 * n log n even where a text has no place to split, and a tokenizer is built without a string for every merge.
 */
import { Tokenizer } from '@huggingface/tokenizers';
import { isJsonObject, type Json, type JsonObject } from './checkpoint/json-file.js';

/** Bits of a symbol, a rank and a position in a packed number: two of them are exact in a double. */
const span = 2 ** 26;

interface InnerBpe {
  tokens_to_ids: Map<string, number>;
  cache: { get(word: string): string[] | undefined; put(word: string, tokens: string[]): void };
  bpe(word: string): string[];
}

/** Words up to this long are remembered; as in the package. */
const longestCached = 256;

/** The package's tokenizer. A BPE model without suffixes merges with `Merger`; others are left alone. */
export function makeTokenizer(json: JsonObject, config: JsonObject): Tokenizer {
  const model = json['model'];
  const merges = isJsonObject(model) ? model['merges'] : undefined;
  if (
    !isJsonObject(model) ||
    !(model['type'] === 'BPE' || model['type'] === undefined) ||
    model['end_of_word_suffix'] ||
    model['continuing_subword_suffix'] ||
    !Array.isArray(merges) ||
    merges.length >= span ||
    !merges.every(isMerge)
  )
    return new Tokenizer(json, config);
  const tokenizer = new Tokenizer({ ...json, model: { ...model, merges: [] } }, config);
  const inner = tokenizer.model as unknown as InnerBpe;
  const texts = textsById(inner.tokens_to_ids);
  if (texts === null) return new Tokenizer(json, config);
  const merger = new Merger(merges as (string | [string, string])[], inner.tokens_to_ids, texts);
  inner.bpe = (word) => {
    if (word.length === 0) return [];
    const known = inner.cache.get(word);
    if (known !== undefined) return known;
    const tokens = merger.merge(word);
    if (word.length < longestCached) inner.cache.put(word, tokens);
    return tokens;
  };
  return tokenizer;
}

/** Null when ids are not those of a list without holes. */
function textsById(ids: ReadonlyMap<string, number>): string[] | null {
  const texts = new Array<string>(ids.size);
  for (const [text, id] of ids) {
    if (!Number.isInteger(id) || id < 0 || id >= ids.size || texts[id] !== undefined) return null;
    texts[id] = text;
  }
  return texts;
}

/** "left right" or [left, right]. */
function isMerge(entry: Json): boolean {
  if (typeof entry === 'string') return entry.indexOf(' ') > 0;
  return Array.isArray(entry) && entry.length === 2 && typeof entry[0] === 'string' && typeof entry[1] === 'string';
}

class Merger {
  /** Text of a symbol. The first are the tokens of the vocabulary, by id. */
  private readonly texts: string[];
  /** Symbols that are merged but are no tokens. */
  private readonly others = new Map<string, number>();
  /** left x span + right gives the rank. */
  private readonly ranks = new Map<number, number>();

  constructor(
    merges: (string | [string, string])[],
    private readonly vocabulary: ReadonlyMap<string, number>,
    texts: string[],
  ) {
    this.texts = texts;
    for (const [rank, merge] of merges.entries()) {
      const [left, right] = typeof merge === 'string' ? (merge.split(' ', 2) as [string, string]) : merge;
      this.ranks.set(this.symbolOf(left) * span + this.symbolOf(right), rank);
    }
  }

  private symbolOf(text: string): number {
    let symbol = this.vocabulary.get(text) ?? this.others.get(text);
    if (symbol === undefined) {
      symbol = this.texts.length;
      this.texts.push(text);
      this.others.set(text, symbol);
    }
    return symbol;
  }

  /** Applies the best merge (lowest rank, then leftmost) until none is left. */
  merge(word: string): string[] {
    const chars = Array.from(word);
    const count = chars.length;
    if (count === 1) return chars;
    // Characters that no merge knows get numbers of their own for this word only.
    const symbols = new Int32Array(count);
    for (let i = 0; i < count; i++) symbols[i] = this.vocabulary.get(chars[i]!) ?? this.others.get(chars[i]!) ?? -1 - i;
    const next = new Int32Array(count);
    const previous = new Int32Array(count);
    for (let i = 0; i < count; i++) [next[i], previous[i]] = [i + 1 < count ? i + 1 : -1, i - 1];
    const gone = new Uint8Array(count);
    const queue = new MinQueue(count);
    const offer = (at: number): void => {
      const right = next[at]!;
      if (right === -1 || symbols[at]! < 0 || symbols[right]! < 0) return;
      const rank = this.ranks.get(symbols[at]! * span + symbols[right]!);
      if (rank !== undefined) queue.push(rank * span + at);
    };
    for (let i = 0; i < count; i++) offer(i);
    while (queue.size > 0) {
      const item = queue.pop();
      const at = item % span;
      const right = gone[at] === 1 ? -1 : next[at]!;
      if (right === -1 || symbols[at]! < 0 || symbols[right]! < 0) continue;
      // Older entries for this place are stale unless the pair still has the same rank.
      if (this.ranks.get(symbols[at]! * span + symbols[right]!) !== Math.floor(item / span)) continue;
      symbols[at] = this.symbolOf(this.texts[symbols[at]!]! + this.texts[symbols[right]!]!);
      gone[right] = 1;
      next[at] = next[right]!;
      if (next[at] !== -1) previous[next[at]!] = at;
      offer(at);
      if (previous[at] !== -1) offer(previous[at]!);
    }
    const tokens: string[] = [];
    for (let i = 0; i !== -1; i = next[i]!) tokens.push(symbols[i]! < 0 ? chars[i]! : this.texts[symbols[i]!]!);
    return tokens;
  }
}

/** A binary heap of numbers. */
class MinQueue {
  size = 0;
  private items: Float64Array;

  constructor(capacity: number) {
    this.items = new Float64Array(Math.max(16, capacity));
  }

  push(item: number): void {
    if (this.size === this.items.length) {
      const larger = new Float64Array(this.size * 2);
      larger.set(this.items);
      this.items = larger;
    }
    const { items } = this;
    let at = this.size++;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (items[parent]! <= item) break;
      items[at] = items[parent]!;
      at = parent;
    }
    items[at] = item;
  }

  pop(): number {
    const { items } = this;
    const first = items[0]!;
    const last = items[--this.size]!;
    let at = 0;
    for (let child = 1; child < this.size; child = 2 * at + 1) {
      if (child + 1 < this.size && items[child + 1]! < items[child]!) child++;
      if (items[child]! >= last) break;
      items[at] = items[child]!;
      at = child;
    }
    items[at] = last;
    return first;
  }
}
