// Tuning a packed model against its dense one: both methods lower the loss, runs repeat and resume with the same bits, and
// misuse is refused.
import t from 'tap';
import { openModelFolder } from '../../sdk/src/checkpoint/model-folder.js';
import type { EngineModel, EngineQuantizeSettings } from '../../sdk/src/engine.js';
import { describeFamily, Role } from '../../sdk/src/families/index.js';
import { buildModelSpec } from '../../sdk/src/model-spec.js';
import { openEngineModel } from '../../sdk/src/model.js';
import { randomIntegers } from '../../sdk/src/calibration.js';
import { selectBackend } from '../../sdk/src/select-backend.js';
import {
  defaultRates,
  scheduleFactor,
  tuneMatrices,
  type TunableMatrix,
  type TuneOptions,
  type TuneState,
} from '../../sdk/src/tune.js';
import { stories } from './fixtures.js';

const windows = 4;
const window = 32;
const settings: EngineQuantizeSettings = {
  planes: 2,
  groupRows: 64,
  groupColumns: 8,
  rowScales: true,
  scaleTerms: 3,
  fitRounds: 2,
  refits: 0,
  sweeps: 0,
  damping: 0.01,
  identity: 0,
};

const folder = await openModelFolder(stories);
const family = describeFamily(folder.config, folder.configPath);
const norms = family.tensors.filter(({ shape }) => shape.length === 1);
const random = randomIntegers(7);
const tokens = Int32Array.from({ length: windows * window }, () => random(family.vocabularySize));

async function open(threads: number): Promise<EngineModel> {
  const spec = buildModelSpec(folder, family);
  const options = { threads, precision: 'exact' as const };
  return (await openEngineModel(selectBackend('auto'), spec, options, folder.path)).engineModel;
}

const engineModel = await open(2);
t.teardown(() => engineModel.close());

const matrices = await (async () => {
  const quantizer = await engineModel.openQuantizer(tokens, windows, window);
  const packed: TunableMatrix[] = [];
  const roles = [Role.query, Role.key, Role.value, Role.attentionOutput, Role.gate, Role.up, Role.down];
  const nameOf = (role: number, layer: number): string =>
    family.tensors.find((tensor) => tensor.role === role && tensor.layer === layer)!.name;
  for (let layer = 0; layer < family.layers; layer++) {
    const block = await quantizer.block(roles.map(() => settings), 1);
    block.forEach((matrix, i) => packed.push({ name: nameOf(roles[i]!, layer), role: roles[i]!, layer, matrix }));
  }
  const [embedding] = await quantizer.head([{ ...settings, planes: 4 }], 1);
  packed.push({ name: nameOf(Role.embedding, 0), role: Role.embedding, layer: 0, matrix: embedding! });
  await quantizer.close();
  return packed;
})();

const options: TuneOptions = { matrices, norms, tokens, windows, window, steps: 10, windowsPerStep: 2, seed: 3, cancel: new Int32Array(new SharedArrayBuffer(4)) };

async function divergence(changed: TunableMatrix[]): Promise<number> {
  const tuner = await engineModel.openTuner();
  for (const { role, layer, matrix } of changed) await tuner.set(role, layer, matrix);
  const loss = await tuner.loss(tokens, windows, window);
  await tuner.close();
  return loss;
}

t.test('end to end', async (t) => {
  let done = 0;
  const result = await tuneMatrices(engineModel, {
    ...options,
    onProgress: (share, loss) => {
      t.ok(share > done && loss > 0);
      done = share;
    },
  });
  t.equal(done, 1);
  t.equal(result.losses.length, 10);
  t.ok(result.losses.at(-1)! < 0.9 * result.losses[0]!, result.losses.join(' '));
  t.ok((await divergence(result.matrices)) < (await divergence(matrices)), 'without the gains, the scales help too');
  t.same([...result.gains.keys()], norms.map(({ name }) => name));
  for (const gains of result.gains.values()) t.equal(gains.length, family.hiddenSize);
  result.matrices.forEach(({ role, matrix }, i) => {
    const before = matrices[i]!.matrix;
    t.equal(matrix.planeData, before.planeData);
    t.equal(matrix.scales.length, before.scales.length);
    if (role === Role.embedding) t.same(matrix.scales, before.scales);
  });
  t.notSame(result.matrices[0]!.matrix.scales, matrices[0]!.matrix.scales);
});

