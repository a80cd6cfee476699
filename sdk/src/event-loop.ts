/** Pauses long work so that messages, aborts and timers get their turn, in Node and in a worker of a page. */
export async function letEventsRun(): Promise<void> {
  await new Promise<void>((resolve) => {
    if (typeof setImmediate === 'function') return void setImmediate(resolve);
    // A message, because timers of a page wait for some milliseconds.
    const { port1, port2 } = new MessageChannel() as unknown as { port1: { onmessage: () => void; close(): void }; port2: { postMessage(value: number): void } };
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(0);
  });
}
