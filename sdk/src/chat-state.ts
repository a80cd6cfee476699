/** What the file of a saved chat says about it, and what has to agree before it goes on (`docs/sessions.md`). */
import type { ChatMessage } from './chat-template.js';
import type { Json, JsonObject } from './checkpoint/json-file.js';
import type { EngineSession } from './engine.js';
import { ShiftAddError, fromEngine } from './errors.js';
import type { ModelCore } from './model-core.js';
import { StateFile, damaged, writeStateFile } from './state-file.js';

/** A chat between two turns. */
export interface ChatState {
  contextSize: number;
  messages: ChatMessage[];
  /** How many of them stay after `reset`. */
  systemMessages: number;
  /** As templates take them. */
  tools: object[];
  /** Tool calls made so far; they number the next ones. */
  calls: number;
  /** Defaults of its turns. */
  options: Record<string, Json>;
}

/** What a session's numbers depend on. CPU and WebAssembly compute the same bits, a GPU does not. */
interface Fingerprint {
  model: string;
  name: string;
  precision: string;
  kvCache: string;
  arithmetic: string;
}

async function fingerprint(core: ModelCore): Promise<Fingerprint> {
  const { name, precision, kvCache } = core.backend;
  return { model: await core.identify(), name: core.name, precision, kvCache, arithmetic: name === 'cuda' ? 'cuda' : 'cpu' };
}

/** Returns the full path. `session` holds `tokens`; null where there has been no turn yet. */
export async function saveChat(core: ModelCore, path: string, chat: ChatState, session: EngineSession | null, tokens: number[]): Promise<string> {
  const { positionBytes, beyondSwitch } = session?.describe() ?? { positionBytes: 0, beyondSwitch: false };
  const header = { kind: 'chat', fingerprint: { ...(await fingerprint(core)) }, beyondSwitch, chat: JSON.parse(JSON.stringify(chat)) as Json };
  const held = session === null ? [] : tokens;
  try {
    return await writeStateFile(path, { header, tokens: Int32Array.from(held), positionBytes }, (first, count) => session!.save(first, count));
  } catch (error) {
    throw fromEngine(error, 'Saving the session');
  }
}

/** The chat in a file and a session with what it held. `contextSize` takes the place of the saved one. */
export async function loadChat(core: ModelCore, path: string, contextSize: number | undefined): Promise<{ chat: ChatState; session: EngineSession | null; tokens: number[] }> {
  const file = await StateFile.open(path);
  let session: EngineSession | null = null;
  try {
    const { header, tokens } = file;
    await checkFingerprint(core, header['fingerprint'], file.path);
    const chat = readChat(header, file.path);
    chat.contextSize = contextSize ?? Math.min(chat.contextSize, core.contextLimit);
    if (tokens.length > chat.contextSize)
      throw new ShiftAddError('ERR_CONTEXT_OVERFLOW', `${file.path} holds ${tokens.length} tokens but the context holds ${chat.contextSize}. Ask for a larger contextSize (the model's limit is ${core.contextLimit}).`);
    if (tokens.length > 0) {
      session = await core.openSession(chat.contextSize);
      if (session.describe().positionBytes !== file.positionBytes) throw damaged(file.path, 'has sizes that do not belong to its model');
      for await (const part of file.chunks()) await session.restore(part.tokens, part.saved, header['beyondSwitch'] === true);
    }
    return { chat, session, tokens: [...tokens] };
  } catch (error) {
    await session?.close();
    core.checkOpen();
    throw fromEngine(error, `Restoring ${file.path}`);
  } finally {
    await file.close();
  }
}

async function checkFingerprint(core: ModelCore, saved: Json | undefined, path: string): Promise<void> {
  const mine = await fingerprint(core);
  const given = (typeof saved === 'object' && saved !== null && !Array.isArray(saved) ? saved : {}) as JsonObject;
  const mismatch = (what: string, fix: string): ShiftAddError => new ShiftAddError('ERR_STATE_MISMATCH', `${path} was saved with ${what}. ${fix}`);
  if (given['model'] !== mine.model) throw mismatch(`another model (${String(given['name'])}; this one is ${mine.name})`, 'Load the model that it was saved with.');
  const fields = { precision: 'precision', kvCache: 'kvCache' } as const;
  for (const [field, option] of Object.entries(fields) as ['precision' | 'kvCache', string][])
    if (given[field] !== mine[field]) throw mismatch(`${option} '${String(given[field])}', this model was loaded with '${mine[field]}'`, `Load the model with that ${option}.`);
  if (given['arithmetic'] !== mine.arithmetic)
    throw mismatch(given['arithmetic'] === 'cuda' ? 'the backend cuda, whose numbers differ from those of this backend' : 'a backend whose numbers differ from those of cuda', `Load the model with the backend ${given['arithmetic'] === 'cuda' ? 'cuda' : 'cpu'}.`);
}

function readChat(header: JsonObject, path: string): ChatState {
  const { contextSize, messages, systemMessages, tools, calls, options } = (header['chat'] ?? {}) as Partial<Record<keyof ChatState, Json>>;
  const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
  const isObject = (value: unknown): boolean => typeof value === 'object' && value !== null && !Array.isArray(value);
  const isMessage = (value: unknown): boolean => {
    const { role, content } = (value ?? {}) as Partial<ChatMessage>;
    return typeof role === 'string' && (typeof content === 'string' || content === null);
  };
  const right =
    header['kind'] === 'chat' &&
    isCount(contextSize) &&
    contextSize > 0 &&
    Array.isArray(messages) &&
    messages.every(isMessage) &&
    isCount(systemMessages) &&
    systemMessages <= messages.length &&
    Array.isArray(tools) &&
    tools.every(isObject) &&
    isCount(calls) &&
    isObject(options);
  if (!right) throw damaged(path, 'has a header that no saved chat has');
  return { contextSize, messages: messages as unknown as ChatMessage[], systemMessages, tools: tools as object[], calls, options: options as Record<string, Json> };
}
