/** What can be sent to a chat. */
import type { ChatMessage } from './chat-template.js';
import { show } from './options.js';

/** Earlier messages of a conversation. TypeError for anything else. */
export function readHistory(history: readonly object[] | undefined): ChatMessage[] {
  return (history ?? []).map((message, i) => {
    const { role, content } = message as Partial<ChatMessage>;
    if (typeof role !== 'string') throw new TypeError(`Expected a role for history[${i}] but received ${show(role)}`);
    if (typeof content !== 'string' && content !== null) throw new TypeError(`Expected a text or null for history[${i}].content but received ${show(content)}`);
    return { ...message, role, content };
  });
}

/** The number of the latest call in a conversation: those of `Chat` are numbered. */
export function latestCall(history: readonly ChatMessage[]): number {
  const ids = history.flatMap(({ tool_calls: calls }) => (Array.isArray(calls) ? calls : [])).map((call: { id?: unknown } | null) => /^call(\d{5})$/.exec(String(call?.id))?.[1]);
  return Math.max(0, ...ids.map((id) => Number(id ?? 0)));
}

/** TypeError for something that cannot be sent. No turn at all: the history as it stands is to be answered, when there is one. */
export function readTurns(message: unknown, hasHistory = false): ChatMessage[] {
  if (typeof message === 'string') return [{ role: 'user', content: message }];
  const list = Array.isArray(message) ? message : [message];
  const right = (turn: unknown): boolean => {
    const { role, content } = (turn ?? {}) as Partial<ChatMessage>;
    return (role === 'user' || role === 'tool') && typeof content === 'string';
  };
  if ((list.length === 0 && !hasHistory) || !list.every(right))
    throw new TypeError(`Expected a string for text, or messages of the roles 'user' and 'tool' with a text as content, but received ${show(message)}`);
  return list.map((turn: ChatMessage) => ({ ...turn }));
}
