/** Chooses tokens by what the engine's sampler does not know: biases of single tokens, and penalties for tokens of the answer. */
import type { EngineSampling } from './engine.js';

export interface TokenWeights {
  /** Added to the logits of single tokens, by id: -100 to 100. */
  logitBias?: Readonly<Record<string, number>>;
  /** Taken from the logit of every token that the answer has already: -2 to 2; 0 (default) is off. */
  presencePenalty?: number;
  /** The same for each time that it has come: -2 to 2; 0 (default) is off. */
  frequencyPenalty?: number;
}

/** Candidates below e^-30 of the most likely one are dropped before sorting, as in the engine. */
const negligible = 30;

export function hasWeights({ logitBias, presencePenalty = 0, frequencyPenalty = 0 }: TokenWeights): boolean {
  return (logitBias !== undefined && Object.keys(logitBias).length > 0) || presencePenalty !== 0 || frequencyPenalty !== 0;
}

/** RangeError for ids that are no tokens and biases out of range. */
export function checkBias(bias: Readonly<Record<string, unknown>> | undefined, vocabularySize: number): void {
  for (const [key, value] of Object.entries(bias ?? {})) {
    if (!/^\d{1,10}$/.test(key) || Number(key) >= vocabularySize) throw new RangeError(`Expected token ids from 0 to ${vocabularySize - 1} for logitBias but received '${key.slice(0, 60)}'`);
    if (typeof value !== 'number' || !(Math.abs(value) <= 100)) throw new RangeError(`Expected numbers from -100 to 100 for logitBias but received ${String(value)} for ${key}`);
  }
}

/** One answer's choices. The same seed gives the same tokens, though not those of the engine's sampler. */
export class TokenChoice {
  private readonly bias: [number, number][];
  private readonly counts = new Map<number, number>();
  private readonly uniform: () => number;

  constructor(
    private readonly sampling: EngineSampling,
    private readonly weights: TokenWeights,
    seed: number,
  ) {
    this.bias = Object.entries(weights.logitBias ?? {}).map(([id, value]) => [Number(id), value]);
    this.uniform = uniformNumbers(seed);
  }

  /** The next token. `logits` may be changed; `recent` are the latest tokens of prompt and answer. */
  next(logits: Float32Array, recent: readonly number[]): number {
    const { repetitionPenalty, presencePenalty = 0, frequencyPenalty = 0 } = { ...this.sampling, ...this.weights };
    if (repetitionPenalty !== 1)
      for (const id of new Set(recent)) logits[id] = logits[id]! > 0 ? logits[id]! / repetitionPenalty : logits[id]! * repetitionPenalty;
    for (const [id, value] of this.bias) logits[id]! += value;
    for (const [id, count] of this.counts) logits[id]! -= presencePenalty + frequencyPenalty * count;
    const token = this.sample(logits);
    this.counts.set(token, (this.counts.get(token) ?? 0) + 1);
    return token;
  }

  /** The engine's order: temperature, then min-p, top-k and top-p. */
  private sample(logits: Float32Array): number {
    const { temperature, topK, topP, minP } = this.sampling;
    let best = 0;
    for (let id = 1; id < logits.length; id++) if (logits[id]! > logits[best]!) best = id;
    if (temperature === 0) return best;
    const span = minP > 0 ? Math.min(negligible, -Math.log(minP)) : negligible;
    const threshold = logits[best]! - span * temperature;
    let candidates: number[] = [];
    for (let id = 0; id < logits.length; id++) if (logits[id]! >= threshold) candidates.push(id);
    candidates.sort((a, b) => logits[b]! - logits[a]! || a - b);
    if (topK > 0) candidates = candidates.slice(0, topK);
    const chances = candidates.map((id) => Math.exp((logits[id]! - logits[best]!) / temperature));
    const total = chances.reduce((sum, chance) => sum + chance, 0);
    let kept = 0;
    let count = 0;
    while (count < chances.length && (count === 0 || kept < topP * total)) kept += chances[count++]!;
    let target = this.uniform() * kept;
    let chosen = 0;
    while (chosen + 1 < count && target >= chances[chosen]!) target -= chances[chosen++]!;
    return candidates[chosen]!;
  }
}

/** The generator sfc32 of PractRand, numbers from 0 to 1. */
function uniformNumbers(seed: number): () => number {
  let [a, b, c, counter] = [0, seed | 0, Math.floor(seed / 2 ** 32) | 0, 1];
  const next = (): number => {
    const sum = (a + b + counter++) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return (sum >>> 0) / 2 ** 32;
  };
  for (let i = 0; i < 12; i++) next(); // until every bit of the seed counts
  return next;
}
