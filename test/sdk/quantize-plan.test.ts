// planQuantization and `quantize --dry-run`: the size is that of the real result, and nothing is written.
import { readdir, writeFile } from 'node:fs/promises';
import t from 'tap';
import { estimateQuantizationTime, planQuantization, quantizeModel, type QuantizeOptions } from '../../sdk/src/index.js';
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

t.test('time: every stage counts', async (t) => {
  const base = { calibration: 'text.txt', samples: 8, window: 64 };
  const { parts, seconds, denseTokensPerSecond } = await estimateQuantizationTime(stories, base);
  t.ok(denseTokensPerSecond.prefill > 0 && denseTokensPerSecond.decode > 0);
  t.match(parts, { selfCalibration: 0, measuring: 0, tuning: 0 });
  t.ok(seconds > 0 && seconds === parts.quantizing);
  // In tokens of the dense model, so that two runs can be compared.
  const work = async (options: object): Promise<Record<string, number>> => {
    const time = await estimateQuantizationTime(stories, { ...base, ...options });
    const { prefill, decode } = time.denseTokensPerSecond;
    return Object.fromEntries(Object.entries(time.parts).map(([name, value]) => [name, value * (name === 'selfCalibration' ? decode : prefill)]));
  };
  const plain = await work({});
  t.ok((await work({ samples: 2000 }))['quantizing']! > 2 * plain['quantizing']!);
  t.ok((await work({ bits: 2 }))['quantizing']! < plain['quantizing']!);
  t.ok((await work({ calibration: 'self' }))['selfCalibration']! > 8 * 64);
  const [kl, all] = [await work({ mode: 'mixed', bits: 3 }), await work({ mode: 'mixed', bits: 3, sensitivity: 'kl-all' })];
  t.ok(kl['measuring']! > 0 && Math.abs(all['measuring']! / kl['measuring']! - 5) < 1e-6);
  t.ok(kl['quantizing']! > 2 * plain['quantizing']!, 'five widths');
  const [blocks, full] = [await work({ tune: 'blocks', tuneSteps: 10 }), await work({ tune: 'full', tuneSteps: 10 })];
  t.ok(full['tuning']! > blocks['tuning']! && blocks['tuning']! > 10 * 2 * 64);
  await t.rejects(estimateQuantizationTime('no-such-folder'), { code: 'ERR_NOT_FOUND' });
  await t.rejects(estimateQuantizationTime(stories, { bits: 9 }), RangeError);
});

t.test('memory: the stages that need it count', async (t) => {
  const memory = async (options: object): Promise<number> => (await planQuantization(stories, { samples: 2, window: 64, ...options })).workingBytes;
  const plain = await memory({});
  t.ok((await memory({ mode: 'mixed', bits: 3 })) > plain, 'candidates');
  t.ok((await memory({ mode: 'mixed', bits: 3, measureTokens: 8192 })) > (await memory({ mode: 'mixed', bits: 3 })), 'logits');
  t.ok((await memory({ tune: 'full', tuneWindows: 64 })) > (await memory({ tune: 'full' })), 'tuned windows');
  t.ok((await memory({ tune: 'blocks', samples: 4096 })) > (await memory({ tune: 'off', samples: 4096 })), 'states of all windows');
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
  t.match(shown.output, /bits per weight +2\.\d+ over the linear layers\n[\s\S]*memory to make it +about [\s\S]*time to make it +about .* on this machine/);
  const plan = JSON.parse((await shiftadd([...words, '--json'])).output);
  t.match(plan, { version: 1, time: { seconds: Number }, bytes: { total: (await planQuantization(stories, { bits: 2 })).bytes.total } });
  t.same(await readdir(folder), [], 'nothing is written');
});
