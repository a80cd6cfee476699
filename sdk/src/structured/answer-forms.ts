/** The grammars of a loaded model: made once per schema, kept for the latest ones. */
import type { EngineGrammar, EngineModel } from '../engine.js';
import { ShiftAddError, fromEngine } from '../errors.js';
import type { Tokenizer } from '../tokenizer.js';

/** The form of an answer in the engine. */
export interface AnswerForm {
  grammar: EngineGrammar;
  /** Tokens of the shortest answer, at most, without the end token. */
  least: number;
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

  /** The form for a key, compiled by `compile` unless it is kept. ERR_UNSUPPORTED_SCHEMA, ERR_TOKENIZER. */
  async open(key: string, compile: () => Int32Array): Promise<AnswerForm> {
    const known = this.forms.get(key);
    const form = known ?? this.make(compile());
    this.forms.delete(key);
    this.forms.set(key, form);
    for (const [oldest, old] of this.forms) {
      if (this.forms.size <= mostKept) break;
      this.forms.delete(oldest);
      // Sessions that it still constrains keep what they need; a form that was never made has nothing to close.
      old.then(({ grammar }) => grammar.close(), () => undefined).catch(() => undefined);
    }
    try {
      return await form;
    } catch (error) {
      if (this.forms.get(key) === form) this.forms.delete(key);
      throw error;
    }
  }

  private async make(numbers: Int32Array): Promise<AnswerForm> {
    try {
      this.vocabulary ??= this.engineModel.setVocabulary(this.tokenizer.vocabulary(this.vocabularySize, [...this.endIds]));
      await this.vocabulary;
      const grammar = await this.engineModel.openGrammar(numbers);
      const { least } = await grammar.follow(new Uint8Array(), 0);
      if (least >= 0) return { grammar, least };
      await grammar.close();
    } catch (error) {
      const status = (error as { status?: unknown }).status;
      if (status !== 'invalid_argument' && status !== 'unsupported') throw fromEngine(error, 'Preparing the schema');
      throw new ShiftAddError('ERR_UNSUPPORTED_SCHEMA', `The schema cannot be kept: ${(error as Error).message}.`, error);
    }
    throw new ShiftAddError('ERR_UNSUPPORTED_SCHEMA', 'The tokens of this model cannot write what the schema demands, or its shortest answer has more than 64 KiB.');
  }
}
