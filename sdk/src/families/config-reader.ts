/** Reads fields of config.json with their defaults; absent and null are the same. */
import { ShiftAddError } from '../errors.js';
import { show } from '../options.js';
import { isJsonObject, type Json, type JsonObject } from '../checkpoint/json-file.js';

export class ConfigReader {
  constructor(
    private readonly config: JsonObject,
    private readonly path: string,
  ) {}

  field(name: string): Json | undefined {
    return this.config[name] ?? undefined;
  }

  bad(name: string, wanted: string): ShiftAddError {
    return new ShiftAddError(
      'ERR_BAD_MODEL_FILE',
      `${this.path}: ${name} is ${show(this.field(name))}; it must be ${wanted}.`,
    );
  }

  unsupported(name: string, value: unknown, known: string): ShiftAddError {
    return new ShiftAddError(
      'ERR_UNSUPPORTED_MODEL',
      `${this.path}: ${name} is ${show(value)}, which this version cannot run (${known}).`,
    );
  }

  /** A positive integer below 2^31. Without `initial` the field must be there. */
  count(name: string, initial?: number): number {
    const value = this.field(name) ?? initial;
    if (typeof value !== 'number' || !Number.isInteger(value) || value < 1 || value > 2 ** 31 - 1) {
      throw this.bad(name, 'a positive integer');
    }
    return value;
  }

  positive(name: string, initial: number): number {
    const value = this.field(name) ?? initial;
    if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0) throw this.bad(name, 'a positive number');
    return value;
  }

  flag(name: string, initial: boolean): boolean {
    const value = this.field(name) ?? initial;
    if (typeof value !== 'boolean') throw this.bad(name, 'true or false');
    return value;
  }

  /** Refuses any value but the listed ones; absent is fine. */
  only(name: string, ...allowed: Json[]): void {
    const value = this.field(name);
    if (value !== undefined && !allowed.includes(value)) {
      throw this.unsupported(name, value, `known: ${allowed.map(show).join(', ')}`);
    }
  }

  object(name: string): JsonObject | null {
    const value = this.field(name);
    if (value === undefined) return null;
    if (!isJsonObject(value)) throw this.bad(name, 'an object');
    return value;
  }
}
