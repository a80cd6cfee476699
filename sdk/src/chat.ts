/** A conversation: history, and a session whose cache is kept as far as the next prompt begins with the same tokens. */
import { dropOldestTurns, type FittedPrompt, type OverflowPolicy } from './chat-overflow.js';
import { loadChat, saveChat, type ChatState } from './chat-state.js';
import type { ChatMessage, RenderOptions } from './chat-template.js';
import { latestCall, readHistory, readTurns } from './chat-turns.js';
import type { EngineSession } from './engine.js';
import { ShiftAddError } from './errors.js';
import { startRun, type GenerateOptions, type SamplingOptions } from './generate.js';
import { checkFormOptions, schemaForm, schemaText, withJson, type FormPlan } from './structured/form-plan.js';
import { closedError, type ModelCore } from './model-core.js';
import { chatRules, readOptions, restoreRules, sendRules, show } from './options.js';
import { KeptSession } from './prefix-cache.js';
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
  /** When the history does not fit the context any more. Default 'throw'. */
  overflow?: OverflowPolicy;
  maxTokens?: number;
  stop?: string | string[];
  promptLookup?: boolean;
}

/** What takes the place of the saved options of a chat. */
export type RestoreOptions = Omit<ChatOptions, 'system' | 'history'>;

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
  private kept: KeptSession | null = null;
  private busy = false;
  private closed = false;
  private idle: Promise<unknown> = Promise.resolve();
  private endTurn: ((error: Error) => void) | null = null;
  private readonly defaults: SendOptions;
  private readonly contextSize: number;
  private readonly overflow: OverflowPolicy;
  private readonly system: ChatMessage[];
  private readonly tools: Tool[];
  private calls: number;

  /** `restored`: what a saved chat had, and a session that holds its tokens. */
  constructor(
    private readonly core: ModelCore,
    options: ChatOptions | undefined,
    restored?: { chat: ChatState; kept: KeptSession | null },
  ) {
    const { system, history, tools, contextSize, overflow, ...defaults } = readOptions<ChatOptions>(chatRules, options, 'createChat');
    core.checkOpen();
    this.contextSize = core.contextSizeFor(contextSize);
    this.overflow = overflow!;
    this.defaults = defaults;
    this.tools = readTools(tools);
    const earlier = readHistory(history);
    this.system = system === undefined ? [] : [{ role: 'system', content: system }];
    this.messages = [...this.system, ...earlier];
    this.calls = latestCall(earlier);
    if (restored !== undefined) {
      const { chat, kept } = restored;
      this.system = chat.messages.slice(0, chat.systemMessages);
      this.messages = chat.messages;
      this.calls = chat.calls;
      this.kept = kept;
    }
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
    const turns = readTurns(message, this.messages.length > this.system.length);
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
    let fitted: FittedPrompt = { messages: [...this.messages, ...turns], prompt: [], droppedTurns: 0 };
    this.busy = true;
    const { run, close } = startRun(this.core, {
      prompt: () => {
        const encode = (messages: ChatMessage[]): number[] => this.encode(messages, tools, answer.opener);
        if (this.overflow === 'throw') return encode(fitted.messages);
        fitted = dropOldestTurns(fitted.messages, encode, this.contextSize, checked.maxTokens);
        return fitted.prompt;
      },
      ...(this.overflow === 'throw' ? {} : { remark: () => ({ droppedTurns: fitted.droppedTurns }) }),
      continuation: answer.opener !== '',
      options: checked,
      form: answer.form,
      read: answer.read,
      contextSize: this.contextSize,
      acquire: (prompt) => this.acquire(prompt),
      release: (_, held) => this.release(held),
      ended: (result) => this.finish(fitted.messages, result),
    });
    this.endTurn = close;
    this.idle = run.result().catch(() => undefined);
    return run;
  }

  /**
   * Writes history, options and KV cache to a file, whole or not at all, for `model.restoreChat`; a state file that is there is replaced.
   * Resolves to its full path. ERR_BUSY while a turn runs, ERR_WRITE, ERR_NOT_FOUND (no such folder), ERR_OUTPUT_EXISTS (a file of
   * another kind is there), ERR_CLOSED. Not in a browser.
   */
  async saveState(path: string): Promise<string> {
    if (typeof path !== 'string') throw new TypeError(`Expected the path of a file but received ${show(path)}`);
    this.checkIdle();
    this.busy = true;
    const { contextSize, overflow, system, messages, calls, kept } = this;
    const options = JSON.parse(JSON.stringify({ ...this.defaults, overflow })) as ChatState['options'];
    const chat = { contextSize, messages, systemMessages: system.length, tools: toolsForTemplate(this.tools), calls, options };
    const save = async (): Promise<string> => {
      try {
        if (kept !== null) await this.core.prefixes.withdraw(kept);
        return await saveChat(this.core, path, chat, kept?.session ?? null, kept?.tokens ?? []);
      } finally {
        if (kept !== null) this.core.prefixes.park(kept, kept.tokens);
        this.busy = false;
      }
    };
    const saving = save();
    this.idle = saving.catch(() => undefined);
    return saving;
  }

  /** Forgets the history except the system message. ERR_BUSY while a turn runs. */
  reset(): void {
    this.checkIdle();
    this.messages = [...this.system];
  }

  /** Ends a running turn with ERR_CLOSED, waits for it, then frees the memory. Idempotent. */
  async close(): Promise<void> {
    this.closed = true;
    this.endTurn?.(closedError('chat'));
    await this.idle;
    const { kept } = this;
    this.kept = null;
    // A closed model has closed its sessions.
    if (kept !== null) await (this.core.closed ? kept.session.close() : this.core.prefixes.release(kept, kept.tokens));
  }

  /** The same as `close`. */
  async dispose(): Promise<void> {
    await this.close();
  }

  /** The same as `close`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  private checkIdle(): void {
    if (this.closed) throw closedError('chat');
    if (this.busy) throw new ShiftAddError('ERR_BUSY', 'This chat is still answering. Await the running turn or abort it first.');
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
    if (this.kept !== null) return { session: this.kept.session, reused: await this.core.prefixes.resume(this.kept, prompt) };
    const { kept, reused } = await this.core.prefixes.acquire(prompt, this.contextSize);
    this.kept = kept;
    return { session: kept.session, reused };
  }

  private async release(held: number[] | null): Promise<void> {
    const kept = this.kept!;
    if (held !== null) return this.core.prefixes.park(kept, held);
    // The session is not where it should be (the engine failed): start afresh next time.
    this.kept = null;
    await this.core.prefixes.release(kept, null);
  }
}

/** As `Model.restoreChat`. */
export async function restoreChat(core: ModelCore, path: string, options?: RestoreOptions): Promise<Chat> {
  if (typeof path !== 'string') throw new TypeError(`Expected the path of a file but received ${show(path)}`);
  const { contextSize, tools } = readOptions<RestoreOptions>(restoreRules, options, 'restoreChat');
  readTools(tools);
  core.checkOpen();
  const { chat, session, tokens } = await loadChat(core, path, contextSize === undefined ? undefined : core.contextSizeFor(contextSize));
  const given = Object.fromEntries(Object.entries(options ?? {}).filter(([, value]) => value !== undefined));
  try {
    const kept = session === null ? null : new KeptSession(session, chat.contextSize);
    const restored = new Chat(core, { tools: chat.tools, ...chat.options, ...given, contextSize: chat.contextSize }, { chat, kept });
    if (kept !== null) core.prefixes.park(kept, tokens);
    return restored;
  } catch (error) {
    await session?.close();
    if (error instanceof TypeError || error instanceof RangeError) throw new ShiftAddError('ERR_STATE_FILE', `${path} has options that no saved chat has: ${error.message}. Save the session again.`, error);
    throw error;
  }
}

function failedRun(error: ShiftAddError): Run {
  return new Run(
    () => Promise.reject(error),
    () => undefined,
  );
}
