/** What a chat does when its history does not fit the context any more. */
import type { ChatMessage } from './chat-template.js';

/**
 * 'throw' (default): the turn fails with ERR_CONTEXT_OVERFLOW before any work. 'drop-oldest-turns': the chat forgets its oldest turns,
 * each a user message with all that follows it up to the next one, until the prompt leaves room for `maxTokens`.
 */
export type OverflowPolicy = 'throw' | 'drop-oldest-turns';

/** Of the context, for an answer that has no `maxTokens`. */
const answerShare = 1 / 4;

export interface FittedPrompt {
  messages: ChatMessage[];
  prompt: number[];
  droppedTurns: number;
}

/**
 * The messages as far as they fit, and their prompt. What stands before the first user message stays, and so does the last turn, which
 * may be too long alone: then the prompt does not fit the context, or leaves less room than was asked for.
 */
export function dropOldestTurns(messages: ChatMessage[], encode: (messages: ChatMessage[]) => number[], contextSize: number, maxTokens: number | undefined): FittedPrompt {
  const starts = turnStarts(messages);
  const head = messages.slice(0, starts[0] ?? messages.length);
  // The last token of an answer takes no place in the context.
  const room = contextSize + 1 - Math.min(maxTokens ?? Math.floor(contextSize * answerShare), contextSize);
  for (let droppedTurns = 0; ; droppedTurns++) {
    const left = droppedTurns === 0 ? messages : [...head, ...messages.slice(starts[droppedTurns])];
    const prompt = encode(left);
    if (prompt.length <= room || droppedTurns + 1 >= starts.length) return { messages: left, prompt, droppedTurns };
  }
}

/** Where turns begin: user messages that are sent together belong to one. */
function turnStarts(messages: ChatMessage[]): number[] {
  return messages.flatMap(({ role }, i) => (role === 'user' && messages[i - 1]?.role !== 'user' ? [i] : []));
}
