/** What can be sent to a chat. */
import type { ChatMessage } from './chat-template.js';
import { show } from './options.js';

/** TypeError for something that cannot be sent. */
export function readTurns(message: unknown): ChatMessage[] {
  if (typeof message === 'string') return [{ role: 'user', content: message }];
  const list = Array.isArray(message) ? message : [message];
  const right = (turn: unknown): boolean => {
    const { role, content } = (turn ?? {}) as Partial<ChatMessage>;
    return (role === 'user' || role === 'tool') && typeof content === 'string';
  };
  if (list.length === 0 || !list.every(right))
    throw new TypeError(`Expected a string for text, or messages of the roles 'user' and 'tool' with a text as content, but received ${show(message)}`);
  return list.map((turn: ChatMessage) => ({ ...turn }));
}
