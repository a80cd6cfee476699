// Every family packed in every mode: the packed model predicts what a dense model of its unpacked weights does.
import { readdirSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import t from 'tap';
import { openModelFolder } from '../../sdk/src/checkpoint/model-folder.js';
import { withDenseModel } from '../../sdk/src/dense-model.js';
import { describeFamily } from '../../sdk/src/families/index.js';
import { quantizeModel, type QuantizeOptions } from '../../sdk/src/index.js';
import { byteTokenizer, copyOf, families, join, readNumbers, temporaryFolder } from './fixtures.js';
import { writeUnpacked } from './unpacked.js';

const quick: QuantizeOptions = { samples: 4, window: 48, fitRounds: 4, refits: 1, sweeps: 1, embeddingBits: 6, rowGroup: 32 };
const text = Array.from({ length: 3000 }, (_, i) => String.fromCharCode(33 + ((i * i * 31 + i * 7) % 90))).join('');

/** Weights without structure lose much at 5 bits; logits of another model would be 1.4 away. */
const mostLoss = 0.6;

/** Logits of the fixture's first prompt. */
async function logitsOf(path: string, fixture: string): Promise<Float32Array> {
  const folder = await openModelFolder(path);
  const tokens = Int32Array.from((await readNumbers(join(fixture, 'expected.safetensors'), 'input_ids')).slice(0, 48));
  return withDenseModel(folder, describeFamily(folder.config, folder.configPath), {}, 'Testing', async (model) =>
    (await model.openSession(64)).prefillLogits(tokens),
  );
}

function relativeError(got: Float32Array, wanted: ArrayLike<number>): number {
  let [error, energy] = [0, 0];
  for (let i = 0; i < got.length; i++) {
    error += (got[i]! - wanted[i]!) ** 2;
    energy += wanted[i]! ** 2;
  }
  return Math.sqrt(error / energy);
}

for (const name of readdirSync(families)) {
  t.test(name, async (t) => {
    const fixture = join(families, name);
    const source = await copyOf(t, fixture);
    await writeFile(join(source, 'tokenizer.json'), JSON.stringify(byteTokenizer()));
    const parent = await temporaryFolder(t);
    const calibration = join(parent, 'text.txt');
    await writeFile(calibration, text);
    const dense = await logitsOf(source, fixture);
    for (const mode of ['lat', 'acc', 'mixed'] as const) {
      const packed = join(parent, mode);
      const { warnings } = await quantizeModel(source, packed, { ...quick, calibration, mode, bits: mode === 'mixed' ? 4.5 : 5, rotation: 'off' });
      t.same(warnings.filter((warning) => !/shorter/.test(warning)), []);
      await writeUnpacked(packed, join(parent, `${mode}-unpacked`));
      const got = await logitsOf(packed, fixture);
      const error = relativeError(got, await logitsOf(join(parent, `${mode}-unpacked`), fixture));
      t.ok(error < 2e-3, `${mode}: ${error} from the unpacked weights`);
      const loss = relativeError(got, dense);
      t.ok(loss > 1e-4 && loss < mostLoss, `${mode}: ${loss} from the checkpoint`);
    }
    const rotated = join(parent, 'rotated');
    await quantizeModel(source, rotated, { ...quick, calibration, bits: 5 });
    const loss = relativeError(await logitsOf(rotated, fixture), dense);
    t.ok(loss < mostLoss, `rotated: ${loss} from the checkpoint`);
  });
}
