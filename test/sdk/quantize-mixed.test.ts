// Mode mixed and its budget, jobs that stop and go on, and tuning: through quantizeModel.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { writeFolder } from '../../sdk/src/checkpoint/output-folder.js';
import { inspectModel, loadModel, planQuantization, quantizeModel, type QuantizeOptions, type QuantizeProgress } from '../../sdk/src/index.js';
import { commandLine, plainEnvironment, shiftadd } from './cli-process.js';
import { copyOf, join, patchTensor, stories, temporaryFolder } from './fixtures.js';

const text = 'Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day she saw a big red ball. '.repeat(60);
const quick: QuantizeOptions = { samples: 4, window: 64, fitRounds: 2, refits: 1, sweeps: 1, measureTokens: 128 };
const folder = await temporaryFolder(t);
const calibration = join(folder, 'text.txt');
await writeFile(calibration, text);

async function weights(path: string): Promise<string> {
  const hash = createHash('sha256');
  for (const name of (await readdir(path)).sort()) if (name !== 'tokenizer.json') hash.update(await readFile(join(path, name)));
  return hash.digest('hex');
}

async function meanPlanes(path: string): Promise<number> {
  const linear = (await inspectModel(path)).tensors.filter(({ name }) => /proj/.test(name));
  const count = (all: typeof linear, planes: boolean): number => all.reduce((sum, x) => sum + x.rows * x.columns * (planes ? x.planes! : 1), 0);
  return count(linear, true) / count(linear, false);
}

async function perplexity(path: string): Promise<number> {
  const model = await loadModel(path);
  const { perplexity: value } = await model.evaluate(text, { window: 128, maxTokens: 1000 });
  await model.close();
  return value;
}

t.test('bits: the mean over the weights; measured costs; the report', async (t) => {
  for (const sensitivity of ['kl', 'kl-all', 'output', 'criterion'] as const) {
    const out = join(folder, `mixed-${sensitivity}`);
    const result = await quantizeModel(stories, out, { ...quick, calibration, mode: 'mixed', bits: 2.6, sensitivity });
    const mean = await meanPlanes(out);
    t.ok(mean <= 2.6 && mean > 2.4, `${sensitivity}: ${mean} planes`);
    t.ok(new Set(result.tensors.map(({ planes }) => planes)).size > 2, 'several widths');
    const linear = result.tensors.filter(({ name }) => /proj/.test(name));
    if (sensitivity === 'kl-all') t.ok(linear.every(({ kl }) => kl! >= 0) && linear.some(({ kl }) => kl! > 0));
    if (sensitivity === 'output') t.ok(linear.every(({ kl }) => kl === null));
    const { tensors } = await inspectModel(out);
    t.equal(tensors.find(({ name }) => name === linear[0]!.name)!.kl, linear[0]!.kl);
  }
});

t.test('budget: the whole model fits; more bytes are no worse', async (t) => {
  const dense = await perplexity(stories);
  const errors: number[] = [];
  for (const budget of [80_000, 110_000, 150_000]) {
    const out = join(folder, `budget-${budget}`);
    const plan = await planQuantization(stories, { budget });
    t.ok(plan.bytes.total <= budget && plan.bytes.total > 0.9 * budget, `planned ${plan.bytes.total}`);
    const { bytes } = await quantizeModel(stories, out, { ...quick, calibration, budget });
    t.ok(bytes.total <= budget && bytes.total > 0.97 * budget, `${bytes.total} of ${budget}`);
    errors.push(Math.log((await perplexity(out)) / dense));
  }
  t.ok(errors[0]! > errors[1]! && errors[1]! > errors[2]!, errors.join(' '));
});

t.test('misuse', async (t) => {
  const refused = (options: QuantizeOptions, message: RegExp): Promise<unknown> =>
    t.rejects(quantizeModel(stories, join(folder, 'never'), { ...quick, calibration, ...options }), { name: 'RangeError', message });
  await refused({ bits: 2.5 }, /integer from 1 to 8 for bits/);
  await refused({ mode: 'acc', budget: 100_000 }, /mode 'mixed' with a budget/);
  await refused({ bits: 3, budget: 100_000 }, /bits or budget/);
  await refused({ mode: 'mixed', bits: 6 }, /from 1 to 5 for bits/);
  await refused({ budget: 1000 }, /at least \d+ for budget/);
  t.notOk((await readdir(folder)).some((name) => name.startsWith('never')), 'nothing is left');
});

