// Profile runs on a small model: the figures per token against meters whose power is known.
import t from 'tap';
import { loadModel, profileModel, type ProfileProgress } from '../../sdk/src/index.js';
import { addFiles, memory, powerMode, writeTree, type Files } from './board-tree.js';
import { stories } from './fixtures.js';
import { judge, readGuard } from '../../sdk/src/devices/profile-guard.js';
import { SystemFiles } from '../../sdk/src/devices/system-files.js';
import { KnownPower, orin, prompt, quick, withPower } from './known-power.js';

t.test('a board tree, through its power monitor', async (t) => {
  const sysRoot = await writeTree(t, orin);
  await using model = await loadModel(stories);
  // Few readings and a longer window, so that a busy machine reads often enough.
  const result = await profileModel(model, { ...quick, sysRoot, window: 1.2, idle: 1.2, rate: 10 });
  t.match(result, { kind: 'profile', meter: { name: 'ina3221-hwmon', scope: 'module', total: 'VDD_IN', method: 'sampled' }, meterProblem: null, valid: true, model: { architecture: 'llama' }, board: { id: 'orin-nano-8gb' } });
  t.same(result.problems, []);
  for (const phase of [result.prefill, result.decode]) {
    const { joulesPerToken, netJoulesPerToken, tokensPerJoule, averageWatts, peakWatts, rails } = phase.energy;
    // Constant power: joules per token times tokens per second is the power of the input alone.
    const watts = joulesPerToken!.value * phase.tokensPerSecond.value;
    t.ok(Math.abs(watts - 9.569) < 0.001, `${phase.name}: ${watts} W`);
    t.ok(Math.abs(averageWatts! - 9.569) < 0.001 && Math.abs(peakWatts! - 9.569) < 0.001, 'the parts are not added to the input');
    t.ok(Math.abs(tokensPerJoule!.value * joulesPerToken!.value - 1) < 1e-9);
    t.ok(Math.abs(netJoulesPerToken!.value) <= netJoulesPerToken!.uncertainty!, 'no more than idle, within the interval');
    t.ok(joulesPerToken!.uncertainty! > 0);
    t.same(rails.map(({ name, inTotal }) => [name, inTotal]), [['VDD_IN', true], ['VDD_CPU_GPU_CV', false], ['VDD_SOC', false]]);
    t.ok(Math.abs(rails[1]!.averageWatts! - 2.488) < 0.001);
  }
  t.match(result.workload, { template: false, turns: [{ promptTokens: 16, reusedTokens: 0, decodeTokens: 24 }] });
  t.equal(result.windows.length, 6);
  for (const { startMs, endMs, passes, tokens, phase, celsius } of result.windows) {
    t.ok(endMs - startMs >= 1200, 'repeated until the window is long enough');
    t.equal(tokens, passes * (phase === 'prefill' ? 16 : 24));
    t.equal(celsius, 51);
  }
  t.same(result.timeline.phases.map(({ name }) => name), ['idle', 'prefill', 'decode', 'prefill', 'decode', 'prefill', 'decode', 'idle']);
  t.ok(result.timeline.power.watts.length > 10 && result.timeline.power.rails.length === 3);
  t.equal(result.timeline.tokens.decode.at(-1), result.windows.filter(({ phase }) => phase === 'decode').reduce((sum, { tokens }) => sum + tokens, 0));
  t.equal(result.board!.start.powerMode!.name, '15W');
  t.match(result.memory, { residentPeakBytes: 292969 * 1024, availableBeforeBytes: 3810 * 1024 ** 2 });
  t.ok(result.memory.kvCacheBytes > 0 && result.memory.weightsBytes > 0);
  t.same(JSON.parse(JSON.stringify(result)), result, 'it is JSON');
});

t.test('gross and net, prefill and decode apart', async (t) => {
  const { prefill, decode, idle } = await withPower({ idle: [3, 3], prefill: 12, decode: 7 });
  const near = (value: number, wanted: number, what: string): void => void t.ok(Math.abs(value - wanted) < 1e-9 * Math.abs(wanted) + 1e-12, `${what}: ${value}, ${wanted}`);
  t.same(idle.watts, { value: 3, uncertainty: 0 });
  const scatter = (phase: typeof decode, watts: number): void => {
    near(phase.energy.joulesPerToken!.value * phase.tokensPerSecond.value, watts, `${phase.name}, per token`);
    near(phase.energy.netJoulesPerToken!.value / phase.energy.joulesPerToken!.value, (watts - 3) / watts, `${phase.name}, net of gross`);
    near(phase.energy.averageWatts!, watts, 'watts');
  };
  scatter(prefill, 12);
  scatter(decode, 7);
});

