/** Notices a client that went away while its request waits or runs. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { ClientGone } from './http-error.js';

export interface Departure {
  /** Aborted with `ClientGone`. */
  signal: AbortSignal;
  /** Ends the work for another reason, such as the end of the server. */
  end(reason: Error): void;
  /** The answer is written, or nobody waits for it: the connection may serve other requests. */
  release(): void;
}

/** A client that closes its half of the connection counts as gone too: nearly all that do have left. */
export function watchDeparture(incoming: IncomingMessage, outgoing: ServerResponse): Departure {
  const controller = new AbortController();
  const { socket } = incoming;
  const leave = (): void => controller.abort(new ClientGone());
  const closed = (): void => {
    if (!outgoing.writableFinished) leave();
  };
  const release = (): void => {
    socket.off('close', leave).off('end', leave);
    outgoing.off('close', closed);
  };
  if (socket.destroyed || socket.readableEnded) leave();
  socket.on('close', leave).on('end', leave);
  outgoing.on('close', closed);
  return { signal: controller.signal, end: (reason) => controller.abort(reason), release };
}
