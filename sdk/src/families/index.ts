/** All model families, found by `model_type` of config.json. */
import { ShiftAddError } from '../errors.js';
import { show } from '../options.js';
import type { JsonObject } from '../checkpoint/json-file.js';
import type { FamilySpec } from './family.js';
import { bloom } from './bloom.js';
import { gemma, gemma2, gemma3 } from './gemma.js';
import { gpt2 } from './gpt2.js';
import { gptneox } from './gptneox.js';
import { llama } from './llama.js';
import { mistral } from './mistral.js';
import { opt } from './opt.js';
import { phi3 } from './phi3.js';
import { qwen2, qwen3 } from './qwen.js';
import { smollm3 } from './smollm3.js';

export { isRotatable, isTunable, Role, type Family, type FamilySpec, type FamilyTensor, type RowMap, type StoredPart } from './family.js';

const families = [llama, mistral, gemma, gemma2, gemma3, qwen2, qwen3, phi3, smollm3, opt, bloom, gpt2, gptneox];

/** ERR_UNSUPPORTED_MODEL names the model type or the field; ERR_BAD_MODEL_FILE the bad field. */
export function describeFamily(config: JsonObject, configPath: string): FamilySpec {
  const type = config['model_type'];
  const family = families.find((entry) => typeof type === 'string' && entry.modelTypes.includes(type));
  if (family === undefined) {
    const known = families.flatMap((entry) => entry.modelTypes).join(', ');
    throw new ShiftAddError(
      'ERR_UNSUPPORTED_MODEL',
      `${configPath}: model_type is ${show(type)}; this version runs ${known}.`,
    );
  }
  return family.describe(config, configPath);
}
