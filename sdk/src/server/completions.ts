/** POST /v1/completions: the continuation of texts or token ids, whole or as chunks. */
import type { FinishReason } from '../run.js';
import { answerHead, samplingOptions, type AnswerEvent, type AnswerStart, type Served } from './answers.js';
import { completionLogprobs } from './logprob-body.js';
import type { CompletionRequest } from './request-fields.js';
import { Tally } from './usage.js';

/** As OpenAI has it. */
const defaultTokens = 16;

/** Answers of the first prompt first. */
export function completionAnswers({ model }: Served, request: CompletionRequest, signal: AbortSignal): AnswerStart[] {
  const { logprobs } = request;
  return promptsOf(request.prompt).flatMap((prompt, number) =>
    Array.from({ length: request.n ?? 1 }, (_, answer) => ({
      prompt: number,
      start: () => ({
        run: model.generate(prompt, {
          ...samplingOptions(request, answer),
          maxTokens: request.max_tokens ?? defaultTokens,
          ...(logprobs === undefined || logprobs === null ? {} : { logprobs }),
          signal,
        }),
      }),
    })),
  );
}

function promptsOf(prompt: CompletionRequest['prompt']): (string | number[])[] {
  if (typeof prompt === 'string') return [prompt];
  return typeof prompt[0] === 'number' ? [prompt as number[]] : (prompt as (string | number[])[]);
}

const finishReasons: Readonly<Record<FinishReason, string>> = { stop: 'stop', length: 'length', toolCalls: 'stop', aborted: 'stop' };

/** The body of a request without `stream`. */
export async function completionBody(served: Served, events: AsyncIterable<AnswerEvent>): Promise<object> {
  const tally = new Tally();
  const choices: object[] = [];
  for await (const event of events) {
    if (event.kind !== 'end') continue;
    const { index, prompt, result } = event;
    tally.add(prompt, result);
    const logprobs = result.logprobs === undefined ? null : completionLogprobs(served.model.tokenizer, result.logprobs, 0);
    choices.push({ index, text: result.text, logprobs, finish_reason: finishReasons[result.finishReason] });
  }
  return { ...answerHead(served, 'cmpl', 'text_completion'), choices, usage: tally.usage(), timings: tally.timings() };
}

/** The chunks of a request with `stream`. */
export async function* completionChunks(served: Served, request: CompletionRequest, events: AsyncIterable<AnswerEvent>): AsyncGenerator<object, undefined> {
  const withUsage = request.stream_options?.include_usage === true;
  const fields = answerHead(served, 'cmpl', 'text_completion');
  const { tokenizer } = served.model;
  const last = promptsOf(request.prompt).length * (request.n ?? 1) - 1;
  const tally = new Tally();
  let [characters, sent] = [0, 0];
  for await (const event of events) {
    const { index } = event;
    const chunk = (text: string, logprobs: unknown, finish: string | null, more: object = {}): object => ({
      ...fields,
      choices: [{ index, text, logprobs, finish_reason: finish }],
      ...(withUsage ? { usage: null } : {}),
      ...more,
    });
    if (event.kind === 'begin') {
      [characters, sent] = [0, 0];
    } else if (event.kind === 'piece') {
      const { text, logprobs } = event.chunk;
      yield chunk(text, logprobs === undefined ? null : completionLogprobs(tokenizer, logprobs, characters), null);
      characters += text.length;
      sent += logprobs?.length ?? 0;
    } else {
      const { result, prompt } = event;
      tally.add(prompt, result);
      const late = result.logprobs?.slice(sent) ?? [];
      yield chunk('', late.length === 0 ? null : completionLogprobs(tokenizer, late, characters), finishReasons[result.finishReason], index === last && !withUsage ? { timings: tally.timings() } : {});
    }
  }
  if (withUsage) yield { ...fields, choices: [], usage: tally.usage(), timings: tally.timings() };
}
