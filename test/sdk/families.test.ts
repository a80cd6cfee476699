// Every family against the logits and greedy continuations that transformers gave for tiny random checkpoints of it.
import { readdirSync } from 'node:fs';
import t from 'tap';
import { openModelFolder } from '../../sdk/src/checkpoint/model-folder.js';
import { describeFamily } from '../../sdk/src/families/index.js';
import { withDenseModel } from '../../sdk/src/dense-model.js';
import { families as included, join, readNumbers } from './fixtures.js';

/** Another folder of checkpoints with their expected results, such as families of other sizes. */
const families = process.env['SHIFTADD_FAMILIES'] ?? included;
const tolerance = 2e-4;

for (const name of readdirSync(families)) {
  t.test(name, async (t) => {
    const path = join(families, name);
    const folder = await openModelFolder(path);
    const family = describeFamily(folder.config, folder.configPath);
    const expected = join(path, 'expected.safetensors');
    const [ids, logits, greedy] = await Promise.all(['input_ids', 'logits', 'greedy'].map((tensor) => readNumbers(expected, tensor)));
    const vocabulary = family.vocabularySize;
    const length = ids!.length / 2;
    await withDenseModel(folder, family, {}, 'Testing', async (engineModel, cancel) => {
      for (const prompt of [0, 1]) {
        const tokens = Int32Array.from(ids!.slice(prompt * length, (prompt + 1) * length));
        const wanted = logits!.slice(prompt * length * vocabulary, (prompt + 1) * length * vocabulary);
        const whole = await engineModel.openSession(length + greedy!.length / 2);
        const got = await whole.prefillLogits(tokens, cancel);
        t.ok(worst(got, wanted) < tolerance, `whole prompt ${prompt}: ${worst(got, wanted)}`);
        const steps = await engineModel.openSession(length + greedy!.length / 2);
        let error = 0;
        // Shorter than that, a sequence has other rotary positions than the whole prompt.
        const first = length > family.rotarySwitch ? family.rotarySwitch : 0;
        for (let i = 0; i < length; i++) {
          await steps.prefill(tokens.subarray(i, i + 1), cancel);
          if (i >= first) error = Math.max(error, worst(steps.logits(), wanted.slice(i * vocabulary, (i + 1) * vocabulary)));
        }
        t.ok(error < tolerance, `token by token ${prompt}: ${error}`);
        const continuation: number[] = [];
        while (continuation.length < greedy!.length / 2) {
          const next = argmax(steps.logits());
          continuation.push(next);
          await steps.prefill(Int32Array.of(next), cancel);
        }
        t.same(continuation, greedy!.slice((prompt * greedy!.length) / 2, ((prompt + 1) * greedy!.length) / 2), `greedy ${prompt}`);
        await Promise.all([whole.close(), steps.close()]);
      }
    });
  });
}

function worst(got: ArrayLike<number>, wanted: ArrayLike<number>): number {
  let most = 0;
  for (let i = 0; i < wanted.length; i++) {
    const difference = Math.abs(got[i]! - wanted[i]!);
    most = difference > most || Number.isNaN(difference) ? difference : most;
  }
  return most;
}

function argmax(logits: Float32Array): number {
  return logits.reduce((best, logit, i) => (logit > logits[best]! ? i : best), 0);
}
