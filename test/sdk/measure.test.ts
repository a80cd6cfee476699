// Energy and memory of single generations, and of a program's own work.
import t from 'tap';
import { createProfiler, loadModel, openEnergyRecorder } from '../../sdk/src/index.js';
import { writeTree } from './board-tree.js';
import { join, readNumbers, stories } from './fixtures.js';
import { KnownPower, orin, prompt } from './known-power.js';

t.test('measuring changes no token', async (t) => {
  const greedy = await readNumbers(join(stories, 'expected.safetensors'), 'greedy');
  await using plain = await loadModel(stories);
  await using measured = await loadModel(stories, { measure: new KnownPower(5) });
  for (const options of [{ maxTokens: 48 }, { maxTokens: 48, temperature: 1, seed: 7 }, { maxTokens: 48, promptLookup: true }]) {
    const [a, b] = [await plain.generate(prompt, options).result(), await measured.generate(prompt, options).result()];
    t.same(b.tokens, a.tokens, JSON.stringify(options));
    t.equal(b.text, a.text);
    if (!('temperature' in options)) t.same(b.tokens, greedy);
    t.equal(a.energy.joules, null);
    t.match(a.energy.problem!, /without measure/);
    t.equal(a.memory.growth, null);
  }
});

t.test('the energy of a generation', async (t) => {
  const recorder = new KnownPower(5, 0.1);
  const model = await loadModel(stories, { measure: recorder });
  const { energy, memory, timings, usage } = await model.generate(prompt, { maxTokens: 48 }).result();
  t.match(energy, { meter: 'known', method: 'sampled', scope: 'board', problem: null });
  t.ok(energy.joules! >= (5 * (timings.firstTokenMs! + timings.decodeMs)) / 1000, 'prompt and answer');
  t.equal(energy.joulesPerToken, energy.joules! / usage.completionTokens);
  t.ok(Math.abs(energy.uncertainty! - 0.1 * energy.joules!) < 1e-12);
  t.ok(memory.growth!.residentPeakBytes! > memory.weightsBytes && memory.growth!.residentGrowthBytes! >= 0);
  const none = await model.generate(prompt, { maxTokens: 0 }).result();
  t.equal(none.energy.joulesPerToken, null, 'no token, nothing per token');
  await model.close();
  t.equal(recorder.closed, 0, 'it stays open');
});

t.test('a turn of a chat is measured', async (t) => {
  await using model = await loadModel(undefined, { measure: new KnownPower(5) });
  const { energy, usage, timings } = await model.createChat().send('Hello', { maxTokens: 8 }).result();
  t.equal(energy.meter, 'known');
  t.ok(energy.joules! >= (5 * (timings.firstTokenMs! + timings.decodeMs)) / 1000, 'prompt and answer');
  t.equal(energy.joulesPerToken, energy.joules! / usage.completionTokens);
});

t.test('a turn that fails gives its own error, not one of the meter', async (t) => {
  // The story model has no chat template.
  await using model = await loadModel(stories, { measure: new KnownPower(5) });
  await t.rejects(model.createChat().send('Hello').result(), { code: 'ERR_CHAT_TEMPLATE' });
});

t.test('what the meter cannot resolve is null, with the reason', async (t) => {
  const recorder = await openEnergyRecorder({ sysRoot: await writeTree(t, orin), rateHz: 1 });
  await using model = await loadModel(stories, { measure: recorder! });
  const short = await model.generate(prompt, { maxTokens: 8 }).result();
  t.match(short.energy, { joules: null, joulesPerToken: null, uncertainty: null, meter: 'ina3221-hwmon', scope: 'module', problem: /cannot resolve/ });
  t.equal(short.tokens.length, 8);
  await recorder!.close();
  const closed = await model.generate(prompt, { maxTokens: 8 }).result();
  t.match(closed.energy, { joules: null, problem: /recorder is closed/ }, 'a meter that fails does not take the answer along');
  t.equal(closed.tokens.length, 8);
});

t.test('without a meter', async (t) => {
  const model = await loadModel(stories, { measure: true });
  const { energy } = await model.generate(prompt, { maxTokens: 8 }).result();
  // This machine may have a meter; then it is named.
  if (energy.meter === null) t.match(energy.problem!, /no energy meter/);
  else t.ok(energy.scope !== null);
  await model.close();
  await model.close();
});

t.test('wrong options', async (t) => {
  for (const measure of ['yes', 1, {}, null, { between: 1 }]) await t.rejects(loadModel(stories, { measure: measure as never }), /true, false or an energy recorder for measure/);
});

t.test("a program's own work", async (t) => {
  const recorder = new KnownPower(4, 0.05);
  const profiler = await createProfiler({ recorder });
  t.equal(profiler.meter!.name, 'known');
  const before = await profiler.measure('work', () => 41);
  t.equal(before.value, 41);
  t.equal(before.net, null, 'no idle power is known yet');
  t.equal(await profiler.idle(0.05), 4);
  recorder.set(10);
  const { value, seconds, energy, net, memory } = await profiler.measure('work', async () => {
    await new Promise((resolve) => setTimeout(resolve, 60));
    return 42;
  });
  t.equal(value, 42);
  t.ok(Math.abs(energy!.joules - 10 * seconds) < 1e-9);
  t.ok(Math.abs(net!.value - 6 * seconds) < 1e-9, `${net!.value}`);
  t.ok(Math.abs(net!.uncertainty! - Math.hypot(0.5 * seconds, 0.2 * seconds)) < 1e-6);
  t.ok(memory.resident.peak! > 0);
  await t.rejects(profiler.measure('failing', () => Promise.reject(new Error('mine'))), { message: 'mine' });
  t.same(profiler.measurements.map(({ name }) => name), ['work', 'work']);
  await t.rejects(profiler.measure('', () => 1), TypeError);
  await t.rejects(profiler.measure('x', 3 as never), TypeError);
  await t.rejects(profiler.idle(0), RangeError);
  await profiler.close();
  await profiler.close();
  t.equal(recorder.closed, 0);
  await t.rejects(profiler.measure('late', () => 1), { code: 'ERR_CLOSED' });
  await t.rejects(profiler.idle(1), { code: 'ERR_CLOSED' });
});

t.test('its options', async (t) => {
  await using blind = await createProfiler({ recorder: null });
  t.match(await blind.measure('x', () => 1), { energy: null, energyProblem: /without a meter/, net: null });
  t.equal(await blind.idle(1), null);
  await using real = await createProfiler({ sysRoot: await writeTree(t, orin), rate: 20 });
  const { energy } = await real.measure('sleep', () => new Promise((resolve) => setTimeout(resolve, 1000)));
  t.ok(Math.abs(energy!.averageWatts - 9.569) < 0.001);
  await t.rejects(createProfiler({ recorder: null, rate: 2 }), /either recorder or meter/);
  await t.rejects(createProfiler({ meter: 'rapl', sysRoot: await writeTree(t, {}) }), { code: 'ERR_NOT_FOUND' });
  await t.rejects(createProfiler({ rates: 2 } as never), /Did you mean 'rate'/);
});