t.test('stopped and resumed: the same bytes', async (t) => {
  const whole = join(folder, 'whole');
  const options: QuantizeOptions = { ...quick, calibration, mode: 'mixed', bits: 3, tune: 'full', tuneSteps: 9 };
  await quantizeModel(stories, whole, options);
  for (const [index, stop] of [
    ({ block }: QuantizeProgress) => block === 1,
    ({ block }: QuantizeProgress) => block === 4,
    ({ phase, loss }: QuantizeProgress) => phase === 'tune' && loss !== null,
    ({ phase, done }: QuantizeProgress) => phase === 'tune' && done > 0.9,
    ({ phase }: QuantizeProgress) => phase === 'write',
  ].entries()) {
    const out = join(folder, `stopped-${index}`);
    const controller = new AbortController();
    await t.rejects(
      quantizeModel(stories, out, { ...options, signal: controller.signal, onProgress: (state) => stop(state) && controller.abort(new Error('enough')) }),
      { message: 'enough' },
    );
    t.ok((await readdir(folder)).includes(`stopped-${index}.partial`));
    if (index === 1)
      await t.rejects(quantizeModel(stories, out, { ...options, seed: 5, resume: true }), { code: 'ERR_OUTPUT_EXISTS', message: /another checkpoint, calibration or settings/ });
    await quantizeModel(stories, out, { ...options, resume: true, threads: 3 });
    t.equal(await weights(out), await weights(whole), `stop ${index}`);
    t.notOk((await readdir(folder)).includes(`stopped-${index}.partial`));
  }
});

t.test('killed and resumed: the same bytes', async (t) => {
  const words = ['quantize', stories, join(folder, 'killed'), '--calibration', calibration, '--samples', '8', '--bits', '3'];
  for (const wait of [400, 700]) {
    const child = spawn(process.execPath, [commandLine, ...words, '--resume'], { stdio: 'ignore', env: plainEnvironment() });
    const ended = new Promise((resolve) => child.once('exit', resolve));
    await sleep(wait);
    child.kill('SIGKILL');
    await ended;
  }
  const last = await shiftadd([...words, '--resume', '--overwrite']);
  t.equal(last.status, 0, last.notes);
  await quantizeModel(stories, join(folder, 'undisturbed'), { calibration, samples: 8, bits: 3 });
  t.equal(await weights(join(folder, 'killed')), await weights(join(folder, 'undisturbed')));
});

t.test('keepMeasurements: another budget without measuring again', async (t) => {
  const out = join(folder, 'kept');
  const options: QuantizeOptions = { ...quick, calibration, keepMeasurements: true };
  await quantizeModel(stories, out, { ...options, budget: 100_000 });
  const blocks: number[] = [];
  const again = await quantizeModel(stories, out, { ...options, budget: 130_000, resume: true, overwrite: true, onProgress: ({ block }) => blocks.push(block) });
  t.ok(again.bytes.total > 120_000 && again.bytes.total <= 130_000);
  t.same([...new Set(blocks)], [0], 'no block was quantized');
  const fresh = join(folder, 'fresh');
  await quantizeModel(stories, fresh, { ...quick, calibration, budget: 130_000 });
  t.equal(await weights(out), await weights(fresh));
  const changed = await copyOf(t, stories);
  await patchTensor(join(changed, 'model.safetensors'), 'model.layers.0.mlp.up_proj.weight', 8, Uint8Array.of(0, 0x3c));
  await t.rejects(quantizeModel(changed, out, { ...options, budget: 130_000, resume: true, overwrite: true }), { code: 'ERR_OUTPUT_EXISTS' }, 'other weights in a file of the same size');
});

t.test('a folder that is no journal is never touched', async (t) => {
  const out = join(folder, 'mine');
  await mkdir(`${out}.partial`);
  await writeFile(join(`${out}.partial`, 'diary.txt'), 'dear');
  for (const resume of [true, false])
    await t.rejects(quantizeModel(stories, out, { ...quick, calibration, resume }), { code: 'ERR_OUTPUT_EXISTS', message: /something else is there/ });
  t.same(await readdir(`${out}.partial`), ['diary.txt']);
});

