/** Opens a GGUF file, or all parts of a split one, as a dense checkpoint with config, tokenizer and chat template. */
import { open } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { ShiftAddError } from '../errors.js';
import { ggufConfig } from './gguf-config.js';
import { readGguf, type GgufFile } from './gguf-header.js';
import { ggufTensors, rotaryFactors } from './gguf-tensors.js';
import { ggufTokenizer } from './gguf-tokenizer.js';
import type { Json, JsonObject } from './json-file.js';
import type { ModelFolder } from './model-folder.js';
import type { TensorEntry } from './safetensors.js';

/** ERR_NOT_FOUND, ERR_BAD_MODEL_FILE, ERR_UNSUPPORTED_MODEL, ERR_TOKENIZER. */
export async function openGguf(path: string): Promise<ModelFolder> {
  const files = await readParts(path);
  const first = files[0]!;
  const find = (name: string): { file: GgufFile; entry: TensorEntry } | null => {
    const file = files.find(({ tensors }) => tensors.has(name));
    return file === undefined ? null : { file, entry: file.tensors.get(name)! };
  };
  const { architecture, config } = ggufConfig(first, (name) => find(name)?.entry.shape[0] ?? null);
  const factors = async (name: string): Promise<number[] | null> => {
    const found = find(name);
    return found === null ? null : readFloats(found.file.path, found.entry);
  };
  const [every, short, long] = [await factors(rotaryFactors.frequencies), await factors(rotaryFactors.short), await factors(rotaryFactors.long)];
  const original = config['original_max_position_embeddings'];
  delete config['original_max_position_embeddings']; // of long rope alone
  if (every !== null) useFactors(config, config['max_position_embeddings'], every, every, 1);
  else if (short !== null && long !== null) {
    const attention = first.metadata.get(`${architecture}.rope.scaling.attn_factor`);
    useFactors(config, original ?? config['max_position_embeddings'], short, long, typeof attention === 'number' ? attention : null);
  }
  return {
    path,
    configPath: path,
    config,
    generationConfig: Object.fromEntries(Object.entries(config).filter(([name, id]) => /_token_id$/.test(name) && id !== null)),
    tokenizer: ggufTokenizer(first),
    files: files.map(({ path: filePath, fileBytes, tensors }) => ({ path: filePath, fileBytes, tensors, metadata: {} })),
    stored: ggufTensors(files, architecture, config),
    quantization: null,
    rotation: null,
    packed: new Map(),
  };
}

/** Factors that the file stores for each rotary frequency, of short and of long sequences. */
function useFactors(config: JsonObject, original: Json | undefined, short: number[], long: number[], attention: number | null): void {
  config['original_max_position_embeddings'] = original;
  config['rope_scaling'] = { rope_type: 'longrope', short_factor: short, long_factor: long, ...(attention === null ? {} : { attention_factor: attention }) };
}

/** The file itself, or every part when it says that it is one of several. */
async function readParts(path: string): Promise<GgufFile[]> {
  const file = await readGguf(path);
  const count = file.metadata.get('split.count') ?? 1;
  const number = file.metadata.get('split.no') ?? 0;
  if (count === 1) return [file];
  const bad = (what: string): ShiftAddError => new ShiftAddError('ERR_BAD_MODEL_FILE', `${path} ${what}. Download all parts again.`);
  if (typeof count !== 'number' || typeof number !== 'number' || count < 1 || count > 99_999 || number >= count) throw bad('has a wrong split.count or split.no');
  const pad = (n: number): string => String(n).padStart(5, '0');
  const ending = `-${pad(number + 1)}-of-${pad(count)}.gguf`;
  if (!basename(path).endsWith(ending)) throw bad(`is part ${number + 1} of ${count}, so that its name must end in ${ending}`);
  const stem = basename(path).slice(0, -ending.length);
  const parts: GgufFile[] = [];
  for (let i = 0; i < count; i++) {
    const part: GgufFile = i === number ? file : await readGguf(join(dirname(path), `${stem}-${pad(i + 1)}-of-${pad(count)}.gguf`));
    if (part.metadata.get('split.no') !== i || part.metadata.get('split.count') !== count) throw bad(`and ${part.path} are not parts of one model`);
    parts.push(part);
  }
  return parts;
}

async function readFloats(path: string, { name, dtype, offset, bytes }: TensorEntry): Promise<number[]> {
  if (dtype !== 'F32' || bytes > 1 << 20) throw new ShiftAddError('ERR_BAD_MODEL_FILE', `${path}: tensor ${name} must be a short list of F32 numbers. Convert the checkpoint again.`);
  const file = await open(path);
  try {
    const { buffer, bytesRead } = await file.read(new Uint8Array(bytes), 0, bytes, offset);
    if (bytesRead < bytes) throw new ShiftAddError('ERR_BAD_MODEL_FILE', `${path} ended inside tensor ${name}. Download it again.`);
    return [...new Float32Array(buffer.buffer)];
  } finally {
    await file.close();
  }
}
