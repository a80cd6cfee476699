/** All model families, found by `model_type` of config.json. */
import { ShiftAddError } from '../errors.js';
import { show } from '../options.js';
import type { JsonObject } from '../checkpoint/json-file.js';
import type { FamilySpec } from './family.js';
import { llama } from './llama.js';

export { Role, type Family, type FamilySpec, type FamilyTensor } from './family.js';

const families = [llama];

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
