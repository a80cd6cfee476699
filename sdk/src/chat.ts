/** A conversation: history, and a session whose cache is kept as far as the next prompt begins with the same tokens. */
import type { ChatMessage, RenderOptions } from './chat-template.js';
import { latestCall, readHistory, readTurns } from './chat-turns.js';
import type { EngineSession } from './engine.js';
import { ShiftAddError } from './errors.js';
import { startRun, type GenerateOptions, type SamplingOptions } from './generate.js';
import { checkFormOptions, schemaForm, schemaText, withJson, type FormPlan } from './structured/form-plan.js';
import { closedError, type ModelCore } from './model-core.js';
import { chatRules, readOptions, sendRules } from './options.js';
import { Run, type GenerationResult } from './run.js';
import { readSchemaSource } from './structured/schema-source.js';
import { callFormat, findCalls, genericMessages, type CallFormat } from './tools/call-format.js';
import { callOrSchemaGrammar, forcedCallGrammar } from './tools/call-grammar.js';
import { readToolChoice, readTools, toolsForTemplate, type Tool, type ToolChoice, type ToolDefinition } from './tools/tools.js';

/** The sampling options, `maxTokens`, `stop` and `promptLookup` are defaults for every turn. */
export interface ChatOptions extends SamplingOptions {
  /** The system message. */
  system?: string;
  /** Messages of an earlier conversation, as `chat.history` gives them, behind `system`. `send([])` answers them as they stand. */
  history?: ChatMessage[];
  /** Functions that the model may call, for every turn that does not name others. */
  tools?: (ToolDefinition | object)[];
  /** In tokens, prompt and answers together. Default: the model's. */
  contextSize?: number;
  maxTokens?: number;
  stop?: string | string[];
  promptLookup?: boolean;
}

/** Of one turn; what is not given is as the chat was made. */
export interface SendOptions extends Omit<GenerateOptions, 'addSpecialTokens' | 'parseSpecial'> {
  /** Functions that the model may call in this turn. Default: those of the chat. */
  tools?: (ToolDefinition | object)[];
  /** Default 'auto'. With 'required' or a name the answer is a call whose arguments the tool's schema accepts. */
  toolChoice?: ToolChoice;
  /** A demanded answer may be several calls. Default false: it is one. */
  parallelToolCalls?: boolean;
}

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

interface AnswerPlan {
  form: FormPlan | undefined;
  opener: string;
  read: (result: GenerationResult) => GenerationResult;
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
  private readonly tools: Tool[];
  private readonly continues: boolean;
  private calls: number;

  constructor(
    private readonly core: ModelCore,
    options: ChatOptions | undefined,
  ) {
    const { system, history, tools, contextSize, ...defaults } = readOptions<ChatOptions>(chatRules, options, 'createChat');
    core.checkOpen();
    this.contextSize = core.contextSizeFor(contextSize);
    this.defaults = defaults;
    this.tools = readTools(tools);
    this.system = system === undefined ? [] : [{ role: 'system', content: system }];
    const earlier = readHistory(history);
    this.messages = [...this.system, ...earlier];
    this.continues = earlier.length > 0;
    this.calls = latestCall(earlier);
  }

  /** The messages so far, the system message first. A turn is added when its answer is complete. */
  get history(): ChatMessage[] {
    return this.messages.map((message) => ({ ...message }));
  }

