/** POST /v1/chat/completions: what a request asks for, and its answers whole or as chunks. */
import type { SendOptions } from '../chat.js';
import type { FinishReason, GenerationResult } from '../run.js';
import { HeldCalls } from '../tools/held-calls.js';
import { answerHead, samplingOptions, type AnswerEvent, type AnswerStart, type Served } from './answers.js';
import { HttpError } from './http-error.js';
import { chatLogprobs } from './logprob-body.js';
import { chatMessages } from './messages.js';
import type { ChatRequest } from './request-fields.js';
import { Tally } from './usage.js';

/** The answers that a request asks for. 400 for fields that do not go together. */
export function chatAnswers({ model }: Served, request: ChatRequest, signal: AbortSignal): AnswerStart[] {
  const tools = request.tools ?? [];
  const history = chatMessages(request.messages);
  const options = chatOptions(request);
  return Array.from({ length: request.n ?? 1 }, (_, answer) => ({
    prompt: 0,
    start: () => {
      const chat = model.createChat({ history, tools: tools.map(plainTool) });
      try {
        return { run: chat.send([], { ...samplingOptions(request, answer), ...options, signal }), close: () => chat.close() };
      } catch (error) {
        void chat.close();
        throw error;
      }
    },
  }));
}

function plainTool({ function: { name, description, parameters } }: NonNullable<ChatRequest['tools']>[number]): { name: string; description?: string; parameters?: Record<string, unknown> } {
  return { name, ...(description === undefined || description === null ? {} : { description }), ...(parameters === undefined || parameters === null ? {} : { parameters }) };
}

function chatOptions(request: ChatRequest): SendOptions {
  const { tools, stop, top_logprobs: top, max_completion_tokens: newer, max_tokens: older, logit_bias: bias } = request;
  const hasTools = tools !== undefined && tools !== null && tools.length > 0;
  const choice = request.tool_choice ?? 'auto';
  const isDemanded = choice === 'required' || typeof choice === 'object';
  const maxTokens = newer ?? older;
  if (newer !== undefined && newer !== null && older !== undefined && older !== null && newer !== older) throw conflict('max_tokens', 'max_tokens and max_completion_tokens differ; give one of them.');
  if ((top ?? 0) > 0 && request.logprobs !== true) throw conflict('top_logprobs', 'top_logprobs needs logprobs: true.');
  if (isDemanded && !hasTools) throw conflict('tool_choice', 'tool_choice demands a call, but there are no tools.');
  const schema = isDemanded ? undefined : schemaOf(request);
  if (schema !== undefined || isDemanded) {
    const what = isDemanded ? 'a demanded tool call' : 'response_format';
    if (stop !== undefined && stop !== null && stop.length > 0) throw conflict('stop', `stop does not go together with ${what}: it would cut the answer.`);
    for (const name of ['presence_penalty', 'frequency_penalty'] as const) if ((request[name] ?? 0) !== 0) throw conflict(name, `${name} does not go together with ${what}.`);
    if (Object.keys(bias ?? {}).length > 0) throw conflict('logit_bias', `logit_bias does not go together with ${what}.`);
  }
  return {
    ...(hasTools ? { toolChoice: typeof choice === 'object' ? { name: choice.function.name } : choice } : {}),
    ...(request.parallel_tool_calls === true && isDemanded ? { parallelToolCalls: true } : {}),
    ...(schema === undefined ? {} : { schema }),
    ...(maxTokens === undefined || maxTokens === null ? {} : { maxTokens }),
    ...(request.logprobs === true ? { logprobs: top ?? 0 } : {}),
  };
}

function schemaOf({ response_format: format }: ChatRequest): Record<string, unknown> | undefined {
  if (format === undefined || format === null || format.type === 'text') return undefined;
  return format.type === 'json_object' ? { type: 'object' } : (format as { json_schema: { schema: Record<string, unknown> } }).json_schema.schema;
}

function conflict(param: string, message: string): HttpError {
  return new HttpError(400, message, { param, code: 'invalid_value' });
}

const finishReasons: Readonly<Record<FinishReason, string>> = { stop: 'stop', length: 'length', toolCalls: 'tool_calls', aborted: 'stop' };

