/**
 * Rotary frequencies out of the spellings that config.json has for them. Sources: default, arXiv 2104.09864; linear, arXiv
 * 2306.15595; llama3, the Llama 3.1 release; yarn, arXiv 2309.00071; longrope, arXiv 2402.13753.
 */
import { ShiftAddError } from '../errors.js';
import { show } from '../options.js';
import { isJsonObject, type Json, type JsonObject } from '../checkpoint/json-file.js';
import type { ConfigReader } from './config-reader.js';
import type { RotarySet } from './family.js';

export interface Rope {
  /** Numbers of a head that are rotated. */
  size: number;
  /** One, or two where long sequences take other frequencies: the second beyond `switchAt` positions. */
  sets: RotarySet[];
  /** 0: never. */
  switchAt: number;
}

/** Other names of the fields, by family. */
export interface RopeNames {
  theta?: string;
  partial?: string;
  defaultTheta?: number;
  defaultPartial?: number;
}

/** ERR_UNSUPPORTED_MODEL and ERR_BAD_MODEL_FILE name the field. */
export function readRope(reader: ConfigReader, headSize: number, names: RopeNames = {}): Rope {
  const scaling = blockOf(reader, 'rope_scaling');
  const parameters = blockOf(reader, 'rope_parameters');
  const { theta: thetaName = 'rope_theta', partial: partialName = 'partial_rotary_factor' } = names;
  const theta = reader.positive(thetaName, names.defaultTheta ?? 10000);
  const partial = reader.positive(partialName, names.defaultPartial ?? 1);
  return ropeOf(reader, parameters ?? scaling ?? new RopeBlock(reader, 'rope_parameters', {}), headSize, theta, partial);
}

/** The same of the entry `type` of rope_parameters that has one block for each type of layer; null when it has not. */
export function readRopeOf(reader: ConfigReader, type: string, headSize: number): Rope | null {
  const parameters = reader.object('rope_parameters');
  const inner = parameters?.[type];
  if (!isJsonObject(inner)) return null;
  return ropeOf(reader, new RopeBlock(reader, `rope_parameters.${type}`, inner), headSize, 10000, 1);
}

/** One kind of rotary positions without a block: the default kind, or that of `rope_scaling` where `scaled`. */
export function readPlainRope(reader: ConfigReader, headSize: number, theta: number, scaled: boolean): Rope {
  const block = (scaled ? blockOf(reader, 'rope_scaling') : null) ?? new RopeBlock(reader, 'rope_scaling', {});
  return ropeOf(reader, block, headSize, theta, 1);
}

function blockOf(reader: ConfigReader, name: string): RopeBlock | null {
  const block = reader.object(name);
  return block === null || Object.keys(block).length === 0 ? null : new RopeBlock(reader, name, block);
}

/** The fields of a block; each may be read once, and none may be left. */
class RopeBlock {
  private readonly left: Map<string, Json>;

  constructor(
    private readonly reader: ConfigReader,
    private readonly name: string,
    block: JsonObject,
  ) {
    this.left = new Map(Object.entries(block).filter((entry): entry is [string, Json] => entry[1] !== null && entry[1] !== undefined));
  }

  take(key: string): Json | undefined {
    const value = this.left.get(key);
    this.left.delete(key);
    return value;
  }

  error(key: string, value: unknown, what: string): ShiftAddError {
    return this.reader.unsupported(`${this.name}.${key}`, value, what);
  }

  number(key: string, initial?: number): number {
    const value = this.take(key) ?? initial;
    if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0) throw this.error(key, value, 'it must be a positive number');
    return value;
  }

  optional(key: string): number | null {
    return this.left.has(key) ? this.number(key) : null;
  }

  numbers(key: string, count: number): number[] {
    const value = this.take(key);
    const good = Array.isArray(value) && value.length === count && value.every((each) => typeof each === 'number' && Number.isFinite(each) && each > 0);
    if (!good) throw this.error(key, value, `it must be a list of ${count} positive numbers`);
    return value as number[];
  }

  flag(key: string, initial: boolean): boolean {
    const value = this.take(key) ?? initial;
    if (typeof value !== 'boolean') throw this.error(key, value, 'it must be true or false');
    return value;
  }

  refuseLeft(kind: string): void {
    for (const [key, value] of this.left) throw this.error(key, value, `not known for the rotary kind ${show(kind)}`);
  }
}