t.test('an idle power that drifts widens the net interval, not the gross one', async (t) => {
  const { decode, idle } = await withPower({ idle: [3, 5], prefill: 12, decode: 7 });
  t.same(idle.watts, { value: 4, uncertainty: 1 });
  const { joulesPerToken, netJoulesPerToken } = decode.energy;
  const perToken = joulesPerToken!.value / 7; // seconds
  t.ok(Math.abs(netJoulesPerToken!.value - 3 * perToken) < 1e-9);
  t.ok(Math.abs(netJoulesPerToken!.uncertainty! - Math.hypot(joulesPerToken!.uncertainty!, perToken)) < 1e-9);
});

t.test('without an idle baseline there is no net figure', async (t) => {
  const { decode, idle } = await withPower({ idle: [3], prefill: 12, decode: 7 }, { idle: 0 });
  t.ok(decode.energy.joulesPerToken!.value > 0);
  t.equal(decode.energy.netJoulesPerToken, null);
  t.match(decode.energy.netProblem!, /left out/);
  t.equal(idle.watts, null);
});

t.test('a window that the meter cannot resolve has no energy, and says why', async (t) => {
  const sysRoot = await writeTree(t, orin);
  await using model = await loadModel(stories);
  const { prefill, decode, meter } = await profileModel(model, { ...quick, sysRoot, rate: 1, window: 0.2, idle: 0, repetitions: 1 });
  t.equal(meter!.name, 'ina3221-hwmon');
  for (const { energy, tokensPerSecond } of [prefill, decode]) {
    t.match(energy, { joulesPerToken: null, netJoulesPerToken: null, tokensPerJoule: null, averageWatts: null, problem: /cannot resolve 2\d\d(\.\d)? ms; the shortest window is 5000 ms/ });
    t.ok(tokensPerSecond.value > 0);
  }
});

t.test('without a meter everything else is reported', async (t) => {
  await using model = await loadModel(stories);
  for (const options of [{ recorder: null }, { sysRoot: await writeTree(t, memory(4000)) }]) {
    const result = await profileModel(model, { ...quick, window: 0.1, idle: 0.1, ...options });
    t.equal(result.meter, null);
    t.match(result.meterProblem!, /no energy meter|without a meter/);
    t.match(result.decode.energy, { joulesPerToken: null, problem: result.meterProblem });
    t.same(result.decode.energy.rails, []);
    t.ok(result.decode.tokensPerSecond.value > 0 && result.prefill.tokensPerSecond.uncertainty! > 0);
    t.ok('recorder' in options ? result.memory.residentPeakBytes! > result.memory.weightsBytes : result.memory.availableBeforeBytes! > 0);
    t.same(result.timeline.power, { atMs: [], watts: [], rails: [] });
  }
});

const gpuLimit = (megahertz: number): Files => ({ '/sys/class/devfreq/17000000.gpu/cur_freq': '306000000\n', '/sys/class/devfreq/17000000.gpu/max_freq': `${megahertz}000000\n` });

