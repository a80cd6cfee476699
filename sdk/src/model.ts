/** Loads a model and is the door to everything that it can do. */
import { benchmark, type BenchmarkOptions, type BenchmarkResult } from './benchmark.js';
import { verifyChecksums } from './checkpoint/checksums.js';
import { openModelFolder, type ModelFolder } from './checkpoint/model-folder.js';
import { tokenizerFilesOf, type TokenizerFiles } from './checkpoint/tokenizer-files.js';
import { Chat, encodeChat, restoreChat, type ChatOptions, type RestoreOptions } from './chat.js';
import { ChatTemplate, type ChatMessage, type RenderOptions } from './chat-template.js';
import { compareModels, type CompareOptions, type CompareResult } from './compare.js';
import type { EngineModel, EngineModelInfo, KvType, Precision } from './engine.js';
import { embedTexts, type EmbedOptions, type EmbedResult } from './embed.js';
import { ShiftAddError, fromEngine } from './errors.js';
import { evaluateText, type EvaluateOptions, type EvaluateResult } from './evaluate.js';
import type { EnergyRecorder } from './devices/energy-meter.js';
import { type WorkPlace, workPlace } from './devices/meter-choice.js';
import { describeFamily } from './families/index.js';
import { startRun, type GenerateOptions } from './generate.js';
import { checkFormOptions, schemaForm, withJson } from './structured/form-plan.js';
import { Measure } from './measure.js';
import { checkKvCache, checkMemory } from './memory-check.js';
import { loadedWeights, type LoadedWeights } from './model-bytes.js';
import { identifyModel } from './model-identity.js';
import type { KeptSession, PrefixCacheOptions } from './prefix-cache.js';
import { ModelCore, checkContextSize, shareCore } from './model-core.js';
import { describeModel, nameOf, type ModelInfo } from './model-info.js';
import { buildModelSpec, hasSameBits } from './model-spec.js';
import { defaultContextSize, generateRules, loadRules, prefixCacheRules, readOptions, show } from './options.js';
import { resolveModel } from './resolve-model.js';
import type { Run } from './run.js';
import { readSchemaSource } from './structured/schema-source.js';
import { selectBackend, type BackendAttempt, type BackendName, type SelectedBackend } from './select-backend.js';
import { evaluateTaskItems, type TaskItem, type TaskOptions, type TaskResult } from './tasks.js';
import { Tokenizer } from './tokenizer.js';

/** How a model is loaded; every option has a default. */
export interface LoadOptions {
  /** Default 'auto'. An explicit choice is used or throws. */
  backend?: BackendName | 'auto';
  /** 1 to 64. Default one per core. */
  threads?: number;
  /**
   * Of packed products: 'fast' (default) is within 0.7 % of the exact product, 'exact' within 0.02 %, and there a prompt
   * read at once and token by token gives the same bits. Either gives the same bits on every ISA.
   */
  precision?: Precision;
  /**
   * Element type of cached keys and values. Default 'f16' with precision 'fast', 'f32' with 'exact'. 'int8' takes 8.5 bits for each
   * number and is of the backend cuda; with another one it rejects with ERR_NO_BACKEND.
   */
  kvCache?: KvType;
  /** Tokens that a generation or chat can hold. Default the model's limit, at most 4096. */
  contextSize?: number;
  /** Checks the checksums of a packed model. Default true. */
  verify?: boolean;
  /** Forces an instruction set: portable, avx2, avx512, avx512vnni, neon, neondot. Default SHIFTADD_ISA, else the widest. */
  isa?: string;
  /** Which GPU, for the backend cuda. Default 0. */
  device?: number;
  /**
   * Puts energy and memory of each generation on its result: true reads the first meter that covers where the model runs, a recorder is one
   * that is open already and stays open. Without a meter energy stays null, with the reason. Default false.
   */
  measure?: boolean | EnergyRecorder;
  /**
   * Keeps sessions after their generations and chats, so that a prompt that begins as an earlier one did reads only its rest; the
   * results are those of fresh runs (docs/sessions.md). Default: none is kept. An empty object takes the defaults of its fields.
   */
  prefixCache?: PrefixCacheOptions;
  /** Aborting rejects with the signal's reason. */
  signal?: AbortSignal;
  /** Called as the work goes on. */
  onProgress?: (progress: LoadProgress) => void;
}

