// The rotation of the residual stream: its matrices, their form in the file, and that models with it are the same models.
import { readFile, writeFile } from 'node:fs/promises';
import t from 'tap';
import { loadModel, quantizeModel, type QuantizeOptions } from '../../sdk/src/index.js';
import { makeRotation, signsFromHex, signsToHex } from '../../sdk/src/rotation.js';
import { shiftadd } from './cli-process.js';
import { join, stories, temporaryFolder } from './fixtures.js';
import { tinyLlama } from './tiny-llama.js';

const text = 'Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day she saw a ball. '.repeat(30);
const folder = await temporaryFolder(t);
const calibration = join(folder, 'text.txt');
await writeFile(calibration, text);
const quick: QuantizeOptions = { samples: 4, window: 64, fitRounds: 4, refits: 1, sweeps: 1, calibration };

t.test('a Hadamard matrix for the hidden sizes of published models', async (t) => {
  const sizes: [number, number][] = [
    [1, 1], [64, 1], [576, 36], [768, 12], [896, 28], [960, 60], [1152, 36], [2048, 1], [2304, 36], [2560, 20], [2880, 180], [3584, 28], [4096, 1],
  ];
  for (const [hidden, size] of sizes) {
    const rotation = makeRotation(hidden)!;
    t.equal(rotation.size, size, `${hidden}`);
    t.equal(rotation.signs.length, hidden);
    t.ok([...rotation.signs, ...rotation.matrix].every((sign) => sign === 1 || sign === -1));
    let wrong = 0;
    for (let a = 0; a < size; a++)
      for (let b = a; b < size; b++) {
        let product = 0;
        for (let i = 0; i < size; i++) product += rotation.matrix[a * size + i]! * rotation.matrix[b * size + i]!;
        if (product !== (a === b ? size : 0)) wrong++;
      }
    t.equal(wrong, 0, `${hidden}: orthogonal`);
  }
  const { signs } = makeRotation(576)!;
  const plus = signs.filter((sign) => sign > 0).length;
  t.ok(plus > 240 && plus < 336, `${plus} of 576 signs are +1`);
  for (const hidden of [6, 9, 2 * 257, 4 * 509]) t.equal(makeRotation(hidden), null, `${hidden}`);
});

t.test('signs in hexadecimal', async (t) => {
  const signs = Int8Array.of(1, -1, -1, 1, 1, 1, -1, 1, 1, -1, 1);
  t.equal(signsToHex(signs), '9da0');
  t.same(signsFromHex('9da0', 11), signs);
  for (const wrong of ['9da', '9da000', '9DA0', '9da1', 'xda0', 7, undefined]) t.equal(signsFromHex(wrong, 11), null, String(wrong));
});

async function perplexity(path: string): Promise<number> {
  const model = await loadModel(path, { precision: 'exact' });
  const result = await model.evaluate(text, { window: 128, maxTokens: 1000 });
  await model.close();
  return result.perplexity;
}

t.test('a model with many planes predicts what the dense one does, rotated or not', async (t) => {
  const untied = await tinyLlama(t, { hidden: 40, heads: 4, keyHeads: 2, intermediate: 52, tied: false });
  for (const checkpoint of [stories, untied]) {
    const dense = await perplexity(checkpoint);
    for (const rotation of ['on', 'off'] as const) {
      const out = join(folder, `${checkpoint === stories ? 'tied' : 'untied'}-${rotation}`);
      await quantizeModel(checkpoint, out, { ...quick, bits: 8, embeddingBits: 8, rowGroup: 32, rotation });
      const { quantization_config: config } = JSON.parse(await readFile(join(out, 'config.json'), 'utf8'));
      t.equal(config.format_version, rotation === 'on' ? 2 : 1);
      t.equal(config.rotation !== undefined, rotation === 'on');
      t.ok(Math.abs(Math.log((await perplexity(out)) / dense)) < 0.01, `${out}: ${await perplexity(out)} and ${dense}`);
    }
  }
});

t.test('tuning works in the rotated basis', async (t) => {
  const dense = await loadModel(stories);
  const divergence = async (tune: 'off' | 'blocks' | 'full'): Promise<number> => {
    const out = join(folder, `tuned-${tune}`);
    await quantizeModel(stories, out, { ...quick, bits: 2, tune, tuneSteps: 12 });
    await using model = await loadModel(out);
    return (await model.compare(dense, text, { window: 64, maxTokens: 512 })).divergence;
  };
  const before = await divergence('off');
  for (const tune of ['blocks', 'full'] as const) t.ok((await divergence(tune)) < before, tune);
  await dense.close();
});

t.test('a width without a matrix is quantized as it is; the command line can leave the rotation off', async (t) => {
  const out = join(folder, 'plain');
  await quantizeModel(await tinyLlama(t, { hidden: 6, heads: 1, intermediate: 3, vocabulary: 256 }), out, quick);
  t.equal(JSON.parse(await readFile(join(out, 'config.json'), 'utf8')).quantization_config.format_version, 1);
  const off = await shiftadd(['quantize', stories, join(folder, 'off'), '--calibration', calibration, '--samples', '2', '--window', '64', '--rotation', 'off']);
  t.equal(off.status, 0, off.notes);
  t.equal(JSON.parse(await readFile(join(folder, 'off', 'config.json'), 'utf8')).quantization_config.rotation, undefined);
});
