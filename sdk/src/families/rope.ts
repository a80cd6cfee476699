/** Rotary frequencies out of the spellings that config.json has for them. Only the default kind is known so far. */
import { ShiftAddError } from '../errors.js';
import type { JsonObject } from '../checkpoint/json-file.js';
import type { ConfigReader } from './config-reader.js';

const knownKeys = ['rope_theta', 'rope_type', 'type'];

/** headSize / 2 angles per position: theta^(-2 i / headSize). ERR_UNSUPPORTED_MODEL names the field. */
export function readRopeFrequencies(reader: ConfigReader, headSize: number): number[] {
  const scaling = reader.object('rope_scaling');
  const parameters = reader.object('rope_parameters');
  for (const [name, block] of [
    ['rope_scaling', scaling],
    ['rope_parameters', parameters],
  ] as const) {
    if (block !== null) checkDefault(reader, name, block);
  }
  const inner = parameters?.['rope_theta'] ?? scaling?.['rope_theta'] ?? undefined;
  if (inner !== undefined && (typeof inner !== 'number' || !Number.isFinite(inner) || inner <= 0)) {
    throw reader.unsupported('rope_parameters.rope_theta', inner, 'it must be a positive number');
  }
  const theta = inner ?? reader.positive('rope_theta', 10000);
  return Array.from({ length: headSize / 2 }, (_, i) => theta ** ((-2 * i) / headSize));
}

function checkDefault(reader: ConfigReader, name: string, block: JsonObject): void {
  const kind = block['rope_type'] ?? block['type'] ?? 'default';
  if (kind !== 'default') throw reader.unsupported(`${name}.rope_type`, kind, "known: 'default'");
  const left = Object.keys(block).find(
    (key) => !knownKeys.includes(key) && block[key] !== null && block[key] !== undefined,
  );
  if (left !== undefined)
    throw reader.unsupported(`${name}.${left}`, block[left], 'not known for the default rotary kind');
}

/** Head size must be even to be rotated. */
export function checkHeadSize(headSize: number, path: string): void {
  if (headSize % 2 === 0) return;
  throw new ShiftAddError(
    'ERR_UNSUPPORTED_MODEL',
    `${path}: head_dim is ${headSize}; rotary positions need an even head size.`,
  );
}
