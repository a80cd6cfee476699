/** What a schema asks for that cannot be kept: refused with the keyword and its place, never ignored. */
import { ShiftAddError } from '../errors.js';

/** `path` is a JSON pointer into the schema, such as `#/properties/age`. */
export function unsupportedSchema(path: string, what: string, fix = ''): ShiftAddError {
  return new ShiftAddError('ERR_UNSUPPORTED_SCHEMA', `The schema at ${path} ${what}.${fix === '' ? '' : ` ${fix}`}`);
}
