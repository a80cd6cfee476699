/** A prompt of the AI SDK as messages for a chat template. */
import type { LanguageModelV4FilePart, LanguageModelV4Message, LanguageModelV4Prompt, LanguageModelV4ToolResultPart, SharedV4Warning } from '@ai-sdk/provider' with { 'resolution-mode': 'import' };
import type { ChatMessage } from '../chat-template.js';

/** TypeError for what a model of text alone cannot read; `warnings` gets what is left out. */
export function readPrompt(prompt: LanguageModelV4Prompt, warnings: SharedV4Warning[]): ChatMessage[] {
  const messages = prompt.flatMap((message) => readMessage(message, warnings));
  const last = messages.at(-1)?.role;
  if (last !== 'user' && last !== 'tool')
    throw new TypeError(`Expected a prompt whose last message is the user's or a tool result, but its last is ${last === undefined ? 'missing' : `of the role '${last}'`}`);
  return messages;
}

/** Some templates refuse a second system message: what the caller adds goes into the first. */
export function withInstruction(messages: ChatMessage[], instruction: string): ChatMessage[] {
  const [first, ...rest] = messages;
  if (first?.role !== 'system') return [{ role: 'system', content: instruction }, ...messages];
  return [{ ...first, content: `${first.content ?? ''}\n\n${instruction}` }, ...rest];
}

function readMessage(message: LanguageModelV4Message, warnings: SharedV4Warning[]): ChatMessage[] {
  switch (message.role) {
    case 'system':
      return [{ role: 'system', content: message.content }];
    case 'user':
      return [{ role: 'user', content: message.content.map((part) => (part.type === 'text' ? part.text : fileText(part))).join('\n') }];
    case 'assistant':
      return [readAssistant(message.content, warnings)];
    case 'tool':
      return message.content.flatMap((part): ChatMessage[] => {
        if (part.type === 'tool-result') return [{ role: 'tool', tool_call_id: part.toolCallId, name: part.toolName, content: resultText(part.output) }];
        leftOut(warnings, part.type);
        return [];
      });
  }
}

function readAssistant(parts: Extract<LanguageModelV4Message, { role: 'assistant' }>['content'], warnings: SharedV4Warning[]): ChatMessage {
  const texts: string[] = [];
  const calls: object[] = [];
  for (const part of parts) {
    if (part.type === 'text') texts.push(part.text);
    else if (part.type === 'file') texts.push(fileText(part));
    else if (part.type === 'tool-call') calls.push({ id: part.toolCallId, type: 'function', function: { name: part.toolName, arguments: part.input } });
    else leftOut(warnings, part.type);
  }
  return { role: 'assistant', content: texts.join('\n'), ...(calls.length === 0 ? {} : { tool_calls: calls }) };
}

function leftOut(warnings: SharedV4Warning[], kind: string): void {
  const feature = `${kind} in the prompt`;
  if (warnings.some((warning) => warning.type === 'unsupported' && warning.feature === feature)) return;
  warnings.push({ type: 'unsupported', feature, details: 'These parts are left out: the chat template has no place for them.' });
}

/** The text of a file of text. */
function fileText({ data, mediaType, filename }: Pick<LanguageModelV4FilePart, 'data' | 'mediaType' | 'filename'>): string {
  if (data.type === 'text') return data.text;
  const isText = mediaType === 'text' || mediaType.startsWith('text/') || mediaType === 'application/json';
  if (isText && data.type === 'data') {
    const bytes = typeof data.data === 'string' ? Uint8Array.from(atob(data.data), (character) => character.charCodeAt(0)) : data.data;
    return new TextDecoder().decode(bytes);
  }
  throw new TypeError(`Expected text in the prompt but received a file ${filename === undefined ? '' : `'${filename}' `}of ${mediaType} (${data.type}): this model reads text alone`);
}

function resultText(output: LanguageModelV4ToolResultPart['output']): string {
  switch (output.type) {
    case 'text':
    case 'error-text':
      return output.value;
    case 'json':
    case 'error-json':
      return JSON.stringify(output.value);
    case 'execution-denied':
      return output.reason ?? 'The call was not allowed.';
    case 'content':
      return output.value
        .map((part) => {
          if (part.type === 'text') return part.text;
          if (part.type === 'file') return fileText(part);
          throw new TypeError('Expected text in a tool result but received a custom part: this model reads text alone');
        })
        .join('\n');
  }
}
