/**
 * Turns token ids into text piece by piece: never half a character, never a tidied space, and the pieces joined are the
 * text of the whole. The decoder of `@huggingface/tokenizers` works on whole lists and tidies, so it is not used.
 */
import { isJsonObject, type Json, type JsonObject } from './checkpoint/json-file.js';
import { ShiftAddError } from './errors.js';

/** What the decoder of tokenizer.json does, in the order in which it matters here. */
interface DecoderRules {
  kind: 'byte-level' | 'text';
  replacements: { from: string | RegExp; to: string }[];
  byteFallback: boolean;
  /** At most this many of `stripContent` go at the very start. */
  stripStart: number;
  stripContent: string;
  /** Between tokens; a tokenizer without a decoder joins its tokens with spaces. */
  separator: string;
}

/** The text or the bytes of one token. */
interface Piece {
  text: string | null;
  bytes: Uint8Array | null;
}

export interface AddedToken {
  id: number;
  content: string;
  special: boolean;
}

/** Everything that streams of one tokenizer share. */
export class TokenDecoder {
  private readonly rules: DecoderRules;
  private readonly added: ReadonlyMap<number, AddedToken>;
  private readonly pieces = new Map<number, Piece>();

  constructor(
    decoder: Json | undefined,
    added: AddedToken[],
    private readonly tokenOf: (id: number) => string | undefined,
    path: string,
  ) {
    this.rules = readRules(decoder, path);
    this.added = new Map(added.map((token) => [token.id, token]));
  }

  stream(options: TokenStreamOptions = {}): TokenStream {
    return new TokenStream(
      this.rules,
      (id) => this.piece(id, options.skipSpecialTokens ?? true),
      options.continuation ?? false,
    );
  }

  /** What a token adds to a text, apart from what is stripped at its start; nothing for a special token. ERR_TOKENIZER. */
  bytesOf(id: number): Uint8Array {
    if (this.rules.separator !== '')
      throw new ShiftAddError('ERR_TOKENIZER', 'This tokenizer puts spaces between its tokens, so that answers cannot be held to a schema.');
    const { text, bytes } = this.piece(id, true);
    return bytes ?? new TextEncoder().encode(text!);
  }

  private piece(id: number, skipSpecial: boolean): Piece {
    const added = this.added.get(id);
    if (added !== undefined) return { text: added.special && skipSpecial ? '' : added.content, bytes: null };
    let piece = this.pieces.get(id);
    if (piece === undefined) {
      piece = makePiece(this.tokenOf(id) ?? '', this.rules);
      this.pieces.set(id, piece);
    }
    return piece;
  }
}

/** How a stream of ids becomes text. */
export interface TokenStreamOptions {
  /** Leaves out special tokens (begin, end, turn marks). Default true. */
  skipSpecialTokens?: boolean;
  /** The text continues other text, so that a leading space belongs to it. Default false. */
  continuation?: boolean;
}

/** Incremental detokeniser: `push` ids, `end` once. */
export class TokenStream {
  // Incomplete characters wait inside; broken bytes become U+FFFD.
  private readonly utf8 = new TextDecoder('utf-8', { ignoreBOM: true });
  private pendingBytes = false;
  private toStrip: number;
  private first = true;

  constructor(
    private readonly rules: DecoderRules,
    private readonly pieceOf: (id: number) => Piece,
    continuation: boolean,
  ) {
    this.toStrip = continuation ? 0 : rules.stripStart;
  }

  /** The text that became certain with this token; often empty. */
  push(id: number): string {
    const piece = this.pieceOf(id);
    let text: string;
    if (piece.bytes !== null) {
      text = this.utf8.decode(piece.bytes, { stream: true });
      this.pendingBytes = true;
    } else if (piece.text === '') {
      return '';
    } else {
      text = this.flush() + (this.first ? '' : this.rules.separator) + piece.text!;
    }
    this.first = false;
    return this.strip(text);
  }

  /** What was held back: U+FFFD for a character that was never finished. */
  end(): string {
    return this.strip(this.flush());
  }

