/** The settings of an AI SDK call as options of a turn; what cannot be kept becomes a warning. */
import type { LanguageModelV4CallOptions, SharedV4Warning } from '@ai-sdk/provider' with { 'resolution-mode': 'import' };
import type { SendOptions } from '../chat.js';
import type { ChatMessage } from '../chat-template.js';
import { readOptions, samplingRules } from '../options.js';
import type { ToolChoice, ToolDefinition } from '../tools/tools.js';
import { readPrompt, withInstruction } from './prompt.js';

/** `providerOptions.shiftadd` of a call: what the AI SDK has no setting for. */
export interface ShiftAddCallOptions {
  /** As `SamplingOptions.minP`. */
  minP?: number;
  /** As `SamplingOptions.repetitionPenalty`. */
  repetitionPenalty?: number;
  /** As `GenerateOptions.promptLookup`. */
  promptLookup?: boolean;
  /** Tells the model the schema of `responseFormat` in the system message, at the cost of its tokens. The answer keeps to it anyway. Default true. */
  tellSchema?: boolean;
}

const ownRules = {
  minP: samplingRules.minP,
  repetitionPenalty: samplingRules.repetitionPenalty,
  promptLookup: { kind: 'flag', initial: false },
  tellSchema: { kind: 'flag', initial: true },
} as const;

/** A call that is ready to be made. */
export interface CallSettings {
  /** All messages; the last is the user's or a tool result. */
  messages: ChatMessage[];
  options: SendOptions;
  warnings: SharedV4Warning[];
}

/** TypeError and RangeError for wrong values. */
export function readCall(call: LanguageModelV4CallOptions): CallSettings {
  const warnings: SharedV4Warning[] = [];
  const unsupported = (feature: string, details: string): void => void warnings.push({ type: 'unsupported', feature, details });
  const { tellSchema, ...own } = readOptions<ShiftAddCallOptions>(ownRules, call.providerOptions?.['shiftadd'] as ShiftAddCallOptions | undefined, 'providerOptions.shiftadd');
  if (call.reasoning !== undefined && call.reasoning !== 'provider-default' && call.reasoning !== 'none') unsupported('reasoning', 'The models have no levels of reasoning.');
  const toolChoice = call.toolChoice === undefined ? 'auto' : readChoice(call.toolChoice);
  const tools = readTools(call, toolChoice, unsupported);
  const { responseFormat } = call;
  const schema = responseFormat?.type === 'json' ? ((responseFormat.schema ?? { type: 'object' }) as Record<string, unknown>) : undefined;
  const isDemanded = toolChoice !== 'auto' && toolChoice !== 'none';
  const isHeld = schema !== undefined || isDemanded;
  const penalties = { presencePenalty: call.presencePenalty ?? 0, frequencyPenalty: call.frequencyPenalty ?? 0 };
  for (const [name, penalty] of Object.entries(penalties))
    if (isHeld && penalty !== 0) unsupported(name, 'An answer that is held to a schema has none. Use providerOptions.shiftadd.repetitionPenalty.');
  const isPenalized = !isHeld && (penalties.presencePenalty !== 0 || penalties.frequencyPenalty !== 0);
  const stop = call.stopSequences?.filter((text) => text !== '') ?? [];
  if (isHeld && stop.length > 0) unsupported('stopSequences', 'They would cut an answer that is held to a schema.');
  const hasLookup = own.promptLookup === true && !isHeld && !isPenalized;
  if (own.promptLookup === true && !hasLookup) unsupported('promptLookup', 'Guesses know neither schemas nor penalties.');
  let messages = readPrompt(call.prompt, warnings);
  if (responseFormat?.type === 'json' && tellSchema) messages = withInstruction(messages, formatInstruction(responseFormat));
  return {
    messages,
    options: {
      ...own,
      temperature: call.temperature,
      topP: call.topP,
      topK: call.topK,
      seed: call.seed,
      maxTokens: call.maxOutputTokens,
      stop: isHeld ? [] : stop,
      ...(isHeld ? {} : penalties),
      promptLookup: hasLookup,
      schema,
      ...(tools.length === 0 && !isDemanded ? {} : { tools, toolChoice }), // a call that no tool can answer is refused
      signal: call.abortSignal,
    } as SendOptions,
    warnings,
  };
}

function readChoice(choice: NonNullable<LanguageModelV4CallOptions['toolChoice']>): ToolChoice {
  return choice.type === 'tool' ? { name: choice.toolName } : choice.type;
}

function readTools({ tools = [] }: LanguageModelV4CallOptions, choice: ToolChoice, unsupported: (feature: string, details: string) => void): ToolDefinition[] {
  return tools.flatMap((tool): ToolDefinition[] => {
    if (tool.type === 'provider') {
      unsupported(`provider tool ${tool.id}`, 'It runs on the servers of its provider.');
      return [];
    }
    if (tool.strict === true && choice === 'auto')
      unsupported(`strict of tool ${tool.name}`, "With toolChoice 'auto' and no schema, arguments are not held to the input schema. Demand the call to hold them.");
    const examples = tool.inputExamples?.map(({ input }) => JSON.stringify(input)) ?? [];
    const description = [tool.description ?? '', ...(examples.length === 0 ? [] : [`Examples of arguments: ${examples.join(' ')}`])].filter((part) => part !== '').join('\n');
    return [{ name: tool.name, description, parameters: tool.inputSchema as Record<string, unknown> }];
  });
}

function formatInstruction({ schema, name, description }: Extract<NonNullable<LanguageModelV4CallOptions['responseFormat']>, { type: 'json' }>): string {
  const what = name === undefined ? 'JSON' : `JSON named ${name}`;
  const about = description === undefined ? '' : ` (${description})`;
  return schema === undefined ? `Answer with ${what}${about}.` : `Answer with ${what}${about} of this schema:\n${JSON.stringify(schema)}`;
}
