/**
 * A subset of regular expressions as automata: characters, classes, groups, alternatives, repetition, and `^` and `$` at the ends
 * of alternatives, looking ahead behind a `^` at the beginning. As in JSON Schema, a pattern without anchors is looked for anywhere in the text.
 */
import { Nondeterministic, anyCharacter, complement, intersect, invert, lastCharacter, unite, type CharacterAutomaton, type CharacterSet } from './character-automaton.js';

/** What is wrong or unsupported, for a message after "the pattern". */
export class PatternError extends Error {}

const mostRepetitions = 1000;
const deepestGroup = 100;

const digits: CharacterSet = [[0x30, 0x39]];
const wordCharacters: CharacterSet = [[0x30, 0x39], [0x41, 0x5a], [0x5f, 0x5f], [0x61, 0x7a]];
const spaces: CharacterSet = [[9, 13], [32, 32], [0xa0, 0xa0], [0x1680, 0x1680], [0x2000, 0x200a], [0x2028, 0x2029], [0x202f, 0x202f], [0x205f, 0x205f], [0x3000, 0x3000], [0xfeff, 0xfeff]];
const lineEnds: CharacterSet = [[10, 10], [13, 13], [0x2028, 0x2029]];
const classes: Record<string, CharacterSet> = {
  d: digits, D: complement(digits), w: wordCharacters, W: complement(wordCharacters), s: spaces, S: complement(spaces),
};
const controls: Record<string, number> = { n: 10, r: 13, t: 9, v: 11, f: 12, 0: 0 };

type Part =
  | { kind: 'set'; set: CharacterSet }
  | { kind: 'start' | 'end' }
  | { kind: 'ahead'; part: Part; negative: boolean }
  | { kind: 'sequence' | 'either'; parts: Part[] }
  | { kind: 'repeat'; part: Part; least: number; most: number };

/** PatternError for what is not supported, AutomatonTooLarge when it has too many states. */
export function patternAutomaton(source: string): CharacterAutomaton {
  const part = new Reader(source).read();
  const { ahead, rest } = splitAhead(part);
  return ahead.reduce((all, { part: next, negative }) => {
    const found = automatonOf(anchored(next));
    return intersect(all, negative ? invert(found) : found);
  }, automatonOf(rest));
}

/** What stands between a `^` at the beginning and the rest, looking ahead. */
function splitAhead(part: Part): { ahead: (Part & { kind: 'ahead' })[]; rest: Part } {
  if (part.kind !== 'sequence' || part.parts[0]?.kind !== 'start') return { ahead: [], rest: part };
  const ahead: (Part & { kind: 'ahead' })[] = [];
  for (const each of part.parts.slice(1)) {
    if (each.kind !== 'ahead') break;
    ahead.push(each);
  }
  return { ahead, rest: { kind: 'sequence', parts: [part.parts[0], ...part.parts.slice(1 + ahead.length)] } };
}

/** The same at the very beginning: each alternative has its own `$` or an open end. */
function anchored(part: Part): Part {
  if (part.kind === 'either') return { kind: 'either', parts: part.parts.map(anchored) };
  return { kind: 'sequence', parts: [{ kind: 'start' }, ...(part.kind === 'sequence' ? part.parts : [part])] };
}

function automatonOf(part: Part): CharacterAutomaton {
  const nodes = new Nondeterministic();
  const start = nodes.node();
  const end = nodes.node();
  for (const alternative of part.kind === 'either' ? part.parts : [part]) {
    const parts = alternative.kind === 'sequence' ? [...alternative.parts] : [alternative];
    const anchoredStart = parts[0]?.kind === 'start';
    const anchoredEnd = parts.at(-1)?.kind === 'end';
    const from = nodes.node();
    nodes.connect(start, null, from);
    if (!anchoredStart) nodes.connect(from, anyCharacter, from);
    const inner = nodes.node();
    nodes.connect(from, null, inner);
    const body: Part = { kind: 'sequence', parts: parts.slice(anchoredStart ? 1 : 0, anchoredEnd ? -1 : undefined) };
    const to = build(nodes, body, inner);
    if (!anchoredEnd) nodes.connect(to, anyCharacter, to);
    nodes.connect(to, null, end);
  }
  return nodes.determine(start, end);
}

