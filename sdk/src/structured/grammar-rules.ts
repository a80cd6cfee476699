/** The rules of a grammar while they are made, and the numbers in which they cross to the engine (`core/grammar/grammar.h`). */
import { AutomatonTooLarge, type CharacterAutomaton } from './character-automaton.js';

const format = 1;
const mostNodes = 400_000;
const mostEdges = 1_000_000;

export class GrammarRules {
  private readonly starts: number[] = [];
  /** Three numbers per edge: kind, value, target. */
  private readonly edges: number[][] = [];
  private readonly ends = new Set<number>();
  private edgeCount = 0;

  /** A rule and its first node. Its other nodes are added later. */
  rule(): { rule: number; start: number } {
    const start = this.node();
    return { rule: this.starts.push(start) - 1, start };
  }

  /** Throws AutomatonTooLarge. */
  node(): number {
    if (this.edges.length >= mostNodes) throw new AutomatonTooLarge();
    return this.edges.push([]) - 1;
  }

  end(node: number): void {
    this.ends.add(node);
  }

  bytes(from: number, low: number, high: number, to: number): void {
    this.edge(from, 0, low | (high << 8), to);
  }

  call(from: number, rule: number, to: number): void {
    this.edge(from, 1, rule, to);
  }

  empty(from: number, to: number): void {
    this.edge(from, 2, 0, to);
  }

  /** Exactly this text; returns the node behind it, which is `to` when that is given. */
  text(from: number, text: string, to?: number): number {
    const bytes = new TextEncoder().encode(text);
    let at = from;
    bytes.forEach((byte, i) => {
      const next = i === bytes.length - 1 && to !== undefined ? to : this.node();
      this.bytes(at, byte, byte, next);
      at = next;
    });
    return at;
  }

  /** At most one space. */
  optionalSpace(from: number): number {
    const to = this.text(from, ' ');
    this.empty(from, to);
    return to;
  }

  /** A whole JSON string, whose inside the automaton accepts. */
  quoted(from: number, automaton: CharacterAutomaton, to: number): void {
    this.text(this.characters(this.text(from, '"'), automaton), '"', to);
  }

  /** The inside of a JSON string, characters spelled as JSON.stringify does; returns the node behind it. */
  characters(from: number, automaton: CharacterAutomaton): number {
    const to = this.node();
    const nodes = automaton.accepts.map(() => this.node());
    const shared = new Map<string, number>();
    this.empty(from, nodes[0]!);
    automaton.accepts.forEach((accepts, state) => {
      if (accepts) this.empty(nodes[state]!, to);
      for (const edge of automaton.edges[state]!) this.spell(nodes[state]!, edge.low, edge.high, nodes[edge.to]!, shared);
    });
    return to;
  }

  /** The numbers for the engine. */
  encode(root: number): Int32Array {
    const numbers = new Int32Array(5 + this.starts.length + 2 * this.edges.length + 1 + 3 * this.edgeCount);
    numbers.set([format, this.starts.length, root, this.edges.length, this.edgeCount]);
    numbers.set(this.starts, 5);
    let at = 5 + this.starts.length;
    let first = 0;
    for (const list of this.edges) {
      numbers[at++] = first;
      first += list.length / 3;
    }
    numbers[at++] = first;
    this.edges.forEach((_, node) => (numbers[at++] = this.ends.has(node) ? 1 : 0));
    for (const list of this.edges) {
      numbers.set(list, at);
      at += list.length;
    }
    return numbers;
  }

  private edge(from: number, kind: number, value: number, to: number): void {
    if (++this.edgeCount > mostEdges) throw new AutomatonTooLarge();
    this.edges[from]!.push(kind, value, to);
  }

  private spell(from: number, low: number, high: number, to: number, shared: Map<string, number>): void {
    for (let code = low; code <= Math.min(high, 0x7f); code++) {
      if (code >= 0x20 && code !== 0x22 && code !== 0x5c) continue;
      this.text(from, JSON.stringify(String.fromCharCode(code)).slice(1, -1), to);
    }
    for (const [start, end] of [[0x20, 0x21], [0x23, 0x5b], [0x5d, 0x7f]] as const)
      if (Math.max(low, start) <= Math.min(high, end)) this.bytes(from, Math.max(low, start), Math.min(high, end), to);
    for (const sequence of utf8Sequences(Math.max(low, 0x80), high)) {
      let target = to;
      let key = String(to);
      for (let i = sequence.length - 1; i > 0; i--) {
        const [least, most] = sequence[i]!;
        key = `${least}-${most}>${key}`;
        let node = shared.get(key);
        if (node === undefined) {
          node = this.node();
          this.bytes(node, least, most, target);
          shared.set(key, node);
        }
        target = node;
      }
      this.bytes(from, sequence[0]![0], sequence[0]![1], target);
    }
  }
}

type ByteRange = [least: number, most: number];

/** The UTF-8 of a range of code points from 0x80 on, without surrogates, as sequences of byte ranges. */
export function utf8Sequences(low: number, high: number): ByteRange[][] {
  const sequences: ByteRange[][] = [];
  for (const [start, end, length] of [[0x80, 0x7ff, 2], [0x800, 0xd7ff, 3], [0xe000, 0xffff, 3], [0x10000, 0x10ffff, 4]] as const) {
    const from = Math.max(low, start);
    const to = Math.min(high, end);
    if (from <= to) split(from, to, length, sequences);
  }
  return sequences;
}

function split(low: number, high: number, length: number, sequences: ByteRange[][]): void {
  for (let i = 1; i < length; i++) {
    const mask = (1 << (6 * i)) - 1; // the bits of the last i bytes
    if ((low & ~mask) === (high & ~mask)) continue;
    if ((low & mask) !== 0) {
      split(low, low | mask, length, sequences);
      split((low | mask) + 1, high, length, sequences);
      return;
    }
    if ((high & mask) !== mask) {
      split(low, (high & ~mask) - 1, length, sequences);
      split(high & ~mask, high, length, sequences);
      return;
    }
  }
  const [first, last] = [utf8(low), utf8(high)];
  sequences.push(Array.from(first, (byte, i): ByteRange => [byte, last[i]!]));
}

function utf8(code: number): Uint8Array {
  return new TextEncoder().encode(String.fromCodePoint(code));
}
