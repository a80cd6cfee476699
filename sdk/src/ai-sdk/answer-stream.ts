/** A turn as the stream of parts that the AI SDK reads. */
import type { LanguageModelV4StreamPart, SharedV4Warning } from '@ai-sdk/provider' with { 'resolution-mode': 'import' };
import type { Run, TextChunk } from '../run.js';
import type { HeldCalls } from '../tools/held-calls.js';
import { content, finishReason, metadata, noUsage, usage } from './answer.js';

export interface StreamSettings {
  warnings: SharedV4Warning[];
  response: { id: string; timestamp: Date; modelId: string };
  /** Keeps calls out of the text; null where there can be none. */
  held: HeldCalls | null;
  includeRawChunks: boolean;
  signal: AbortSignal | undefined;
}

/** Cancelling the stream ends the run. An abort errors the stream with the signal's reason; other failures are parts of it. */
export function answerStream(run: Run, settings: StreamSettings): ReadableStream<LanguageModelV4StreamPart> {
  const chunks = run[Symbol.asyncIterator]();
  const parts = new StreamParts(settings);
  const queue: LanguageModelV4StreamPart[] = [{ type: 'stream-start', warnings: settings.warnings }, { type: 'response-metadata', ...settings.response }];
  return new ReadableStream<LanguageModelV4StreamPart>({
    async pull(controller) {
      try {
        while (queue.length === 0) {
          const next = await chunks.next();
          queue.push(...(next.done === true ? parts.finish(await run.result()) : parts.next(next.value)));
        }
      } catch (error) {
        if (settings.signal?.aborted === true) return controller.error(error);
        queue.push(...parts.fail(error));
      }
      const part = queue.shift()!;
      controller.enqueue(part);
      if (part.type === 'finish') controller.close();
    },
    async cancel() {
      await chunks.return!();
    },
  });
}

class StreamParts {
  private isOpen = false;

  constructor(private readonly settings: StreamSettings) {}

  next(chunk: TextChunk): LanguageModelV4StreamPart[] {
    const raw: LanguageModelV4StreamPart[] = this.settings.includeRawChunks ? [{ type: 'raw', rawValue: chunk }] : [];
    const { held } = this.settings;
    return [...raw, ...this.text(held === null ? chunk.text : held.push(chunk.text, chunk.tokens))];
  }

  finish(result: Awaited<ReturnType<Run['result']>>): LanguageModelV4StreamPart[] {
    const calls = content(result).filter((part) => part.type === 'tool-call');
    return [
      ...this.text(this.settings.held?.rest(result.text) ?? ''),
      ...this.close(),
      ...calls.flatMap((call): LanguageModelV4StreamPart[] => [
        { type: 'tool-input-start', id: call.toolCallId, toolName: call.toolName },
        { type: 'tool-input-delta', id: call.toolCallId, delta: call.input },
        { type: 'tool-input-end', id: call.toolCallId },
        call,
      ]),
      { type: 'finish', finishReason: finishReason(result), usage: usage(result), providerMetadata: metadata(result) },
    ];
  }

  fail(error: unknown): LanguageModelV4StreamPart[] {
    return [...this.close(), { type: 'error', error }, { type: 'finish', finishReason: { unified: 'error', raw: undefined }, usage: noUsage }];
  }

  private text(delta: string): LanguageModelV4StreamPart[] {
    if (delta === '') return [];
    const start: LanguageModelV4StreamPart[] = this.isOpen ? [] : [{ type: 'text-start', id: '0' }];
    this.isOpen = true;
    return [...start, { type: 'text-delta', id: '0', delta }];
  }

  private close(): LanguageModelV4StreamPart[] {
    if (!this.isOpen) return [];
    this.isOpen = false;
    return [{ type: 'text-end', id: '0' }];
  }
}
