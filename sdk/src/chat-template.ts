/** Renders messages with the Jinja template of the model, as transformers does. */
import { Template } from '@huggingface/jinja';
import { ShiftAddError } from './errors.js';

/** One turn. Other fields are passed to the template as they are. */
export interface ChatMessage {
  role: 'system' | 'user' | 'assistant' | 'tool' | (string & {});
  content: string | null;
  [field: string]: unknown;
}

/** How messages become a prompt. */
export interface RenderOptions {
  /** JSON schemas of functions that the model may call, as the template wants them. Default none. */
  tools?: object[] | undefined;
  /** Ends with the opening of the assistant's turn. Default true. */
  addGenerationPrompt?: boolean;
}

export class ChatTemplate {
  private template: Template | null = null;

  /** `source` is parsed at first use, so that a model whose template is broken still loads. */
  constructor(
    readonly source: string | null,
    private readonly specialTokens: Record<string, string>,
  ) {}

  get exists(): boolean {
    return this.source !== null;
  }

  /** ERR_CHAT_TEMPLATE: there is none, it cannot be parsed, or it refused the messages (its own sentence). */
  render(messages: ChatMessage[], { addGenerationPrompt = true, tools }: RenderOptions = {}): string {
    const template = this.parsed();
    const renderWith = (turns: ChatMessage[]): string =>
      template.render({
        ...this.specialTokens,
        messages: turns,
        add_generation_prompt: addGenerationPrompt,
        tools: tools ?? null,
        documents: null,
      });
    try {
      const text = renderWith(messages.map(withParsedArguments));
      // A template that joins arguments to a text wants them as texts.
      return text.includes('[object Map]') ? renderWith(messages.map((message) => ({ ...message }))) : text;
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

/**
 * Arguments of tool calls as objects: OpenAI clients send them as JSON texts, which templates would escape once more. An empty
 * text is {}; one that holds no JSON object stays a text.
 */
function withParsedArguments(message: ChatMessage): ChatMessage {
  const calls = message['tool_calls'];
  if (!Array.isArray(calls)) return { ...message };
  return {
    ...message,
    tool_calls: calls.map((call: { function?: { arguments?: unknown } } | null) => {
      const text = call?.function?.arguments;
      if (typeof text !== 'string') return call;
      return { ...call, function: { ...call!.function, arguments: parseArguments(text) } };
    }),
  };
}

function parseArguments(text: string): unknown {
  if (text.trim() === '') return {};
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : text;
  } catch {
    return text;
  }
}
