/** Reads JSON schemas: known keywords only, references resolved, `allOf` merged. What is made of them is in `schema-grammar.ts`. */
import { isJsonObject, type Json, type JsonObject } from '../checkpoint/json-file.js';
import { unsupportedSchema } from './schema-error.js';

export type TypeName = 'string' | 'number' | 'integer' | 'boolean' | 'null' | 'array' | 'object';
export const typeNames: readonly TypeName[] = ['object', 'array', 'string', 'number', 'integer', 'boolean', 'null'];

/** A schema object without `$ref` and `allOf`, with the places where its parts come from. */
export interface PlainSchema {
  path: string;
  /** Undefined: every type. `number` includes `integer`. */
  types?: ReadonlySet<TypeName> | undefined;
  /** Of `enum` and `const`. */
  values?: Json[] | undefined;
  minimum?: number | undefined;
  exclusiveMinimum?: number | undefined;
  maximum?: number | undefined;
  exclusiveMaximum?: number | undefined;
  multiplesOf: number[];
  minLength: number;
  maxLength: number;
  patterns: string[];
  formats: string[];
  properties: Map<string, Part>;
  required: Set<string>;
  /** Undefined: nothing is said about other properties. */
  additional?: Part | undefined;
  minProperties: number;
  propertyNames?: Part | undefined;
  prefixItems: Part[];
  items?: Part | undefined;
  minItems?: number | undefined;
  maxItems: number;
  /** Each of these must hold, by at least one of its schemas (`exclusive`: exactly one). */
  choices: { exclusive: boolean; list: Json; parts: Part[]; path: string }[];
}

/** A schema and its place; several where `allOf` demands all of them. */
export interface Part {
  schemas: { schema: Json; path: string }[];
  /** Which schema of an `anyOf` or `oneOf` list is taken. */
  chosen?: ReadonlyMap<Json, number>;
}

const annotations = new Set([
  '$schema', '$comment', 'title', 'description', 'default', 'example', 'examples', 'deprecated', 'readOnly', 'writeOnly', '$defs', 'definitions', '$anchor',
]);

/** Deeper schemas are refused: reading them is recursive. */
const deepest = 200;

export class SchemaReader {
  private readonly anchors = new Map<string, Json>();

  /** ERR_UNSUPPORTED_SCHEMA for a schema that nests too deeply or holds something other than JSON. */
  constructor(readonly root: Json) {
    this.survey(root, '#', 0);
  }

  /** All demands of a part as one schema; null when nothing satisfies it. */
  read(part: Part): PlainSchema | null {
    const plain: PlainSchema = {
      path: part.schemas[0]!.path, multiplesOf: [], minLength: 0, maxLength: Infinity, patterns: [], formats: [], properties: new Map(),
      required: new Set(), minProperties: 0, prefixItems: [], maxItems: Infinity, choices: [],
    };
    const pending = [...part.schemas];
    const seen = new Set<Json>();
    for (let i = 0; i < pending.length; i++) {
      const { schema, path } = pending[i]!;
      if (schema === false) return null;
      if (schema === true) continue;
      if (!isJsonObject(schema)) throw unsupportedSchema(path, 'is neither an object nor true or false');
      if (seen.has(schema)) continue; // a reference in a circle adds nothing
      seen.add(schema);
      if (pending.length > 1000) throw unsupportedSchema(path, 'combines too many schemas');
      this.add(plain, schema, path, pending, part.chosen);
      if (plain.types?.size === 0 || plain.values?.length === 0) return null;
    }
    return plain;
  }

  /** Past schemas that are nothing but a reference, so that one schema has one rule. */
  follow(part: Part): Part {
    let at = part;
    for (let steps = 0; at.schemas.length === 1 && at.chosen === undefined; steps++) {
      const { schema, path } = at.schemas[0]!;
      if (!isJsonObject(schema) || schema['$ref'] === undefined || demandsOf(schema).length > 1) return at;
      if (steps > deepest) throw unsupportedSchema(path, 'refers to itself without anything in between');
      at = { schemas: [this.resolve(schema['$ref'], path)] };
    }
    return at;
  }

  /** The schema behind a reference. */
  resolve(reference: Json, path: string): { schema: Json; path: string } {
    if (typeof reference !== 'string') throw unsupportedSchema(path, 'has a $ref that is no text');
    if (!reference.startsWith('#')) throw unsupportedSchema(path, `refers to another document with $ref ${reference}`, 'Put it under $defs.');
    if (this.anchors.has(reference)) return { schema: this.anchors.get(reference)!, path: reference };
    if (reference !== '#' && !reference.startsWith('#/')) throw unsupportedSchema(path, `has a $ref to ${reference}, which does not exist`);
    let schema: Json = this.root;
    for (const step of reference.split('/').slice(1)) {
      const key = decodePart(step);
      const next: Json | undefined = Array.isArray(schema) ? schema[Number(key)] : isJsonObject(schema) && Object.hasOwn(schema, key) ? schema[key] : undefined;
      if (next === undefined) throw unsupportedSchema(path, `has a $ref to ${reference}, which does not exist`);
      schema = next;
    }
    return { schema, path: reference };
  }

