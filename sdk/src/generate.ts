/** Starts generations: what is asked for, its checks, and how a run ends early. `generation-work.ts` has the loop. */
import { makeCancelFlag, type EngineSession } from './engine.js';
import { ShiftAddError } from './errors.js';
import { Work, hasLeft, type Ending } from './generation-work.js';
import { closedError, type ModelCore } from './model-core.js';
import { Run, type GenerationResult, type RunControls } from './run.js';
import type { FormPlan } from './structured/form-plan.js';
import type { SchemaSource } from './structured/schema-source.js';
import { checkBias, hasWeights, type TokenWeights } from './token-choice.js';

/** How the next token is chosen. */
export interface SamplingOptions {
  /** 0 (default) or below 1e-6 is greedy: always the most likely token. */
  temperature?: number;
  /** Only the k most likely tokens; 0 (default) is off. */
  topK?: number;
  /** Only the most likely tokens that together reach this probability; 1 (default) is off. */
  topP?: number;
  /** Only tokens at least this share as likely as the most likely; 0 (default) is off. */
  minP?: number;
  /** Divides the chances of tokens that came lately; 1 (default) is off. */
  repetitionPenalty?: number;
  /** 0 to 2^53 - 1; the same seed gives the same run. Default random. */
  seed?: number;
}

/** How a text is continued. */
export interface GenerateOptions extends SamplingOptions, TokenWeights {
  /** Default: until the context is full. 0 generates nothing. */
  maxTokens?: number;
  /** Texts that end the generation; they are not part of the text. */
  stop?: string | string[];
  /**
   * Greedy generation only: guesses tokens from earlier text and checks several at once. The same result, sooner where an
   * answer repeats its prompt. Default false.
   */
  promptLookup?: boolean;
  /**
   * The answer is JSON that this schema accepts, whatever the model and `maxTokens`; the result has its value as `json`. A JSON
   * schema, or a schema object that tells its own. Not with `stop` or `promptLookup`.
   */
  schema?: SchemaSource;
  /** Gives every generated token its log-probability, and this many of the likeliest in its place: 0 to 20. Default none. Not with `promptLookup`. */
  logprobs?: number;
  /** Aborting rejects with the signal's reason within one step. */
  signal?: AbortSignal;
  /** Puts the begin token in front of a text prompt where the tokenizer does so. Default true. */
  addSpecialTokens?: boolean;
  /** Special tokens in a text prompt count; false keeps them plain text. Default true. */
  parseSpecial?: boolean;
}

export interface GenerationPlan {
  /** Computed when the run starts, so that its failure rejects the run. */
  prompt: () => number[];
  /** The text continues the prompt, so that a leading space belongs to it. */
  continuation: boolean;
  options: GenerateOptions;
  /** The form of the answer, where it has one. */
  form?: FormPlan | undefined;
  contextSize: number;
  /** A session that holds the first `reused` tokens of the prompt, fewer than all. */
  acquire: (prompt: number[]) => Promise<{ session: EngineSession; reused: number }>;
  /** Called once per `acquire`; `held` are the tokens the session holds now, null when that is not certain. */
  release: (session: EngineSession, held: number[] | null) => Promise<void>;
  /** Makes the result of a whole answer into that of the run. */
  read?: (result: GenerationResult) => GenerationResult;
  /** What every result has besides, once there is a prompt. */
  remark?: () => Pick<GenerationResult, 'droppedTurns'>;
  /** Called once at the very end, before anyone who awaits the run goes on; null when the run fails. */
  ended?: (result: GenerationResult | null) => void;
}

export interface StartedRun {
  run: Run;
  /** Ends the run, which rejects with this error. */
  close: (error: Error) => void;
}

/** TypeError and RangeError for options that do not go together. */
function checkChoice(core: ModelCore, { options, form }: GenerationPlan): void {
  checkBias(options.logitBias, core.vocabularySize);
  if (hasWeights(options) && form !== undefined) throw new TypeError('Expected no logitBias, presencePenalty or frequencyPenalty together with a schema or a demanded tool call');
  if (options.promptLookup === true && (hasWeights(options) || options.logprobs !== undefined))
    throw new TypeError('Expected no logitBias, presencePenalty, frequencyPenalty or logprobs together with promptLookup');
}