for (const method of ['model', 'blocks'] as const) {
  t.test(`${method}: runs repeat on other threads and resume anywhere`, async (t) => {
    const short: TuneOptions = { ...options, method, steps: 4 };
    const states: TuneState[] = [];
    const whole = await tuneMatrices(engineModel, {
      ...short,
      onProgress: (_done, _loss, state) => states.push(state()),
    });
    if (method === 'blocks') t.equal(whole.losses.length, 4 * family.layers);
    const single = await open(1);
    t.same(await tuneMatrices(single, short), whole);
    await single.close();
    for (const state of [states[1]!, states[3]!, states.at(-2)!])
      t.same(await tuneMatrices(engineModel, { ...short, resume: state }), whole, `after ${state.done} steps`);
  });
}

t.test('block by block', async (t) => {
  const all = { ...options, method: 'blocks', steps: 8, windowsPerStep: windows } as const;
  const result = await tuneMatrices(engineModel, all);
  for (let layer = 0; layer < family.layers; layer++)
    t.ok(result.losses[8 * layer + 7]! < result.losses[8 * layer]!, `block ${layer}`);
});

t.test('schedule and rates', async (t) => {
  t.equal(scheduleFactor(0, 100), 0.25);
  t.equal(scheduleFactor(3, 100), 1);
  t.equal(scheduleFactor(4, 100), 1);
  t.ok(scheduleFactor(99, 100) < 0.01);
  t.equal(scheduleFactor(0, 1), 1);
  t.equal(scheduleFactor(10, 1000), 11 / 20);
  t.same(defaultRates(matrices), { scales: 1e-2, rowScales: 5e-3, gains: 5e-3 });
  const finer = matrices.map((item) => ({ ...item, matrix: { ...item.matrix, planes: 3 } }));
  t.same(defaultRates(finer), { scales: 4e-3, rowScales: 2e-3, gains: 2e-3 });
  const mixed = finer.map((item, i) => ({ ...item, matrix: { ...item.matrix, planes: i === 0 ? 4 : 3 } }));
  const { scales } = defaultRates(mixed);
  t.ok(scales < 4e-3 && scales > 1e-3, `${scales} between those of 3 and 4 planes`);
  for (const [planes, factor] of [[1, 2.5], [4, 0.25], [5, 0.25]] as const)
    t.equal(defaultRates(matrices.map((item) => ({ ...item, matrix: { ...item.matrix, planes } }))).scales, 4e-3 * factor);
});

t.test('cancelling and misuse', async (t) => {
  const cancel = new Int32Array(new SharedArrayBuffer(4));
  let steps = 0;
  const stopped = tuneMatrices(engineModel, {
    ...options,
    cancel,
    onProgress: () => {
      steps++;
      Atomics.store(cancel, 0, 1);
    },
  });
  await t.rejects(stopped, { message: /cancelled/ });
  t.equal(steps, 1);
  await t.rejects(tuneMatrices(engineModel, { ...options, cancel }), { message: /cancelled/ });
  await t.rejects(tuneMatrices(engineModel, { ...options, matrices: [matrices[0]!, matrices[0]!] }), {
    message: /set already/,
  });
  await t.rejects(tuneMatrices(engineModel, { ...options, rates: { scales: -1, rowScales: 0, gains: 0 } }), {
    message: /learning rates/,
  });

  const tuner = await engineModel.openTuner();
  const rates = { scales: 0, rowScales: 0, gains: 0 };
  t.throws(() => tuner.step(tokens, 1, window, rates), /windows x window/);
  t.throws(() => tuner.step(undefined as any, 1, 1, rates), /windows x window/);
  await t.rejects(tuner.step(tokens, windows, window, undefined as any), /learning rates/);
  await t.rejects(tuner.set(Role.query, 0, undefined as any));
  await t.rejects(tuner.set(Role.query, 99, matrices[0]!.matrix), /no such matrix/);
  await t.rejects(tuner.set(Role.query, 0, { ...matrices[0]!.matrix, scales: new Uint16Array(3) }), /size of its shape/);
  await t.rejects(tuner.blockStep(new Int32Array([0]), rates), /begin the blocks/);
  t.throws(() => tuner.scales(Role.query, 0), /not set/);
  t.throws(() => tuner.gains(Role.query, 0, 1), /no such norm/);
  t.throws(() => tuner.gains(Role.finalNorm, 0, 1), /hidden_size/);
  t.throws(() => tuner.loadState(new Float32Array(0)), /another size/);
  t.throws(() => tuner.loadState([1] as any), /Float32Array/);
  await tuner.beginBlocks(tokens, windows, window);
  await t.rejects(tuner.blockStep(new Int32Array([-1]), rates), /no such window/);
  await t.rejects(tuner.blockStep(undefined as any, rates), /at least one/);
  await Promise.all([tuner.close(), tuner.close()]);
  await t.rejects(async () => tuner.nextBlock(), /closed/);

  const other = await open(1);
  const left = await other.openTuner();
  await other.close();
  await t.rejects(async () => left.loss(tokens, windows, window), /closed/);
});
