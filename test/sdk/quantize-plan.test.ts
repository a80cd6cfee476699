// planQuantization and `quantize --dry-run`: the size is that of the real result, and nothing is written.
import { readdir, writeFile } from 'node:fs/promises';
import t from 'tap';
import { planQuantization, quantizeModel, type QuantizeOptions } from '../../sdk/src/index.js';
import { shiftadd } from './cli-process.js';
import { join, llamaOdd, stories, temporaryFolder } from './fixtures.js';

const text = 'Once upon a time, there was a little girl named Lily. She loved to play outside in the park. '.repeat(40);
const quick: QuantizeOptions = { samples: 2, window: 32, fitRounds: 1, refits: 0, sweeps: 0 };

t.test('the plan has the sizes of the result', async (t) => {
  const folder = await temporaryFolder(t);
  const calibration = join(folder, 'text.txt');
  await writeFile(calibration, text);
  const cases: QuantizeOptions[] = [
    { bits: 3, overrides: { k_proj: 5 } },
    { bits: 2, mode: 'acc', rowGroup: 24, embeddingBits: 4 },
    { rowScales: false, rowGroup: 7 },
  ];
  for (const [index, options] of cases.entries()) {
    const plan = await planQuantization(stories, { ...quick, ...options });
    const result = await quantizeModel(stories, join(folder, String(index)), { ...quick, ...options, calibration });
    t.same(plan.bytes, result.bytes);
    t.equal(plan.bitsPerWeight, result.bitsPerWeight);
    t.same(
      plan.tensors,
      result.tensors.map(({ name, planes, bytes, bitsPerWeight }) => ({ name, planes, bytes, bitsPerWeight })),
    );
  }
  const more = await planQuantization(stories, { samples: 1000 });
  t.ok(more.workingBytes > (await planQuantization(stories)).workingBytes, 'more calibration takes more memory');
  t.ok((await planQuantization(llamaOdd)).bytes.total > 0, 'a model of odd sizes with a head of its own');
});

t.test('misuse', async (t) => {
  await t.rejects(planQuantization('no-such-folder'), { code: 'ERR_NOT_FOUND' });
  await t.rejects(planQuantization(stories, { bits: 9 }), RangeError);
  await t.rejects(planQuantization(stories, { overrides: { q_prj: 3 } }), /q_proj/);
  await t.rejects(planQuantization('smollm2-135m-instruct'), { code: /ERR_UNSUPPORTED_MODEL|ERR_NOT_FOUND/ });
});

t.test('shiftadd quantize --dry-run', async (t) => {
  const folder = await temporaryFolder(t);
  const words = ['quantize', stories, join(folder, 'out'), '--bits', '2', '--dry-run'];
  const shown = await shiftadd(words);
  t.equal(shown.status, 0, shown.notes);
  t.match(shown.output, /bits per weight +2\.\d+ over the linear layers\n[\s\S]*memory to make it +about/);
  const plan = JSON.parse((await shiftadd([...words, '--json'])).output);
  t.match(plan, { version: 1, bytes: { total: (await planQuantization(stories, { bits: 2 })).bytes.total } });
  t.same(await readdir(folder), [], 'nothing is written');
});
