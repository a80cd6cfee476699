// The prompts that all engines get. No imports: pages of the browser benchmark load it too.

/** Random ids, the same for every engine; the first ones, among them the control tokens, are left out. */
export function promptTokens(length, vocabularySize, seed) {
  const first = Math.min(512, vocabularySize >> 1);
  let state = seed + 1;
  return Array.from({ length }, () => {
    // The constants of Numerical Recipes; the upper bits are the random ones.
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return first + Math.floor((state / 2 ** 32) * (vocabularySize - first));
  });
}
