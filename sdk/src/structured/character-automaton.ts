/**
 * Finite automata over the characters of a string, as code points without surrogates: what patterns, formats, lengths and lists
 * of words are made of before they become bytes.
 */

/** Inclusive ranges of code points, ascending and apart. */
export type CharacterSet = readonly (readonly [low: number, high: number])[];

export const lastCharacter = 0x10ffff;
const surrogates: CharacterSet = [[0xd800, 0xdfff]];
export const anyCharacter: CharacterSet = [[0, 0xd7ff], [0xe000, lastCharacter]];

export function unite(...sets: CharacterSet[]): CharacterSet {
  const ranges = sets.flat().sort((a, b) => a[0] - b[0]);
  const united: [number, number][] = [];
  for (const [low, high] of ranges) {
    const last = united.at(-1);
    if (last !== undefined && low <= last[1] + 1) last[1] = Math.max(last[1], high);
    else united.push([low, high]);
  }
  return united;
}

/** All characters that are not in the set. */
export function complement(set: CharacterSet): CharacterSet {
  const rest: [number, number][] = [];
  let next = 0;
  for (const [low, high] of unite(set, surrogates)) {
    if (low > next) rest.push([next, low - 1]);
    next = high + 1;
  }
  if (next <= lastCharacter) rest.push([next, lastCharacter]);
  return rest;
}

/** A state is an index; 0 is the start. Every character leads to at most one state. */
export interface CharacterAutomaton {
  edges: { low: number; high: number; to: number }[][];
  accepts: boolean[];
}

/** Thrown when an automaton would become too large; the caller says which keyword made it. */
export class AutomatonTooLarge extends Error {}

const mostStates = 20_000;
const mostEdges = 200_000;

/** May be in several states at once; empty edges have no set. */
export class Nondeterministic {
  readonly edges: { set: CharacterSet | null; to: number }[][] = [];

  node(): number {
    if (this.edges.length >= mostStates) throw new AutomatonTooLarge();
    return this.edges.push([]) - 1;
  }

  connect(from: number, set: CharacterSet | null, to: number): void {
    this.edges[from]!.push({ set, to });
  }

  determine(start: number, end: number): CharacterAutomaton {
    const close = (nodes: Iterable<number>): number[] => {
      const reached = new Set(nodes);
      for (const node of reached) for (const { set, to } of this.edges[node]!) if (set === null) reached.add(to);
      return [...reached].sort((a, b) => a - b);
    };
    const first = close([start]);
    return explore(first, (nodes) => nodes.join(), (nodes) => nodes.includes(end), (nodes) => {
      const edges = nodes.flatMap((node) => this.edges[node]!.flatMap(({ set, to }) => (set ?? []).map(([low, high]) => ({ low, high, to }))));
      const cuts = [...new Set(edges.flatMap(({ low, high }) => [low, high + 1]))].sort((a, b) => a - b);
      return cuts.slice(0, -1).flatMap((low, i) => {
        const targets = new Set(edges.filter((edge) => edge.low <= low && low <= edge.high).map(({ to }) => to));
        return targets.size === 0 ? [] : [{ low, high: cuts[i + 1]! - 1, to: close(targets) }];
      });
    });
  }
}

/** The automaton of all states that can be reached from the first one. */
function explore<State>(
  first: State,
  keyOf: (state: State) => string,
  accepts: (state: State) => boolean,
  edgesOf: (state: State) => { low: number; high: number; to: State }[],
): CharacterAutomaton {
  const numbers = new Map<string, number>();
  const states: State[] = [];
  const number = (state: State): number => {
    const key = keyOf(state);
    const known = numbers.get(key);
    if (known !== undefined) return known;
    if (states.length >= mostStates) throw new AutomatonTooLarge();
    numbers.set(key, states.length);
    return states.push(state) - 1;
  };
  number(first);
  const automaton: CharacterAutomaton = { edges: [], accepts: [] };
  let count = 0;
  for (let i = 0; i < states.length; i++) {
    const edges = edgesOf(states[i]!).map(({ low, high, to }) => ({ low, high, to: number(to) }));
    if ((count += edges.length) > mostEdges) throw new AutomatonTooLarge();
    automaton.edges.push(edges);
    automaton.accepts.push(accepts(states[i]!));
  }
  return automaton;
}

export function intersect(a: CharacterAutomaton, b: CharacterAutomaton): CharacterAutomaton {
  return explore<readonly [number, number]>([0, 0], (pair) => pair.join(), ([i, j]) => a.accepts[i]! && b.accepts[j]!, ([i, j]) =>
    a.edges[i]!.flatMap((x) =>
      b.edges[j]!.flatMap((y) => {
        const low = Math.max(x.low, y.low);
        const high = Math.min(x.high, y.high);
        return low > high ? [] : [{ low, high, to: [x.to, y.to] as const }];
      }),
    ),
  );
}

/** Every text that the automaton does not accept. */
export function invert({ edges, accepts }: CharacterAutomaton): CharacterAutomaton {
  const rest = accepts.length;
  const all = edges.map((own) => [...own, ...complement(own.map(({ low, high }) => [low, high] as const)).map(([low, high]) => ({ low, high, to: rest }))]);
  return {
    edges: [...all, anyCharacter.map(([low, high]) => ({ low, high, to: rest }))],
    accepts: [...accepts.map((accepted) => !accepted), true],
  };
}

/** Only texts of `least` to `most` characters. */
export function withLength(a: CharacterAutomaton, least: number, most: number): CharacterAutomaton {
  const last = most === Infinity ? least : most;
  return explore<readonly [number, number]>([0, 0], (pair) => pair.join(), ([i, length]) => a.accepts[i]! && length >= least, ([i, length]) =>
    length === most ? [] : a.edges[i]!.map(({ low, high, to }) => ({ low, high, to: [to, Math.min(length + 1, last)] as const })),
  );
}

/** Exactly these words. */
export function wordsOnly(words: readonly string[]): CharacterAutomaton {
  return trie(words, false);
}

/** Every text but these words. */
export function allBut(words: readonly string[]): CharacterAutomaton {
  return trie(words, true);
}

function trie(words: readonly string[], inverted: boolean): CharacterAutomaton {
  const automaton: CharacterAutomaton = { edges: [[]], accepts: [inverted] };
  const children: Map<number, number>[] = [new Map()];
  for (const word of words) {
    let state = 0;
    for (const character of word) {
      const code = character.codePointAt(0)!;
      let next = children[state]!.get(code);
      if (next === undefined) {
        if (children.length >= mostEdges) throw new AutomatonTooLarge();
        next = children.push(new Map()) - 1;
        automaton.accepts.push(inverted);
        children[state]!.set(code, next);
      }
      state = next;
    }
    automaton.accepts[state] = !inverted;
  }
  const others = children.length;
  automaton.edges = children.map((map) => {
    const own = [...map].map(([code, to]) => ({ low: code, high: code, to })).sort((a, b) => a.low - b.low);
    const rest = inverted ? complement(own.map(({ low, high }) => [low, high] as const)) : [];
    return [...own, ...rest.map(([low, high]) => ({ low, high, to: others }))];
  });
  if (inverted) {
    automaton.edges.push(anyCharacter.map(([low, high]) => ({ low, high, to: others })));
    automaton.accepts.push(true);
  }
  return automaton;
}
