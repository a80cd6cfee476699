/** The real tokenizer and the grammars of an engine, and walks over the tokens that they allow. */
import Ajv from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { openModelFolder } from '../../sdk/src/checkpoint/model-folder.js';
import { readTokenizerFiles } from '../../sdk/src/checkpoint/tokenizer-files.js';
import type { Engine, EngineGrammar, EngineModel, EngineVocabulary } from '../../sdk/src/engine.js';
import { describeFamily } from '../../sdk/src/families/index.js';
import { buildModelSpec } from '../../sdk/src/model-spec.js';
import { schemaGrammar } from '../../sdk/src/structured/schema-grammar.js';
import { Tokenizer } from '../../sdk/src/tokenizer.js';

export const embedded = 'models/smollm2-135m-instruct';

export interface Forms {
  model: EngineModel;
  vocabulary: EngineVocabulary;
  open(schema: any): Promise<EngineGrammar>;
}

export async function openForms(engine: Engine, folder = embedded): Promise<Forms> {
  const opened = await openModelFolder(folder);
  const spec = buildModelSpec(opened, describeFamily(opened.config, opened.configPath));
  const model = await engine.openModel(spec.numbers, spec.paths, { threads: 1, precision: 'fast', kvCache: 'f16' });
  const tokenizer = new Tokenizer(await readTokenizerFiles(folder));
  const vocabulary = tokenizer.vocabulary(spec.numbers[1]!, tokenizer.endIds);
  await model.setVocabulary(vocabulary);
  return { model, vocabulary, open: async (schema) => model.openGrammar(schemaGrammar(schema)) };
}

/** A validator that knows nothing of this package. */
export function validator(schema: any): (value: unknown) => string | null {
  const ajv = new (Ajv as any)({ strict: false, allErrors: false, multipleOfPrecision: 6 });
  (addFormats as any)(ajv);
  const validate = ajv.compile(schema);
  return (value) => (validate(value) ? null : ajv.errorsText(validate.errors));
}

/** Numbers from 0 to 1 of a seed (mulberry32). */
export function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let z = Math.imul(state ^ (state >>> 15), 1 | state);
    z = (z + Math.imul(z ^ (z >>> 7), 61 | z)) ^ z;
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function allowedTokens(mask: Uint32Array): number[] {
  const tokens: number[] = [];
  mask.forEach((word, i) => {
    for (let bits = word; bits !== 0; bits &= bits - 1) tokens.push(i * 32 + (31 - Math.clz32(bits & -bits)));
  });
  return tokens;
}

/** A text of allowed tokens, each drawn alike, or 'stuck at ...'. */
export async function walk(grammar: EngineGrammar, { bytes, ends, endTokens }: EngineVocabulary, budget: number, random: () => number): Promise<{ text: Uint8Array; tokens: number[] }> {
  let text = new Uint8Array();
  const tokens: number[] = [];
  for (;;) {
    const { verdict, tokens: mask } = await grammar.follow(text, budget - tokens.length);
    if (verdict === 'final') return { text, tokens };
    const allowed = allowedTokens(mask);
    const ends_ = allowed.filter((token) => endTokens.includes(token));
    if (ends_.length > 0 && (ends_.length === allowed.length || random() < 0.3)) return { text, tokens };
    const others = allowed.filter((token) => !endTokens.includes(token));
    if (others.length === 0) throw new Error(`stuck after ${JSON.stringify(new TextDecoder().decode(text))} with ${budget - tokens.length} tokens left`);
    const token = others[Math.floor(random() * others.length)]!;
    const part = bytes.subarray(token === 0 ? 0 : ends[token - 1]!, ends[token]!);
    const next = new Uint8Array(text.length + part.length);
    next.set(text);
    next.set(part, text.length);
    text = next;
    tokens.push(token);
    if (tokens.length > budget) throw new Error('longer than its budget');
  }
}
