/** The generation loop: prefill once, then one decode step per token, with stop strings, limits and cancelling. */
import type { CancelFlag, EngineSampling, EngineSession } from './engine.js';
import { ShiftAddError, fromEngine, isEngineCancel } from './errors.js';
import type { GenerateOptions, GenerationPlan } from './generate.js';
import type { ModelCore } from './model-core.js';
import { PromptLookup } from './prompt-lookup.js';
import { noEnergy, type FinishReason, type GenerationResult, type RunControls } from './run.js';
import { StopStrings } from './stop-strings.js';
import type { AnswerForm } from './structured/answer-forms.js';
import { TokenChoice, hasWeights } from './token-choice.js';
import { logprobsOf, type GeneratedLogprob } from './token-logprobs.js';

/** Greedy below this: the division by it would overflow. */
const leastTemperature = 1e-6;
const repetitionWindow = 64;

/**
 * Prompt tokens that are read in one call, so that other runs of the model get their steps in between: as many as the engine
 * reads at once, so that the pieces give the same bits as the whole.
 */
const promptPiece = 128;

/** Why a run ends early. */
export interface Ending {
  flag: CancelFlag;
  why: 'signal' | 'left' | 'closed' | null;
  reason: unknown;
}

/** Throws when the run was ended by signal or close; true when the reader left. */
export function hasLeft(ending: Ending): boolean {
  if (ending.why === 'signal' || ending.why === 'closed') throw ending.reason;
  return ending.why === 'left';
}

/** One generation in progress. */
export class Work {
  private readonly generated: number[] = [];
  private unsent: number[] = [];
  private readonly logprobs: GeneratedLogprob[] = [];
  private text = '';
  private appended = 0;
  private promptDone = false;
  private computed = 0;
  private reused = 0;
  private promptMs = 0;
  private firstTokenMs: number | null = null;
  private decodeMs = 0;
  private readonly stops: StopStrings;

  constructor(
    private readonly core: ModelCore,
    private readonly plan: GenerationPlan,
    readonly prompt: number[],
    private readonly controls: RunControls,
    private readonly ending: Ending,
    private readonly started: number,
    private readonly form: AnswerForm | null,
  ) {
    const { stop } = plan.options;
    this.stops = new StopStrings(typeof stop === 'string' ? [stop] : (stop ?? []));
    if (form === null || form.least <= this.budget()) return;
    throw new ShiftAddError(
      'ERR_SCHEMA_BUDGET',
      `The shortest answer that the schema accepts has up to ${form.least} tokens, but only ${this.budget()} are left. Raise maxTokens, or make room in the context.`,
    );
  }

  /** Tokens that can be generated, the end token not counted. The last needs no place in the context. */
  private budget(): number {
    return Math.min(this.plan.options.maxTokens ?? Infinity, this.plan.contextSize - this.prompt.length + 1);
  }

  async run(session: EngineSession, reused: number): Promise<FinishReason> {
    const { options } = this.plan;
    const sampling = engineSampling(options);
    const stream = this.core.tokenizer.stream({ continuation: this.plan.continuation });
    if (hasLeft(this.ending)) return 'aborted';
    const seed = options.seed ?? randomSeed();
    session.seed(BigInt(seed));
    if (!(await this.readPrompt(session, reused))) return 'aborted';
    this.promptDone = true;
    this.computed = this.prompt.length - reused;
    this.reused = reused;
    const now = performance.now();
    this.promptMs = now - this.started;
    if (this.form !== null) await session.constrain(this.form.grammar, this.budget());
    const choice = hasWeights(options) ? new TokenChoice(sampling, options, seed) : null;
    let token = await this.step('Sampling', async () => (choice === null ? session.sample(sampling) : this.choose(choice, session)));
    this.firstTokenMs = performance.now() - this.started;
    let finish: FinishReason = 'aborted';
    const decode = this.decoder(session, sampling, choice);
    while (token !== null) {
      if (this.core.endIds.has(token)) {
        finish = 'stop';
        break;
      }
      this.generated.push(token);
      this.unsent.push(token);
      if (options.logprobs !== undefined) this.logprobs.push(logprobsOf(session.logits(), token, options.logprobs));
      if (this.show(stream.push(token))) return 'stop';
      if (this.form !== null && session.isComplete()) {
        finish = 'stop';
        break;
      }
      if (this.generated.length === this.budget()) {
        finish = 'length';
        break;
      }
      token = await decode(token);
      this.decodeMs = performance.now() - this.started - this.firstTokenMs;
    }
    if (finish === 'aborted') return finish;
    if (this.show(stream.end())) return 'stop';
    this.send(this.stops.end());
    return finish;
  }

  /** False when the reader left. */
  private async readPrompt(session: EngineSession, reused: number): Promise<boolean> {
    for (let done = reused; done < this.prompt.length; done += promptPiece) {
      const piece = Int32Array.from(this.prompt.slice(done, done + promptPiece));
      const read = await this.step('Reading the prompt', () => session.prefill(piece, this.ending.flag).then(() => true));
      if (read === null) return false;
    }
    return true;
  }

