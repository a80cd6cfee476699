/** Calibration tokens: a text or chats, tokenized whole, and random windows of them. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { encodeChat } from './chat.js';
import type { ChatMessage } from './chat-template.js';
import { isJsonObject } from './checkpoint/json-file.js';
import { ShiftAddError } from './errors.js';
import { letEventsRun } from './event-loop.js';
import type { ModelCore } from './model-core.js';

export interface Calibration {
  /** samples x window ids. */
  tokens: Int32Array;
  samples: number;
  window: number;
  record: CalibrationRecord;
  /** Sentences for the user. */
  warnings: string[];
}

/** Where the calibration tokens came from; kept in the packed folder. */
export type CalibrationRecord = { tokens: number; samples: number; window: number; seed: number } & (
  | { file: string; sha256: string }
  | { generated: true; kind: 'chats' | 'text'; texts: number }
);

/** The value of the option that stands for a text that the model writes itself, as its absence does. */
const selfWord = 'self';

export function isSelfCalibration(calibration: string | undefined): calibration is undefined | 'self' {
  return calibration === undefined || calibration === selfWord;
}

/** A model decodes slowly what a file holds at once: fewer windows when it writes the text itself. */
export function calibrationSamples({ calibration, samples }: { calibration?: string; samples?: number }): number {
  return samples ?? (isSelfCalibration(calibration) ? 16 : 64);
}

export interface CalibrationPlan {
  path: string;
  samples: number;
  window: number;
  seed: number;
  signal?: AbortSignal | undefined;
}

/** More of the characters than this and the file is no text. */
const mostBroken = 0.01;

/** ERR_CALIBRATION: unreadable, no text, empty, malformed, or fewer tokens than one window. */
export async function readCalibration(
  core: Pick<ModelCore, 'tokenizer' | 'template'>,
  { path, samples, window, seed, signal }: CalibrationPlan,
): Promise<Calibration> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    const why = code === 'ENOENT' ? 'does not exist' : code === 'EISDIR' ? 'is a folder' : `cannot be read (${code})`;
    throw new ShiftAddError(
      'ERR_CALIBRATION',
      `The calibration file ${path} ${why}. Pass a text file, or a .jsonl file of {"messages": [...]} and {"text": ...}.`,
      error,
    );
  }
  const warnings: string[] = [];
  const text = decodeText(path, bytes, warnings);
  const all = path.toLowerCase().endsWith('.jsonl')
    ? await encodeLines(core, path, text, signal)
    : await core.tokenizer.encodeLong(text.replaceAll('\r\n', '\n'), signal === undefined ? {} : { signal });
  if (all.length < window) {
    throw new ShiftAddError(
      'ERR_CALIBRATION',
      `The calibration file ${path} has ${all.length} tokens; one window of ${window} is needed, ${samples * window} are better. Use more text or a smaller window.`,
    );
  }
  if (all.length < samples * window) {
    warnings.push(
      `The calibration file ${path} has ${all.length} tokens for ${samples} windows of ${window}: they overlap. ${samples * window} tokens or more give a better model.`,
    );
  }
  const next = randomIntegers(seed);
  const tokens = new Int32Array(samples * window);
  for (let index = 0; index < samples; index++) {
    const start = next(all.length - window + 1);
    tokens.set(all.slice(start, start + window), index * window);
  }
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  return {
    tokens,
    samples,
    window,
    record: { file: basename(path), sha256, tokens: all.length, samples, window, seed },
    warnings,
  };
}

/** UTF-8, or UTF-16 behind a byte order mark. A few broken bytes are replaced and reported; more are another format. */
function decodeText(path: string, bytes: Uint8Array, warnings: string[]): string {
  const [first, second] = bytes;
  if (first === 0xff && second === 0xfe) return new TextDecoder('utf-16le').decode(bytes);
  if (first === 0xfe && second === 0xff) return new TextDecoder('utf-16be').decode(bytes);
  const text = new TextDecoder().decode(bytes);
  // Three bytes each, where the file itself holds the character.
  const meant = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
  const broken = count(text, '\uFFFD') - count(meant, '\xEF\xBF\xBD');
  if (broken + count(text, '\0') > text.length * mostBroken) {
    throw new ShiftAddError(
      'ERR_CALIBRATION',
      `The calibration file ${path} is not UTF-8 text. Save it as UTF-8, or pass a .jsonl file of {"messages": [...]}.`,
    );
  }
  if (broken > 0) warnings.push(`The calibration file ${path} has ${broken} places that are not UTF-8; they were replaced by U+FFFD.`);
  return text;
}

function count(text: string, part: string): number {
  return text.split(part).length - 1;
}

/** All chats and texts of a JSON Lines file, one after the other. Empty lines and a last line without an end are fine. */
async function encodeLines(
  core: Pick<ModelCore, 'tokenizer' | 'template'>,
  path: string,
  text: string,
  signal: AbortSignal | undefined,
): Promise<number[]> {
  const ids: number[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue;
    if (index % 64 === 0) {
      await letEventsRun();
      signal?.throwIfAborted();
    }
    const place = `The calibration file ${path}, line ${index + 1},`;
    const bad = (what: string, cause?: unknown): ShiftAddError =>
      new ShiftAddError(
        'ERR_CALIBRATION',
        `${place} ${what}. Each line must be {"messages": [{"role": ..., "content": ...}, ...]} or {"text": ...}.`,
        cause,
      );
    let entry: unknown;
    try {
      entry = JSON.parse(line);
    } catch (error) {
      throw bad(`is not valid JSON (${(error as Error).message})`, error);
    }
    if (isJsonObject(entry) && typeof entry['text'] === 'string' && entry['messages'] === undefined) {
      for (const id of await core.tokenizer.encodeLong(entry['text'], signal === undefined ? {} : { signal })) ids.push(id);
      continue;
    }
    const messages = isJsonObject(entry) ? entry['messages'] : undefined;
    if (!Array.isArray(messages) || messages.length === 0) throw bad('has neither a list of messages nor a text');
    if (!messages.every((message) => isJsonObject(message) && typeof message['role'] === 'string'))
      throw bad('has a message without a role');
    // A call of a tool has no content; a message with parts has a list.
    if (!messages.every((message) => isJsonObject(message) && ('content' in message || 'tool_calls' in message)))
      throw bad('has a message without content');
    try {
      for (const id of encodeChat(core, messages as unknown as ChatMessage[], { addGenerationPrompt: false })) ids.push(id);
    } catch (error) {
      if (!(error instanceof ShiftAddError)) throw error;
      throw new ShiftAddError(error.code, `${place} cannot be encoded. ${error.message}`, error);
    }
  }
  return ids;
}

/** Integers from 0 to below a limit (at most 2^32), the same for the same seed everywhere: SplitMix64. */
export function randomIntegers(seed: number): (limit: number) => number {
  const mask = (1n << 64n) - 1n;
  let state = BigInt(seed);
  return (limit) => {
    state = (state + 0x9e3779b97f4a7c15n) & mask;
    let z = state;
    z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & mask;
    z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & mask;
    z ^= z >> 31n;
    return Number(((z >> 32n) * BigInt(limit)) >> 32n);
  };
}