t.test('a run in which the board throttles, swaps or changes its mode is marked', async (t) => {
  const swapped: Files = { '/proc/self/status': 'VmRSS:\t  292969 kB\nVmSwap:\t    5000 kB\n' };
  const cases: [string, Files, RegExp][] = [
    ['throttling', { '/sys/class/thermal/cooling_device3/type': 'gpu-throttle-alert\n', '/sys/class/thermal/cooling_device3/cur_state': '1\n' }, /throttled \(gpu-throttle-alert: 1\)/],
    ['swapping', swapped, /pages of the process moved to or from swap/],
    ['power mode', { '/var/lib/nvpmodel/status': 'pmode:0001 fmode:quiet\n' }, /power mode changed from 15W to 25W/],
    ['power supply', { '/sys/class/power_supply/BAT0/type': 'Battery\n', '/sys/class/power_supply/BAT0/status': 'Discharging\n' }, /changed from mains to battery/],
    ['GPU clock', gpuLimit(625), /GPU clock's limit changed from 1020 to 625 MHz/],
    ['clocks', powerMode(0, { online: 4, present: 6 }), /changed from 6 cores of at most 1497.6 MHz to 4 cores/],
  ];
  await using model = await loadModel(stories);
  for (const [what, change, expected] of cases) {
    const sysRoot = await writeTree(t, orin, gpuLimit(1020));
    const recorder = new KnownPower(5);
    let changing: Promise<void> | null = null;
    const onProgress = ({ phase }: ProfileProgress): void => {
      if (phase === 'decode') changing ??= addFiles(sysRoot, change);
    };
    const result = await profileModel(model, { ...quick, repetitions: 2, window: 0.5, sysRoot, recorder, onProgress });
    t.equal(result.valid, false, what);
    t.match(result.problems.join('; '), expected);
    t.same(result.windows[0]!.problems, [], 'the window before it is not');
    t.ok(result.decode.energy.joulesPerToken!.value > 0, 'the figures are there still');
  }
});

t.test('a meter that does not see where the model runs says so', async (t) => {
  await using model = await loadModel(stories);
  const graphics = await profileModel(model, { ...quick, window: 0.05, idle: 0, repetitions: 1, recorder: new KnownPower(5, 0, 'gpu') });
  t.ok(graphics.notes.some((note) => /known covers the gpu alone, and the model ran on the processor/.test(note)), 'the wrong meter, if it was asked for');
});

t.test('throttling moves limits, which then do not count twice', async (t) => {
  const cooling = { '/sys/class/thermal/cooling_device3/type': 'gpu-throttle-alert\n', '/sys/class/thermal/cooling_device3/cur_state': '1\n' };
  const readings = await Promise.all([1020, 625].map(async (megahertz) => readGuard(new SystemFiles(await writeTree(t, orin, cooling, gpuLimit(megahertz))))));
  t.same(judge(readings[0]!, readings[1]!, null, true).problems, [], 'a sustained run is of the hot board');
  t.match(judge(readings[0]!, readings[1]!, null, false).problems, [/^the board throttled/]);
});

t.test('until stable', async (t) => {
  const sysRoot = await writeTree(t, orin);
  await using model = await loadModel(stories);
  const { stable, notes, method } = await profileModel(model, { ...quick, sysRoot, window: 0.05, untilStable: true, limit: 1 });
  t.ok(stable!.reached || (stable!.afterMs >= 1000 && notes.some((note) => /had not levelled off/.test(note))));
  t.ok(method.repetitions <= 4, 'the figures are of the last repetitions');
});

t.test('a conversation reuses the cache', async (t) => {
  const { workload, windows } = await withPower({ idle: [3, 3], prefill: 12, decode: 7 }, { prompt: [prompt, ' Then she went home.'], repetitions: 1 });
  t.match(workload.turns, [{ promptTokens: 16, reusedTokens: 0 }, { reusedTokens: 40 }]);
  t.ok(workload.turns[1]!.promptTokens < 16);
  t.same(windows.map(({ phase, turn }) => [phase, turn]), [['prefill', 0], ['decode', 0], ['prefill', 1], ['decode', 1]]);
});

t.test('equal work, and a recorder that stays open', async (t) => {
  await using model = await loadModel(stories);
  const recorder = new KnownPower(5);
  const options = { ...quick, repetitions: 1, window: 0.05, idle: 0, recorder };
  const [first, second] = [await profileModel(model, options), await profileModel(model, options)];
  t.equal(first.workload.digest, second.workload.digest);
  t.not(first.workload.digest, (await profileModel(model, { ...options, tokens: 25 })).workload.digest);
  t.equal(recorder.closed, 0);
});

t.test('an abort ends it with its reason', async (t) => {
  await using model = await loadModel(stories);
  for (const wanted of ['idle', 'prefill', 'decode']) {
    const abort = new AbortController();
    const reason = new Error('enough');
    const run = profileModel(model, { ...quick, idle: 30, window: 30, ...(wanted === 'idle' ? {} : { idle: 0 }), recorder: new KnownPower(5), signal: abort.signal, onProgress: ({ phase }) => phase === wanted && setTimeout(() => abort.abort(reason), 20) });
    await t.rejects(run, reason);
    if (wanted === 'prefill') break;
  }
  const closing = profileModel(model, { ...quick, window: 30, idle: 0, recorder: null, onProgress: ({ phase }) => phase === 'decode' || phase === 'prefill' ? void model.close() : undefined });
  await t.rejects(closing, { code: 'ERR_CLOSED' });
});

t.test('wrong options', async (t) => {
  await using model = await loadModel(stories);
  const wrong: [object, RegExp][] = [
    [{ prompt: 7 }, /non-empty strings for prompt/],
    [{ tokens: 0 }, /from 1 to 1048576 for tokens but received 0/],
    [{ repetitions: 1.5 }, /for repetitions/],
    [{ idle: -1 }, /for idle/],
    [{ window: 0 }, /for window/],
    [{ untilStable: 1 }, /true or false for untilStable/],
    [{ limit: 0 }, /for limit/],
    [{ meter: 3 }, /a string for meter/],
    [{ rate: 51 }, /from 1 to 50 for rate/],
    [{ recorder: {} }, /an energy recorder or null for recorder/],
    [{ recorder: null, meter: 'rapl' }, /either recorder or meter/],
    [{ sysRoot: 1 }, /a string for sysRoot/],
    [{ tokenz: 3 }, /Did you mean 'tokens'/],
    [{ tokens: 5000 }, /that fit 512 tokens/],
  ];
  for (const [options, message] of wrong) await t.rejects(profileModel(model, { idle: 0, ...options } as never), message, JSON.stringify(options));
  await t.rejects(profileModel({} as never), /a loaded model for model/);
  await t.rejects(profileModel(model, { meter: 'ina3221-hwmon', sysRoot: await writeTree(t, memory(4000)) }), { code: 'ERR_NOT_FOUND' });
});