/** Adds a part behind a node and returns the node behind the part. */
function build(nodes: Nondeterministic, part: Part, from: number): number {
  switch (part.kind) {
    case 'start':
    case 'end':
      throw new PatternError('has ^ or $ inside; they are supported at the ends of the whole pattern and of its alternatives');
    case 'ahead':
      throw new PatternError('looks ahead where that is not supported: only behind a ^ at its beginning');
    case 'set': {
      const to = nodes.node();
      nodes.connect(from, part.set, to);
      return to;
    }
    case 'sequence':
      return part.parts.reduce((node, each) => build(nodes, each, node), from);
    case 'either': {
      const to = nodes.node();
      for (const each of part.parts) {
        const own = nodes.node();
        nodes.connect(from, null, own);
        nodes.connect(build(nodes, each, own), null, to);
      }
      return to;
    }
    case 'repeat': {
      let at = from;
      for (let i = 0; i < part.least; i++) at = build(nodes, part.part, at);
      const to = nodes.node();
      if (part.most === Infinity) {
        const loop = nodes.node();
        nodes.connect(at, null, loop);
        nodes.connect(build(nodes, part.part, loop), null, loop);
        nodes.connect(loop, null, to);
        return to;
      }
      for (let i = part.least; i < part.most; i++) {
        nodes.connect(at, null, to);
        at = build(nodes, part.part, at);
      }
      nodes.connect(at, null, to);
      return to;
    }
  }
}

class Reader {
  private readonly characters: string[];
  private at = 0;
  private depth = 0;

  constructor(source: string) {
    this.characters = [...source];
  }

  read(): Part {
    const part = this.alternatives();
    if (this.at < this.characters.length) throw new PatternError("has a ')' without '('");
    return part;
  }

  private alternatives(): Part {
    const parts = [this.sequence()];
    while (this.take('|')) parts.push(this.sequence());
    return parts.length === 1 ? parts[0]! : { kind: 'either', parts };
  }

  private sequence(): Part {
    const parts: Part[] = [];
    while (this.at < this.characters.length && this.peek() !== '|' && this.peek() !== ')') parts.push(this.repeated());
    return { kind: 'sequence', parts };
  }

  private repeated(): Part {
    const part = this.single();
    const range = this.repetition();
    if (range === null) return part;
    this.take('?'); // lazy: the same texts
    if (part.kind === 'start' || part.kind === 'end') throw new PatternError('repeats ^ or $');
    if (this.repetition() !== null) throw new PatternError('repeats a repetition');
    const [least, most] = range;
    if (least > mostRepetitions || (most !== Infinity && most > mostRepetitions)) throw new PatternError(`repeats more than ${mostRepetitions} times`);
    return { kind: 'repeat', part, least, most };
  }

  private repetition(): [number, number] | null {
    if (this.take('*')) return [0, Infinity];
    if (this.take('+')) return [1, Infinity];
    if (this.take('?')) return [0, 1];
    if (this.peek() !== '{') return null;
    const found = /^\{(\d+)(,(\d*))?\}/.exec(this.characters.slice(this.at, this.at + 24).join(''));
    if (found === null) throw new PatternError("has a '{' that is no repetition; write \\{");
    this.at += found[0].length;
    const least = Number(found[1]);
    const most = found[2] === undefined ? least : found[3] === '' ? Infinity : Number(found[3]);
    if (most < least) throw new PatternError('has a repetition whose end is before its start');
    return [least, most];
  }

  private single(): Part {
    const character = this.next();
    switch (character) {
      case '^':
        return { kind: 'start' };
      case '$':
        return { kind: 'end' };
      case '.':
        return { kind: 'set', set: complement(lineEnds) };
      case '[':
        return { kind: 'set', set: this.characterClass() };
      case '(':
        return this.group();
      case '\\':
        return { kind: 'set', set: this.escape(false) };
      case '*':
      case '+':
      case '?':
      case '{':
      case '}':
      case ']':
        throw new PatternError(`has a '${character}' that stands for nothing; write \\${character}`);
      default:
        return { kind: 'set', set: one(character.codePointAt(0)!) };
    }
  }