  private survey(value: unknown, path: string, depth: number): void {
    if (depth > deepest) throw unsupportedSchema(path.slice(0, 200), `nests more than ${deepest} levels deep`);
    if (value === null || typeof value === 'string' || typeof value === 'boolean') return;
    if (typeof value === 'number' && Number.isFinite(value)) return;
    if (typeof value !== 'object') throw unsupportedSchema(path, 'holds something that is not JSON');
    if (!Array.isArray(value) && typeof (value as JsonObject)['$anchor'] === 'string') this.anchors.set(`#${String((value as JsonObject)['$anchor'])}`, value as Json);
    for (const [key, entry] of Array.isArray(value) ? Object.entries(value as unknown[]) : entriesOf(value as JsonObject)) this.survey(entry, `${path}/${encodePart(key)}`, depth + 1);
  }

  private add(plain: PlainSchema, schema: JsonObject, path: string, pending: Part['schemas'], chosen: Part['chosen']): void {
    for (const [keyword, value] of entriesOf(schema)) {
      const at = `${path}/${encodePart(keyword)}`;
      const wrong = (wanted: string): Error => unsupportedSchema(at, `is not ${wanted}`);
      const count = (): number => {
        if (typeof value !== 'number' || !Number.isInteger(value) || value < 0) throw wrong('a whole number from 0');
        return value;
      };
      const number = (): number => {
        if (typeof value !== 'number') throw wrong('a number');
        return value;
      };
      const part = (): Part => {
        if (typeof value !== 'boolean' && !isJsonObject(value)) throw wrong('a schema');
        return { schemas: [{ schema: value, path: at }] };
      };
      const parts = (): Part[] => {
        if (!Array.isArray(value) || value.length === 0) throw wrong('a list of schemas');
        return value.map((entry, i) => ({ schemas: [{ schema: entry, path: `${at}/${i}` }] }));
      };
      switch (keyword) {
        case '$ref':
          pending.push(this.resolve(value, path));
          break;
        case 'allOf':
          pending.push(...parts().flatMap(({ schemas }) => schemas));
          break;
        case 'anyOf':
        case 'oneOf':
          if (chosen?.has(value)) pending.push(parts()[chosen.get(value)!]!.schemas[0]!);
          else plain.choices.push({ exclusive: keyword === 'oneOf', list: value, parts: parts(), path: at });
          break;
        case 'type':
          plain.types = meetTypes(plain.types, readTypes(value, schema['nullable'] === true, wrong));
          break;
        case 'nullable':
          if (typeof value !== 'boolean') throw wrong('true or false');
          break;
        case 'const':
          plain.values = meetValues(plain.values, [value]);
          break;
        case 'enum':
          if (!Array.isArray(value) || value.length === 0) throw wrong('a list of values');
          plain.values = meetValues(plain.values, value);
          break;
        case 'minimum':
        case 'exclusiveMinimum':
          plain[keyword] = Math.max(plain[keyword] ?? -Infinity, number());
          break;
        case 'maximum':
        case 'exclusiveMaximum':
          plain[keyword] = Math.min(plain[keyword] ?? Infinity, number());
          break;
        case 'multipleOf':
          plain.multiplesOf.push(number());
          break;
        case 'minLength':
        case 'minProperties':
          plain[keyword] = Math.max(plain[keyword], count());
          break;
        case 'minItems':
          plain.minItems = Math.max(plain.minItems ?? 0, count());
          break;
        case 'maxLength':
        case 'maxItems':
          plain[keyword] = Math.min(plain[keyword], count());
          break;
        case 'pattern':
          if (typeof value !== 'string') throw wrong('a text');
          if (!plain.patterns.includes(value)) plain.patterns.push(value);
          break;
        case 'format':
          if (typeof value !== 'string') throw wrong('a text');
          if (!plain.formats.includes(value)) plain.formats.push(value);
          break;
        case 'required':
          if (!Array.isArray(value) || !value.every((name) => typeof name === 'string')) throw wrong('a list of names');
          for (const name of value) plain.required.add(name as string);
          break;
        case 'propertyNames':
          plain.propertyNames = both(plain.propertyNames, part());
          break;
        case 'properties':
        case 'additionalProperties':
          break; // together, below
        case 'items':
        case 'prefixItems':
          break; // together, below
        case 'uniqueItems':
          if (value !== false) throw unsupportedSchema(at, 'demands unique items, which is not supported', 'Check them afterwards.');
          break;
        case '$id':
          if (path !== '#') throw unsupportedSchema(at, 'changes the base of references, which is not supported');
          break;
        default:
          if (!annotations.has(keyword) && !keyword.startsWith('x-')) throw unsupportedSchema(at, `uses the keyword ${keyword}, which is not supported`, 'docs/structured.md lists the keywords that are.');
      }
    }
    addProperties(plain, schema, path);
    addItems(plain, schema, path);
  }
}

