/** Makes the rules of a grammar from a JSON schema: every text that they write parses and validates. docs/structured.md is the contract. */
import { isJsonObject, type Json } from '../checkpoint/json-file.js';
import { AutomatonTooLarge, allBut, anyCharacter, intersect, withLength, wordsOnly, type CharacterAutomaton } from './character-automaton.js';
import { DecimalError, addDecimals } from './decimal-rule.js';
import { areApart, matchesScalar, numberFormats, typesOf } from './demands.js';
import { formats } from './formats.js';
import { GrammarRules } from './grammar-rules.js';
import { PlainRules } from './plain-rules.js';
import { SchemaReader, demandsOf, entriesOf, type Part, type PlainSchema, type TypeName } from './json-schema.js';
import { PatternError, patternAutomaton } from './pattern.js';
import { unsupportedSchema } from './schema-error.js';

const mostRules = 20_000;
/** Longer strings and lists are never written where a limit is given. */
const longestCounted = 10_000;
const anything: Part = { schemas: [{ schema: true, path: '#' }] };

/** The rules for one schema, with at most one space in front. ERR_UNSUPPORTED_SCHEMA. */
export function schemaGrammar(schema: Json): Int32Array {
  const rules = new GrammarRules();
  const { rule, start } = rules.rule();
  const end = rules.node();
  rules.end(end);
  addSchema(rules, rules.optionalSpace(start), schema, end);
  return rules.encode(rule);
}

/** Adds what a schema allows between two nodes. */
export function addSchema(rules: GrammarRules, from: number, schema: Json, to: number): void {
  const reader = new SchemaReader(schema);
  try {
    rules.call(from, new Compiler(rules, reader).ruleOf({ schemas: [{ schema, path: '#' }] }), to);
  } catch (error) {
    if (error instanceof AutomatonTooLarge) throw unsupportedSchema('#', 'makes a grammar that is too large', 'Shorten its lists, lengths and patterns.');
    throw error;
  }
}

class Compiler {
  private readonly byPart = new Map<string, number>();
  private readonly ids = new Map<Json, number>();
  private readonly plainRules: PlainRules;

  constructor(
    private readonly rules: GrammarRules,
    private readonly reader: SchemaReader,
  ) {
    this.plainRules = new PlainRules(rules);
  }

  ruleOf(given: Part): number {
    const part = this.reader.follow(given);
    const chosen = [...(part.chosen ?? [])].map(([list, i]) => `${this.idOf(list)}=${i}`);
    const key = [...new Set(part.schemas.map(({ schema }) => this.idOf(schema)))].join() + `;${chosen.join()}`;
    const known = this.byPart.get(key);
    if (known !== undefined) return known;
    if (this.byPart.size >= mostRules) throw new AutomatonTooLarge();
    const { rule, start } = this.rules.rule();
    this.byPart.set(key, rule);
    const to = this.rules.node();
    this.rules.end(to);
    const plain = this.reader.read(part);
    if (plain !== null) this.add(part, plain, start, to);
    return rule;
  }

  /** Equal texts and numbers are one schema; objects and lists are those of the schema itself. */
  private idOf(schema: Json): number {
    let id = this.ids.get(schema);
    if (id === undefined) this.ids.set(schema, (id = this.ids.size));
    return id;
  }

  private add(part: Part, plain: PlainSchema, from: number, to: number): void {
    const [choice] = plain.choices;
    if (choice !== undefined) return this.addChoice(part, choice, from, to);
    if (plain.values !== undefined) return this.addValues(plain, plain.values, from, to);
    const types = typesOf(plain);
    for (const format of plain.formats)
      if (!Object.hasOwn(formats, format) && !numberFormats.has(format))
        throw unsupportedSchema(`${plain.path}/format`, `uses the format ${format}, which is not supported`, `Supported are ${[...Object.keys(formats), ...numberFormats].join(', ')}.`);
    for (const type of types) this.addType(plain, type, from, to);
  }

  private addChoice(part: Part, choice: PlainSchema['choices'][number], from: number, to: number): void {
    const [only] = part.schemas;
    // A schema that is nothing but this choice: its alternatives are rules that others can share.
    const demands = isJsonObject(only!.schema) ? demandsOf(only!.schema) : [];
    const alone = part.schemas.length === 1 && demands.length === 1 && (demands[0] === 'anyOf' || demands[0] === 'oneOf') && part.chosen === undefined;
    const parts = choice.parts.map((each, i): Part => (alone ? each : { schemas: part.schemas, chosen: new Map([...(part.chosen ?? []), [choice.list, i]]) }));
    if (choice.exclusive) this.checkExclusive(parts, choice.path);
    for (const each of parts) this.rules.call(from, this.ruleOf(each), to);
  }

  private checkExclusive(parts: Part[], path: string): void {
    const plains = parts.map((part) => this.reader.read(this.reader.follow(part)));
    for (let i = 0; i < plains.length; i++)
      for (let j = 0; j < i; j++)
        if (!areApart(this.reader, plains[i]!, plains[j]!, 0))
          throw unsupportedSchema(path, `is a oneOf whose schemas ${j} and ${i} may both hold`, 'Use anyOf, or give each a required property with a const of its own.');
  }

