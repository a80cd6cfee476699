// The recorder: a thread that reads a meter while other work goes on. What it reads are files that do not change, so that every
// energy is known from the times of the window alone.
import { writeFile } from 'node:fs/promises';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import t from 'tap';
import { monotonicMs, openEnergyRecorder } from '../../sdk/src/index.js';
import { packageRoot } from '../../sdk/src/native-path.js';
import { boards, deviceTree, hwmonChip, intel, memory, rapl, writeTree } from './board-tree.js';
import { plainEnvironment } from './cli-process.js';

const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const orin = boards.find(({ name }) => name === 'Orin NX, r36')!;

t.test('a window of constant power', async (t) => {
  const recorder = (await openEnergyRecorder({ sysRoot: await writeTree(t, orin.files) }))!;
  t.match(recorder.meter, { name: 'ina3221-hwmon', scope: 'module', method: 'sampled' });
  const start = monotonicMs();
  // The main thread is busy, as it is while it computes; the recorder is not.
  while (monotonicMs() - start < 300) continue;
  const end = start + 400;
  const window = await recorder.between(start, end);
  const watts = 4.984 * 0.96;
  t.equal(window.problem, null);
  t.ok(Math.abs(window.joules! - watts * 0.4) < 1e-6, `${window.joules} J`);
  t.ok(Math.abs(window.peakWatts! - watts) < 1e-9);
  t.same(window.rails.map(({ name, inTotal }) => [name, inTotal]), [['VDD_IN', true], ['VDD_CPU_GPU_CV', false], ['VDD_SOC', false]]);
  t.ok(Math.abs(window.rails[2]!.joules! - 4.976 * 0.304 * 0.4) < 1e-6);
  t.ok(window.samples > 0 && window.uncertainty! > 0);
  const samples = recorder.samples(start, end);
  t.equal(samples.length, window.samples);
  t.ok(Math.abs(samples[0]!.rails[1]! - 4.976 * 0.12) < 1e-9);
  t.ok(recorder.load > 0 && recorder.load <= 1);
  t.comment(`load ${recorder.load}`);
  await t.rejects(recorder.between(start - 60_000, end), RangeError);
  await recorder.close();
  await recorder.close();
  await t.rejects(recorder.between(start, end), { code: 'ERR_CLOSED' });
  t.equal(recorder.samples(start, end).length, samples.length, 'what was read stays');
});

t.test('a window that begins as soon as a slow counter is open', async (t) => {
  const folder = '/sys/class/hwmon/hwmon0';
  const sysRoot = await writeTree(t, { ...intel, [`${folder}/name`]: 'ina231\n', [`${folder}/energy1_input`]: '5000000\n', [`${folder}/update_interval`]: '200\n' });
  const begin = monotonicMs();
  const moving = setInterval(() => void writeFile(join(sysRoot, folder, 'energy1_input'), `${5_000_000 + Math.round((monotonicMs() - begin) * 10_000)}\n`), 200);
  t.teardown(() => clearInterval(moving));
  const recorder = (await openEnergyRecorder({ sysRoot }))!;
  t.match(recorder.meter, { name: 'hwmon', method: 'counter', updateMs: 200 });
  const start = monotonicMs();
  const { joules, problem } = await recorder.between(start, start + 1500);
  t.equal(problem, null);
  t.ok(Math.abs(joules! - 15) < 5, `${joules} J of 15`);
  await recorder.close();
  clearInterval(moving);
  const still = (await openEnergyRecorder({ sysRoot }))!;
  const now = monotonicMs();
  t.match(await still.between(now, now + 1200), { joules: null, problem: /did not move/ }, 'a counter that stands still is not waited for');
  await still.close();
});

