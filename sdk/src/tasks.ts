/** Multiple choice, minimal pairs and last words, scored by log-likelihood as lm-evaluation-harness does. */
import { normalizer } from './compare.js';
import { makeCancelFlag, type CancelFlag, type EngineSession } from './engine.js';
import { ShiftAddError, fromEngine } from './errors.js';
import { closedError, type ModelCore } from './model-core.js';
import { readOptions, show, taskRules } from './options.js';

/** The right choice is the one that the model finds most likely behind the query. */
export interface ChoiceItem {
  query: string;
  choices: string[];
  /** Index of the right choice. */
  gold: number;
}

/** The good text should be more likely than the bad one. */
export interface PairItem {
  good: string;
  bad: string;
}

/** The last word should be what greedy generation gives. */
export interface LastWordItem {
  text: string;
}

/** One item of a task; all items of a task are of one kind. */
export type TaskItem = ChoiceItem | PairItem | LastWordItem;

/** How items are asked, and how many. */
export interface TaskOptions {
  /** What a query becomes, `{query}` standing for it. Default 'Question: {query}\nAnswer:'. */
  template?: string;
  /** Use only this many items from the start. Default all. */
  limit?: number;
  /** Aborting rejects with the signal's reason. */
  signal?: AbortSignal;
  /** Called as the work goes on. */
  onProgress?: (progress: TaskProgress) => void;
}

/** How far a task is, in items. */
export interface TaskProgress {
  /** Items. */
  done: number;
  total: number;
  /** Of the items so far. */
  accuracy: number;
}

/** Accuracies from 0 to 1 over the items of a task. */
export interface TaskResult {
  kind: 'choices' | 'pairs' | 'lastWord';
  items: number;
  accuracy: number;
  /** Of the accuracy: sqrt(p (1 - p) / (n - 1)). */
  standardError: number;
  /** Choices only: likelihoods divided by the length of the choice in characters. */
  normalizedAccuracy: number | null;
  /** Last words only: of the words, exp of the mean negative log-likelihood of a word. */
  perplexity: number | null;
}

type Kind = TaskResult['kind'];

export async function evaluateTaskItems(
  core: ModelCore,
  items: readonly TaskItem[],
  options?: TaskOptions,
): Promise<TaskResult> {
  const { template = 'Question: {query}\nAnswer:', limit, signal, onProgress } = readOptions<TaskOptions>(taskRules, options, 'evaluateTask');
  if (!template.includes('{query}')) throw new RangeError(`Expected a template with {query} but received ${show(template)}`);
  const kind = kindOf(items);
  core.checkOpen();
  const wanted = items.slice(0, limit);
  const flag = makeCancelFlag();
  const stop = (): void => void Atomics.store(flag, 0, 1);
  signal?.addEventListener('abort', stop, { once: true });
  core.running.add(stop);
  try {
    signal?.throwIfAborted();
    const scorer = new Scorer(core, flag);
    const totals = { right: 0, normalized: 0, logLikelihood: 0 };
    try {
      for (const [index, item] of wanted.entries()) {
        signal?.throwIfAborted();
        core.checkOpen();
        if (kind === 'choices') await scoreChoices(scorer, item as ChoiceItem, template, totals);
        else if (kind === 'pairs') await scorePair(scorer, item as PairItem, totals);
        else await scoreLastWord(scorer, item as LastWordItem, totals);
        onProgress?.({ done: index + 1, total: wanted.length, accuracy: totals.right / (index + 1) });
      }
    } finally {
      await scorer.close();
    }
    const count = wanted.length;
    const accuracy = totals.right / count;
    return {
      kind,
      items: count,
      accuracy,
      standardError: count > 1 ? Math.sqrt((accuracy * (1 - accuracy)) / (count - 1)) : 0,
      normalizedAccuracy: kind === 'choices' ? totals.normalized / count : null,
      perplexity: kind === 'lastWord' ? Math.exp(-totals.logLikelihood / count) : null,
    };
  } catch (error) {
    signal?.throwIfAborted();
    if (core.closed) throw closedError('model');
    throw error instanceof ShiftAddError ? error : fromEngine(error, 'Scoring');
  } finally {
    signal?.removeEventListener('abort', stop);
    core.running.delete(stop);
  }
}

