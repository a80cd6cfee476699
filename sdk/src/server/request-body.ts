/** Reads the JSON body of a request, which may be anything: too large, cut, no UTF-8, nested without end. */
import type { IncomingMessage } from 'node:http';
import { findFault, type Field } from './field-check.js';
import { HttpError } from './http-error.js';

/** Deeper bodies are refused: what walks through them later recurses. A JSON schema takes two or three levels for each of its own. */
const mostLevels = 512;

/** The body, checked against its fields. 400, 413, 415 as HttpError. */
export async function readRequest<T>(incoming: IncomingMessage, fields: Field, maxBytes: number): Promise<T> {
  const type = incoming.headers['content-type'] ?? '';
  // Not only form: a page may send other types across origins without asking.
  if (!/^application\/json\s*(;|$)/i.test(type)) throw new HttpError(415, `Expected the Content-Type application/json but received ${type === '' ? 'none' : `'${type.slice(0, 60)}'`}.`, { code: 'unsupported_media_type' });
  const encoding = incoming.headers['content-encoding'] ?? 'identity';
  if (encoding !== 'identity') throw new HttpError(415, `Expected no Content-Encoding but received '${encoding.slice(0, 60)}'.`, { code: 'unsupported_encoding' });
  const value = parse(await readBytes(incoming, maxBytes));
  const fault = findFault(fields, value);
  if (fault !== null) throw new HttpError(400, fault.message, { param: fault.path === '' ? null : fault.path, code: 'invalid_value' });
  return value as T;
}

async function readBytes(incoming: IncomingMessage, maxBytes: number): Promise<Buffer> {
  const tooLarge = (): HttpError => {
    dropRest(incoming, maxBytes);
    return new HttpError(413, `The body has more than the ${maxBytes} bytes that are allowed.`, { code: 'request_too_large', headers: { Connection: 'close' } });
  };
  if (Number(incoming.headers['content-length'] ?? 0) > maxBytes) throw tooLarge();
  const parts: Buffer[] = [];
  let bytes = 0;
  return new Promise((resolve, reject) => {
    const settle = (act: () => void) => (): void => {
      incoming.off('data', take).off('end', ended).off('error', cut).off('close', cut);
      act();
    };
    const take = (part: Buffer): void => {
      parts.push(part);
      bytes += part.length;
      if (bytes > maxBytes) settle(() => reject(tooLarge()))();
    };
    const ended = settle(() => resolve(Buffer.concat(parts)));
    const cut = settle(() => reject(new HttpError(400, 'The body ended too early.', { code: 'incomplete_body' })));
    incoming.on('data', take).on('end', ended).on('error', cut).on('close', cut);
  });
}

/** A client that is still sending reads the answer only when it is let finish; one that never does is cut off. */
function dropRest(incoming: IncomingMessage, maxBytes: number): void {
  let dropped = 0;
  incoming.on('error', () => undefined);
  incoming.on('data', (part: Buffer) => {
    dropped += part.length;
    if (dropped > 16 * maxBytes) incoming.socket.destroy();
  });
  incoming.resume();
}

function parse(bytes: Buffer): unknown {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new HttpError(400, 'The body is not valid UTF-8.', { code: 'invalid_utf8' });
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    const reason = error instanceof SyntaxError ? error.message.slice(0, 200) : 'it is too large';
    throw new HttpError(400, `The body is no JSON: ${reason}`, { code: 'invalid_json' });
  }
  return tidyJson(value);
}

/** The value with halves of surrogate pairs, which no UTF-8 can carry, as U+FFFD. 400 where it nests too deeply. */
export function tidyJson(value: unknown): unknown {
  return tidied(value, 0);
}

function tidied(value: unknown, level: number): unknown {
  if (level > mostLevels) throw new HttpError(400, `The body nests more than ${mostLevels} levels.`, { code: 'too_deep' });
  if (typeof value === 'string') return wellFormed(value);
  if (Array.isArray(value)) return value.map((entry) => tidied(entry, level + 1));
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).map(([key, entry]) => [wellFormed(key), tidied(entry, level + 1)] as const);
  return Object.fromEntries(entries);
}

function wellFormed(text: string): string {
  return text.replace(/\p{Surrogate}/gu, '\ufffd');
}
