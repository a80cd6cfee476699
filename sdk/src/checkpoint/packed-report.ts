/** `quantization_config.report`: what quantizing cost each tensor. Optional, and only for people who look at a model. */
import type { ShiftAddError } from '../errors.js';
import { show } from '../options.js';
import { isJsonObject, type Json } from './json-file.js';

/** What quantizing one tensor cost, as measured when it was quantized. */
export interface TensorReport {
  /** |W - W_packed|^2 / |W|^2 */
  weightError: number;
  /** tr(E H E^T) / tr(W H W^T): the share of the output's energy that is lost on the calibration text. */
  outputError: number;
  /** How far the model's predictions move when this tensor alone is packed, in nats per token; null when not measured. */
  kl: number | null;
}

/** A report as config.json holds it; null when a number cannot be written, so that no reader stumbles over it. */
export function reportEntry({ weightError, outputError, kl }: TensorReport): Record<string, number> | null {
  if (!Number.isFinite(weightError) || !Number.isFinite(outputError)) return null;
  const errors = { weight_error: weightError, output_error: outputError };
  return kl === null || !Number.isFinite(kl) ? errors : { ...errors, kl };
}

/** Folders without a report are as good as any; further fields of an entry are left to later versions. */
export function parseReport(field: Json | undefined, bad: (what: string) => ShiftAddError): Map<string, TensorReport> {
  const report = new Map<string, TensorReport>();
  if (field === undefined || field === null) return report;
  if (!isJsonObject(field)) throw bad('.report must be an object');
  for (const [name, entry] of Object.entries(field)) {
    const where = `.report[${show(name)}]`;
    if (!isJsonObject(entry)) throw bad(`${where} must be an object`);
    const read = (key: string): number => {
      const value = entry[key];
      if (typeof value !== 'number' || !Number.isFinite(value)) {
        throw bad(`${where}.${key} is ${show(value)}; it must be a finite number`);
      }
      return value;
    };
    const kl = entry['kl'] === undefined || entry['kl'] === null ? null : read('kl');
    report.set(name, { weightError: read('weight_error'), outputError: read('output_error'), kl });
  }
  return report;
}
