/**
 * Guesses the next tokens of a text from its own past: where the latest tokens have occurred before, what followed then is
 * likely to follow again. Source: prompt lookup decoding, a draft model that is only the prompt.
 */

/** Longest and shortest run of latest tokens that is looked for. */
const longest = 3;
const shortest = 2;
/** Tokens of one guess; `Session::kMaxDraft` of the core. */
const maxDraft = 7;

export class PromptLookup {
  /** Grows while guesses are right; wrong guesses cost time. */
  private length = 2;

  /** Tokens that may follow `tokens`, at most `room`; none without a precedent. */
  guess(tokens: readonly number[], room: number): Int32Array {
    const count = Math.min(this.length, maxDraft, room);
    for (let size = longest; size >= shortest && count > 0; size--) {
      const at = lastOccurrence(tokens, size);
      if (at !== -1) return Int32Array.from(tokens.slice(at + size, at + size + count));
    }
    return new Int32Array(0);
  }

  /** Learns how many tokens of the last guess were right. */
  learn(guessed: number, right: number): void {
    if (guessed > 0) this.length = right === guessed ? Math.min(maxDraft, guessed * 2) : Math.max(1, right);
  }
}

/** Where the last `size` tokens occurred before, latest first; -1 if nowhere. */
function lastOccurrence(tokens: readonly number[], size: number): number {
  const end = tokens.length - size;
  for (let at = end - 1; at >= 0; at--) {
    let same = 0;
    while (same < size && tokens[at + same] === tokens[end + same]) same++;
    if (same === size) return at;
  }
  return -1;
}
