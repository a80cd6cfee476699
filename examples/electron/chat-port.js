// A chat behind a port. Messages in: { id, send: text, maxTokens? } or { id, cancel: true } or { reset: true }.
// Messages out: { id, text } as it comes, then { id, done } or { id, error: { code, message } }.

/**
 * Answers what comes over a port until it closes.
 * @param {import('shiftadd').Model} model
 * @param {{ postMessage(message: object): void, on(event: string, listener: (event: any) => void): unknown, start?(): void }} port of Electron or of Node
 */
export function serveChat(model, port) {
  const chat = model.createChat();
  /** @type {Map<number, AbortController>} */
  const running = new Map();

  /** @param {{ id: number, send: string, maxTokens?: number }} message */
  async function answer({ id, send, maxTokens }) {
    const controller = new AbortController();
    running.set(id, controller);
    try {
      const run = chat.send(send, { ...(maxTokens === undefined ? {} : { maxTokens }), signal: controller.signal });
      for await (const { text } of run) port.postMessage({ id, text });
      const { finishReason, usage, timings } = await run.result();
      port.postMessage({ id, done: { finishReason, tokens: usage.completionTokens, tokensPerSecond: timings.tokensPerSecond } });
    } catch (error) {
      const { code = null, message } = /** @type {Error & { code?: string }} */ (error);
      port.postMessage({ id, error: { code, message } });
    } finally {
      running.delete(id);
    }
  }

  port.on('message', (event) => {
    const message = event?.data ?? event; // Electron wraps it, Node does not
    if (message.cancel === true) running.get(message.id)?.abort();
    else if (message.reset === true) chat.reset();
    else void answer(message);
  });
  port.on('close', () => void chat.close());
  port.start?.();
}
