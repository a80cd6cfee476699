// Windows of attention over prompts longer than one step of the forward pass, in both types of cached numbers.
import t from 'tap';
import { openModelFolder } from '../../sdk/src/checkpoint/model-folder.js';
import { describeFamily } from '../../sdk/src/families/index.js';
import { buildModelSpec } from '../../sdk/src/model-spec.js';
import { loadNativeEngine } from '../../sdk/src/engine-native.js';
import { copyOf, editJson, families, join } from './fixtures.js';

for (const fixture of ['mistral', 'gemma3', 'gemma2', 'bloom'])
  for (const kvCache of ['f32', 'f16'] as const)
    t.test(`${fixture}, ${kvCache}`, async (t) => {
      const path = await copyOf(t, join(families, fixture));
      await editJson(join(path, 'config.json'), (config) => {
        if (config.max_position_embeddings) config.max_position_embeddings = 512;
      });
      const folder = await openModelFolder(path);
      const family = describeFamily(folder.config, folder.configPath);
      const { numbers, paths } = buildModelSpec(folder, family);
      const model = await loadNativeEngine().openModel(numbers, paths, { threads: 2, precision: 'exact', kvCache });
      const tokens = Int32Array.from({ length: 300 }, (_, i) => (i * i * 7 + 3) % family.vocabularySize);
      const whole = await (await model.openSession(300)).prefillLogits(tokens);
      const session = await model.openSession(300);
      for (const [from, to] of [[0, 1], [1, 2], [2, 131], [131, 150], [150, 299], [299, 300]] as const) await session.prefill(tokens.subarray(from, to));
      const last = session.logits();
      t.ok(last.every((value, i) => Math.abs(value - whole[299 * family.vocabularySize + i]!) < 2e-4), 'in parts as at once');
      // What lies outside every window does not matter: with L layers of window w, tokens more than L (w - 1) back are not seen.
      const reach = family.layerSpecs.every(({ window }) => window > 0) ? family.layers * (family.layerSpecs[0]!.window - 1) : null;
      if (reach !== null) {
        const other = Int32Array.from(tokens, (token, i) => (i < 299 - reach ? (token + 1) % family.vocabularySize : token));
        const changed = (await (await model.openSession(300)).prefillLogits(other)).subarray(299 * family.vocabularySize);
        t.same([...changed], [...whole.subarray(299 * family.vocabularySize)], 'the same bits');
        other[299 - reach]! = (other[299 - reach]! + 1) % family.vocabularySize;
        const seen = (await (await model.openSession(300)).prefillLogits(other)).subarray(299 * family.vocabularySize);
        t.not(seen.join(), changed.join(), 'the farthest token in reach matters');
      }
      await model.close();
    });
