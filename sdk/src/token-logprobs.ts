/** What the model thought of a token that it generated, and of the others in its place. */

export interface TokenLogprob {
  token: number;
  /** Natural logarithm of its probability. */
  logprob: number;
}

/** Of one generated token: by the model itself, before temperature, penalties, biases and schema. */
export interface GeneratedLogprob extends TokenLogprob {
  /** The most likely tokens in its place, likeliest first, as many as were asked for. */
  top: TokenLogprob[];
}

export function logprobsOf(logits: Float32Array, token: number, count: number): GeneratedLogprob {
  let largest = -Infinity;
  for (const logit of logits) if (logit > largest) largest = logit;
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - largest);
  const offset = largest + Math.log(sum);
  const top: TokenLogprob[] = [];
  for (let id = 0; id < logits.length && count > 0; id++) {
    const logit = logits[id]!;
    if (top.length === count && logit <= top[count - 1]!.logprob) continue;
    let at = top.length;
    while (at > 0 && top[at - 1]!.logprob < logit) at--;
    top.splice(at, 0, { token: id, logprob: logit });
    if (top.length > count) top.pop();
  }
  return { token, logprob: logits[token]! - offset, top: top.map(({ token: id, logprob }) => ({ token: id, logprob: logprob - offset })) };
}
