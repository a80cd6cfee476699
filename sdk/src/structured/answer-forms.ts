/** The grammars of a loaded model: made once per schema, kept for the latest ones. */
import type { EngineGrammar, EngineModel } from '../engine.js';
import { ShiftAddError, fromEngine } from '../errors.js';
import type { Tokenizer } from '../tokenizer.js';

/** The form of an answer in the engine. */
export interface AnswerForm {
  grammar: EngineGrammar;
  /** Tokens of the shortest answer, at most, without the end token. */
  least: number;
  /** Runs that use it now, and whether it goes when none does. */
  users: number;
  isDropped: boolean;
}

/** Grammars that are kept; each holds at most 32 MiB of states and masks. */
const mostKept = 16;

export class AnswerForms {
  /** By what they were made from; the latest used last. */
  private readonly forms = new Map<string, Promise<AnswerForm>>();
  private vocabulary: Promise<void> | null = null;

  constructor(
    private readonly engineModel: EngineModel,
    private readonly tokenizer: Tokenizer,
    private readonly endIds: ReadonlySet<number>,
    private readonly vocabularySize: number,
  ) {}

  /** The form for a key, compiled by `compile` unless it is kept. `release` it once. ERR_UNSUPPORTED_SCHEMA, ERR_TOKENIZER. */
  async open(key: string, compile: () => Int32Array): Promise<AnswerForm> {
    const known = this.forms.get(key);
    const form = known ?? this.make(compile());
    this.forms.delete(key);
    this.forms.set(key, form);
    try {
      const opened = await form;
      opened.users++;
      await this.dropOldest();
      return opened;
    } catch (error) {
      if (this.forms.get(key) === form) this.forms.delete(key);
      throw error;
    }
  }

  async release(form: AnswerForm): Promise<void> {
    form.users--;
    if (form.isDropped && form.users === 0) await form.grammar.close();
  }

  private async dropOldest(): Promise<void> {
    const many = this.forms.size - mostKept;
    for (const [key, old] of [...this.forms].slice(0, Math.max(0, many))) {
      this.forms.delete(key);
      const form = await old.catch(() => null); // whoever asked for it has got its error
      if (form === null) continue;
      form.isDropped = true;
      if (form.users === 0) await form.grammar.close();
    }
  }

  private async make(numbers: Int32Array): Promise<AnswerForm> {
    try {
      this.vocabulary ??= this.engineModel.setVocabulary(this.tokenizer.vocabulary(this.vocabularySize, [...this.endIds]));
      await this.vocabulary;
      const grammar = await this.engineModel.openGrammar(numbers);
      const { least } = await grammar.follow(new Uint8Array(), 0);
      if (least >= 0) return { grammar, least, users: 0, isDropped: false };
      await grammar.close();
    } catch (error) {
      const status = (error as { status?: unknown }).status;
      if (status !== 'invalid_argument' && status !== 'unsupported') throw fromEngine(error, 'Preparing the schema');
      throw new ShiftAddError('ERR_UNSUPPORTED_SCHEMA', `The schema cannot be kept: ${(error as Error).message}.`, error);
    }
    throw new ShiftAddError('ERR_UNSUPPORTED_SCHEMA', 'The tokens of this model cannot write what the schema demands, or its shortest answer has more than 64 KiB.');
  }
}
