/** Renders messages with the Jinja template of the model, as transformers does. */
import { Template } from '@huggingface/jinja';
import { ShiftAddError } from './errors.js';

/** One turn. Other fields are passed to the template as they are. */
export interface ChatMessage {
  role: 'system' | 'user' | 'assistant' | 'tool' | (string & {});
  content: string | null;
  [field: string]: unknown;
}

export interface RenderOptions {
  /** Ends with the opening of the assistant's turn. Default true. */
  addGenerationPrompt?: boolean;
}

export class ChatTemplate {
  private template: Template | null = null;

  /** `source` is parsed at first use, so that a model whose template is broken still loads. */
  constructor(
    private readonly source: string | null,
    private readonly specialTokens: Record<string, string>,
  ) {}

  /** ERR_CHAT_TEMPLATE: there is none, it cannot be parsed, or it refused the messages (its own sentence). */
  render(messages: ChatMessage[], { addGenerationPrompt = true }: RenderOptions = {}): string {
    const template = this.parsed();
    try {
      return template.render({
        ...this.specialTokens,
        messages: messages.map((message) => ({ ...message })),
        add_generation_prompt: addGenerationPrompt,
        tools: null,
        documents: null,
      });
    } catch (error) {
      // What a template raises and what fails inside it come alike; the sentence tells them apart.
      throw new ShiftAddError(
        'ERR_CHAT_TEMPLATE',
        `The chat template did not accept the messages: ${(error as Error).message}`,
        error,
      );
    }
  }

  private parsed(): Template {
    if (this.template !== null) return this.template;
    if (this.source === null) {
      throw new ShiftAddError(
        'ERR_CHAT_TEMPLATE',
        'This model has no chat template (chat_template in tokenizer_config.json, or chat_template.jinja). Use generate() with a prompt instead.',
      );
    }
    try {
      this.template = new Template(this.source);
    } catch (error) {
      throw new ShiftAddError(
        'ERR_CHAT_TEMPLATE',
        `The chat template cannot be parsed: ${(error as Error).message}`,
        error,
      );
    }
    return this.template;
  }
}
