/** Checks a request against the part of JSON Schema that `request-fields.ts` uses: the same tables are in the OpenAPI document. */
import { nearest, show } from '../options.js';

type TypeName = 'string' | 'number' | 'integer' | 'boolean' | 'object' | 'array' | 'null';

export interface Field {
  type?: TypeName | readonly TypeName[];
  const?: string | number | boolean | null;
  enum?: readonly (string | number | boolean | null)[];
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  items?: Field;
  properties?: Readonly<Record<string, Field>>;
  required?: readonly string[];
  additionalProperties?: boolean | Field;
  /** A value must fit one of them. */
  anyOf?: readonly Field[];
  description?: string;
  default?: unknown;
  examples?: readonly unknown[];
}

/** What is wrong, and where: `messages[0].content`. */
export interface Fault {
  path: string;
  message: string;
}

/** The first fault of a value; null when it fits. */
export function findFault(field: Field, value: unknown, path = ''): Fault | null {
  const at = path === '' ? 'the body' : path;
  if (field.anyOf !== undefined) return faultOfChoice(field.anyOf, value, path);
  const types = field.type === undefined ? [] : [field.type].flat();
  const wrong = (wanted: string): Fault => ({ path, message: `Expected ${wanted} for ${at} but received ${show(value)}.` });
  if (types.length === 1 && types[0] === 'null' && value !== null) return { path, message: `${at} is not supported${field.description === undefined ? '' : `: ${field.description}`}.` };
  if (field.const !== undefined && value !== field.const) return wrong(show(field.const));
  if (field.enum !== undefined && !field.enum.includes(value as never)) return wrong(`one of ${field.enum.map(show).join(', ')}`);
  if (types.length > 0 && !types.some((type) => isOf(type, value))) return wrong(types.map((type) => nouns[type]).join(' or '));
  if (typeof value === 'number') {
    const { minimum = -Infinity, maximum = Infinity } = field;
    if (value < minimum || value > maximum) return wrong(maximum === Infinity ? `at least ${minimum}` : `${types.includes('integer') ? 'an integer' : 'a number'} from ${minimum} to ${maximum}`);
  }
  if (typeof value === 'string') {
    const { minLength = 0, maxLength = Infinity } = field;
    if (value.length < minLength || value.length > maxLength) return { path, message: `Expected ${lengths(minLength, maxLength, 'character')} for ${at} but received ${value.length}.` };
  }
  if (Array.isArray(value)) return faultOfList(field, value, path);
  if (typeof value === 'object' && value !== null) return faultOfObject(field, value as Record<string, unknown>, path);
  return null;
}

const nouns: Readonly<Record<TypeName, string>> = { string: 'a string', number: 'a number', integer: 'an integer', boolean: 'true or false', object: 'an object', array: 'a list', null: 'null' };

function isOf(type: TypeName, value: unknown): boolean {
  switch (type) {
    case 'integer':
      return Number.isSafeInteger(value);
    case 'array':
      return Array.isArray(value);
    case 'object':
      return typeof value === 'object' && value !== null && !Array.isArray(value);
    case 'null':
      return value === null;
    default:
      return typeof value === type;
  }
}

function lengths(least: number, most: number, noun: string): string {
  if (most === Infinity) return `at least ${least} ${noun}${least === 1 ? '' : 's'}`;
  return `${least} to ${most} ${noun}s`;
}

function faultOfList(field: Field, list: readonly unknown[], path: string): Fault | null {
  const { minItems = 0, maxItems = Infinity, items } = field;
  if (list.length < minItems || list.length > maxItems) return { path, message: `Expected ${lengths(minItems, maxItems, 'entry').replace(/entrys/, 'entries')} for ${path} but received ${list.length}.` };
  if (items === undefined) return null;
  for (const [i, entry] of list.entries()) {
    const fault = findFault(items, entry, `${path}[${i}]`);
    if (fault !== null) return fault;
  }
  return null;
}

function faultOfObject(field: Field, object: Record<string, unknown>, path: string): Fault | null {
  const { properties = {}, required = [], additionalProperties = true } = field;
  const pathOf = (name: string): string => (path === '' ? name : `${path}.${name}`);
  for (const name of required) if (!Object.hasOwn(object, name)) return { path: pathOf(name), message: `${pathOf(name)} is missing.` };
  for (const [name, value] of Object.entries(object)) {
    const known = Object.hasOwn(properties, name) ? properties[name] : additionalProperties;
    if (known === true) continue;
    if (known === false || known === undefined) {
      const near = nearest(name, Object.keys(properties));
      return { path: pathOf(name), message: `${show(pathOf(name))} is not a supported parameter.${near === null ? '' : ` Did you mean '${near}'?`}` };
    }
    const fault = findFault(known, value, pathOf(name));
    if (fault !== null) return fault;
  }
  return null;
}

function faultOfChoice(choices: readonly Field[], value: unknown, path: string): Fault | null {
  const faults = choices.map((choice) => findFault(choice, value, path));
  if (faults.includes(null)) return null;
  // The fault of the one that the value seems to be meant as says most.
  const meant = choices.map((choice, i) => ({ choice, fault: faults[i]! })).filter(({ choice }) => isMeant(choice, value));
  if (meant.length === 1) return meant[0]!.fault;
  const deepest = meant.map(({ fault }) => fault).sort((a, b) => b.path.length - a.path.length)[0];
  if (deepest !== undefined && deepest.path !== path) return tagFault(choices, value, path) ?? deepest;
  const wanted = choices.flatMap(({ type, const: fixed, enum: values }) => (fixed !== undefined ? [show(fixed)] : (values?.map(show) ?? [type ?? []].flat().map((name) => nouns[name]))));
  return { path, message: `Expected ${[...new Set(wanted)].join(' or ')} for ${path} but received ${show(value)}.` };
}

/** Of the right type, and with the same fixed fields, such as `role`. */
function isMeant({ type, properties = {} }: Field, value: unknown): boolean {
  if (type !== undefined && ![type].flat().some((name) => isOf(name, value))) return false;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return true;
  return tags(properties).every(([name, allowed]) => allowed.includes((value as Record<string, unknown>)[name] as never));
}

function tags(properties: Readonly<Record<string, Field>>): [string, readonly unknown[]][] {
  return Object.entries(properties).flatMap(([name, { const: fixed, enum: values }]) =>
    (name === 'role' || name === 'type') && (fixed !== undefined || values !== undefined) ? [[name, values ?? [fixed]] as [string, readonly unknown[]]] : [],
  );
}

/** The fault of a field that tells the choices apart, when no choice has its value. */
function tagFault(choices: readonly Field[], value: unknown, path: string): Fault | null {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return null;
  const known = choices.flatMap(({ properties = {} }) => tags(properties));
  const name = known[0]?.[0];
  if (name === undefined) return null;
  const allowed = known.filter(([tag]) => tag === name).flatMap(([, values]) => values);
  const given = (value as Record<string, unknown>)[name];
  if (allowed.includes(given)) return null;
  return { path: `${path}.${name}`, message: given === undefined ? `${path}.${name} is missing.` : `Expected one of ${allowed.map(show).join(', ')} for ${path}.${name} but received ${show(given)}.` };
}