t.test('a sensor that fails for a while', async (t) => {
  const files = hwmonChip('1-0040', 2, [['VDD_IN', 4984, 960]]);
  const root = await writeTree(t, deviceTree('x', 'nvidia,p3768-0000+p3767-0000'), memory(15657), files);
  const current = join(root, Object.keys(files).find((name) => name.endsWith('curr1_input'))!);
  const recorder = (await openEnergyRecorder({ sysRoot: root }))!;
  const start = monotonicMs();
  await writeFile(current, ''); // no number: a missed reading
  await wait(400);
  const failed = await recorder.between(start + 50, start + 350);
  t.equal(failed.joules, null);
  t.type(failed.problem, 'string');
  await writeFile(current, '960\n');
  await wait(100);
  const again = monotonicMs();
  t.ok(Math.abs((await recorder.between(again, again + 300)).averageWatts! - 4.984 * 0.96) < 1e-6);
  await recorder.close();
});

t.test('a counter, and a window that it cannot resolve', async (t) => {
  const recorder = (await openEnergyRecorder({ sysRoot: await writeTree(t, intel, rapl(['intel-rapl:0', 'package-0', 5e6])), rateHz: 20 }))!;
  t.match(recorder.meter, { name: 'rapl', method: 'counter', shortestWindowMs: 250 });
  const start = monotonicMs();
  t.match(await recorder.between(start, start + 100), { joules: null, uncertainty: null, problem: /cannot resolve 100 ms/ });
  t.match(await recorder.between(start, start + 300), { joules: null, problem: /did not move/ }, 'a counter that is frozen is no zero');
  await recorder.close();
});

t.test('programs that are read: vcgencmd and tegrastats', async (t) => {
  const pmic = ['3V7_WL_SW', '3V3_SYS', '1V8_SYS', 'DDR_VDD2', 'DDR_VDDQ', '1V1_SYS', '0V8_SW', 'VDD_CORE', '3V3_DAC', '3V3_ADC', '0V8_AON', 'HDMI'].map((rail, i) => ` ${rail}_A current(${i})=0.5A\n ${rail}_V volt(${i})=1.0V`).join('\n');
  const pi = await writeTree(t, deviceTree('Raspberry Pi 5', 'raspberrypi,5-model-b'), { '/usr/bin/vcgencmd': `#!/bin/sh\ncat <<'END'\n${pmic}\nEND\n` });
  const board = (await openEnergyRecorder({ sysRoot: pi, meter: 'pi5-pmic-board' }))!;
  t.match(board.meter, { method: 'estimated', scope: 'board' });
  const start = monotonicMs();
  const window = await board.between(start, start + 4000);
  t.ok(Math.abs(window.averageWatts! - (6 * 1.1451 + 0.5879)) < 1e-6, `${window.averageWatts}`);
  await board.close();

  const stats = `#!/bin/sh\nwhile true; do echo "RAM 1/2MB VDD_IN 5000mW/1mW VDD_SOC 1000mW/1mW"; sleep 0.1; done\n`;
  const jetson = await writeTree(t, deviceTree('x', 'nvidia,p3768-0000+p3767-0000'), { '/usr/bin/tegrastats': stats });
  const recorder = (await openEnergyRecorder({ sysRoot: jetson }))!;
  const from = monotonicMs();
  const second = await recorder.between(from, from + 1000);
  t.ok(Math.abs(second.joules! - 5) < 1e-6, `${second.joules}`);
  await recorder.close();
});

t.test('it works in both builds and keeps no program alive', async (t) => {
  const root = await writeTree(t, orin.files);
  const code = (load: string): string => `(async () => { const { openEnergyRecorder, monotonicMs } = ${load};
    const recorder = await openEnergyRecorder({ sysRoot: ${JSON.stringify(root)} });
    const start = monotonicMs();
    const { joules } = await recorder.between(start, start + 1000);
    console.log(joules.toFixed(4)); })();`;
  const module = pathToFileURL(join(packageRoot(), 'dist', 'esm', 'index.js')).href;
  const run = promisify(execFile);
  for (const load of [`await import(${JSON.stringify(module)})`, `require(${JSON.stringify(join(packageRoot(), 'dist', 'cjs', 'index.js'))})`]) {
    const { stdout } = await run(process.execPath, ['--eval', code(load)], { env: plainEnvironment(), timeout: 60_000 });
    t.equal(stdout.trim(), (4.984 * 0.96 * 1).toFixed(4));
  }
});
