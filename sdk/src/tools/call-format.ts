/** How families of models write tool calls: what stands around them, and reading them from an answer. */
import { isJsonObject, type Json } from '../checkpoint/json-file.js';
import type { ChatMessage } from '../chat-template.js';
import type { Tool } from './tools.js';

export interface CallFormat {
  name: 'hermes' | 'mistral' | 'llama' | 'generic';
  /** In front of and behind the calls; the opener ends the prompt where a call is demanded. */
  opener: string;
  closer: string;
  /** Between two calls. */
  separator: string;
  argumentsKey: 'arguments' | 'parameters';
  /** The calls are a list. */
  isList: boolean;
}

const hermes: CallFormat = { name: 'hermes', opener: '<tool_call>\n', closer: '\n</tool_call>', separator: '\n</tool_call>\n<tool_call>\n', argumentsKey: 'arguments', isList: false };
const formats = {
  hermes,
  mistral: { name: 'mistral', opener: '[TOOL_CALLS]', closer: '', separator: ', ', argumentsKey: 'arguments', isList: true },
  llama: { name: 'llama', opener: '', closer: '', separator: '; ', argumentsKey: 'parameters', isList: false },
  generic: { ...hermes, name: 'generic' },
} as const satisfies Record<string, CallFormat>;

/** The format that a chat template writes; generic for one that knows no tools. */
export function callFormat(template: string | null): CallFormat {
  if (template === null || !/\btools\b/.test(template)) return formats.generic;
  if (template.includes('[TOOL_CALLS]')) return formats.mistral;
  if (template.includes('<tool_call>')) return formats.hermes;
  if (/["']parameters["']|"parameters"/.test(template) && /ipython|python_tag/.test(template)) return formats.llama;
  return formats.hermes;
}

interface FoundCall {
  name: string;
  arguments: Json;
}

/** The calls of known tools in an answer, and the text in front of them. An answer that only looks like a call has none. */
export function findCalls(answer: string, format: CallFormat, tools: readonly Tool[]): { text: string; calls: FoundCall[] } {
  const none = { text: answer, calls: [] };
  switch (format.name) {
    case 'hermes':
    case 'generic': {
      const blocks = [...answer.matchAll(/<tool_call>\s*([\s\S]*?)\s*(?:<\/tool_call>|$)/g)];
      const calls = blocks.flatMap(([, block]) => readCalls(block!, tools));
      return calls.length === 0 || calls.length < blocks.length ? none : { text: answer.slice(0, blocks[0]!.index).trim(), calls };
    }
    case 'mistral': {
      const at = answer.indexOf(format.opener);
      if (at < 0) return none;
      const calls = readCalls(answer.slice(at + format.opener.length).replace(/<\/s>\s*$/, ''), tools);
      return calls.length === 0 ? none : { text: answer.slice(0, at).trim(), calls };
    }
    case 'llama': {
      const body = answer.replace(/^\s*<\|python_tag\|>/, '').replace(/<\|e[om]\w*\|>\s*$/, '');
      const calls = body.trim().split(/\s*;\s*(?=\{)/).map((part) => readCalls(part, tools));
      return calls.some((part) => part.length === 0) ? none : { text: '', calls: calls.flat() };
    }
  }
}

function readCalls(text: string, tools: readonly Tool[]): FoundCall[] {
  let value: Json;
  try {
    value = JSON.parse(text) as Json;
  } catch {
    return []; // no JSON, so no call: the answer stays a text
  }
  const list = Array.isArray(value) ? value : [value];
  const calls = list.flatMap((entry): FoundCall[] => {
    if (!isJsonObject(entry) || typeof entry['name'] !== 'string') return [];
    const given = entry['arguments'] ?? entry['parameters'] ?? {};
    return tools.some(({ name }) => name === entry['name']) ? [{ name: entry['name'], arguments: given }] : [];
  });
  return calls.length === list.length ? calls : [];
}

/** What a model without a template for tools is told, behind its system message. */
export function genericInstruction(tools: readonly Tool[]): string {
  const list = tools.map(({ name, description, parameters }) => JSON.stringify({ name, description, parameters })).join('\n');
  return `You can call these functions:\n${list}\nTo call one, answer with nothing but\n<tool_call>\n{"name": <its name>, "arguments": <an object that its parameters accept>}\n</tool_call>\nThe result comes back in <tool_response>.`;
}

/** The same conversation for a template that knows no tools: calls and results become text. */
export function genericMessages(messages: readonly ChatMessage[], tools: readonly Tool[]): ChatMessage[] {
  const turns = messages.map((message): ChatMessage => {
    if (message.role === 'tool') return { role: 'user', content: `<tool_response>\n${message.content ?? ''}\n</tool_response>` };
    const calls = message['tool_calls'];
    if (!Array.isArray(calls)) return message;
    const written = (calls as { function: { name: string; arguments: unknown } }[]).map(
      ({ function: { name, arguments: given } }) => `${hermes.opener}${JSON.stringify({ name, arguments: given })}${hermes.closer}`,
    );
    return { role: message.role, content: [message.content, ...written].filter((part) => part !== null && part !== '').join('\n') };
  });
  if (tools.length === 0) return turns;
  const instruction = genericInstruction(tools);
  const [first, ...rest] = turns;
  if (first?.role !== 'system') return [{ role: 'system', content: instruction }, ...turns];
  return [{ ...first, content: `${first.content ?? ''}\n\n${instruction}` }, ...rest];
}