  private flush(): string {
    if (!this.pendingBytes) return '';
    this.pendingBytes = false;
    return this.utf8.decode();
  }

  private strip(text: string): string {
    while (this.toStrip > 0 && text.length > 0) {
      if (!text.startsWith(this.rules.stripContent)) {
        this.toStrip = 0;
      } else {
        text = text.slice(this.rules.stripContent.length);
        this.toStrip--;
      }
    }
    return text;
  }
}

function readRules(decoder: Json | undefined, path: string): DecoderRules {
  const rules: DecoderRules = {
    kind: 'text',
    replacements: [],
    byteFallback: false,
    stripStart: 0,
    stripContent: ' ',
    separator: '',
  };
  if (decoder === null || decoder === undefined) return { ...rules, separator: ' ' };
  const steps = isJsonObject(decoder) && decoder['type'] === 'Sequence' ? decoder['decoders'] : [decoder];
  for (const step of Array.isArray(steps) ? steps : []) {
    if (!isJsonObject(step) || !readStep(step, rules)) {
      const type = isJsonObject(step) ? String(step['type']) : String(step);
      throw new ShiftAddError(
        'ERR_TOKENIZER',
        `${path}: decoder ${type} is not known; known are ByteLevel, Replace, ByteFallback, Fuse, Strip and Metaspace.`,
      );
    }
  }
  return rules;
}

function readStep(step: JsonObject, rules: DecoderRules): boolean {
  switch (step['type']) {
    case 'ByteLevel':
      rules.kind = 'byte-level';
      return true;
    case 'ByteFallback':
      rules.byteFallback = true;
      return true;
    case 'Fuse':
      return true;
    case 'Replace': {
      const pattern = step['pattern'];
      const to = step['content'];
      if (!isJsonObject(pattern) || typeof to !== 'string') return false;
      if (typeof pattern['String'] === 'string') rules.replacements.push({ from: pattern['String'], to });
      else if (typeof pattern['Regex'] === 'string')
        rules.replacements.push({ from: new RegExp(pattern['Regex'], 'gu'), to });
      else return false;
      return true;
    }
    case 'Strip':
      rules.stripStart = typeof step['start'] === 'number' ? step['start'] : 0;
      rules.stripContent = typeof step['content'] === 'string' && step['content'].length > 0 ? step['content'] : ' ';
      return step['stop'] === 0 || step['stop'] === undefined;
    case 'Metaspace': {
      const mark = typeof step['replacement'] === 'string' ? step['replacement'] : '\u2581';
      rules.replacements.push({ from: mark, to: ' ' });
      const scheme = step['prepend_scheme'] ?? (step['add_prefix_space'] === false ? 'never' : 'always');
      rules.stripStart = scheme === 'never' ? 0 : 1;
      return true;
    }
    default:
      return false;
  }
}

function makePiece(token: string, rules: DecoderRules): Piece {
  if (rules.kind === 'byte-level') return { text: null, bytes: bytesOfStandIns(token) };
  if (rules.byteFallback) {
    const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(token);
    if (byte !== null) return { text: null, bytes: Uint8Array.of(parseInt(byte[1]!, 16)) };
  }
  let text = token;
  for (const { from, to } of rules.replacements) text = text.replaceAll(from, () => to);
  return { text, bytes: null };
}

/**
 * Byte-level BPE writes every byte as a printable character: itself where it is printable, else U+0100 and up in
 * order. A token with any other character stands for its own UTF-8.
 */
const byteOfStandIn: ReadonlyMap<string, number> = (() => {
  const map = new Map<string, number>();
  let next = 0x100;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    map.set(String.fromCharCode(printable ? byte : next++), byte);
  }
  return map;
})();

function bytesOfStandIns(token: string): Uint8Array {
  const bytes = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = byteOfStandIn.get(token[i]!);
    if (byte === undefined) return new TextEncoder().encode(token);
    bytes[i] = byte;
  }
  return bytes;
}