/** TypeError or RangeError names the first item that does not fit. */
function kindOf(items: readonly TaskItem[]): Kind {
  if (!Array.isArray(items) || items.length === 0)
    throw new TypeError(`Expected a list of task items but received ${show(items)}`);
  const kinds = items.map((item: Partial<ChoiceItem & PairItem & LastWordItem> | null, index): Kind => {
    if (typeof item?.query === 'string' && Array.isArray(item.choices)) {
      if (item.choices.length < 2 || !item.choices.every((choice) => typeof choice === 'string' && choice !== ''))
        throw new TypeError(`Expected at least two texts for choices of item ${index} but received ${show(item.choices)}`);
      if (!Number.isInteger(item.gold) || item.gold! < 0 || item.gold! >= item.choices.length)
        throw new RangeError(`Expected an index of a choice for gold of item ${index} but received ${show(item.gold)}`);
      return 'choices';
    }
    if (typeof item?.good === 'string' && typeof item.bad === 'string') return 'pairs';
    if (typeof item?.text === 'string' && /\S\s+\S+\s*$/.test(item.text)) return 'lastWord';
    throw new TypeError(
      `Expected {query, choices, gold}, {good, bad} or {text} of two words for item ${index} but received ${show(item)}`,
    );
  });
  const other = kinds.findIndex((kind) => kind !== kinds[0]);
  if (other !== -1) throw new TypeError(`Expected items of one kind but received ${kinds[0]} and, as item ${other}, ${kinds[other]}`);
  return kinds[0]!;
}

interface Totals {
  right: number;
  normalized: number;
  logLikelihood: number;
}

async function scoreChoices(scorer: Scorer, item: ChoiceItem, template: string, totals: Totals): Promise<void> {
  const context = template.replaceAll('{query}', () => item.query);
  const scores: number[] = [];
  for (const choice of item.choices) scores.push(await scorer.logLikelihood(context, ` ${choice}`));
  if (indexOfLargest(scores) === item.gold) totals.right++;
  const normalized = scores.map((score, index) => score / item.choices[index]!.length);
  if (indexOfLargest(normalized) === item.gold) totals.normalized++;
}

async function scorePair(scorer: Scorer, { good, bad }: PairItem, totals: Totals): Promise<void> {
  if ((await scorer.logLikelihood('', good)) > (await scorer.logLikelihood('', bad))) totals.right++;
}

async function scoreLastWord(scorer: Scorer, { text }: LastWordItem, totals: Totals): Promise<void> {
  const trimmed = text.trimEnd();
  const cut = trimmed.search(/\s+\S+$/);
  const { logLikelihood, greedy } = await scorer.lastWord(trimmed.slice(0, cut), trimmed.slice(cut));
  totals.logLikelihood += logLikelihood;
  if (greedy) totals.right++;
}

function indexOfLargest(values: number[]): number {
  return values.indexOf(Math.max(...values));
}

/** Likelihoods of texts behind others, on one session that grows as needed. */
class Scorer {
  private session: EngineSession | null = null;
  private room = 0;

  constructor(
    private readonly core: ModelCore,
    private readonly flag: CancelFlag,
  ) {}

  /** Sum of ln p over the tokens of `text` behind `context`, or behind the begin or end token without one. */
  async logLikelihood(context: string, text: string): Promise<number> {
    const { ids, start } = this.encode(context, text);
    const session = await this.sessionFor(ids.length);
    const values = await session.evaluate(Int32Array.from(ids), this.flag);
    let sum = 0;
    for (let i = start - 1; i < values.length; i++) sum += values[i]!;
    return sum;
  }

  /** The same, and whether greedy generation would give the text. */
  async lastWord(context: string, text: string): Promise<{ logLikelihood: number; greedy: boolean }> {
    const { ids, start } = this.encode(context, text);
    const session = await this.sessionFor(ids.length);
    session.rewind(0);
    await session.prefill(Int32Array.from(ids.slice(0, start)), this.flag);
    let logLikelihood = 0;
    let greedy = true;
    for (let at = start; at < ids.length; at++) {
      const logits = session.logits();
      const { logSum, best } = normalizer(logits);
      logLikelihood += logits[ids[at]!]! - logSum;
      greedy &&= best === ids[at];
      if (at + 1 < ids.length) await session.prefill(Int32Array.of(ids[at]!), this.flag);
    }
    return { logLikelihood, greedy };
  }

  async close(): Promise<void> {
    await this.session?.close();
  }

  /** Ids of both texts encoded as one, and where the second starts. */
  private encode(context: string, text: string): { ids: number[]; start: number } {
    const { tokenizer, endIds } = this.core;
    const plain = { addSpecialTokens: false, parseSpecial: false };
    const first = tokenizer.beginId ?? [...endIds][0] ?? 0;
    const whole = tokenizer.encode(context + text, plain);
    const before = context === '' ? [] : tokenizer.begin(tokenizer.encode(context, plain));
    const ids = context === '' ? [first, ...whole] : tokenizer.begin(whole);
    const start = Math.max(1, before.length);
    if (ids.length > this.core.contextLimit) {
      throw new ShiftAddError(
        'ERR_CONTEXT_OVERFLOW',
        `A task item has ${ids.length} tokens but this model has ${this.core.contextLimit} positions. Leave the item out.`,
      );
    }
    return { ids, start: Math.min(start, ids.length - 1) };
  }

  private async sessionFor(tokens: number): Promise<EngineSession> {
    if (this.session !== null && tokens <= this.room) return this.session;
    await this.session?.close();
    this.session = null;
    this.room = Math.min(this.core.contextLimit, Math.max(256, tokens * 2));
    this.session = await this.core.openSession(this.room);
    return this.session;
  }
}
