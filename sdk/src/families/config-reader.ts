/** Reads fields of config.json with their defaults; absent and null are the same. */
import { ShiftAddError } from '../errors.js';
import { show } from '../options.js';
import { isJsonObject, type Json, type JsonObject } from '../checkpoint/json-file.js';

/** Fields that never change the arithmetic of the forward pass, or that other parts of the package read. */
const neutral = [
  /^_(?!remove_final_layer_norm)/,
  /version/,
  /dropout|_pdrop$|layerdrop/,
  /_token_id$|^init|initializer/,
  /^(architectures|auto_map|dtype|torch_dtype|model_type|tokenizer_class|name_or_path|transformers|license)$/,
  /^(use_cache|cache_implementation|is_decoder|is_encoder_decoder|tie_word_embeddings|problem_type|finetuning_task)$/,
  /^(id2label|label2id|num_labels|task_specific_params|prefix|torchscript|return_dict|pruned_heads|chunk_size_feed_forward)$/,
  /^(output_|summary_|classifier_|gradient_checkpointing|use_bfloat16|unsloth|transformers\.js_config$|is_llama_config$)/,
  /^(quantization_config|pad_token|bos_token|eos_token|pretrained|vocab_file|n_special|predict_special_tokens|max_sequence_length)$/,
  // Of generation.
  /^(max_length|min_length|max_new_tokens|do_sample|temperature|top_[kp]|typical_p|num_beams|num_beam_groups|num_return_sequences)$/,
  /^(repetition_penalty|length_penalty|diversity_penalty|no_repeat_ngram_size|early_stopping|bad_words_ids|tf_legacy_loss)$/,
];

/** `parse_model_spec` in core/model_spec.cpp. */
const mostOfSmall = 4096;

export class ConfigReader {
  private readonly known = new Set<string>();

  constructor(
    private readonly config: JsonObject,
    readonly path: string,
  ) {}

  field(name: string): Json | undefined {
    this.known.add(name);
    return this.config[name] ?? undefined;
  }

  /** Whether the field is there, even as null. */
  has(name: string): boolean {
    this.known.add(name);
    return name in this.config;
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

  /** The same of layers, heads and sizes of heads, for which lists are made: at most what the core takes. */
  small(name: string, initial?: number): number {
    const value = this.count(name, initial);
    if (value > mostOfSmall) throw this.bad(name, `at most ${mostOfSmall}`);
    return value;
  }

  positive(name: string, initial: number): number {
    const value = this.field(name) ?? initial;
    if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0) throw this.bad(name, 'a positive number');
    return value;
  }

  /** A positive number, or 0 where the field is null; `initial` where it is absent. */
  cap(name: string, initial: number): number {
    if (!this.has(name)) return initial;
    return this.field(name) === undefined ? 0 : this.positive(name, 0);
  }

  flag(name: string, initial: boolean): boolean {
    const value = this.field(name) ?? initial;
    if (typeof value !== 'boolean') throw this.bad(name, 'true or false');
    return value;
  }

  /** One of the keys of `choices`; returns what it stands for. */
  choice<T>(name: string, choices: Record<string, T>, initial?: string): T {
    const value = this.field(name) ?? initial;
    if (typeof value !== 'string' || !Object.hasOwn(choices, value)) {
      throw this.unsupported(name, value, `known: ${Object.keys(choices).map(show).join(', ')}`);
    }
    return choices[value]!;
  }

  /** Refuses any value but the listed ones; absent is fine. */
  only(name: string, ...allowed: Json[]): void {
    const value = this.field(name);
    if (value !== undefined && !allowed.includes(value)) {
      throw this.unsupported(name, value, `known: ${allowed.map(show).join(', ') || 'null'}`);
    }
  }

  object(name: string): JsonObject | null {
    const value = this.field(name);
    if (value === undefined) return null;
    if (!isJsonObject(value)) throw this.bad(name, 'an object');
    return value;
  }

  list(name: string): Json[] | null {
    const value = this.field(name);
    if (value === undefined) return null;
    if (!Array.isArray(value)) throw this.bad(name, 'a list');
    return value;
  }

  /** These may be there with any value: other fields that were read make them irrelevant. */
  ignore(...names: string[]): void {
    for (const name of names) this.known.add(name);
  }

  /** Refuses fields that nothing has read and that are not known to leave the arithmetic alone. */
  refuseUnknown(): void {
    for (const [name, value] of Object.entries(this.config)) {
      if (this.known.has(name) || value === null || value === false || neutral.some((pattern) => pattern.test(name))) continue;
      throw new ShiftAddError(
        'ERR_UNSUPPORTED_MODEL',
        `${this.path}: ${name} (${show(value)}) is not known; it may change what the model computes. If it does not, remove it.`,
      );
    }
  }
}
