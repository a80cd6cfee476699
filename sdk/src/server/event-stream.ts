/** Chunks as server-sent events. */
import { toHttpError } from './http-error.js';

const headers = { 'Content-Type': 'text/event-stream; charset=utf-8', 'Cache-Control': 'no-cache, no-transform', 'X-Accel-Buffering': 'no' };

export interface StreamEnd {
  /** Called once, with the failure that ended the stream. */
  ended(error: unknown): void;
  /** The reader left. */
  left(): void;
}

/**
 * The chunks and `[DONE]`. Rejects with the failure of the first chunk, so that it has a status of its own; a later one is an
 * event with `error`, and no `[DONE]` comes. The answer is bounded, so it is not made to wait for a slow reader.
 */
export async function eventStream(chunks: AsyncGenerator<object, undefined>, { ended, left }: StreamEnd): Promise<Response> {
  const first = await chunks.next();
  const encoder = new TextEncoder();
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      const send = (data: string): void => {
        try {
          controller.enqueue(encoder.encode(`data: ${data}\n\n`));
        } catch {
          left(); // it was cancelled
        }
      };
      const write = async (): Promise<unknown> => {
        try {
          for (let next = first; next.done !== true; next = await chunks.next()) send(JSON.stringify(next.value));
          send('[DONE]');
          return null;
        } catch (error) {
          const failure = toHttpError(error);
          if (failure.status !== 499) send(JSON.stringify(failure.body()));
          return error;
        }
      };
      void write().then((error) => {
        ended(error);
        try {
          controller.close();
        } catch {
          // Cancelled: it is closed.
        }
      });
    },
    cancel: left,
  });
  return new Response(body, { headers });
}