/** Members of an object; undefined ones are not there, as in JSON. */
export function entriesOf(object: JsonObject): [string, Json][] {
  return Object.entries(object).filter((entry): entry is [string, Json] => entry[1] !== undefined);
}

/** The keywords of a schema that are more than notes. */
export function demandsOf(schema: JsonObject): string[] {
  return entriesOf(schema).map(([keyword]) => keyword).filter((keyword) => !annotations.has(keyword) && !keyword.startsWith('x-') && keyword !== '$id');
}

export function encodePart(key: string): string {
  return key.replaceAll('~', '~0').replaceAll('/', '~1');
}

function decodePart(step: string): string {
  let text = step;
  try {
    text = decodeURIComponent(step);
  } catch {
    // not percent-encoded: taken as it is
  }
  return text.replaceAll('~1', '/').replaceAll('~0', '~');
}

function readTypes(value: Json, nullable: boolean, wrong: (wanted: string) => Error): Set<TypeName> {
  const list = Array.isArray(value) ? value : [value];
  if (list.length === 0 || !list.every((name) => typeNames.includes(name as TypeName))) throw wrong(`one of ${typeNames.join(', ')}`);
  return new Set([...(list as TypeName[]), ...(nullable ? (['null'] as const) : [])]);
}

function meetTypes(a: ReadonlySet<TypeName> | undefined, b: ReadonlySet<TypeName>): ReadonlySet<TypeName> {
  if (a === undefined) return b;
  const met = new Set([...a].filter((name) => b.has(name)));
  if ((a.has('integer') && b.has('number')) || (a.has('number') && b.has('integer'))) if (!met.has('number')) met.add('integer');
  return met;
}

function meetValues(a: Json[] | undefined, b: Json[]): Json[] {
  const unique = new Map((a ?? b).map((value) => [canonical(value), value]));
  if (a === undefined) return [...unique.values()];
  const keys = new Set(b.map(canonical));
  return [...unique].filter(([key]) => keys.has(key)).map(([, value]) => value);
}

/** A text that is the same for equal values. */
export function canonical(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`;
  if (!isJsonObject(value)) return JSON.stringify(value);
  return `{${Object.keys(value).sort().map((key) => `${JSON.stringify(key)}:${canonical(value[key]!)}`).join()}}`;
}

function both(a: Part | undefined, b: Part): Part {
  return a === undefined ? b : { schemas: [...a.schemas, ...b.schemas] };
}

/** `additionalProperties` speaks about the properties that its own schema does not name. */
function addProperties(plain: PlainSchema, schema: JsonObject, path: string): void {
  const own = schema['properties'];
  const rest = schema['additionalProperties'];
  if (own !== undefined && !isJsonObject(own)) throw unsupportedSchema(`${path}/properties`, 'is not an object of schemas');
  if (rest !== undefined && typeof rest !== 'boolean' && !isJsonObject(rest)) throw unsupportedSchema(`${path}/additionalProperties`, 'is not a schema');
  if (own === undefined && rest === undefined) return;
  const named = new Map(entriesOf(own ?? {}).map(([name, value]): [string, Part] => [name, { schemas: [{ schema: value, path: `${path}/properties/${encodePart(name)}` }] }]));
  const additional: Part | undefined = rest === undefined ? undefined : { schemas: [{ schema: rest, path: `${path}/additionalProperties` }] };
  for (const [name, part] of plain.properties) if (!named.has(name) && additional !== undefined) plain.properties.set(name, both(part, additional));
  for (const [name, part] of named) plain.properties.set(name, both(plain.properties.get(name) ?? plain.additional, part));
  if (additional !== undefined) plain.additional = both(plain.additional, additional);
}

/** `items` speaks about the items behind the `prefixItems` of its own schema. */
function addItems(plain: PlainSchema, schema: JsonObject, path: string): void {
  const prefix = schema['prefixItems'] ?? [];
  const rest = schema['items'];
  if (!Array.isArray(prefix)) throw unsupportedSchema(`${path}/prefixItems`, 'is not a list of schemas');
  if (Array.isArray(rest)) throw unsupportedSchema(`${path}/items`, 'is a list', 'Since 2020-12 that is prefixItems.');
  if (rest !== undefined && typeof rest !== 'boolean' && !isJsonObject(rest)) throw unsupportedSchema(`${path}/items`, 'is not a schema');
  if (schema['prefixItems'] === undefined && rest === undefined) return;
  const own = prefix.map((value, i): Part => ({ schemas: [{ schema: value, path: `${path}/prefixItems/${i}` }] }));
  const items: Part | undefined = rest === undefined ? undefined : { schemas: [{ schema: rest, path: `${path}/items` }] };
  const length = Math.max(plain.prefixItems.length, own.length);
  plain.prefixItems = Array.from({ length }, (_, i): Part => {
    const before = plain.prefixItems[i] ?? plain.items;
    const after = own[i] ?? items;
    return after === undefined ? before! : both(before, after);
  });
  if (items !== undefined) plain.items = both(plain.items, items);
}