export function startRun(core: ModelCore, plan: GenerationPlan): StartedRun {
  checkChoice(core, plan);
  const ending: Ending = { flag: makeCancelFlag(), why: null, reason: undefined };
  const end = (why: 'signal' | 'left' | 'closed', reason?: unknown): void => {
    if (ending.why !== null) return;
    ending.why = why;
    ending.reason = reason;
    Atomics.store(ending.flag, 0, 1);
  };
  const start = async (controls: RunControls): Promise<GenerationResult> => {
    const { signal } = plan.options;
    const onAbort = (): void => {
      end('signal', signal!.reason);
      controls.discard();
    };
    const onClose = (): void => end('closed', closedError('model'));
    if (signal?.aborted === true) onAbort();
    signal?.addEventListener('abort', onAbort, { once: true });
    core.running.add(onClose);
    let result: GenerationResult | null = null;
    try {
      result = await measured(core, () => generate(core, plan, controls, ending));
      if (result.finishReason === 'stop' && plan.read !== undefined) result = plan.read(result);
      return result;
    } catch (error) {
      if (ending.why === 'signal' || ending.why === 'closed') throw ending.reason;
      throw error;
    } finally {
      signal?.removeEventListener('abort', onAbort);
      core.running.delete(onClose);
      plan.ended?.(result);
    }
  };
  return { run: new Run(start, () => end('left')), close: (error) => end('closed', error) };
}

/** The result with energy and memory of the run, where the model measures. The reader has all tokens by then. */
async function measured(core: ModelCore, run: () => Promise<GenerationResult>): Promise<GenerationResult> {
  const { measure } = core;
  if (measure === null) return run();
  const startMs = measure.now();
  const result = await run();
  const { energy, growth } = await measure.between(startMs, measure.now(), result.usage.completionTokens);
  return { ...result, energy, memory: { ...result.memory, growth } };
}

async function generate(
  core: ModelCore,
  plan: GenerationPlan,
  controls: RunControls,
  ending: Ending,
): Promise<GenerationResult> {
  const started = performance.now();
  await Promise.resolve(); // the caller gets the run before any work
  hasLeft(ending);
  core.checkOpen();
  const prompt = plan.prompt();
  checkPrompt(core, prompt, plan.contextSize);
  const form = plan.form === undefined ? null : await core.forms.open(plan.form.key, plan.form.compile);
  try {
    hasLeft(ending);
    return await carryOut(plan, new Work(core, plan, prompt, controls, ending, started, form));
  } finally {
    if (form !== null) await core.forms.release(form);
  }
}

async function carryOut(plan: GenerationPlan, task: Work): Promise<GenerationResult> {
  if (plan.options.maxTokens === 0) return task.result(null, 'length');
  const { session, reused } = await plan.acquire(task.prompt);
  try {
    return task.result(session, await task.run(session, reused));
  } finally {
    await task.endForm(session);
    await plan.release(session, task.held(session, reused));
  }
}

function checkPrompt(core: ModelCore, prompt: number[], contextSize: number): void {
  if (prompt.length === 0) throw new RangeError('Expected a prompt of at least one token but received an empty one');
  const bad = prompt.find((id) => !Number.isInteger(id) || id < 0 || id >= core.vocabularySize);
  if (bad !== undefined)
    throw new RangeError(`Expected token ids from 0 to ${core.vocabularySize - 1} for prompt but received ${bad}`);
  if (prompt.length > contextSize) {
    const fix =
      contextSize < core.contextLimit
        ? `or ask for a larger contextSize (the model's limit is ${core.contextLimit})`
        : 'which is the limit of this model';
    throw new ShiftAddError(
      'ERR_CONTEXT_OVERFLOW',
      `The prompt has ${prompt.length} tokens but the context holds ${contextSize}. Shorten the prompt, ${fix}.`,
    );
  }
}