  /**
   * Sends a user message, or the results of tools (`{ role: 'tool', content, tool_call_id }`), and generates the answer. TypeError and
   * RangeError for wrong options; the run rejects with ERR_BUSY while another turn runs, ERR_CONTEXT_OVERFLOW, ERR_CHAT_TEMPLATE,
   * ERR_UNSUPPORTED_SCHEMA, ERR_SCHEMA_BUDGET, ERR_CLOSED, or the signal's reason. A turn that fails, is aborted or is left early does
   * not change the history.
   */
  send(message: string | ChatMessage | ChatMessage[], options?: SendOptions): Run {
    const turns = readTurns(message, this.continues);
    const own = Object.fromEntries(Object.entries(options ?? {}).filter(([, value]) => value !== undefined));
    const checked = readOptions<SendOptions>(sendRules, { ...this.defaults, ...own }, 'send');
    const tools = checked.tools === undefined ? this.tools : readTools(checked.tools);
    const choice = readToolChoice(checked.toolChoice, tools);
    const answer = this.planAnswer(tools, choice, checked);
    if (this.closed) return failedRun(closedError('chat'));
    if (this.busy)
      return failedRun(
        new ShiftAddError('ERR_BUSY', 'This chat is still answering. Await the running turn or abort it first.'),
      );
    const before = [...this.messages, ...turns];
    this.busy = true;
    const { run, close } = startRun(this.core, {
      prompt: () => this.encode(before, tools, answer.opener),
      continuation: answer.opener !== '',
      options: checked,
      form: answer.form,
      read: answer.read,
      contextSize: this.contextSize,
      acquire: (prompt) => this.acquire(prompt),
      release: (session, held) => this.release(session, held),
      ended: (result) => this.finish(before, result),
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

  /** The same as `close`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** The form of the answer, what the prompt ends with, and how the answer is read. */
  private planAnswer(tools: Tool[], choice: ToolChoice, options: SendOptions): AnswerPlan {
    const schema = options.schema === undefined ? undefined : readSchemaSource(options.schema);
    const format = callFormat(this.core.template.source);
    const callable = tools.filter(({ name }) => typeof choice !== 'object' || name === choice.name);
    const forced = choice === 'required' || typeof choice === 'object';
    if (schema !== undefined || forced) checkFormOptions(options);
    const readCalls = (result: GenerationResult): GenerationResult => this.withCalls(result, format, callable);
    const key = (): string => `${format.name} ${schemaText(toolsForTemplate(callable) as never)}`;
    if (forced) {
      const read = (result: GenerationResult): GenerationResult => this.withCalls(result, format, callable, format.opener + result.text + format.closer);
      const several = options.parallelToolCalls === true;
      return { form: { key: `call${several ? 's' : ''} ${key()}`, compile: () => forcedCallGrammar(callable, format, several) }, opener: format.opener, read };
    }
    const mayCall = choice === 'auto' && tools.length > 0;
    if (schema === undefined) return { form: undefined, opener: '', read: (result) => (mayCall ? readCalls(result) : result) };
    if (!mayCall) return { form: schemaForm(schema), opener: '', read: withJson };
    const form = { key: `either ${key()} ${schemaText(schema)}`, compile: () => callOrSchemaGrammar(callable, format, schema) };
    const read = (result: GenerationResult): GenerationResult => {
      const called = readCalls(result);
      return called.finishReason === 'toolCalls' ? called : withJson(result);
    };
    return { form, opener: '', read };
  }

  /** The result with the calls that the answer makes; without any, as it is. */
  private withCalls(result: GenerationResult, format: CallFormat, tools: Tool[], answer?: string): GenerationResult {
    // Marks that are special tokens are no part of the text.
    const written = answer ?? this.core.tokenizer.decode(result.tokens, { skipSpecialTokens: false });
    const { text, calls } = findCalls(written, format, tools);
    if (calls.length === 0) return result;
    const toolCalls = calls.map((call) => ({ id: `call${String(++this.calls).padStart(5, '0')}`, ...call }));
    return { ...result, text, finishReason: 'toolCalls', toolCalls };
  }

  private encode(messages: ChatMessage[], tools: Tool[], opener: string): number[] {
    const generic = callFormat(this.core.template.source).name === 'generic';
    const prompt = generic
      ? encodeChat(this.core, genericMessages(messages, tools))
      : encodeChat(this.core, messages, tools.length === 0 ? {} : { tools: toolsForTemplate(tools) });
    return opener === '' ? prompt : [...prompt, ...this.core.tokenizer.encode(opener, { addSpecialTokens: false })];
  }

  private finish(before: ChatMessage[], result: GenerationResult | null): void {
    this.busy = false;
    if (result === null || result.finishReason === 'aborted') return;
    const calls = result.toolCalls?.map(({ id, name, arguments: given }) => ({ id, type: 'function', function: { name, arguments: given } }));
    this.messages = [...before, { role: 'assistant', content: result.text, ...(calls === undefined ? {} : { tool_calls: calls }) }];
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