/** How far a load is, in bytes or steps. */
export interface LoadProgress {
  /** `verify` and, in a browser, `download` count bytes. */
  phase: 'open' | 'download' | 'verify' | 'load';
  done: number;
  total: number;
}

/** What runs a model. */
export interface BackendInfo {
  name: BackendName;
  isa: string;
  threads: number;
  precision: Precision;
  kvCache: KvType;
  /** What was tried before, and why it was not chosen. */
  attempts: BackendAttempt[];
}

/** A loaded model. Made by `loadModel`. */
export class Model {
  readonly #core: ModelCore;

  constructor(
    core: ModelCore,
    /** What the model is. */
    readonly info: ModelInfo,
    /** The absolute path of its folder. */
    readonly path: string,
  ) {
    this.#core = core;
    shareCore(this, core);
  }

  /** What runs it. */
  get backend(): BackendInfo {
    return this.#core.backend;
  }

  get tokenizer(): Tokenizer {
    return this.#core.tokenizer;
  }

  /** Tokens that a generation or chat holds unless told otherwise. */
  get contextSize(): number {
    return this.#core.contextSize;
  }

  /**
   * Continues a text or token ids. TypeError and RangeError for wrong options; the run rejects with
   * ERR_CONTEXT_OVERFLOW, ERR_CLOSED, ERR_NON_FINITE, ERR_OUT_OF_MEMORY or the signal's reason.
   */
  generate(prompt: string | ArrayLike<number>, options?: GenerateOptions): Run {
    const core = this.#core;
    const isTokens = typeof prompt === 'object' && prompt !== null && typeof prompt.length === 'number';
    if (typeof prompt !== 'string' && !isTokens) {
      throw new TypeError(`Expected a text or token ids for prompt but received ${show(prompt)}`);
    }
    const checked = readOptions<GenerateOptions>(generateRules, options, 'generate');
    const schema = checked.schema === undefined ? undefined : readSchemaSource(checked.schema);
    if (schema !== undefined) checkFormOptions(checked);
    const encode = (text: string): number[] =>
      core.tokenizer.encode(text, { addSpecialTokens: checked.addSpecialTokens!, parseSpecial: checked.parseSpecial! });
    let kept: KeptSession;
    return startRun(core, {
      prompt: () => (typeof prompt === 'string' ? encode(prompt) : Array.from(prompt)),
      continuation: true,
      options: checked,
      ...(schema === undefined ? {} : { form: schemaForm(schema), read: withJson }),
      contextSize: core.contextSize,
      acquire: async (tokens) => {
        // No more than this run can fill.
        const size = Math.min(core.contextSize, tokens.length + (checked.maxTokens ?? core.contextSize));
        const acquired = await core.prefixes.acquire(tokens, size);
        kept = acquired.kept;
        return { session: kept.session, reused: acquired.reused };
      },
      release: (_, held) => core.prefixes.release(kept, held),
    }).run;
  }