  private choose(choice: TokenChoice, session: EngineSession): number {
    return choice.next(session.logits(), [...this.prompt, ...this.generated].slice(-repetitionWindow));
  }

  /** A function that appends the latest token and gives the next; null when the reader left. */
  private decoder(session: EngineSession, sampling: EngineSampling, choice: TokenChoice | null): (last: number) => Promise<number | null> {
    const { flag } = this.ending;
    const decode = async (last: number): Promise<number> => {
      if (choice === null) return session.decode(last, sampling, flag);
      await session.prefill(Int32Array.of(last), flag);
      return this.choose(choice, session);
    };
    const single = (last: number): Promise<number | null> =>
      this.step('Generating', () => decode(last)).then((token) => {
        if (token !== null) this.appended++;
        return token;
      });
    const greedy = sampling.temperature === 0 && sampling.repetitionPenalty === 1;
    if (this.plan.options.promptLookup !== true || !greedy) return single;
    const lookup = new PromptLookup();
    const ready: number[] = [];
    return async (last) => {
      if (ready.length > 0) return ready.shift()!;
      // A draft takes places besides the latest token, in the context and among the tokens that are wanted.
      const wanted = this.plan.options.maxTokens ?? Infinity;
      const room = Math.min(this.plan.contextSize - this.prompt.length, wanted) - this.generated.length;
      const draft = lookup.guess([...this.prompt, ...this.generated], room);
      if (draft.length === 0) return single(last);
      const tokens = await this.step('Generating', () => session.decodeDraft(last, draft, flag));
      if (tokens === null) return null;
      this.appended += tokens.length;
      lookup.learn(draft.length, tokens.length - 1);
      ready.push(...tokens);
      return ready.shift()!;
    };
  }

  /** The next turn of the session is free again. */
  async endForm(session: EngineSession): Promise<void> {
    if (this.form === null) return;
    try {
      await session.constrain(null, 0);
    } catch (error) {
      // A session that cannot be used any more; `held` finds that out too, and then it is not used again.
      if (!this.core.closed) throw fromEngine(error, 'Ending the schema');
    }
  }

  /** The tokens that the session holds, accepted ones behind the end dropped; null when the engine does not agree. */
  held(session: EngineSession, reused: number): number[] | null {
    const all = this.promptDone
      ? [...this.prompt, ...this.generated.slice(0, this.appended)]
      : this.prompt.slice(0, reused);
    try {
      if (session.describe().position > all.length) session.rewind(all.length);
      return session.describe().position === all.length ? all : null;
    } catch {
      return null;
    }
  }

  result(session: EngineSession | null, finishReason: FinishReason): GenerationResult {
    const steps = this.appended;
    const rate = (count: number, ms: number): number | null => (count > 0 && ms > 0 ? (count / ms) * 1000 : null);
    return {
      text: this.text,
      tokens: this.generated,
      finishReason,
      ...(this.plan.options.logprobs === undefined ? {} : { logprobs: this.logprobs }),
      ...this.plan.remark?.(),
      usage: { promptTokens: this.prompt.length, cachedPromptTokens: this.reused, completionTokens: this.generated.length },
      timings: {
        loadMs: this.core.loadMs,
        promptMs: this.promptMs,
        firstTokenMs: this.firstTokenMs,
        decodeMs: this.decodeMs,
        promptTokensPerSecond: rate(this.computed, this.promptMs),
        tokensPerSecond: rate(steps, this.decodeMs),
      },
      memory: this.core.memory(session),
      energy: noEnergy,
      backend: this.core.backend,
    };
  }

  /** Null when the reader left; throws when the run was ended otherwise. */
  private async step<T>(doing: string, call: () => Promise<T>): Promise<T | null> {
    if (hasLeft(this.ending)) return null;
    try {
      const value = await call();
      hasLeft(this.ending);
      return value;
    } catch (error) {
      if (hasLeft(this.ending) && isEngineCancel(error)) return null;
      throw fromEngine(error, doing);
    }
  }

  /** True when a stop string has come. */
  private show(text: string): boolean {
    const shown = this.stops.push(text);
    this.send(shown.text);
    return shown.stopped;
  }

  private send(text: string): void {
    if (text === '') return;
    this.text += text;
    const logprobs = this.plan.options.logprobs === undefined ? {} : { logprobs: this.logprobs.slice(this.generated.length - this.unsent.length) };
    this.controls.emit({ type: 'text', text, tokens: this.unsent, ...logprobs });
    this.unsent = [];
  }
}

function engineSampling(options: GenerateOptions): EngineSampling {
  const { temperature = 0, topK = 0, topP = 1, minP = 0, repetitionPenalty = 1 } = options;
  // Each of these leaves only the most likely token.
  const greedy = temperature < leastTemperature || topP === 0 || topK === 1 || minP === 1;
  return {
    temperature: greedy ? 0 : temperature,
    topK,
    topP: topP === 0 ? 1 : topP,
    minP,
    repetitionPenalty,
    repetitionWindow,
  };
}

function randomSeed(): number {
  return Math.floor(Math.random() * Number.MAX_SAFE_INTEGER);
}
