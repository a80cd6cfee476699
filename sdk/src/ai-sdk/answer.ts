/** The result of a turn in the terms of the AI SDK. */
import type { JSONObject, LanguageModelV4FinishReason, LanguageModelV4Text, LanguageModelV4ToolCall, LanguageModelV4Usage, SharedV4ProviderMetadata } from '@ai-sdk/provider' with { 'resolution-mode': 'import' };
import type { BackendInfo } from '../model.js';
import type { EnergyUse, FinishReason, GenerationResult, MemoryUse, Timings } from '../run.js';

/** `providerMetadata.shiftadd` of an answer. */
export interface ShiftAddMetadata {
  /** Milliseconds and tokens per second of this call. */
  timings: Timings;
  /** Joules of this call; null unless the model was loaded with `measure` on a machine with a meter. */
  energy: EnergyUse | null;
  /** Bytes that model and call take. */
  memory: MemoryUse;
  /** What ran it. */
  backend: Pick<BackendInfo, 'name' | 'isa' | 'threads'>;
}

const unified: Record<FinishReason, LanguageModelV4FinishReason['unified']> = {
  stop: 'stop',
  length: 'length',
  aborted: 'other',
  toolCalls: 'tool-calls',
};

export function finishReason({ finishReason: raw }: GenerationResult): LanguageModelV4FinishReason {
  return { unified: unified[raw], raw };
}

/** What an earlier run left in a cache is read, the rest of the prompt computed and written. */
export function usage({ usage: counts, finishReason: ended }: GenerationResult): LanguageModelV4Usage {
  const { promptTokens, cachedPromptTokens: cacheRead, completionTokens } = counts;
  const noCache = promptTokens - cacheRead;
  return {
    inputTokens: { total: promptTokens, noCache, cacheRead, cacheWrite: noCache },
    // Tokens of calls and of text are not told apart.
    outputTokens: { total: completionTokens, text: ended === 'toolCalls' ? undefined : completionTokens, reasoning: 0 },
    raw: { ...counts } as JSONObject,
  };
}

export const noUsage: LanguageModelV4Usage = {
  inputTokens: { total: undefined, noCache: undefined, cacheRead: undefined, cacheWrite: undefined },
  outputTokens: { total: undefined, text: undefined, reasoning: undefined },
};

export function metadata({ timings, energy, memory, backend: { name, isa, threads } }: GenerationResult): SharedV4ProviderMetadata {
  const own: ShiftAddMetadata = { timings, energy: energy.meter === null ? null : energy, memory, backend: { name, isa, threads } };
  return { shiftadd: own as unknown as JSONObject };
}

/** The text, then the calls. */
export function content(result: GenerationResult): (LanguageModelV4Text | LanguageModelV4ToolCall)[] {
  const calls = result.toolCalls?.map((call): LanguageModelV4ToolCall => ({ type: 'tool-call', toolCallId: callId(), toolName: call.name, input: JSON.stringify(call.arguments) })) ?? [];
  return [...(result.text === '' ? [] : [{ type: 'text' as const, text: result.text }]), ...calls];
}

const letters = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789';

/** Nine letters and digits, which is what templates of Mistral demand: unlike those of any other call, which a counter per chat would not give. */
function callId(): string {
  return Array.from(crypto.getRandomValues(new Uint32Array(9)), (number) => letters[number % letters.length]).join('');
}
