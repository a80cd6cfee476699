/**
 * Calibration without a file: the dense model itself writes chats (or plain text, when it has no chat template), which
 * shows the quantizer the states that the model is in when it is used. Only token ids are kept.
 */
import { randomIntegers, type Calibration } from './calibration.js';
import { ChatTemplate, type ChatMessage } from './chat-template.js';
import type { ModelFolder } from './checkpoint/model-folder.js';
import { specialIds, type TokenizerFiles } from './checkpoint/tokenizer-files.js';
import { withDenseModel } from './dense-model.js';
import type { CancelFlag, EngineModel, EngineSampling, EngineSession } from './engine.js';
import { ShiftAddError } from './errors.js';
import type { FamilySpec } from './families/index.js';
import { endIds } from './model.js';
import type { Tokenizer } from './tokenizer.js';

export interface SelfCalibrationPlan {
  samples: number;
  window: number;
  seed: number;
  threads: number | undefined;
  signal: AbortSignal | undefined;
  /** 0 to 1. */
  onProgress: (done: number) => void;
}

/** The model that writes. */
interface Writer {
  engineModel: EngineModel;
  tokenizer: Tokenizer;
  /** Null when the model has none. */
  template: ChatTemplate | null;
  endIds: ReadonlySet<number>;
  /** Special tokens, end tokens among them. */
  specialIds: ReadonlySet<number>;
  vocabularySize: number;
  contextLimit: number;
}

/** What a user writes varies more than what a model answers. */
const userTemperature = 1;
const answerTemperature = 0.7;
const topK = 200;

/** Tokens that a chat may add to what its template writes; a third of them for the user. */
const mostTokens = 512;
/** With less room a template is of no use. */
const leastRoom = 32;

/** A side with fewer tokens, or with fewer distinct 4-grams, is a failure of sampling. */
const leastTokens = 6;
const leastDistinct = 0.6;

/** Draws of a token that is not banned before the turn ends instead. */
const mostDraws = 32;
/** Dropped and kept tokens may be this many times what is wanted. */
const patience = 4;

/** Token ids around what user and assistant write. */
interface Frame {
  before: number[];
  between: number[];
  after: number[];
}

/**
 * Lets the dense model of a folder write samples x window tokens, the same for a seed and any number of threads. Rejects
 * with ERR_CALIBRATION when it writes nothing usable, what opening a model rejects with, or the signal's reason.
 */
export async function calibrateItself(
  source: ModelFolder,
  family: FamilySpec,
  files: TokenizerFiles,
  tokenizer: Tokenizer,
  plan: SelfCalibrationPlan,
): Promise<Calibration> {
  const template = files.chatTemplate === null ? null : new ChatTemplate(files.chatTemplate, tokenizer.specialTokens);
  const { vocabularySize, contextLimit } = family;
  const ids = { endIds: endIds(source, tokenizer), specialIds: specialIds(files) };
  return withDenseModel(source, family, plan, 'Writing the calibration text with', (engineModel, cancel) =>
    write({ engineModel, tokenizer, template, ...ids, vocabularySize, contextLimit }, plan, cancel),
  );
}

async function write(
  writer: Writer,
  { samples, window, seed, signal, onProgress }: SelfCalibrationPlan,
  cancel: CancelFlag,
): Promise<Calibration> {
  const warnings: string[] = [];
  const frame = findFrame(writer, warnings);
  const around = frame === null ? 1 : frame.before.length + frame.between.length;
  const limit = Math.min(writer.contextLimit, around + mostTokens);
  const session = await writer.engineModel.openSession(limit);
  const wanted = samples * window;
  const kept: number[] = [];
  let [drawn, texts, done] = [0, 0, 0];
  try {
    session.seed(BigInt(seed));
    const scribe = new Scribe(session, writer, frame, limit, cancel, (inWork) => {
      signal?.throwIfAborted();
      done = Math.max(done, Math.min(1, (kept.length + inWork) / wanted));
      onProgress(done);
    });
    const starts = randomIntegers(seed);
    while (kept.length < wanted && drawn < patience * wanted) {
      const { ids, usable } = await (frame === null ? scribe.text(startOf(writer, starts)) : scribe.chat(frame));
      drawn += Math.max(leastTokens, ids.length); // a turn may be empty
      if (!usable) continue;
      for (const id of ids) kept.push(id);
      texts++;
    }
  } finally {
    await session.close();
  }
  const filled = Math.min(samples, Math.floor(kept.length / window));
  if (filled === 0) {
    throw new ShiftAddError(
      'ERR_CALIBRATION',
      `The model wrote ${drawn} tokens for its own calibration but only ${kept.length} are not too short or repetitive; one window of ${window} is needed. Pass calibration: the path of a text file, or of a .jsonl file of {"messages": [...]}.`,
    );
  }
  if (filled < samples) {
    warnings.push(
      `Most of what the model wrote for its own calibration is too short or repetitive: ${filled} windows instead of ${samples}. A calibration text gives a better model.`,
    );
  }
  return {
    tokens: Int32Array.from(kept.slice(0, filled * window)),
    samples: filled,
    window,
    record: { generated: true, kind: frame === null ? 'text' : 'chats', texts, tokens: kept.length, samples: filled, window, seed },
    warnings,
  };
}

