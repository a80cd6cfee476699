/**
 * Byte-pair merging for very long words: the merges and results of `@huggingface/tokenizers`, but on integers in flat
 * arrays, so that the time grows with n log n even where a text has no place to split.
 */
import type { Tokenizer } from '@huggingface/tokenizers';

/** Bits of a symbol, a rank and a position in a packed number: two of them are exact in a double. */
const span = 2 ** 26;

interface InnerBpe {
  vocab: string[];
  merges: [string, string][];
  bpe_ranks: Map<string, number>;
  end_of_word_suffix?: string | null;
  continuing_subword_suffix: string | null;
  cache: { get(word: string): string[] | undefined; put(word: string, tokens: string[]): void };
  bpe(word: string): string[];
}

/** Words up to this long are remembered; as in the package. */
const longestCached = 256;

/** Replaces the merging of a BPE model; leaves models with suffixes and other models alone. */
export function speedUpMerging(tokenizer: Tokenizer): void {
  const inner = tokenizer.model as unknown as InnerBpe;
  if (typeof inner.bpe !== 'function') return;
  if (inner.end_of_word_suffix || inner.continuing_subword_suffix || inner.merges.length >= span) return;
  const merger = new Merger(inner.merges);
  inner.bpe_ranks = new Map(); // not needed any more
  inner.bpe = (word) => {
    if (word.length === 0) return [];
    const known = inner.cache.get(word);
    if (known !== undefined) return known;
    const tokens = merger.merge(word);
    if (word.length < longestCached) inner.cache.put(word, tokens);
    return tokens;
  };
}

class Merger {
  private readonly texts: string[] = [];
  private readonly ids = new Map<string, number>();
  /** left x span + right gives rank x span + merged. */
  private readonly rules = new Map<number, number>();

  constructor(merges: [string, string][]) {
    merges.forEach(([left, right], rank) => {
      this.rules.set(this.idOf(left) * span + this.idOf(right), rank * span + this.idOf(left + right));
    });
  }

  private idOf(text: string): number {
    let id = this.ids.get(text);
    if (id === undefined) {
      id = this.texts.length;
      this.texts.push(text);
      this.ids.set(text, id);
    }
    return id;
  }

  /** Applies the best merge (lowest rank, then leftmost) until none is left. */
  merge(word: string): string[] {
    const chars = Array.from(word);
    const count = chars.length;
    if (count === 1) return chars;
    // Characters that no merge knows get numbers of their own for this word only.
    const symbols = new Int32Array(count);
    for (let i = 0; i < count; i++) symbols[i] = this.ids.get(chars[i]!) ?? -1 - i;
    const next = new Int32Array(count);
    const previous = new Int32Array(count);
    for (let i = 0; i < count; i++) [next[i], previous[i]] = [i + 1 < count ? i + 1 : -1, i - 1];
    const gone = new Uint8Array(count);
    const queue = new MinQueue(count);
    const offer = (at: number): void => {
      const right = next[at]!;
      if (right === -1 || symbols[at]! < 0 || symbols[right]! < 0) return;
      const rule = this.rules.get(symbols[at]! * span + symbols[right]!);
      if (rule !== undefined) queue.push(Math.floor(rule / span) * span + at);
    };
    for (let i = 0; i < count; i++) offer(i);
    while (queue.size > 0) {
      const item = queue.pop();
      const at = item % span;
      const right = gone[at] === 1 ? -1 : next[at]!;
      if (right === -1 || symbols[at]! < 0 || symbols[right]! < 0) continue;
      const rule = this.rules.get(symbols[at]! * span + symbols[right]!);
      // Older entries for this place are stale unless the pair still has the same rank.
      if (rule === undefined || Math.floor(rule / span) !== Math.floor(item / span)) continue;
      symbols[at] = rule % span;
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
