/** Downloads a model from the Hugging Face Hub into the cache that other tools share. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ShiftAddError } from '../errors.js';
import { pullRules, readOptions, show } from '../options.js';
import { defaultCache, hubHome, RepositoryCache } from './cache.js';
import { HubClient, type RepositoryFile } from './client.js';
import { download } from './download.js';

/** Which files of a repository, from where, and where they are kept. */
export interface PullOptions {
  /** Branch, tag or commit. Default `main`, or what follows @ in the name. */
  revision?: string;
  /** One file of the repository, such as one GGUF file of many. Default: the weights that the folder has. */
  file?: string;
  /** Default HF_HUB_CACHE, or `hub` below HF_HOME (~/.cache/huggingface). */
  cache?: string;
  /** Default HF_ENDPOINT, else https://huggingface.co. */
  endpoint?: string;
  /** Default HF_TOKEN, or the token of `hf auth login`. */
  token?: string;
  /** Use what the cache has and ask no server. Default true where HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set. */
  offline?: boolean;
  /** Aborting rejects with the signal's reason; what has come stays, and the same call goes on with it. */
  signal?: AbortSignal;
  /** Called as the work goes on. */
  onProgress?: (progress: PullProgress) => void;
}

/** How far a download is, in bytes. */
export interface PullProgress {
  /** The file that is coming. */
  file: string;
  /** Over all files; `totalBytes` counts those whose size is known. */
  doneBytes: number;
  totalBytes: number;
}

/** Where the files lie, and what was downloaded. */
export interface PullResult {
  /** For `loadModel`: the folder, or the GGUF file. */
  path: string;
  repository: string;
  commit: string;
  files: { name: string; bytes: number }[];
}

/** Of a folder, beside the weights. */
const sideFiles = /^(config|generation_config|tokenizer|tokenizer_config|special_tokens_map)\.json$|^chat_template\.jinja$/;
/** Where tokenizer.json is missing: what transformers makes one of. */
const otherTokenizers = /^(tokenizer\.model|vocab\.json|merges\.txt|added_tokens\.json)$/;
const wholeWeights = ['model.safetensors', 'pytorch_model.bin'];

/** "owner/name" or "owner/name@revision"; null for anything else. */
export function parseRepository(text: string): { repository: string; revision: string | null } | null {
  const match = /^([A-Za-z0-9][\w.-]{0,95}\/[A-Za-z0-9][\w.-]{0,95})(?:@([\w./-]{1,200}))?$/.exec(text);
  if (match === null || /\.\.|\.gguf$/.test(text)) return null;
  return { repository: match[1]!, revision: match[2] ?? null };
}

/**
 * Downloads what `loadModel` needs of a repository: config, tokenizer, and weights as safetensors, torch files or one GGUF
 * file. What the cache has is not fetched again. Rejects with ERR_HUB, ERR_HUB_ACCESS, ERR_NOT_FOUND, ERR_WRITE, TypeError or
 * the signal's reason.
 */
export async function pullModel(name: string, options?: PullOptions): Promise<PullResult> {
  const checked = readOptions<PullOptions>(pullRules, options, 'pullModel');
  const parsed = typeof name === 'string' ? parseRepository(name) : null;
  if (parsed === null) throw new TypeError(`Expected a repository such as "HuggingFaceTB/SmolLM2-135M-Instruct" but received ${show(name)}`);
  const { repository } = parsed;
  const revision = checked.revision ?? parsed.revision ?? 'main';
  if (/\.\.|^\/|\\/.test(revision)) throw new TypeError(`Expected a branch, tag or commit for revision but received ${show(revision)}`);
  const { signal, onProgress } = checked;
  signal?.throwIfAborted();
  const cache = new RepositoryCache(checked.cache ?? defaultCache(), repository);
  if (checked.offline ?? isOffline()) return fromCache(cache, repository, revision, checked.file);
  const token = checked.token ?? (await defaultToken());
  const client = new HubClient({
    endpoint: checked.endpoint ?? process.env['HF_ENDPOINT'] ?? 'https://huggingface.co',
    token: token === '' ? null : token,
    signal,
  });
  const { commit, files: all } = await client.list(repository, revision);
  const files = chooseFiles(repository, all, checked.file);
  const totalBytes = files.reduce((sum, { bytes }) => sum + (bytes ?? 0), 0);
  let doneBytes = 0;
  const placed: PullResult['files'] = [];
  // The config comes last: a folder without one does not look like a model.
  for (const file of files) {
    const onBytes = (bytes: number): void => onProgress?.({ file: file.name, doneBytes: doneBytes + bytes, totalBytes });
    onBytes(0);
    const hash = await download({ client, cache, repository, commit, file, signal, onBytes });
    const { size } = await stat(cache.blob(hash));
    doneBytes += size;
    placed.push({ name: file.name, bytes: size });
    await cache.place(commit, file.name, hash);
  }
  await cache.writeCommit(revision, commit);
  return { path: pathOf(cache, commit, files), repository, commit, files: placed };
}

function isOffline(): boolean {
  return ['HF_HUB_OFFLINE', 'TRANSFORMERS_OFFLINE'].some((name) => /^(1|on|yes|true)$/i.test(process.env[name] ?? ''));
}

/** HF_TOKEN, or the token of `hf auth login`. */
async function defaultToken(): Promise<string> {
  const given = process.env['HF_TOKEN'] ?? process.env['HUGGING_FACE_HUB_TOKEN'];
  if (given !== undefined) return given.trim();
  return (await readFile(process.env['HF_TOKEN_PATH'] ?? join(hubHome(), 'token'), 'utf8').catch(() => '')).trim();
}

