/** Functions that a model may call: how a caller names them, and the calls that come back. */
import type { Json } from '../checkpoint/json-file.js';
import { show } from '../options.js';
import { readSchemaSource, type SchemaSource } from '../structured/schema-source.js';

/** One function. The shape of OpenAI, `{ type: 'function', function: { ... } }`, is taken too. */
export interface ToolDefinition {
  name: string;
  /** What it does and when to call it: models go by this. */
  description?: string;
  /** Of its arguments, an object. Default: any object. */
  parameters?: SchemaSource;
}

/** 'auto': the model decides; 'none': no call; 'required': some call; or the call of one tool. */
export type ToolChoice = 'auto' | 'none' | 'required' | { name: string };

/** A call that the model made. */
export interface ToolCall {
  /** Nine letters and digits, unlike those of other calls of the chat. */
  id: string;
  name: string;
  arguments: unknown;
}

/** A checked tool with its schema as JSON. */
export interface Tool {
  name: string;
  description: string;
  parameters: Json;
}

/** TypeError for tools of another shape, ERR_UNSUPPORTED_SCHEMA for parameters that cannot tell their schema. */
export function readTools(given: readonly object[] | undefined): Tool[] {
  const tools = (given ?? []).map((entry, i): Tool => {
    const inner = (entry as { function?: unknown }).function ?? entry;
    const { name, description, parameters } = inner as Partial<ToolDefinition>;
    if (typeof name !== 'string' || !/^[\w.-]{1,64}$/.test(name))
      throw new TypeError(`Expected a name of letters, digits, _, - and . for tools[${i}] but received ${show(name)}`);
    if (description !== undefined && typeof description !== 'string') throw new TypeError(`Expected a text for tools[${i}].description but received ${show(description)}`);
    if (parameters !== undefined && ((typeof parameters !== 'object' && typeof parameters !== 'function') || parameters === null))
      throw new TypeError(`Expected a JSON schema for tools[${i}].parameters but received ${show(parameters)}`);
    return { name, description: description ?? '', parameters: parameters === undefined ? { type: 'object' } : readSchemaSource(parameters) };
  });
  const names = tools.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw new TypeError(`Expected tools of different names but received ${show(twice)} twice`);
  return tools;
}

/** TypeError for a choice that is none, or of a tool that is not there. */
export function readToolChoice(choice: unknown, tools: readonly Tool[]): ToolChoice {
  if (choice === undefined) return 'auto';
  const named = typeof choice === 'object' && choice !== null ? (choice as { name?: unknown }).name : undefined;
  if (choice !== 'auto' && choice !== 'none' && choice !== 'required' && typeof named !== 'string')
    throw new TypeError(`Expected 'auto', 'none', 'required' or { name } for toolChoice but received ${show(choice)}`);
  if ((choice === 'required' || named !== undefined) && tools.length === 0) throw new TypeError('Expected tools together with this toolChoice');
  if (named !== undefined && !tools.some(({ name }) => name === named))
    throw new TypeError(`Expected the name of a tool for toolChoice but received ${show(named)}; there are ${tools.map(({ name }) => name).join(', ')}`);
  return choice as ToolChoice;
}

/** As chat templates take them. */
export function toolsForTemplate(tools: readonly Tool[]): object[] {
  return tools.map(({ name, description, parameters }) => ({ type: 'function', function: { name, description, parameters } }));
}