  private addValues(plain: PlainSchema, values: Json[], from: number, to: number): void {
    const kept = values.filter((value) => matchesScalar(plain, value));
    const words = kept.filter((value) => typeof value === 'string');
    if (words.length > 0) this.rules.quoted(from, wordsOnly(words), to);
    for (const value of kept) if (typeof value !== 'string') this.rules.empty(this.addValue(from, value), to);
  }

  /** A fixed value; returns the node behind it. */
  private addValue(from: number, value: Json): number {
    const { rules } = this;
    const comma = (at: number): number => rules.optionalSpace(rules.text(at, ','));
    if (Array.isArray(value)) {
      let at = rules.text(from, '[');
      value.forEach((entry, i) => (at = this.addValue(i === 0 ? at : comma(at), entry)));
      return rules.text(at, ']');
    }
    if (!isJsonObject(value)) return rules.text(from, JSON.stringify(value));
    let at = rules.text(from, '{');
    entriesOf(value).forEach(([key, entry], i) => {
      at = rules.text(i === 0 ? at : comma(at), `${JSON.stringify(key)}:`);
      at = this.addValue(rules.optionalSpace(at), entry);
    });
    return rules.text(at, '}');
  }

  private addType(plain: PlainSchema, type: TypeName, from: number, to: number): void {
    switch (type) {
      case 'null':
        this.rules.text(from, 'null', to);
        return;
      case 'boolean':
        this.rules.text(from, 'true', to);
        this.rules.text(from, 'false', to);
        return;
      case 'number':
      case 'integer':
        this.addNumber(plain, type === 'integer', from, to);
        return;
      case 'string':
        this.addString(plain, from, to);
        return;
      case 'array':
        this.addArray(plain, from, to);
        return;
      case 'object':
        this.addObject(plain, from, to);
    }
  }

  private addNumber(plain: PlainSchema, integer: boolean, from: number, to: number): void {
    const { minimum, exclusiveMinimum, maximum, exclusiveMaximum, multiplesOf } = plain;
    const bounds = { minimum, exclusiveMinimum, maximum, exclusiveMaximum };
    const int32 = plain.formats.includes('int32');
    if (int32) Object.assign(bounds, { minimum: Math.max(minimum ?? -Infinity, -(2 ** 31)), maximum: Math.min(maximum ?? Infinity, 2 ** 31 - 1) });
    const given = Object.fromEntries(Object.entries(bounds).filter(([, bound]) => bound !== undefined));
    if (Object.keys(given).length === 0 && multiplesOf.length === 0) {
      this.rules.call(from, integer ? this.plainRules.integer() : this.plainRules.number(), to);
      return;
    }
    try {
      addDecimals(this.rules, from, to, { integer: integer || int32, ...given, multiplesOf });
    } catch (error) {
      if (error instanceof DecimalError) throw unsupportedSchema(plain.path, error.message);
      throw error;
    }
  }

  private addString(plain: PlainSchema, from: number, to: number): void {
    const { minLength, maxLength } = plain;
    if (minLength > longestCounted) throw unsupportedSchema(`${plain.path}/minLength`, `is above ${longestCounted}`);
    const automaton = this.stringAutomaton(plain);
    if (automaton !== null) return this.rules.quoted(from, automaton, to);
    if (minLength === 0 && maxLength === Infinity) {
      this.rules.call(from, this.plainRules.string(), to);
      return;
    }
    const { rules } = this;
    const character = this.plainRules.character();
    let at = rules.text(from, '"');
    for (let i = 0; i < Math.min(longestCounted, maxLength); i++) {
      if (i >= minLength) rules.text(at, '"', to);
      if (i === minLength && maxLength === Infinity) {
        rules.call(at, character, at);
        return;
      }
      const next = rules.node();
      rules.call(at, character, next);
      at = next;
    }
    if (maxLength >= minLength) rules.text(at, '"', to);
  }

  /** Of patterns and formats together, with the lengths; null when there are none. */
  private stringAutomaton(plain: PlainSchema): CharacterAutomaton | null {
    let all: CharacterAutomaton | null = null;
    const sources = [
      ...plain.formats.filter((format) => Object.hasOwn(formats, format)).map((format) => ({ source: formats[format]!, path: `${plain.path}/format` })),
      ...plain.patterns.map((source) => ({ source, path: `${plain.path}/pattern` })),
    ];
    for (const { source, path } of sources) {
      try {
        const next = patternAutomaton(source);
        all = all === null ? next : intersect(all, next);
      } catch (error) {
        if (error instanceof PatternError) throw unsupportedSchema(path, `is the pattern ${source}, which ${error.message}`);
        if (error instanceof AutomatonTooLarge) throw unsupportedSchema(path, 'makes an automaton that is too large', 'Simplify the pattern or shorten its repetitions.');
        throw error;
      }
    }
    if (all === null || (plain.minLength === 0 && plain.maxLength === Infinity)) return all;
    return withLength(all, plain.minLength, plain.maxLength);
  }