/** What the chat template writes around a turn of each side, or null for plain text. */
function findFrame(writer: Writer, warnings: string[]): Frame | null {
  const { template, tokenizer, contextLimit } = writer;
  if (template === null) return null;
  const plain = (why: string): null => {
    warnings.push(`The calibration text is plain text instead of chats: ${why}`);
    return null;
  };
  // Private-use characters: a template copies them and does not trim them.
  const [question, answer] = ['\uE000', '\uE001'];
  const messages: ChatMessage[] = [{ role: 'user', content: question }, { role: 'assistant', content: answer }];
  let asked: string[];
  let answered: string[];
  try {
    asked = template.render(messages.slice(0, 1)).split(question);
    answered = template.render(messages, { addGenerationPrompt: false }).split(answer);
  } catch (error) {
    return plain((error as Error).message);
  }
  if (asked.length !== 2 || answered.length !== 2) return plain('the chat template changes what is written.');
  const frame = {
    before: tokenizer.begin(tokenizer.encodeGuarded(asked[0]!)),
    between: tokenizer.encodeGuarded(asked[1]!),
    after: tokenizer.encodeGuarded(answered[1]!),
  };
  if (frame.before.length === 0) return plain('the chat template writes nothing before a user message.');
  const room = contextLimit - frame.before.length - frame.between.length;
  return room < leastRoom ? plain(`the chat template leaves ${Math.max(room, 0)} tokens of the context.`) : frame;
}

/** The first token of a plain text. */
function startOf({ tokenizer, endIds, specialIds, vocabularySize }: Writer, next: (limit: number) => number): number {
  const first = tokenizer.beginId ?? [...endIds][0];
  if (first !== undefined) return first;
  for (;;) {
    const id = next(vocabularySize);
    if (!specialIds.has(id)) return id;
  }
}

interface Written {
  ids: number[];
  usable: boolean;
}

/** Writes one text after the other into one session, which keeps what all chats begin with. */
class Scribe {
  private readonly ends: Set<number>;
  /** Of the current text, tokens that the session has not read. */
  private unread: number[] = [];
  private count = 0;

  constructor(
    private readonly session: EngineSession,
    private readonly writer: Writer,
    frame: Frame | null,
    private readonly limit: number,
    private readonly cancel: CancelFlag,
    private readonly onToken: (inWork: number) => void,
  ) {
    this.ends = new Set(writer.endIds);
    // What a template closes a turn with, where that is a special token: an instruct model ends its turns with it.
    for (const first of [frame?.between[0], frame?.after[0]])
      if (first !== undefined && writer.specialIds.has(first)) this.ends.add(first);
  }

  async chat({ before, between, after }: Frame): Promise<Written> {
    const room = this.limit - before.length - between.length;
    this.begin(before);
    const user = await this.turn(userTemperature, Math.floor(room / 3));
    if (!isUsable(user)) return { ids: user, usable: false };
    this.unread.push(...between);
    this.count += between.length;
    const answer = await this.turn(answerTemperature, room - user.length);
    return { ids: [...before, ...user, ...between, ...answer, ...after], usable: isUsable(answer) };
  }

  async text(first: number): Promise<Written> {
    this.session.rewind(0);
    this.unread = [first];
    this.count = 1;
    const ids = await this.turn(userTemperature, this.limit - 1);
    return { ids: [first, ...ids], usable: isUsable(ids) };
  }

  private begin(ids: number[]): void {
    // The last one is read again: its logits are needed.
    const held = Math.min(this.session.describe().position, ids.length - 1);
    this.session.rewind(held);
    this.unread = ids.slice(held);
    this.count = ids.length;
  }

  /** Samples until an end token or until `room` tokens; the last of these stays unread. */
  private async turn(temperature: number, room: number): Promise<number[]> {
    const { session, cancel } = this;
    const sampling: EngineSampling = { temperature, topK, topP: 1, minP: 0, repetitionPenalty: 1, repetitionWindow: 0 };
    await session.prefill(Int32Array.from(this.unread), cancel);
    this.unread = [];
    const ids: number[] = [];
    let token = await this.allowed(await session.sample(sampling), sampling);
    while (token !== null) {
      ids.push(token);
      this.onToken(++this.count);
      if (ids.length === room) {
        this.unread = [token];
        break;
      }
      token = await this.allowed(await session.decode(token, sampling, cancel), sampling);
    }
    return ids;
  }

  /** The token, or another draw where it is banned; null for the end of the turn. */
  private async allowed(token: number, sampling: EngineSampling): Promise<number | null> {
    const { specialIds, tokenizer } = this.writer;
    for (let draw = 0; draw < mostDraws; draw++) {
      if (this.ends.has(token)) return null;
      if (!specialIds.has(token) && token < tokenizer.size) return token;
      token = await this.session.sample(sampling);
    }
    return null;
  }
}

function isUsable(ids: number[]): boolean {
  if (ids.length < leastTokens) return false;
  const grams = new Set(ids.slice(3).map((id, i) => `${ids[i]},${ids[i + 1]},${ids[i + 2]},${id}`));
  return grams.size >= leastDistinct * (ids.length - 3);
}