function pathOf(cache: RepositoryCache, commit: string, files: { name: string }[]): string {
  const gguf = files.find(({ name }) => name.endsWith('.gguf'));
  return gguf === undefined ? cache.snapshot(commit) : join(cache.snapshot(commit), gguf.name);
}

async function fromCache(cache: RepositoryCache, repository: string, revision: string, file: string | undefined): Promise<PullResult> {
  const missing = (what: string): ShiftAddError =>
    new ShiftAddError('ERR_NOT_FOUND', `The cache has no ${what} of ${repository}@${revision}, and no server is asked (offline). Pull it once while online.`);
  const commit = await cache.commitOf(revision);
  if (commit === null) throw missing('copy');
  const folder = cache.snapshot(commit);
  const sizes = new Map<string, number>();
  for (const name of await readdir(folder, { recursive: true }).catch((): string[] => [])) {
    const entry = await stat(join(folder, name)).catch(() => null); // null: a link to a blob that is gone
    if (entry?.isFile()) sizes.set(name, entry.size);
  }
  const found = (names: string[], path: string): PullResult => ({ path, repository, commit, files: names.map((name) => ({ name, bytes: sizes.get(name)! })) });
  const names = [...sizes.keys()];
  if (file !== undefined) {
    if (!sizes.has(file)) throw missing(file);
    return found([file], /\.gguf$/i.test(file) ? join(folder, file) : folder);
  }
  if (names.includes('config.json') && (await hasWeights(folder, names))) return found(names, folder);
  const ggufs = wholeGgufs(names);
  if (ggufs.length > 1) throw severalFiles(repository, ggufs);
  if (ggufs.length === 0) throw missing('complete model');
  return found([ggufs[0]!], join(folder, ggufs[0]!));
}

/** Whether a folder has weights in one file, or every shard of an index. */
async function hasWeights(folder: string, names: string[]): Promise<boolean> {
  for (const whole of wholeWeights) {
    if (names.includes(whole)) return true;
    const index = `${whole}.index.json`;
    if (!names.includes(index)) continue;
    const text = await readFile(join(folder, index), 'utf8').catch(() => '');
    try {
      const { weight_map: map } = JSON.parse(text) as { weight_map?: Record<string, unknown> };
      const shards = Object.values(map ?? {});
      if (shards.length > 0 && shards.every((shard) => names.includes(String(shard)))) return true;
    } catch {
      continue; // no index
    }
  }
  return false;
}

/** GGUF files that are models: single ones, and the first parts of split ones that have all parts. */
function wholeGgufs(names: string[]): string[] {
  return names.filter((name) => {
    const part = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/i.exec(name);
    if (part === null) return /\.gguf$/i.test(name);
    const rest = Array.from({ length: Number(part[3]) }, (_, i) => `${part[1]}-${String(i + 1).padStart(5, '0')}-of-${part[3]}.gguf`);
    return part[2] === '00001' && rest.every((each) => names.includes(each));
  });
}

function severalFiles(repository: string, names: string[]): ShiftAddError {
  return new ShiftAddError('ERR_NOT_FOUND', `${repository} has several GGUF files; choose one with file (--file): ${names.join(', ')}.`);
}

/** ERR_NOT_FOUND says what the repository has instead. */
function chooseFiles(repository: string, all: RepositoryFile[], file: string | undefined): RepositoryFile[] {
  const names = all.map(({ name }) => name);
  const ggufs = names.filter((name) => /\.gguf$/i.test(name));
  const pick = (test: (name: string) => boolean): RepositoryFile[] => all.filter(({ name }) => test(name));
  if (file !== undefined) {
    if (!names.includes(file)) {
      const near = ggufs.length > 0 ? ` Its GGUF files: ${ggufs.join(', ')}.` : '';
      throw new ShiftAddError('ERR_NOT_FOUND', `${repository} has no file ${file}.${near}`);
    }
    const parts = /^(.*)-\d{5}-of-(\d{5})\.gguf$/i.exec(file);
    const isPart = (name: string): boolean => {
      const other = /^(.*)-\d{5}-of-(\d{5})\.gguf$/i.exec(name);
      return parts !== null && other !== null && other[1] === parts[1] && other[2] === parts[2];
    };
    return pick((name) => name === file || isPart(name));
  }
  for (const whole of wholeWeights) {
    const [stem, ending] = [whole.slice(0, whole.lastIndexOf('.')), whole.slice(whole.lastIndexOf('.'))];
    const shard = new RegExp(`^${stem}-\\d{5}-of-\\d{5}\\${ending}$`);
    const weights = names.includes(whole) ? pick((name) => name === whole) : pick((name) => shard.test(name) || name === `${whole}.index.json`);
    if (weights.length === 0 || !names.includes('config.json')) continue;
    const others = names.includes('tokenizer.json') ? null : otherTokenizers;
    const side = pick((name) => (sideFiles.test(name) || others?.test(name) === true) && name !== 'config.json');
    return [...side, ...weights, ...pick((name) => name === 'config.json')];
  }
  const models = wholeGgufs(names);
  if (models.length > 1) throw severalFiles(repository, ggufs);
  if (models.length === 1) return chooseFiles(repository, all, models[0]);
  throw new ShiftAddError('ERR_NOT_FOUND', `${repository} has no weights that this version reads: none of ${wholeWeights.join(', ')}, their shards, or a GGUF file.`);
}
