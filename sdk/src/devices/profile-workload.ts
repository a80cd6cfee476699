/** What a profile run repeats: the prompts and answers of a conversation, each pass the same tokens from the same place. */
import { createHash } from 'node:crypto';
import { encodeChat } from '../chat.js';
import type { ChatMessage } from '../chat-template.js';
import type { CancelFlag, EngineSampling, EngineSession } from '../engine.js';
import type { ModelCore } from '../model-core.js';

/** One turn: tokens that are read, then tokens that are generated. */
export interface WorkTurn {
  /** Tokens of earlier turns in the cache. */
  reused: number;
  prompt: Int32Array;
  /** The first generated token, which the prompt gives. */
  first: number;
  /** Decode steps after it. */
  steps: number;
}

export interface Workload {
  turns: WorkTurn[];
  template: boolean;
  digest: string;
}

export const greedy: EngineSampling = { temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, repetitionWindow: 0 };

export interface WorkloadOptions {
  /** What is said, turn by turn. */
  texts: readonly string[];
  /** Decode steps of each turn. */
  tokens: number;
  contextSize: number;
}

/**
 * Runs the conversation once, greedily, to know its tokens; this is the warm-up as well. End tokens do not end an answer, so
 * that every model does the same work. Texts go through the chat template; without one, as they are, one behind the other.
 * A turn reuses what the cache holds of it. RangeError when the conversation does not fit the context.
 */
export async function warmUp(core: ModelCore, session: EngineSession, { texts, tokens, contextSize }: WorkloadOptions, cancel: CancelFlag): Promise<Workload> {
  const template = core.template.exists;
  const messages: ChatMessage[] = [];
  const hash = createHash('sha256');
  const turns: WorkTurn[] = [];
  let held: number[] = [];
  for (const content of texts) {
    const whole = template ? encodeChat(core, [...messages, { role: 'user', content }]) : [...held, ...core.tokenizer.encode(content, { addSpecialTokens: held.length === 0 })];
    if (whole.length + tokens > contextSize) {
      throw new RangeError(`Expected prompts and answers that fit ${contextSize} tokens but received ${whole.length + tokens} for turns`);
    }
    let reused = 0;
    while (reused < whole.length - 1 && reused < held.length && whole[reused] === held[reused]) reused++;
    session.rewind(reused);
    const prompt = Int32Array.from(whole.slice(reused));
    await session.prefill(prompt, cancel);
    const first = await session.sample(greedy);
    const answer = [first];
    for (let step = 0; step < tokens; step++) answer.push(await session.decode(answer.at(-1)!, greedy, cancel));
    // The last token was sampled, not appended.
    held = [...whole, ...answer.slice(0, -1)];
    messages.push({ role: 'user', content }, { role: 'assistant', content: core.tokenizer.decode(answer) });
    turns.push({ reused, prompt, first, steps: tokens });
    hash.update(JSON.stringify([whole, answer]));
  }
  return { turns, template, digest: hash.digest('hex').slice(0, 16) };
}

/** Reads the prompt of a turn again. The cache holds what was before it. */
export async function prefillAgain(session: EngineSession, turn: WorkTurn, cancel: CancelFlag): Promise<void> {
  session.rewind(turn.reused);
  await session.prefill(turn.prompt, cancel);
}

/** Generates the answer of a turn again; `onToken` is called after every step. */
export async function decodeAgain(session: EngineSession, turn: WorkTurn, cancel: CancelFlag, onToken: () => void): Promise<void> {
  session.rewind(turn.reused + turn.prompt.length);
  let token = turn.first;
  for (let step = 0; step < turn.steps; step++) {
    token = await session.decode(token, greedy, cancel);
    onToken();
  }
}