  /** A conversation. TypeError and RangeError for wrong options, ERR_CLOSED. */
  createChat(options?: ChatOptions): Chat {
    return new Chat(this.#core, options);
  }

  /**
   * A conversation that `chat.saveState` saved: it goes on with the tokens that the saved one would give. Options of the chat, as far
   * as they are given, take the place of the saved ones. Rejects with ERR_NOT_FOUND, ERR_STATE_FILE (damaged, or no such file),
   * ERR_STATE_MISMATCH (another model, precision, KV cache type or kind of backend), ERR_CONTEXT_OVERFLOW, ERR_CLOSED,
   * ERR_OUT_OF_MEMORY, TypeError or RangeError. Not in a browser.
   */
  async restoreChat(path: string, options?: RestoreOptions): Promise<Chat> {
    return restoreChat(this.#core, path, options);
  }

  /** The prompt ids of messages as a chat would send them. ERR_CHAT_TEMPLATE. */
  encodeChat(messages: ChatMessage[], options?: RenderOptions): number[] {
    return encodeChat(this.#core, messages, options);
  }

  /**
   * Vectors of texts, or of lists of token ids: the hidden states after the final norm, in the basis of the checkpoint, pooled. TypeError
   * and RangeError for wrong arguments (an empty text too), ERR_CONTEXT_OVERFLOW, ERR_CLOSED, ERR_NON_FINITE or the signal's reason.
   */
  async embed(texts: readonly (string | ArrayLike<number>)[], options?: EmbedOptions): Promise<EmbedResult> {
    return embedTexts(this.#core, texts, options);
  }

  /** Perplexity of a text. RangeError for a text below 2 tokens, ERR_CONTEXT_OVERFLOW, ERR_CLOSED, ERR_NON_FINITE. */
  async evaluate(text: string, options?: EvaluateOptions): Promise<EvaluateResult> {
    return evaluateText(this.#core, text, options);
  }

  /**
   * How far this model is from a reference with the same vocabulary, such as the dense model it was quantized from.
   * RangeError for another vocabulary, ERR_CONTEXT_OVERFLOW, ERR_CLOSED, ERR_NON_FINITE.
   */
  async compare(reference: Model, text: string, options?: CompareOptions): Promise<CompareResult> {
    if (!(reference instanceof Model)) throw new TypeError(`Expected a model for reference but received ${show(reference)}`);
    return compareModels(this.#core, reference.#core, text, options);
  }

  /** Scores task items of one kind. TypeError and RangeError name the item, ERR_CONTEXT_OVERFLOW, ERR_CLOSED. */
  async evaluateTask(items: readonly TaskItem[], options?: TaskOptions): Promise<TaskResult> {
    return evaluateTaskItems(this.#core, items, options);
  }

  /** Measures speed beside the limit that reading the weights sets. RangeError, ERR_CLOSED, ERR_OUT_OF_MEMORY. */
  async benchmark(options?: BenchmarkOptions): Promise<BenchmarkResult> {
    const { bytes } = this.info;
    // Of an embedding with a head of its own, a step reads one row.
    return benchmark(this.#core, bytes.total - (bytes.head > 0 ? bytes.embedding : 0), options);
  }

  /** Ends what runs (ERR_CLOSED), waits for it, then frees the memory of model and chats. Idempotent. */
  async close(): Promise<void> {
    const core = this.#core;
    core.closed = true;
    for (const end of [...core.running]) end();
    await core.engineModel.close();
    await core.measure?.close();
  }

  /** The same as `close`. */
  async dispose(): Promise<void> {
    await this.close();
  }

  /** The same as `close`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** The same as `model.evaluate(text, options)`. */
export async function evaluatePerplexity(
  model: Model,
  text: string,
  options?: EvaluateOptions,
): Promise<EvaluateResult> {
  return model.evaluate(text, options);
}

/**
 * Loads a model folder (path or file URL) or an embedded model by name; without one, the embedded chat model. Rejects
 * with ERR_NOT_FOUND, ERR_BAD_MODEL_FILE, ERR_CHECKSUM, ERR_UNSUPPORTED_MODEL, ERR_TOKENIZER, ERR_NO_BACKEND,
 * ERR_OUT_OF_MEMORY, TypeError, RangeError or the signal's reason.
 */
export async function loadModel(folderOrName?: string | URL, options?: LoadOptions): Promise<Model> {
  const checked = readOptions<LoadOptions>(loadRules, options, 'loadModel');
  const { signal, onProgress } = checked;
  const prefixCache = readOptions<PrefixCacheOptions>(prefixCacheRules, checked.prefixCache ?? { sessions: 0 }, 'prefixCache');
  signal?.throwIfAborted();
  const started = performance.now();
  onProgress?.({ phase: 'open', done: 0, total: 1 });
  const folder = await openModelFolder(await resolveModel(folderOrName));
  const family = describeFamily(folder.config, folder.configPath);
  const spec = buildModelSpec(folder, family);
  if (checked.contextSize !== undefined) checkContextSize(checked.contextSize, family.contextLimit);
  const selected = selectBackend(checked.backend!, checked.isa, checked.device);
  checkKvCache(kvTypeOf(checked), selected.name);
  checkMemory(folder.path, family, spec.tensors, kvTypeOf(checked), selected);
  // The engine maps and decodes on a thread of its own while the tokenizer is built and checksums are verified here.
  const opening = openEngineModel(selected, spec, checked, folder.path);
  opening.catch(() => undefined); // it may fail before it is awaited, which Node would take for an unhandled rejection
  let tokenizer: Tokenizer;
  let files: TokenizerFiles;
  try {
    files = await tokenizerFilesOf(folder, family.vocabularySize);
    tokenizer = new Tokenizer(files);
    if (tokenizer.size > family.vocabularySize) {
      throw new ShiftAddError(
        'ERR_TOKENIZER',
        `${files.path} has token ids up to ${tokenizer.size - 1} but vocab_size in config.json is ${family.vocabularySize}. Copy tokenizer.json and config.json from the same checkpoint.`,
      );
    }
    if (checked.verify) await verify(folder, checked);
    signal?.throwIfAborted();
    onProgress?.({ phase: 'load', done: 0, total: 1 });
  } catch (error) {
    await opening.then(
      ({ engineModel }) => engineModel.close(),
      () => undefined, // the first error is the one to report
    );
    throw error;
  }
  const { engineModel, info } = await opening;
  const worksOn = workPlace(selected);
  const measure = await openMeasure(checked.measure!, worksOn, engineModel);
  const core = new ModelCore(
    engineModel,
    tokenizer,
    new ChatTemplate(files.chatTemplate, tokenizer.specialTokens),
    {
      name: selected.name,
      isa: info.isa,
      threads: info.threads,
      precision: info.precision,
      kvCache: info.kvCache,
      attempts: selected.attempts,
    },
    worksOn,
    endIds(folder, tokenizer),
    family.vocabularySize,
    family.contextLimit,
    checked.contextSize ?? Math.min(family.contextLimit, defaultContextSize),
    performance.now() - started,
    heldWeights(spec.tensors, selected.name, info),
    measure,
    nameOf(folder.path),
    family.embeddingSize,
    selected.name !== 'cuda' && info.precision === 'exact' && hasSameBits(spec.tensors),
    { sessions: prefixCache.sessions!, bytes: prefixCache.bytes! },
    () => identifyModel(folder, spec.numbers),
  );
  onProgress?.({ phase: 'load', done: 1, total: 1 });
  return new Model(core, describeModel(folder, family, spec.tensors), folder.path);
}

/** Closes the model when the meter fails. */
async function openMeasure(measure: boolean | EnergyRecorder, worksOn: WorkPlace, engineModel: EngineModel): Promise<Measure | null> {
  if (measure === false) return null;
  try {
    return await Measure.open(measure, worksOn);
  } catch (error) {
    await engineModel.close();
    throw error;
  }
}

async function verify(folder: ModelFolder, { signal, onProgress }: LoadOptions): Promise<void> {
  if (folder.quantization === null) return;
  const total = [...folder.stored.values()].reduce((sum, tensor) => sum + tensor.bytes, 0);
  await verifyChecksums(folder, signal, (done) => onProgress?.({ phase: 'verify', done, total }));
}

/** As the engine says, except that tensors which share stored bytes count them once. */
function heldWeights(tensors: ReturnType<typeof buildModelSpec>['tensors'], backend: BackendName, { heapBytes }: EngineModelInfo): LoadedWeights {
  const { mapped, held } = loadedWeights(tensors, backend);
  return { mapped, held: backend === 'wasm' ? held : heapBytes };
}

function kvTypeOf({ kvCache, precision }: Pick<LoadOptions, 'kvCache' | 'precision'>): KvType {
  return kvCache ?? (precision === 'exact' ? 'f32' : 'f16');
}

/** Opens the model in the engine. Also for the quantizer, which needs no tokenizer here. */
export async function openEngineModel(
  selected: SelectedBackend,
  spec: { numbers: Float64Array; paths: string[] },
  { threads, precision = 'fast', kvCache, signal }: Pick<LoadOptions, 'threads' | 'precision' | 'kvCache' | 'signal'>,
  path: string,
): Promise<{ engineModel: EngineModel; info: EngineModelInfo }> {
  let engineModel: EngineModel;
  try {
    engineModel = await selected.engine.openModel(spec.numbers, spec.paths, {
      threads: threads ?? 0,
      precision,
      kvCache: kvTypeOf({ kvCache, precision }),
      ...(selected.name === 'cuda' ? { backend: 'cuda' as const, device: selected.device ?? 0 } : {}),
      ...(selected.isa === undefined ? {} : { isa: selected.isa }),
    });
  } catch (error) {
    throw fromEngine(error, `Loading ${path}`);
  }
  if (signal?.aborted === true) {
    await engineModel.close();
    throw signal.reason;
  }
  return { engineModel, info: engineModel.describe() };
}

/** End tokens of generation_config.json, config.json and tokenizer_config.json together. */
export function endIds(folder: ModelFolder, tokenizer: Tokenizer): Set<number> {
  const ids = new Set(tokenizer.endIds);
  for (const config of [folder.generationConfig, folder.config]) {
    const field = config['eos_token_id'];
    for (const id of Array.isArray(field) ? field : [field]) if (typeof id === 'number') ids.add(id);
  }
  return ids;
}
