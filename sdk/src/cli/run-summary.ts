/** What one run took, in one line or in a table. */
import type { GenerationResult } from '../index.js';
import { bytes, counted, duration, fixed, table } from './quantities.js';

export function speed({ usage, timings, finishReason, droppedTurns = 0 }: GenerationResult): string {
  const cut = finishReason === 'length' ? ', cut at the limit' : '';
  const forgot = droppedTurns === 0 ? '' : `, ${counted(droppedTurns, 'oldest turn')} forgotten to make room`;
  return `(${counted(usage.completionTokens, 'token')}, ${fixed(timings.tokensPerSecond, 1)} tokens per second${cut}${forgot})`;
}

export function statistics({ usage, timings, memory, backend }: GenerationResult): string {
  return table(
    ['measure', 'value'],
    [
      ['prompt', `${counted(usage.promptTokens, 'token')}, ${fixed(timings.promptTokensPerSecond, 1)} computed per second`],
      ['answer', `${counted(usage.completionTokens, 'token')}, ${fixed(timings.tokensPerSecond, 1)} per second`],
      ['time to first token', timings.firstTokenMs === null ? '-' : duration(timings.firstTokenMs)],
      ['time to load', duration(timings.loadMs)],
      ['weights', bytes(memory.weightsBytes)],
      ['KV cache', bytes(memory.kvCacheBytes)],
      ['peak memory of the process', bytes(memory.peakRssBytes!)],
      ['backend', `${backend.name} (${backend.isa}, ${counted(backend.threads, 'thread')}, ${backend.precision}, ${backend.kvCache} cache)`],
    ],
  );
}