function toolCallsOf({ toolCalls }: GenerationResult, { parallel_tool_calls: parallel }: ChatRequest): { id: string; type: 'function'; function: { name: string; arguments: string } }[] {
  const calls = (toolCalls ?? []).map(({ id, name, arguments: given }) => ({ id, type: 'function' as const, function: { name, arguments: JSON.stringify(given) } }));
  return parallel === false ? calls.slice(0, 1) : calls;
}

/** The body of a request without `stream`. */
export async function chatBody(served: Served, request: ChatRequest, events: AsyncIterable<AnswerEvent>): Promise<object> {
  const tally = new Tally();
  const choices: object[] = [];
  for await (const event of events) {
    if (event.kind !== 'end') continue;
    const { index, prompt, result } = event;
    tally.add(prompt, result);
    const calls = toolCallsOf(result, request);
    choices.push({
      index,
      message: { role: 'assistant', content: calls.length > 0 && result.text === '' ? null : result.text, refusal: null, ...(calls.length === 0 ? {} : { tool_calls: calls }) },
      logprobs: result.logprobs === undefined ? null : chatLogprobs(served.model.tokenizer, result.logprobs),
      finish_reason: finishReasons[result.finishReason],
    });
  }
  return { ...answerHead(served, 'chatcmpl', 'chat.completion'), choices, usage: tally.usage(), timings: tally.timings() };
}

/** The chunks of a request with `stream`. */
export async function* chatChunks(served: Served, request: ChatRequest, events: AsyncIterable<AnswerEvent>): AsyncGenerator<object, undefined> {
  const withUsage = request.stream_options?.include_usage === true;
  const fields = answerHead(served, 'chatcmpl', 'chat.completion.chunk');
  const { tokenizer } = served.model;
  const tally = new Tally();
  const chunk = (index: number, delta: object, finish: string | null, logprobs: unknown, more: object = {}): object => ({
    ...fields,
    choices: [{ index, delta, logprobs: logprobs ?? null, finish_reason: finish }],
    ...(withUsage ? { usage: null } : {}),
    ...more,
  });
  const choice = request.tool_choice ?? 'auto';
  const mayCall = (request.tools ?? []).length > 0 && choice !== 'none';
  const specials = (tokens: number[]): string => tokenizer.decode(tokens, { skipSpecialTokens: false });
  let held: HeldCalls | null = null;
  let logprobsSent = 0;
  for await (const event of events) {
    const { index } = event;
    if (event.kind === 'begin') {
      held = mayCall ? new HeldCalls(served.template, choice !== 'auto', specials) : null;
      logprobsSent = 0;
      yield chunk(index, { role: 'assistant', content: '', refusal: null }, null, null);
    } else if (event.kind === 'piece') {
      const { text, tokens, logprobs } = event.chunk;
      const shown = held === null ? text : held.push(text, tokens);
      if (shown === '') continue;
      const body = held === null && logprobs !== undefined ? chatLogprobs(tokenizer, logprobs) : null;
      logprobsSent += body === null ? 0 : logprobs!.length;
      yield chunk(index, { content: shown }, null, body);
    } else {
      const { result, prompt } = event;
      tally.add(prompt, result);
      const rest = held?.rest(result.text) ?? '';
      if (rest !== '') yield chunk(index, { content: rest }, null, null);
      for (const [i, { id, type, function: { name, arguments: given } }] of toolCallsOf(result, request).entries()) {
        yield chunk(index, { tool_calls: [{ index: i, id, type, function: { name, arguments: '' } }] }, null, null);
        yield chunk(index, { tool_calls: [{ index: i, function: { arguments: given } }] }, null, null);
      }
      // Tokens whose text was held back to the end, or is none.
      const late = result.logprobs?.slice(logprobsSent) ?? [];
      const timings = index === (request.n ?? 1) - 1 && !withUsage ? { timings: tally.timings() } : {};
      yield chunk(index, {}, finishReasons[result.finishReason], late.length === 0 ? null : chatLogprobs(tokenizer, late), timings);
    }
  }
  if (withUsage) yield { ...fields, choices: [], usage: tally.usage(), timings: tally.timings() };
}
