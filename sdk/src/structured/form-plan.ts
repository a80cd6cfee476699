/** What a schema makes of one generation: the grammar of its answer, which options it excludes, and its value. */
import type { Json } from '../checkpoint/json-file.js';
import { ShiftAddError } from '../errors.js';
import type { GenerateOptions } from '../generate.js';
import type { GenerationResult } from '../run.js';
import { schemaGrammar } from './schema-grammar.js';

/** A grammar, made when the run starts unless the model has it already. */
export interface FormPlan {
  key: string;
  compile: () => Int32Array;
}

/** The form that a schema gives an answer, and its value read from the text. ERR_UNSUPPORTED_SCHEMA when the run starts. */
export function schemaForm(schema: Json): FormPlan {
  return { key: `schema ${schemaText(schema)}`, compile: () => schemaGrammar(schema) };
}

/** With a schema, the value of a whole answer. */
export function withJson(result: GenerationResult): GenerationResult {
  return result.finishReason === 'stop' ? { ...result, json: JSON.parse(result.text) as unknown } : result;
}

/** A key of a schema: the order of properties counts. */
export function schemaText(schema: Json): string {
  try {
    return JSON.stringify(schema);
  } catch (error) {
    if (error instanceof RangeError) throw new ShiftAddError('ERR_UNSUPPORTED_SCHEMA', 'The schema nests too deeply.', error);
    throw new ShiftAddError('ERR_UNSUPPORTED_SCHEMA', `The schema is no JSON: ${(error as Error).message}`, error);
  }
}

/** TypeError for options that an answer of a given form cannot keep. */
export function checkFormOptions({ stop, promptLookup }: GenerateOptions): void {
  if (stop !== undefined && stop.length > 0) throw new TypeError('Expected no stop texts together with a schema or a demanded tool call: they would cut the answer');
  if (promptLookup === true) throw new TypeError('Expected no promptLookup together with a schema or a demanded tool call: guesses would not keep to it');
}
