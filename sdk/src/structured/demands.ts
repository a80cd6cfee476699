/** What a read schema demands of a value: its types, whether a given value holds, and whether two schemas exclude each other. */
import { isJsonObject, type Json } from '../checkpoint/json-file.js';
import { canonical, typeNames, type Part, type PlainSchema, type SchemaReader, type TypeName } from './json-schema.js';
import { unsupportedSchema } from './schema-error.js';

/** Formats of numbers; int32 limits them, the others say nothing about JSON. */
export const numberFormats: ReadonlySet<string> = new Set(['int32', 'int64', 'float', 'double']);

const stringDemands = (plain: PlainSchema): boolean => plain.minLength > 0 || plain.maxLength < Infinity || plain.patterns.length > 0 || plain.formats.some((format) => !numberFormats.has(format));
const numberDemands = (plain: PlainSchema): boolean =>
  [plain.minimum, plain.exclusiveMinimum, plain.maximum, plain.exclusiveMaximum].some((bound) => bound !== undefined) || plain.multiplesOf.length > 0 || plain.formats.some((format) => numberFormats.has(format));
const arrayDemands = (plain: PlainSchema): boolean => plain.prefixItems.length > 0 || plain.items !== undefined || plain.minItems !== undefined || plain.maxItems < Infinity;
const objectDemands = (plain: PlainSchema): boolean =>
  plain.properties.size > 0 || plain.required.size > 0 || plain.additional !== undefined || plain.minProperties > 0 || plain.propertyNames !== undefined;

/** The types that are written: those that `type` names, else those that the other keywords speak about, else all. */
export function typesOf(plain: PlainSchema): ReadonlySet<TypeName> {
  if (plain.types !== undefined) return plain.types.has('number') ? new Set([...plain.types].filter((type) => type !== 'integer')) : plain.types;
  const implied = new Set<TypeName>();
  if (objectDemands(plain)) implied.add('object');
  if (arrayDemands(plain)) implied.add('array');
  if (stringDemands(plain)) implied.add('string');
  if (numberDemands(plain)) implied.add('number');
  return implied.size > 0 ? implied : new Set(typeNames.filter((type) => type !== 'integer'));
}

export function typeOf(value: Json): TypeName {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'number';
  return typeof value as TypeName;
}

/** Whether a value of `enum` or `const`, or a name, keeps the other demands beside it. */
export function matchesScalar(plain: PlainSchema, value: Json): boolean {
  const type = typeOf(value);
  if (plain.types !== undefined && !plain.types.has(type) && !(type === 'integer' && plain.types.has('number'))) return false;
  if (typeof value === 'string') {
    const length = [...value].length;
    if (plain.formats.some((format) => !numberFormats.has(format))) throw unsupportedSchema(plain.path, 'has a format beside fixed values, which is not supported');
    return length >= plain.minLength && length <= plain.maxLength && plain.patterns.every((pattern) => new RegExp(pattern, 'u').test(value));
  }
  if (typeof value === 'number') {
    if (plain.multiplesOf.length > 0) throw unsupportedSchema(plain.path, 'has multipleOf beside fixed values, which is not supported');
    return (
      value >= (plain.minimum ?? -Infinity) && value > (plain.exclusiveMinimum ?? -Infinity) && value <= (plain.maximum ?? Infinity) && value < (plain.exclusiveMaximum ?? Infinity)
    );
  }
  if (Array.isArray(value) && arrayDemands(plain)) throw unsupportedSchema(plain.path, 'has demands on lists beside fixed lists, which is not supported');
  if (isJsonObject(value) && objectDemands(plain)) throw unsupportedSchema(plain.path, 'has demands on objects beside fixed objects, which is not supported');
  return true;
}

/** Nested properties are compared as far as this. */
const deepestComparison = 4;

/** True when it is certain that no value satisfies both. Null: nothing satisfies that one. */
export function areApart(reader: SchemaReader, a: PlainSchema | null, b: PlainSchema | null, depth: number): boolean {
  if (a === null || b === null) return true;
  if (depth > deepestComparison) return false;
  const typesA = possibleTypes(a);
  const typesB = possibleTypes(b);
  const common = [...typesA].filter((type) => typesB.has(type));
  if (common.length === 0) return true;
  if (a.choices.length > 0 || b.choices.length > 0) return false;
  if (a.values !== undefined && b.values !== undefined) {
    const keys = new Set(a.values.map(canonical));
    return !b.values.some((value) => keys.has(canonical(value)));
  }
  return common.every((type) => {
    switch (type) {
      case 'number':
      case 'integer': {
        const [lowA, lowB] = [a, b].map((plain) => Math.max(plain.minimum ?? -Infinity, plain.exclusiveMinimum ?? -Infinity));
        const [highA, highB] = [a, b].map((plain) => Math.min(plain.maximum ?? Infinity, plain.exclusiveMaximum ?? Infinity));
        return highA! < lowB! || highB! < lowA!;
      }
      case 'string':
        return a.maxLength < b.minLength || b.maxLength < a.minLength;
      case 'array':
        return a.maxItems < (b.minItems ?? 0) || b.maxItems < (a.minItems ?? 0);
      case 'object':
        return haveApartProperties(reader, a, b, depth);
      default:
        return false;
    }
  });
}

function haveApartProperties(reader: SchemaReader, a: PlainSchema, b: PlainSchema, depth: number): boolean {
  const read = (part: Part | undefined): PlainSchema | null => (part === undefined ? reader.read({ schemas: [{ schema: true, path: '#' }] }) : reader.read(part));
  return [...new Set([...a.required, ...b.required])].some((name) => {
    const [inA, inB] = [a, b].map((plain) => read(plain.properties.get(name) ?? plain.additional));
    // Where one must have it, the other must not be able to have the same.
    if (a.required.has(name) && inB === null) return true;
    if (b.required.has(name) && inA === null) return true;
    return a.required.has(name) && b.required.has(name) && areApart(reader, inA!, inB!, depth + 1);
  });
}

/** Of the values that a schema accepts, not only those that are written. */
function possibleTypes(plain: PlainSchema): ReadonlySet<TypeName> {
  const types = new Set<TypeName>(plain.values !== undefined ? plain.values.map(typeOf) : (plain.types ?? typeNames));
  if (types.has('number') && plain.values === undefined) types.add('integer');
  return types;
}
