/**
 * Opens a Hugging Face style folder: config.json, generation_config.json and the safetensors or torch file or shards, dense
 * or packed; or a GGUF file. Reads headers only; `tokenizer-files.ts` reads the tokenizer.
 */
import { access, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { ShiftAddError } from '../errors.js';
import { show } from '../options.js';
import { isJsonObject, readJsonFile, readOptionalJsonFile, type JsonObject } from './json-file.js';
import {
  collectPackedTensors,
  parseQuantizationConfig,
  type PackedTensor,
  type QuantizationConfig,
} from './packed-tensors.js';
import { readTorchCheckpoint } from './torch-checkpoint.js';
import type { TokenizerFiles } from './tokenizer-files.js';
import type { RowMap } from '../families/index.js';
import type { Rotation } from '../rotation.js';
import { openGguf } from './gguf.js';
import { readSafetensors, type SafetensorsFile, type TensorEntry } from './safetensors.js';

const fix = 'Pass a folder with config.json, model.safetensors and tokenizer.json.';

/** A tensor and the file that holds it. */
export interface StoredTensor extends TensorEntry {
  path: string;
  /** Index into `ModelFolder.files`. */
  file: number;
  /** Where the rows of a matrix are not in the order of the family (GGUF). */
  rowOrder?: RowMap;
  /** What the family adds to the numbers is in them already (GGUF). */
  holdsAdded?: number;
}

export interface ModelFolder {
  path: string;
  configPath: string;
  config: JsonObject;
  /** Empty when the folder has none. */
  generationConfig: JsonObject;
  /** Rebuilt from a GGUF file; null where the folder has files of its own (`readTokenizerFiles`). */
  tokenizer: TokenizerFiles | null;
  files: SafetensorsFile[];
  stored: Map<string, StoredTensor>;
  /** Null for a dense checkpoint. */
  quantization: QuantizationConfig | null;
  /** Of the residual stream, in the weights; null without. */
  rotation: Rotation | null;
  /** By the name that the dense tensor would have; empty for a dense checkpoint. */
  packed: Map<string, PackedTensor>;
}

/** A folder, or a GGUF file. ERR_NOT_FOUND, ERR_BAD_MODEL_FILE, ERR_UNSUPPORTED_MODEL. */
export async function openModelFolder(path: string): Promise<ModelFolder> {
  if (isGgufPath(path)) return openGguf(path);
  const configPath = join(path, 'config.json');
  const gguf = (await exists(configPath)) ? null : await onlyGguf(path);
  if (gguf !== null) return openGguf(gguf);
  const config = await readJsonFile(configPath, fix);
  const generationConfig = (await readOptionalJsonFile(join(path, 'generation_config.json'), fix)) ?? {};
  const files = await openWeights(path);
  const stored = new Map<string, StoredTensor>();
  files.forEach((file, index) => {
    for (const entry of file.tensors.values()) {
      const other = stored.get(entry.name);
      if (other !== undefined) {
        throw new ShiftAddError(
          'ERR_BAD_MODEL_FILE',
          `Tensor ${entry.name} is in both ${other.path} and ${file.path}. Remove the shard that does not belong to this model.`,
        );
      }
      stored.set(entry.name, { ...entry, path: file.path, file: index });
    }
  });
  const quantization = parseQuantizationConfig(config, configPath);
  const packed =
    quantization === null ? new Map<string, PackedTensor>() : collectPackedTensors(quantization, stored, configPath);
  return { path, configPath, config, generationConfig, tokenizer: null, files, stored, quantization, rotation: quantization?.rotation ?? null, packed };
}

/** The GGUF file of a folder without config.json, or the first part of the only split one; null without any. */
async function onlyGguf(folder: string): Promise<string | null> {
  const names = (await readdir(folder).catch(() => [])).filter(isGgufPath).sort();
  const models = names.filter((name) => !/-\d{5}-of-\d{5}\.gguf$/i.test(name) || /-00001-of-/.test(name));
  if (models.length > 1) throw new ShiftAddError('ERR_NOT_FOUND', `${folder} has several models: ${models.join(', ')}. Pass the path of one.`);
  return models.length === 0 ? null : join(folder, models[0]!);
}

/** Whether a path names a GGUF file. */
export function isGgufPath(path: string): boolean {
  return /\.gguf$/i.test(path);
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    (error: unknown) => {
      // In a browser: the server did not say.
      if (error instanceof ShiftAddError) throw error;
      return false;
    },
  );
}

type ReadWeights = (path: string) => Promise<SafetensorsFile>;

/** The ways to store weights, the first that is there counts: one file, or shards with an index. */
const weightFiles: readonly (readonly [name: string, read: ReadWeights])[] = [
  ['model.safetensors', readSafetensors],
  ['pytorch_model.bin', readTorchCheckpoint],
];

async function openWeights(folder: string): Promise<SafetensorsFile[]> {
  for (const [name, read] of weightFiles) {
    const whole = join(folder, name);
    if (await exists(whole)) return [await read(whole)];
    if (await exists(`${whole}.index.json`)) return openShards(folder, `${whole}.index.json`, read);
  }
  const names = weightFiles.flatMap(([name]) => [name, `${name}.index.json`]);
  throw new ShiftAddError('ERR_NOT_FOUND', `${folder} has none of ${names.join(', ')} and no GGUF file. ${fix}`);
}

async function openShards(folder: string, indexPath: string, read: ReadWeights): Promise<SafetensorsFile[]> {
  const bad = (what: string): ShiftAddError =>
    new ShiftAddError('ERR_BAD_MODEL_FILE', `${indexPath}: ${what}. Download or copy the model folder again.`);
  const map = (await readJsonFile(indexPath, fix))['weight_map'];
  if (!isJsonObject(map)) throw bad('weight_map must be an object');
  const names = new Set<string>();
  for (const [tensor, name] of Object.entries(map)) {
    if (typeof name !== 'string' || name.length === 0 || /[/\\\0]/.test(name) || name === '.' || name === '..') {
      throw bad(`weight_map puts tensor ${tensor} into ${show(name)}, which is not the name of a file in this folder`);
    }
    names.add(name);
  }
  const files: SafetensorsFile[] = [];
  for (const name of [...names].sort()) {
    const file = await read(join(folder, name));
    for (const tensor of file.tensors.keys()) {
      if (map[tensor] !== name) {
        throw bad(
          `weight_map puts tensor ${tensor} ${map[tensor] === undefined ? 'nowhere' : `into ${show(map[tensor])}`}, but it is in ${name}`,
        );
      }
    }
    files.push(file);
  }
  const found = new Set(files.flatMap((file) => [...file.tensors.keys()]));
  for (const [tensor, name] of Object.entries(map)) {
    if (!found.has(tensor)) throw bad(`weight_map puts tensor ${tensor} into ${show(name)}, but it is not there`);
  }
  return files;
}