function ropeOf(reader: ConfigReader, block: RopeBlock, headSize: number, outerTheta: number, outerPartial: number): Rope {
  const spelled = [block.take('rope_type'), block.take('type')].find((value) => value !== undefined) ?? 'default';
  const kind = spelled === 'su' ? 'longrope' : spelled; // the first name of longrope
  const theta = block.number('rope_theta', outerTheta);
  const size = Math.trunc(headSize * block.number('partial_rotary_factor', outerPartial));
  if (size < 2 || size > headSize || size % 2 !== 0) {
    throw new ShiftAddError(
      'ERR_UNSUPPORTED_MODEL',
      `${reader.path}: ${size} of the ${headSize} numbers of a head are rotated (head_dim, partial_rotary_factor); it must be an even number of them.`,
    );
  }
  const plain = Array.from({ length: size / 2 }, (_, i) => theta ** ((-2 * i) / size));
  const limit = reader.count('max_position_embeddings', 2048);
  const rope = ((): Rope => {
    switch (kind) {
      case 'default':
        return single(size, plain);
      case 'linear': {
        const factor = block.number('factor');
        return single(size, plain.map((frequency) => frequency / factor));
      }
      case 'dynamic':
        // Within max_position_embeddings the frequencies are the plain ones, and longer sequences are not offered.
        block.number('factor');
        block.optional('original_max_position_embeddings');
        return single(size, plain);
      case 'llama3':
        return single(size, llama3(block, plain));
      case 'yarn':
        return yarn(block, plain, theta, size, limit);
      case 'longrope':
        return longRope(reader, block, plain, limit);
      default:
        throw block.error('rope_type', spelled, "known: 'default', 'linear', 'dynamic', 'llama3', 'yarn', 'longrope'");
    }
  })();
  block.refuseLeft(String(kind));
  return { ...rope, size };
}

function single(size: number, frequencies: number[], factor = 1): Rope {
  return { size, sets: [{ factor, frequencies }], switchAt: 0 };
}

/** Low frequencies are divided by the factor, high ones stay, between them it goes over smoothly. */
function llama3(block: RopeBlock, plain: number[]): number[] {
  const factor = block.number('factor');
  const low = block.number('low_freq_factor');
  const high = block.number('high_freq_factor');
  const original = block.number('original_max_position_embeddings');
  return plain.map((frequency) => {
    const turns = (original * frequency) / (2 * Math.PI); // within the original context
    if (turns > high) return frequency;
    if (turns < low) return frequency / factor;
    const smooth = (turns - low) / (high - low);
    return ((1 - smooth) * frequency) / factor + smooth * frequency;
  });
}

function yarn(block: RopeBlock, plain: number[], theta: number, size: number, limit: number): Rope {
  const factor = block.number('factor');
  const original = block.number('original_max_position_embeddings', limit);
  const given = block.optional('attention_factor');
  const scale = (times: number): number => (factor <= 1 ? 1 : 0.1 * times * Math.log(factor) + 1);
  const all = [block.optional('mscale'), block.optional('mscale_all_dim')] as const;
  const attention = given ?? (all[0] !== null && all[1] !== null ? scale(all[0]) / scale(all[1]) : scale(1));
  // The dimension that turns so often within the original context.
  const dimension = (turns: number): number => (size * Math.log(original / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  block.take('finetuned'); // says how the model was trained
  const whole = block.flag('truncate', true);
  let low = dimension(block.number('beta_fast', 32));
  let high = dimension(block.number('beta_slow', 1));
  if (whole) [low, high] = [Math.floor(low), Math.ceil(high)];
  low = Math.max(low, 0);
  high = Math.min(high, size - 1);
  if (low === high) high += 0.001;
  const frequencies = plain.map((frequency, i) => {
    const interpolated = Math.min(Math.max((i - low) / (high - low), 0), 1);
    return (frequency / factor) * interpolated + frequency * (1 - interpolated);
  });
  return single(size, frequencies, attention);
}

function longRope(reader: ConfigReader, block: RopeBlock, plain: number[], limit: number): Rope {
  const inner = block.optional('original_max_position_embeddings');
  const outer = reader.field('original_max_position_embeddings') === undefined ? null : reader.count('original_max_position_embeddings');
  const original = outer ?? inner ?? limit;
  const given = block.optional('factor');
  const factor = given ?? limit / original;
  const attention = block.optional('attention_factor') ?? (factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(original)));
  const set = (key: string): RotarySet => {
    const factors = block.numbers(key, plain.length);
    return { factor: attention, frequencies: plain.map((frequency, i) => frequency / factors[i]!) };
  };
  return { size: 2 * plain.length, sets: [set('short_factor'), set('long_factor')], switchAt: original };
}