  private group(): Part {
    if (++this.depth > deepestGroup) throw new PatternError('nests groups too deeply');
    if (this.take('?')) {
      const named = this.characters.slice(this.at).join('').match(/^<[A-Za-z_$][\w$]*>/);
      const look = this.peek();
      if (named !== null) this.at += named[0].length;
      else if (look === '=' || look === '!') {
        this.at++;
        const ahead = this.alternatives();
        if (!this.take(')')) throw new PatternError("has a '(' without ')'");
        this.depth--;
        return { kind: 'ahead', part: ahead, negative: look === '!' };
      } else if (!this.take(':')) throw new PatternError('looks ahead or behind, which is not supported');
    }
    const part = this.alternatives();
    if (!this.take(')')) throw new PatternError("has a '(' without ')'");
    this.depth--;
    return part;
  }

  private characterClass(): CharacterSet {
    const inverted = this.take('^');
    const sets: CharacterSet[] = [];
    while (!this.take(']')) {
      const low = this.classMember();
      if (this.peek() !== '-' || this.characters[this.at + 1] === ']') {
        sets.push(low);
        continue;
      }
      this.at++;
      const high = this.classMember();
      if (!isOne(low) || !isOne(high) || low[0]![0] > high[0]![0]) throw new PatternError('has a range in [ ] without two ends in order');
      sets.push([[low[0]![0], high[0]![0]]]);
    }
    return inverted ? complement(unite(...sets)) : withoutSurrogates(unite(...sets));
  }

  private classMember(): CharacterSet {
    const character = this.next();
    if (character !== '\\') return one(character.codePointAt(0)!);
    return this.escape(true);
  }

  private escape(inClass: boolean): CharacterSet {
    const character = this.next();
    if (character in classes) return classes[character]!;
    if (inClass && character === 'b') return one(8);
    if (character === '0' && /\d/.test(this.peek() ?? '')) throw new PatternError('has an octal escape, which is not supported');
    if (character in controls) return one(controls[character]!);
    if (character === 'x') return one(this.hex(2));
    if (character === 'u') {
      if (this.take('{')) {
        let text = '';
        while (!this.take('}')) text += this.next();
        if (!/^[0-9a-fA-F]{1,6}$/.test(text)) throw new PatternError('has a bad \\u{ } escape');
        return one(parseInt(text, 16));
      }
      const code = this.hex(4);
      if (code < 0xd800 || code > 0xdbff) return one(code);
      if (!(this.take('\\') && this.take('u'))) throw new PatternError('has half a surrogate pair');
      return one(0x10000 + ((code - 0xd800) << 10) + (this.hex(4) - 0xdc00));
    }
    if (/[\^$\\.*+?()[\]{}|/-]/.test(character)) return one(character.codePointAt(0)!);
    throw new PatternError(`has the escape \\${character}, which is not supported`);
  }

  private hex(digitCount: number): number {
    const text = this.characters.slice(this.at, this.at + digitCount).join('');
    if (!new RegExp(`^[0-9a-fA-F]{${digitCount}}$`).test(text)) throw new PatternError('has a bad escape');
    this.at += digitCount;
    return parseInt(text, 16);
  }

  private peek(): string | undefined {
    return this.characters[this.at];
  }

  private take(character: string): boolean {
    if (this.peek() !== character) return false;
    this.at++;
    return true;
  }

  private next(): string {
    const character = this.characters[this.at++];
    if (character === undefined) throw new PatternError('ends too early');
    return character;
  }
}

function one(code: number): CharacterSet {
  if (!(code >= 0 && code <= lastCharacter)) throw new PatternError('has a character beyond U+10FFFF');
  if (code >= 0xd800 && code <= 0xdfff) throw new PatternError('has half a surrogate pair');
  return [[code, code]];
}

function isOne(set: CharacterSet): boolean {
  return set.length === 1 && set[0]![0] === set[0]![1];
}

function withoutSurrogates(set: CharacterSet): CharacterSet {
  return complement(complement(set));
}