  private addArray(plain: PlainSchema, from: number, to: number): void {
    const { rules } = this;
    const { prefixItems, items } = plain;
    const least = plain.minItems ?? prefixItems.length;
    if (least > longestCounted) throw unsupportedSchema(`${plain.path}/minItems`, `is above ${longestCounted}`);
    const tuple = prefixItems.length > 0 && items === undefined;
    const most = Math.min(plain.maxItems, tuple ? Math.max(prefixItems.length, least) : Infinity);
    if (most < least) return;
    const open = rules.text(from, '[');
    const counted = most === Infinity ? Math.max(least, prefixItems.length, 1) : Math.min(most, longestCounted);
    const itemRule = (i: number): number => this.ruleOf(prefixItems[i] ?? items ?? anything);
    let at = open;
    for (let i = 0; i <= counted; i++) {
      if (i >= least) rules.text(at, ']', to);
      const last = i === counted;
      if (last && most !== Infinity) return;
      const before = i === 0 ? at : rules.optionalSpace(rules.text(at, ','));
      const next = last ? at : rules.node();
      rules.call(before, itemRule(i), next);
      at = next;
    }
  }

  private addObject(plain: PlainSchema, from: number, to: number): void {
    const { rules } = this;
    const names = plain.propertyNames === undefined ? undefined : this.namesOf(plain.propertyNames, plain.path);
    if (names === null) return; // no name is allowed
    const free = plain.properties.size === 0 && plain.required.size === 0 && plain.additional === undefined;
    const members = [...plain.properties].map(([name, part]) => ({ name, part, required: plain.required.has(name) }));
    for (const name of plain.required) if (!plain.properties.has(name)) members.push({ name, part: plain.additional ?? anything, required: true });
    const allowed = members.filter(({ name, required }) => required || names === undefined || matchesScalar(names, name));
    if (names !== undefined && allowed.some(({ name }) => !matchesScalar(names, name))) return;
    if (plain.minProperties > Math.max(1, plain.required.size)) throw unsupportedSchema(`${plain.path}/minProperties`, 'is more than the required properties, which is not supported');

    const finish = rules.node();
    rules.text(finish, '}', to);
    // The same place with nothing written yet, and with something.
    let empty = rules.text(from, '{');
    let filled = rules.node();
    for (const { name, part, required } of allowed) {
      const member = rules.node();
      const [emptyNext, filledNext] = [rules.node(), rules.node()];
      rules.empty(empty, member);
      rules.empty(rules.optionalSpace(rules.text(filled, ',')), member);
      rules.call(rules.optionalSpace(rules.text(member, `${JSON.stringify(name)}:`)), this.ruleOf(part), filledNext);
      if (!required) {
        rules.empty(empty, emptyNext);
        rules.empty(filled, filledNext);
      }
      [empty, filled] = [emptyNext, filledNext];
    }
    const rest = free ? anything : plain.additional;
    if (rest !== undefined) {
      const member = rules.node();
      rules.empty(empty, member);
      rules.empty(rules.optionalSpace(rules.text(filled, ',')), member);
      const keys = this.keyAutomaton(members.map(({ name }) => name), names);
      const named = keys === null ? this.callThrough(member, this.plainRules.key()) : rules.text(rules.characters(rules.text(member, '"'), keys), '"');
      rules.call(rules.optionalSpace(rules.text(named, ':')), this.ruleOf(rest), filled);
    }
    if (plain.minProperties === 0 || plain.required.size > 0) rules.empty(empty, finish);
    rules.empty(filled, finish);
  }

  private callThrough(from: number, rule: number): number {
    const to = this.rules.node();
    this.rules.call(from, rule, to);
    return to;
  }

  private namesOf(part: Part, path: string): PlainSchema | null {
    const names = this.reader.read(part);
    if (names === null || !typesOf(names).has('string')) return null;
    if (names.choices.length > 0) throw unsupportedSchema(`${path}/propertyNames`, 'has alternatives, which are not supported');
    return names;
  }

  /** Names of further properties: none that is declared, since it would replace that one. Null: any name. */
  private keyAutomaton(declared: string[], names: PlainSchema | undefined): CharacterAutomaton | null {
    const automata: CharacterAutomaton[] = [];
    if (declared.length > 0) automata.push(allBut(declared));
    if (names?.values !== undefined) automata.push(wordsOnly(names.values.filter((value) => typeof value === 'string' && matchesScalar(names, value)) as string[]));
    else if (names !== undefined) {
      const own = this.stringAutomaton(names);
      if (own !== null) automata.push(own);
      else if (names.minLength > 0 || names.maxLength < Infinity) automata.push(withLength({ edges: [anyCharacter.map(([low, high]) => ({ low, high, to: 0 }))], accepts: [true] }, names.minLength, names.maxLength));
    }
    return automata.length === 0 ? null : automata.reduce(intersect);
  }
}
