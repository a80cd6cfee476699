/** A conversation: history, and a session whose cache is kept as far as the next prompt begins with the same tokens. */
import type { ChatMessage, RenderOptions } from './chat-template.js';
import type { EngineSession } from './engine.js';
import { ShiftAddError } from './errors.js';
import { startRun, type GenerateOptions, type SamplingOptions } from './generate.js';
import { closedError, type ModelCore } from './model-core.js';
import { chatRules, readOptions, sendRules, show } from './options.js';
import { Run, type GenerationResult } from './run.js';

/** The sampling options, `maxTokens`, `stop` and `promptLookup` are defaults for every turn. */
export interface ChatOptions extends SamplingOptions {
  /** The system message. */
  system?: string;
  /** JSON schemas of functions that the model may call, for templates that take them. */
  tools?: object[];
  /** In tokens, prompt and answers together. Default: the model's. */
  contextSize?: number;
  maxTokens?: number;
  stop?: string | string[];
  promptLookup?: boolean;
}

export type SendOptions = Omit<GenerateOptions, 'addSpecialTokens' | 'parseSpecial'>;

/** Token ids of rendered messages. Control tokens written in a message stay plain text; one begin token at most. */
export function encodeChat(
  { tokenizer, template }: Pick<ModelCore, 'tokenizer' | 'template'>,
  messages: ChatMessage[],
  { addGenerationPrompt = true, tools }: RenderOptions = {},
): number[] {
  const guarded = messages.map((message) => guardStrings(message, (text) => tokenizer.guard(text)) as ChatMessage);
  const guardedTools = tools?.map((tool) => guardStrings(tool, (part) => tokenizer.guard(part)) as object);
  const text = template.render(guarded, { addGenerationPrompt, tools: guardedTools });
  return tokenizer.begin(tokenizer.encodeGuarded(text));
}

function guardStrings(value: unknown, guard: (text: string) => string): unknown {
  if (typeof value === 'string') return guard(value);
  if (Array.isArray(value)) return value.map((entry) => guardStrings(entry, guard));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, guardStrings(entry, guard)]));
}

/** Made by `model.createChat()`. One turn at a time; several chats of one model may be used at once. */
export class Chat {
  private messages: ChatMessage[];
  private session: EngineSession | null = null;
  private held: number[] = [];
  private busy = false;
  private closed = false;
  private idle: Promise<unknown> = Promise.resolve();
  private endTurn: ((error: Error) => void) | null = null;
  private readonly defaults: SendOptions;
  private readonly contextSize: number;
  private readonly system: ChatMessage[];
  private readonly tools: object[] | undefined;

  constructor(
    private readonly core: ModelCore,
    options: ChatOptions | undefined,
  ) {
    const { system, tools, contextSize, ...defaults } = readOptions<ChatOptions>(chatRules, options, 'createChat');
    core.checkOpen();
    this.contextSize = core.contextSizeFor(contextSize);
    this.defaults = defaults;
    this.tools = tools;
    this.system = system === undefined ? [] : [{ role: 'system', content: system }];
    this.messages = [...this.system];
  }

  /** The messages so far, the system message first. A turn is added when its answer is complete. */
  get history(): ChatMessage[] {
    return this.messages.map((message) => ({ ...message }));
  }

  /**
   * Sends a user message and generates the answer. TypeError and RangeError for wrong options; the run rejects with
   * ERR_BUSY while another turn runs, ERR_CONTEXT_OVERFLOW, ERR_CHAT_TEMPLATE, ERR_CLOSED, or the signal's reason. A turn
   * that fails, is aborted or is left early does not change the history.
   */
  send(text: string, options?: SendOptions): Run {
    if (typeof text !== 'string') throw new TypeError(`Expected a string for text but received ${show(text)}`);
    const own = Object.fromEntries(Object.entries(options ?? {}).filter(([, value]) => value !== undefined));
    const checked = readOptions<SendOptions>(sendRules, { ...this.defaults, ...own }, 'send');
    if (this.closed) return failedRun(closedError('chat'));
    if (this.busy)
      return failedRun(
        new ShiftAddError('ERR_BUSY', 'This chat is still answering. Await the running turn or abort it first.'),
      );
    const turn: ChatMessage = { role: 'user', content: text };
    const before = this.messages;
    this.busy = true;
    const { run, close } = startRun(this.core, {
      prompt: () => encodeChat(this.core, [...before, turn], { tools: this.tools }),
      continuation: false,
      options: checked,
      contextSize: this.contextSize,
      acquire: (prompt) => this.acquire(prompt),
      release: (session, held) => this.release(session, held),
      ended: (result) => this.finish(before, turn, result),
    });
    this.endTurn = close;
    this.idle = run.result().catch(() => undefined);
    return run;
  }

  /** Forgets the history except the system message. ERR_BUSY while a turn runs. */
  reset(): void {
    if (this.closed) throw closedError('chat');
    if (this.busy)
      throw new ShiftAddError('ERR_BUSY', 'This chat is still answering. Await the running turn or abort it first.');
    this.messages = [...this.system];
  }

  /** Ends a running turn with ERR_CLOSED, waits for it, then frees the memory. Idempotent. */
  async close(): Promise<void> {
    this.closed = true;
    this.endTurn?.(closedError('chat'));
    await this.idle;
    const { session } = this;
    this.session = null;
    await session?.close();
  }

  /** The same as `close`. */
  async dispose(): Promise<void> {
    await this.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  private finish(before: ChatMessage[], turn: ChatMessage, result: GenerationResult | null): void {
    this.busy = false;
    if (result === null || result.finishReason === 'aborted') return;
    this.messages = [...before, turn, { role: 'assistant', content: result.text }];
  }

  private async acquire(prompt: number[]): Promise<{ session: EngineSession; reused: number }> {
    this.session ??= await this.core.openSession(this.contextSize);
    let reused = 0;
    // The last token is always computed: its logits are needed.
    while (reused < prompt.length - 1 && reused < this.held.length && prompt[reused] === this.held[reused]) reused++;
    this.session.rewind(reused);
    this.held.length = reused;
    return { session: this.session, reused };
  }

  private async release(session: EngineSession, held: number[] | null): Promise<void> {
    this.held = held ?? [];
    if (held !== null) return;
    // The session is not where it should be (the engine failed): start afresh next time.
    this.session = null;
    await session.close();
  }
}

function failedRun(error: ShiftAddError): Run {
  return new Run(
    () => Promise.reject(error),
    () => undefined,
  );
}
