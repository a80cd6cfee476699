/** The JSON schema that a caller means: a schema as it is, or an object of a schema library that can tell its own. */
import { isJsonObject, type Json } from '../checkpoint/json-file.js';
import { ShiftAddError } from '../errors.js';

/** A schema of a library with the Standard JSON Schema interface. */
export interface StandardJsonSchema {
  readonly '~standard': { readonly jsonSchema: { readonly input: (options: { target: string }) => Record<string, unknown> } };
}

/** A JSON schema (2020-12), or an object that turns into one: `~standard.jsonSchema`, or a method `toJSONSchema`. */
export type SchemaSource = Record<string, unknown> | StandardJsonSchema | { toJSONSchema: () => unknown };

/** ERR_UNSUPPORTED_SCHEMA for an object of a library that cannot tell its JSON schema. */
export function readSchemaSource(source: SchemaSource): Json {
  const given = source as { '~standard'?: { vendor?: unknown; jsonSchema?: { input?: unknown } }; toJSONSchema?: unknown };
  const standard = given['~standard'];
  try {
    if (typeof standard?.jsonSchema?.input === 'function') return plain(standard.jsonSchema.input({ target: 'draft-2020-12' }));
    if (typeof given.toJSONSchema === 'function') return plain((source as { toJSONSchema: () => unknown }).toJSONSchema());
  } catch (error) {
    throw new ShiftAddError('ERR_UNSUPPORTED_SCHEMA', `The schema's own conversion to JSON Schema failed: ${(error as Error).message}`, error);
  }
  if (standard !== undefined || typeof source === 'function') {
    const vendor = typeof standard?.vendor === 'string' ? ` of ${standard.vendor}` : '';
    throw new ShiftAddError(
      'ERR_UNSUPPORTED_SCHEMA',
      `This schema object${vendor} cannot tell its JSON schema. Convert it first, for example with z.toJSONSchema(schema) of zod 4, and pass the result.`,
    );
  }
  return source as Json;
}

/** Conversions give accessors and symbols besides; only JSON counts. */
function plain(schema: unknown): Json {
  const copy = JSON.parse(JSON.stringify(schema)) as Json;
  if (!isJsonObject(copy) && typeof copy !== 'boolean') throw new TypeError('it gave no schema');
  return copy;
}
