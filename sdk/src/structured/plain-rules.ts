/** Rules for values that a schema says nothing more about: characters, strings, names and numbers of JSON. */
import { anyCharacter } from './character-automaton.js';
import type { GrammarRules } from './grammar-rules.js';

export class PlainRules {
  private readonly shared = new Map<string, number>();

  constructor(private readonly rules: GrammarRules) {}

  /** Made once per grammar. */
  private once(name: string, fill: (start: number, end: number) => void): number {
    const known = this.shared.get(name);
    if (known !== undefined) return known;
    const { rule, start } = this.rules.rule();
    const end = this.rules.node();
    this.rules.end(end);
    this.shared.set(name, rule);
    fill(start, end);
    return rule;
  }

  /** One character inside a string, in any spelling. Half a surrogate pair is never written. */
  private addCharacter(from: number, to: number): void {
    const { rules } = this;
    for (const [low, high] of [[0x20, 0x21], [0x23, 0x5b], [0x5d, 0x7f]] as const) rules.bytes(from, low, high, to);
    const continued = (count: number, low = 0x80, high = 0xbf): number => {
      const node = rules.node();
      rules.bytes(node, low, high, count === 1 ? to : continued(count - 1));
      return node;
    };
    rules.bytes(from, 0xc2, 0xdf, continued(1));
    rules.bytes(from, 0xe0, 0xe0, continued(2, 0xa0));
    rules.bytes(from, 0xe1, 0xec, continued(2));
    rules.bytes(from, 0xed, 0xed, continued(2, 0x80, 0x9f));
    rules.bytes(from, 0xee, 0xef, continued(2));
    rules.bytes(from, 0xf0, 0xf0, continued(3, 0x90));
    rules.bytes(from, 0xf1, 0xf3, continued(3));
    rules.bytes(from, 0xf4, 0xf4, continued(3, 0x80, 0x8f));
    const escape = rules.text(from, '\\');
    for (const letter of '"\\/bfnrt') rules.text(escape, letter, to);
    const hex = (at: number, digits: string, next = rules.node()): number => {
      for (const digit of digits) rules.text(at, digit, next);
      return next;
    };
    const all = '0123456789abcdefABCDEF';
    const unicode = rules.text(escape, 'u');
    hex(hex(hex(hex(unicode, '0123456789abcefABCEF'), all), all), all, to);
    const d = hex(unicode, 'dD');
    hex(hex(hex(d, '01234567'), all), all, to);
    const high = hex(hex(hex(d, '89abAB'), all), all);
    const low = hex(hex(rules.text(high, '\\u'), 'dD'), 'cdefCDEF');
    hex(hex(low, all), all, to);
  }

  character(): number {
    return this.once('character', (start, end) => this.addCharacter(start, end));
  }

  string(): number {
    return this.once('string', (start, end) => {
      const inside = this.rules.text(start, '"');
      this.addCharacter(inside, inside);
      this.rules.text(inside, '"', end);
    });
  }

  /** Without escapes, so that no two spellings are one name. */
  key(): number {
    return this.once('key', (start, end) => this.rules.quoted(start, { edges: [anyCharacter.map(([low, high]) => ({ low, high, to: 0 }))], accepts: [true] }, end));
  }

  integer(): number {
    return this.once('integer', (start, end) => this.addWhole(start, end));
  }

  number(): number {
    return this.once('number', (start, end) => {
      const { rules } = this;
      const whole = rules.node();
      this.addWhole(start, whole);
      rules.empty(rules.text(rules.text(start, '-'), '0'), whole);
      rules.empty(whole, end);
      const fraction = this.addDigits(rules.text(whole, '.'), 17, 0x30);
      const exponent = rules.node();
      for (const before of [whole, fraction]) {
        rules.text(before, 'e', exponent);
        rules.text(before, 'E', exponent);
      }
      const sign = rules.node();
      rules.text(exponent, '+', sign);
      rules.text(exponent, '-', sign);
      rules.empty(exponent, sign);
      rules.empty(fraction, end);
      rules.empty(this.addDigits(sign, 2, 0x30), end);
    });
  }

  private addWhole(from: number, to: number): void {
    const { rules } = this;
    rules.text(from, '0', to);
    const first = rules.node();
    rules.empty(from, first);
    rules.text(from, '-', first);
    rules.empty(this.addDigits(first, 15, 0x31), to);
  }

  /** One digit from `first` on and up to `most` in all; returns the node behind them. */
  private addDigits(from: number, most: number, first: number): number {
    const to = this.rules.node();
    let at = from;
    for (let i = 0; i < most; i++) {
      const next = this.rules.node();
      this.rules.bytes(at, i === 0 ? first : 0x30, 0x39, next);
      this.rules.empty(next, to);
      at = next;
    }
    return to;
  }
}