t.test('tuning brings the model closer to the dense one', async (t) => {
  const loss = { off: 0, blocks: 0, full: 0 };
  const dense = await loadModel(stories);
  t.teardown(() => dense.close());
  for (const tune of ['off', 'blocks', 'full'] as const) {
    const out = join(folder, `tuned-${tune}`);
    const result = await quantizeModel(stories, out, { ...quick, samples: 8, calibration, bits: 2, tune, tuneSteps: 24 });
    t.equal(result.loss === null, tune === 'off');
    const model = await loadModel(out);
    loss[tune] = (await model.compare(dense, text, { window: 64, maxTokens: 1000 })).divergence;
    await model.close();
    const norms = (await inspectModel(out)).tensors.filter(({ name }) => name.includes('norm'));
    t.ok(norms.every(({ type }) => (type === 'F32') === (tune !== 'off')));
  }
  t.ok(loss.full < 0.8 * loss.off && loss.blocks < loss.off, JSON.stringify(loss));
});

t.test('a damaged journal: what is damaged is done again', async (t) => {
  const whole = join(folder, 'undamaged');
  const options: QuantizeOptions = { ...quick, calibration, bits: 2, tune: 'full', tuneSteps: 9 };
  await quantizeModel(stories, whole, options);
  const damages: [string, (bytes: Buffer) => Buffer][] = [
    ['step-00000.safetensors', (bytes) => bytes.subarray(0, bytes.length >> 1)],
    ['step-00001.safetensors', (bytes) => Buffer.alloc(0, bytes)],
    ['step-00002.safetensors', (bytes) => Buffer.from(bytes.map((byte, i) => (i === bytes.length - 9 ? byte ^ 1 : byte)))],
    ['step-00003.safetensors', (bytes) => Buffer.from(bytes.toString('latin1').replace('"planes\\":', '"plains\\":'), 'latin1')],
    ['step-00004.safetensors', (bytes) => Buffer.from(bytes.toString('latin1').replace('"1.scales"', '"1.scalez"'), 'latin1')],
    ['tune.safetensors', (bytes) => Buffer.from(bytes.map((byte, i) => (i === bytes.length - 9 ? byte ^ 1 : byte)))],
  ];
  for (const [name, damage] of damages) {
    const out = join(folder, 'damaged');
    const controller = new AbortController();
    const onProgress = ({ phase, done }: QuantizeProgress): void => {
      if (phase === 'tune' && done > 0.9) controller.abort();
    };
    await t.rejects(quantizeModel(stories, out, { ...options, overwrite: true, signal: controller.signal, onProgress }));
    const file = join(`${out}.partial`, name);
    await writeFile(file, damage(await readFile(file)));
    const phases = new Set<string>();
    await quantizeModel(stories, out, { ...options, overwrite: true, resume: true, onProgress: ({ phase }) => phases.add(phase) });
    t.equal(phases.has('quantize'), name.startsWith('step'), name);
    t.equal(await weights(out), await weights(whole), name);
  }
});

t.test('a job that was killed before its journal had a name', async () => {
  for (const resume of [true, false]) {
    const out = join(folder, `early-${resume}`);
    await mkdir(`${out}.partial`);
    await writeFile(join(`${out}.partial`, 'job.json.new'), '{"ke');
    await quantizeModel(stories, out, { ...quick, calibration, resume });
  }
});

t.test('a place that cannot be written', async (t) => {
  await t.rejects(quantizeModel(stories, join(calibration, 'out'), { ...quick, calibration }), { code: 'ERR_WRITE', message: /is a file/ });
  // As the file system says it when the disk is full.
  const full = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC', syscall: 'write' });
  const out = join(folder, 'full');
  await t.rejects(writeFolder(out, undefined, () => Promise.reject(full)), { code: 'ERR_WRITE', message: /full cannot be written \(ENOSPC\)/ });
  t.notOk((await readdir(folder)).some((name) => name.startsWith('full')), 'nothing is left');
});
