/** What an answer took: OpenAI's `usage` with energy and memory besides, and the `timings` of llama-server. */
import type { GenerationResult, MemoryUse } from '../run.js';

export interface UsageBody {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: { cached_tokens: number };
  /** Within the scope of the meter while the request ran; null without a meter. */
  joules: number | null;
  /** The most memory that the process has had; null where the system does not tell. */
  peak_bytes: number | null;
}

export interface TimingsBody {
  cache_n: number;
  prompt_n: number;
  prompt_ms: number;
  prompt_per_token_ms: number | null;
  prompt_per_second: number | null;
  predicted_n: number;
  predicted_ms: number;
  predicted_per_token_ms: number | null;
  predicted_per_second: number | null;
}

/** The results of one request, summed. A prompt that several answers have counts once. */
export class Tally {
  private readonly results: { prompt: number; result: GenerationResult }[] = [];

  add(prompt: number, result: GenerationResult): void {
    this.results.push({ prompt, result });
  }

  usage(): UsageBody {
    const promptTokens = this.sum(({ usage }) => usage.promptTokens, true);
    const completionTokens = this.sum(({ usage }) => usage.completionTokens);
    const joules = this.results.map(({ result }) => result.energy.joules);
    const peaks = this.results.map(({ result }) => peakBytes(result.memory)).filter((bytes) => bytes !== null);
    return {
      prompt_tokens: promptTokens,
      completion_tokens: completionTokens,
      total_tokens: promptTokens + completionTokens,
      prompt_tokens_details: { cached_tokens: this.sum(({ usage }) => usage.cachedPromptTokens, true) },
      joules: joules.includes(null) ? null : joules.reduce((sum: number, one) => sum + one!, 0),
      peak_bytes: peaks.length === 0 ? null : Math.max(...peaks),
    };
  }

  timings(): TimingsBody {
    const cached = this.sum(({ usage }) => usage.cachedPromptTokens);
    const promptTokens = this.sum(({ usage }) => usage.promptTokens) - cached;
    const predicted = this.sum(({ usage }) => usage.completionTokens);
    const promptMs = this.sum(({ timings }) => timings.promptMs);
    const predictedMs = this.sum(({ timings }) => timings.decodeMs);
    return {
      cache_n: cached,
      prompt_n: promptTokens,
      prompt_ms: promptMs,
      prompt_per_token_ms: ratio(promptMs, promptTokens),
      prompt_per_second: ratio(promptTokens * 1000, promptMs),
      predicted_n: predicted,
      predicted_ms: predictedMs,
      predicted_per_token_ms: ratio(predictedMs, predicted),
      predicted_per_second: ratio(predicted * 1000, predictedMs),
    };
  }

  private sum(of: (result: GenerationResult) => number, oncePerPrompt = false): number {
    const seen = new Set<number>();
    return this.results.reduce((sum, { prompt, result }) => {
      if (oncePerPrompt && seen.has(prompt)) return sum;
      seen.add(prompt);
      return sum + of(result);
    }, 0);
  }
}

function ratio(over: number, under: number): number | null {
  return under > 0 ? over / under : null;
}

function peakBytes({ growth, peakRssBytes }: MemoryUse): number | null {
  return growth?.residentPeakBytes ?? peakRssBytes;
}
