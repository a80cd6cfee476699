/** Reads tokenizer.json, tokenizer_config.json and the chat template of a model folder. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ShiftAddError, fromFileSystem } from '../errors.js';
import { isJsonObject, readJsonFile, readOptionalJsonFile, type Json, type JsonObject } from './json-file.js';

export interface TokenizerFiles {
  path: string;
  tokenizer: JsonObject;
  /** Empty when the folder has none. */
  config: JsonObject;
  /** Jinja source, or null when the model has none. */
  chatTemplate: string | null;
}

/** The files that are copied unchanged from a checkpoint into a packed folder, where they exist. */
export const tokenizerFileNames = [
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'chat_template.jinja',
] as const;

/**
 * Of an open model: those that a GGUF file holds, or the files of the folder, without added tokens for which the embedding has
 * no row (such as those for images beside a text model). ERR_NOT_FOUND and ERR_TOKENIZER name the file.
 */
export async function tokenizerFilesOf(
  model: { path: string; tokenizer: TokenizerFiles | null },
  vocabularySize: number,
): Promise<TokenizerFiles> {
  const files = model.tokenizer ?? (await readTokenizerFiles(model.path));
  const added = files.tokenizer['added_tokens'];
  if (!Array.isArray(added)) return files;
  const usable = added.filter((token) => !isJsonObject(token) || typeof token['id'] !== 'number' || token['id'] < vocabularySize);
  return { ...files, tokenizer: { ...files.tokenizer, added_tokens: usable } };
}

/** ERR_NOT_FOUND and ERR_TOKENIZER name the file. */
export async function readTokenizerFiles(folder: string): Promise<TokenizerFiles> {
  const path = join(folder, 'tokenizer.json');
  const others = await otherTokenizers(folder);
  const fix =
    others.length === 0
      ? 'Copy tokenizer.json from the checkpoint that the model was made from.'
      : `The folder has ${others.join(' and ')} alone; convert it: python3 -c "from transformers import AutoTokenizer; AutoTokenizer.from_pretrained('${folder}').save_pretrained('${folder}')"`;
  const tokenizer = await asTokenizerError(readJsonFile(path, fix));
  const config = (await asTokenizerError(readOptionalJsonFile(join(folder, 'tokenizer_config.json'), fix))) ?? {};
  return {
    path,
    tokenizer,
    config,
    chatTemplate: (await readTemplateFile(folder)) ?? templateOf(config['chat_template']),
  };
}

/** Files of other kinds of tokenizers, where tokenizer.json is missing: SentencePiece, tiktoken, and BPE in two files. */
async function otherTokenizers(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch((): string[] => []);
  if (names.includes('tokenizer.json')) return [];
  return names.filter((name) => /^(tokenizer|spiece|sentencepiece.*)\.model$|\.tiktoken$|^vocab\.json$|^merges\.txt$/.test(name)).sort();
}

/** Ids of the tokens that are no text; the tokenizer checks the list itself. */
export function specialIds({ tokenizer }: TokenizerFiles): Set<number> {
  const added = Array.isArray(tokenizer['added_tokens']) ? tokenizer['added_tokens'] : [];
  const ids = added.map((token) => (isJsonObject(token) && token['special'] === true ? token['id'] : null));
  return new Set(ids.filter((id) => typeof id === 'number'));
}

async function asTokenizerError<T>(reading: Promise<T>): Promise<T> {
  try {
    return await reading;
  } catch (error) {
    if (error instanceof ShiftAddError && error.code === 'ERR_BAD_MODEL_FILE') {
      throw new ShiftAddError('ERR_TOKENIZER', error.message, error.cause);
    }
    throw error;
  }
}

async function readTemplateFile(folder: string): Promise<string | null> {
  const path = join(folder, 'chat_template.jinja');
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw fromFileSystem(error, path, 'Copy it from the checkpoint again.');
  }
}

/** Either the template or a list of named ones, of which `default` is used. */
function templateOf(field: Json | undefined): string | null {
  if (typeof field === 'string') return field;
  if (!Array.isArray(field)) return null;
  const named = field.find((entry) => isJsonObject(entry) && entry['name'] === 'default');
  return isJsonObject(named) && typeof named['template'] === 'string' ? named['template'] : null;
}
