/** Calibration tokens: a text or chats, tokenized whole, and random windows of them. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { encodeChat } from './chat.js';
import type { ChatMessage } from './chat-template.js';
import { isJsonObject } from './checkpoint/json-file.js';
import { ShiftAddError } from './errors.js';
import type { ModelCore } from './model-core.js';

export interface Calibration {
  /** samples x window ids. */
  tokens: Int32Array;
  samples: number;
  window: number;
  /** Recorded in the packed folder. */
  record: { file: string; sha256: string; tokens: number; samples: number; window: number; seed: number };
}

export interface CalibrationPlan {
  path: string;
  samples: number;
  window: number;
  seed: number;
  signal?: AbortSignal | undefined;
}

/** ERR_CALIBRATION: unreadable, empty, malformed, or fewer tokens than one window. */
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
      `The calibration file ${path} ${why}. Pass a text file, or a .jsonl file of {"messages": [...]}.`,
      error,
    );
  }
  const text = new TextDecoder().decode(bytes);
  const all = path.endsWith('.jsonl')
    ? encodeChats(core, path, text)
    : await core.tokenizer.encodeLong(text, signal === undefined ? {} : { signal });
  if (all.length < window) {
    throw new ShiftAddError(
      'ERR_CALIBRATION',
      `The calibration file ${path} has ${all.length} tokens; one window of ${window} is needed, ${samples * window} are better. Use more text or a smaller window.`,
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
  };
}

/** All chats of a JSON Lines file, one after the other. */
function encodeChats(core: Pick<ModelCore, 'tokenizer' | 'template'>, path: string, text: string): number[] {
  const ids: number[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue;
    const bad = (what: string, cause?: unknown): ShiftAddError =>
      new ShiftAddError(
        'ERR_CALIBRATION',
        `The calibration file ${path}, line ${index + 1}, ${what}. Each line must be {"messages": [{"role": ..., "content": ...}, ...]}.`,
        cause,
      );
    let entry: unknown;
    try {
      entry = JSON.parse(line);
    } catch (error) {
      throw bad(`is not valid JSON (${(error as Error).message})`, error);
    }
    const messages = isJsonObject(entry) ? entry['messages'] : undefined;
    if (
      !Array.isArray(messages) ||
      !messages.every((message) => isJsonObject(message) && typeof message['role'] === 'string')
    ) {
      throw bad('has no list of messages');
    }
    for (const id of encodeChat(core, messages as unknown as ChatMessage[], false)) ids.push(id);
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
