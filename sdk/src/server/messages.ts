/** The messages of a request as a chat takes them, so that they render to the same tokens as in a chat that had them itself. */
import type { ChatMessage } from '../chat-template.js';
import { HttpError } from './http-error.js';
import { tidyJson } from './request-body.js';
import type { RequestMessage, TextPart } from './request-fields.js';

/** 400 for an assistant message that says nothing. */
export function chatMessages(messages: readonly RequestMessage[]): ChatMessage[] {
  const names = new Map<string, string>();
  return messages.map((message, i): ChatMessage => {
    const { role, name, tool_calls: calls, tool_call_id: id } = message;
    const content = textOf(message.content);
    const named = name === undefined ? {} : { name };
    switch (role) {
      case 'assistant': {
        for (const call of calls ?? []) names.set(call.id, call.function.name);
        if (calls !== undefined && calls !== null && calls.length > 0) {
          const made = calls.map(({ id: callId, type, function: { name: callee, arguments: given } }) => ({ id: callId, type, function: { name: callee, arguments: readArguments(given) } }));
          return { role, content: content ?? '', ...named, tool_calls: made };
        }
        if (content === null) throw new HttpError(400, `messages[${i}].content is missing: only an assistant message with tool_calls may be without.`, { param: `messages[${i}].content`, code: 'invalid_value' });
        return { role, content, ...named };
      }
      case 'tool': {
        // Some templates want the name of the tool, which clients need not send.
        const tool = name ?? names.get(id!);
        return { role, content: content!, tool_call_id: id!, ...(tool === undefined ? {} : { name: tool }) };
      }
      default:
        return { role: role === 'developer' ? 'system' : role, content: content!, ...named };
    }
  });
}

/** An object as a chat has it: an empty text is {}, one that holds no JSON object stays a text. */
function readArguments(text: string): unknown {
  if (text.trim() === '') return {};
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return text;
  }
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? tidyJson(value) : text;
}

function textOf(content: string | TextPart[] | null | undefined): string | null {
  if (content === undefined || content === null) return null;
  return typeof content === 'string' ? content : content.map((part) => part.text ?? part.refusal ?? '').join('\n');
}
