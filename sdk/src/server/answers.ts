/** The answers of one request, made one after another in its place: as pieces while they come, then each result. */
import { randomUUID } from 'node:crypto';
import type { Model } from '../model.js';
import type { GenerationResult, Run, TextChunk } from '../run.js';
import type { GenerateOptions } from '../generate.js';
import type { SamplingRequest } from './request-fields.js';

/** One answer to be made. */
export interface AnswerStart {
  /** Which prompt of the request it answers. */
  prompt: number;
  start(): { run: Run; close?: () => Promise<void> };
}

export type AnswerEvent =
  | { kind: 'begin'; index: number }
  | { kind: 'piece'; index: number; chunk: TextChunk }
  | { kind: 'end'; index: number; prompt: number; result: GenerationResult };

/** Rejects with the failure of an answer. Leaving it early ends the work. */
export async function* makeAnswers(starts: readonly AnswerStart[]): AsyncGenerator<AnswerEvent, undefined> {
  for (const [index, { prompt, start }] of starts.entries()) {
    const { run, close } = start();
    let began = false;
    try {
      for await (const chunk of run) {
        if (!began) yield { kind: 'begin', index };
        began = true;
        yield { kind: 'piece', index, chunk };
      }
      const result = await run.result();
      if (!began) yield { kind: 'begin', index };
      yield { kind: 'end', index, prompt, result };
    } finally {
      await close?.();
    }
  }
}

/** The sampling options of a request; `answer` counts those of one prompt. OpenAI's default temperature is 1. */
export function samplingOptions(request: SamplingRequest, answer: number): GenerateOptions {
  const { seed, stop, logit_bias: bias } = request;
  const options: GenerateOptions = {
    temperature: request.temperature ?? 1,
    topP: request.top_p ?? 1,
    topK: request.top_k ?? 0,
    minP: request.min_p ?? 0,
    repetitionPenalty: request.repetition_penalty ?? 1,
    presencePenalty: request.presence_penalty ?? 0,
    frequencyPenalty: request.frequency_penalty ?? 0,
  };
  if (bias !== undefined && bias !== null) options.logitBias = bias;
  if (seed !== undefined && seed !== null) options.seed = seedOf(seed, answer);
  if (stop !== undefined && stop !== null) options.stop = stop;
  return options;
}

/** Every integer is a seed, also a negative one; each answer has its own. */
function seedOf(seed: number, answer: number): number {
  const most = Number.MAX_SAFE_INTEGER;
  return (seed < 0 ? seed + most : seed) % (most - answer) + answer;
}

/** What the routes need to know. */
export interface Served {
  model: Model;
  /** The id under which clients name it. */
  name: string;
  /** Its chat template, which says how calls are written. */
  template: string | null;
  /** Version and settings that the same seed gives the same answers with. */
  fingerprint: string;
  /** Seconds since 1970 at which it was served. */
  created: number;
}

/** The fields that a whole answer and its chunks begin with; `prefix` is that of OpenAI's ids. */
export function answerHead(served: Served, prefix: 'chatcmpl' | 'cmpl', object: string): object {
  return { id: `${prefix}-${randomUUID()}`, object, created: Math.floor(Date.now() / 1000), model: served.name, system_fingerprint: served.fingerprint };
}
