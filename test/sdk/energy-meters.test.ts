// Which meters a machine has: the right rails and totals of every board, and for what cannot be read the reason and the cure.
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { findEnergyMeters, openEnergyRecorder } from '../../sdk/src/index.js';
import { type MeterSurroundings, findMeterPlans } from '../../sdk/src/devices/find-meters.js';
import type { MeterPlan } from '../../sdk/src/devices/meter-plan.js';
import { chooseMeter, type WorkPlace, workPlace } from '../../sdk/src/devices/meter-choice.js';
import { filesReader } from '../../sdk/src/devices/meter-reader.js';
import { type Nvml, ownGpuMemory, visibleGpus } from '../../sdk/src/devices/nvml.js';
import { parsePmic, pmicValues } from '../../sdk/src/devices/pi5-pmic.js';
import type { FoundMeters } from '../../sdk/src/devices/power-chips.js';
import { Recording } from '../../sdk/src/devices/recording.js';
import { SystemFiles } from '../../sdk/src/devices/system-files.js';
import { type Files, boards, deviceTree, hwmonChip, ina238, intel, memory, rapl, release, writeTree } from './board-tree.js';

/** Reads fail with a code where `fails` says so; regular files cannot. */
function system(root: string, fails: (path: string) => string | null = () => null): SystemFiles {
  return new SystemFiles(root, (path) => {
    const code = fails(path);
    if (code !== null) throw Object.assign(new Error(code), { code });
    return readFileSync(path, 'utf8');
  });
}

/** One reading of the total, watts or joules. */
function totalOf(files: SystemFiles, plan: MeterPlan): number | null {
  if (plan.source.kind !== 'files') throw new Error('not a meter of files');
  const reader = filesReader(files, plan.source);
  const values = reader.read();
  reader.close();
  return plan.meter.rails.reduce((sum: number | null, { inTotal }, rail) => (!inTotal ? sum : sum === null || values[rail] === null ? null : sum + values[rail]!), 0);
}

async function find(t: Test, files: Files, fails?: (path: string) => string | null): Promise<FoundMeters & { files: SystemFiles }> {
  const source = system(await writeTree(t, files), fails);
  return { ...(await findMeterPlans(source)), files: source };
}

t.test('the meter, rails and total of every board', async (t) => {
  for (const { name, files, meter, unreadable: lost = [] } of boards) {
    const { plans, unreadable, files: source } = await find(t, files);
    t.same(unreadable.map((one) => one.name), lost, name);
    if (meter === null) {
      t.same(plans, [], `${name}: no meter`);
      continue;
    }
    const first = plans[0]!;
    t.match(first.meter, { name: meter.name, scope: meter.scope, total: meter.total, method: 'sampled' }, name);
    t.same(first.meter.rails.map((rail) => rail.name), meter.rails, name);
    t.ok(first.meter.rails.every(({ feeds }) => feeds.length > 0), `${name}: the profile says what hangs on each rail`);
    t.ok(Math.abs(totalOf(source, first)! - meter.watts) < 1e-3, `${name}: ${totalOf(source, first)} W, not ${meter.watts}`);
  }
});

t.test('without a board rule there is no recorder, and no zero', async (t) => {
  const nano2 = boards.find(({ profile }) => profile === 'jetson-nano-2gb')!;
  t.equal(await openEnergyRecorder({ sysRoot: await writeTree(t, nano2.files) }), null);
});

t.test('steps and windows come from the chip', async (t) => {
  const orin = (await find(t, boards.find(({ name }) => name === 'Orin NX, r36')!.files)).plans[0]!.meter;
  t.ok(Math.abs(orin.step - 0.0399) < 1e-3, `8 mA at 5 V: ${orin.step}`);
  t.match(orin, { updateMs: 7, shortestWindowMs: 100 });
  const nano = (await find(t, boards[0]!.files)).plans[0]!.meter;
  t.match(nano, { updateMs: 422, shortestWindowMs: 2110 }, 'the older driver averages');
  const agx = (await find(t, boards.find(({ name }) => name === 'AGX Orin, r39')!.files)).plans[0]!;
  t.ok(Math.abs(agx.steps[0]! - 0.24) < 1e-3, '20 mA at 12 V');
});

t.test('Thor has two meters of different scope', async (t) => {
  const { plans } = await find(t, boards.find(({ name }) => name === 'Thor, r38, with ina238')!.files);
  t.same(plans.map(({ meter }) => [meter.name, meter.scope]), [['ina238', 'board'], ['ina3221-hwmon', 'module']]);
  const root = await writeTree(t, boards.find(({ name }) => name === 'Thor, r38, with ina238')!.files);
  t.equal((await findEnergyMeters({ sysRoot: root, scope: 'module' })).meters[0]!.name, 'ina3221-hwmon', 'the wanted scope comes first');
});

const nano = deviceTree('NVIDIA Jetson Nano Developer Kit', 'nvidia,p3450-0000', 'nvidia,tegra210');
const agxOrin = { ...deviceTree('x', 'nvidia,p3737-0000+p3701-0005', 'nvidia,tegra234'), ...release(36) };

t.test('E3: a total is the input, never the input and its branches; bad channels are skipped', async (t) => {
  const first = await find(t, { ...nano, ...hwmonChip('6-0040', 1, [['POM_5V_IN', 5000, 1000], ['POM_5V_GPU', 5000, 240], ['POM_5V_CPU', 5000, 160]]) });
  t.ok(Math.abs(totalOf(first.files, first.plans[0]!)! - 5) < 1e-9);
  const chip40 = hwmonChip('1-0040', 3, [['VDD_GPU_SOC', 10000, 400], ['VDD_CPU_CV', 10000, 200], ['VIN_SYS_5V0', 5000, 1200]]);
  const chip41 = hwmonChip('1-0041', 4, [['A', 0, 0], ['VDDQ_VDD2_1V8AO', 5000, 300], ['B', 0, 0]]);
  const second = await find(t, { ...agxOrin, ...chip40, ...chip41 }, (path) => (/hwmon4\/(in|curr)[13]_input$/.test(path) ? 'EIO' : null));
  t.ok(Math.abs(totalOf(second.files, second.plans[0]!)! - 12) < 1e-9);
  t.same(second.plans[0]!.meter.rails.filter((rail) => !rail.inTotal).map((rail) => rail.name), ['VDDQ_VDD2_1V8AO']);
  t.same(second.notes, ['ina3221-hwmon: A is left out, it cannot be read (EIO)', 'ina3221-hwmon: B is left out, it cannot be read (EIO)']);
  const third = await find(t, { ...agxOrin, ...hwmonChip('1-0040', 3, [['VDD_GPU_SOC', 19600, -20], ['VDD_CPU_CV', 10000, 200], ['VIN_SYS_5V0', 5000, 1200]]) });
  t.ok(Math.abs(totalOf(third.files, third.plans[0]!)! - (8 - 0.392)) < 1e-9, 'a small negative reading is real');
});

t.test('a total with a rail that cannot be read is unreadable, not smaller', async (t) => {
  const chip = hwmonChip('1-0040', 3, [['VDD_GPU_SOC', 10000, 400], ['VDD_CPU_CV', 10000, 200], ['VIN_SYS_5V0', 5000, 1200]]);
  for (const [code, fix] of [['ENODATA', /dmesg/], ['EACCES', /sudo chmod a\+r/]] as const) {
    const { plans, unreadable } = await find(t, { ...agxOrin, ...chip }, (path) => (path.endsWith('curr2_input') ? code : null));
    t.same(plans, []);
    t.match(unreadable, [{ name: 'ina3221-hwmon', scope: 'module', reason: new RegExp(`VDD_CPU_CV cannot be read \\(${code}\\)`), fix }]);
  }
  const missing = await find(t, { ...agxOrin, ...hwmonChip('1-0040', 3, [['VDD_GPU_SOC', 10000, 400], ['VIN_SYS_5V0', 5000, 1200]]) });
  t.match(missing.unreadable, [{ reason: /needs VDD_CPU_CV, which the chips do not show/ }]);
});

t.test('EAGAIN and ENODATA while recording are missed readings', async (t) => {
  let code: string | null = null;
  const { plans, files } = await find(t, boards.find(({ name }) => name === 'Orin NX, r36')!.files, (path) => (path.endsWith('curr1_input') ? code : null));
  const source = plans[0]!.source;
  if (source.kind !== 'files') throw new Error('files expected');
  const reader = filesReader(files, source);
  t.ok(reader.read()[0]! > 4);
  for (code of ['EAGAIN', 'ENODATA', 'ENOENT']) t.equal(reader.read()[0], null, code);
  code = null;
  t.ok(reader.read()[0]! > 4, 'and it goes on');
  // A chip that is busy at first is a meter all the same.
  const busy = await find(t, boards[0]!.files, (path) => (path.endsWith('in_power0_input') ? 'EAGAIN' : null));
  t.equal(busy.plans[0]!.meter.name, 'ina3221-iio');
});

t.test('E4: chips are found by their name file, whatever the path; units by chip', async (t) => {
  const rails: [string, number, number][] = [['VDD_IN', 4984, 960]];
  const orin = deviceTree('Nobody knows this', 'vendor,new-carrier', 'nvidia,tegra234');
  const chip = hwmonChip('1-0040', 1, rails, 5000, 'ina3221');
  const busOnly = Object.fromEntries(Object.entries(chip).filter(([name]) => !name.startsWith('/sys/class')));
  const classOnly = Object.fromEntries(Object.entries(chip).filter(([name]) => !name.startsWith('/sys/bus')));
  for (const files of [chip, busOnly, classOnly]) {
    const { plans, files: source } = await find(t, { ...orin, ...memory(7620), ...files });
    t.equal(plans.length, 1);
    t.ok(Math.abs(totalOf(source, plans[0]!)! - (4984 * 960) / 1e6) < 1e-3);
  }
  const r28 = boards[0]!.files;
  const moved = Object.fromEntries(Object.entries(r28).map(([name, text]) => [name.replace('iio:device0', 'iio_device'), text]));
  t.equal((await find(t, moved)).plans[0]!.meter.name, 'ina3221-iio');
  const { plans, files: source } = await find(t, { ...deviceTree('x', 'nvidia,tegra999'), ...ina238(1, 25_000_000) });
  t.equal(totalOf(source, plans[0]!), 25, 'microwatts, and an input on an unknown board');
});

t.test('a monitor without a label is the input only where a profile says so', async (t) => {
  const unlabelled = (files: Files): Files => Object.fromEntries(Object.entries(files).filter(([name]) => !name.endsWith('/label')));
  const thor = await find(t, { ...deviceTree('x', 'nvidia,p4071-0000+p3834-0008', 'nvidia,tegra264'), ...unlabelled(ina238(1, 25_000_000)) });
  t.match(thor.plans[0]!.meter, { name: 'ina238', scope: 'board', total: 'VIN' });
  const other = await find(t, { ...deviceTree('x', 'vendor,y'), ...unlabelled(ina238(1, 25_000_000)) });
  t.same(other.plans, []);
  t.match(other.notes, [/has no label and is left out/]);
});

t.test('a board without rule whose labels say nothing is unreadable', async (t) => {
  const { plans, unreadable } = await find(t, { ...deviceTree('x', 'vendor,y'), ...hwmonChip('1-0040', 1, [['RAIL_A', 5000, 80], ['RAIL_B', 5000, 80]]) });
  t.same(plans, []);
  t.match(unreadable, [{ reason: /nobody has said which of RAIL_A, RAIL_B/, fix: /profile/ }]);
});

t.test('E2: RAPL domains are never added to what contains them', async (t) => {
  const laptop = await find(t, { ...intel, ...rapl(['intel-rapl:0', 'package-0', 37.8e6], ['intel-rapl:0:0', 'core', 8.4e6], ['intel-rapl:0:1', 'uncore', 2.1e6], ['intel-rapl:1', 'psys', 96.1e6], ['intel-rapl-mmio:0', 'package-0', 37.8e6]) });
  t.same(laptop.plans.map(({ meter }) => [meter.name, meter.scope, meter.total]), [['rapl', 'package', 'package-0'], ['rapl-psys', 'board', 'psys']]);
  t.ok(Math.abs(totalOf(laptop.files, laptop.plans[0]!)! - 37.8) < 1e-9);
  t.ok(Math.abs(totalOf(laptop.files, laptop.plans[1]!)! - 96.1) < 1e-9);
  t.same(laptop.plans[0]!.meter.rails, [{ name: 'package-0', feeds: ['all'], inTotal: true }, { name: 'package-0 core', feeds: ['cpu'], inTotal: false }, { name: 'package-0 uncore', feeds: [], inTotal: false }]);
  const dies = await find(t, { ...intel, ...rapl(['intel-rapl:0', 'package-0-die-0', 680e6], ['intel-rapl:1', 'package-0-die-1', 680e6]) });
  t.equal(totalOf(dies.files, dies.plans[0]!), 680);
  t.match(dies.notes, [/package-0-die-1 is the counter of package-0-die-0/]);
  const differ = await find(t, { ...intel, ...rapl(['intel-rapl:0', 'package-0-die-0', 680e6], ['intel-rapl:1', 'package-0-die-1', 20e6]) });
  t.equal(totalOf(differ.files, differ.plans[0]!), 700);
  const dram = await find(t, { ...intel, ...rapl(['intel-rapl:0', 'package-0', 37.8e6], ['intel-rapl:0:0', 'dram', 5e6]) });
  t.equal(dram.plans[0]!.meter.total, 'package-0 + package-0 dram', 'said so');
  t.ok(Math.abs(totalOf(dram.files, dram.plans[0]!)! - 42.8) < 1e-9);
  const sockets = await find(t, { ...intel, ...rapl(['intel-rapl:0', 'package-0', 30e6], ['intel-rapl:1', 'package-1', 12e6]) });
  t.equal(totalOf(sockets.files, sockets.plans[0]!), 42);
});

t.test('E6: RAPL that may not be read, that is missing, and links that lead nowhere', async (t) => {
  const files = { ...intel, ...rapl(['intel-rapl:0', 'package-0', 1e6], ['intel-rapl-mmio:0', 'package-0', 1e6]) };
  const denied = await find(t, files, (path) => (path.endsWith('energy_uj') ? 'EACCES' : null));
  t.same(denied.plans, []);
  t.match(denied.unreadable, [{ name: 'rapl', scope: 'package', reason: /root only/, fix: 'Until the next start: sudo chmod a+r /sys/class/powercap/*/energy_uj' }]);
  const twin = await find(t, files, (path) => (path.endsWith('intel-rapl:0/energy_uj') ? 'EACCES' : null));
  t.equal(twin.plans.length, 1, 'its memory-mapped twin is read instead');
  t.same((await find(t, intel)).plans, []);
  const dangling = await find(t, { ...intel, '/sys/class/powercap/intel-rapl:0': '-> ../../devices/virtual/nowhere' });
  t.same([dangling.plans, dangling.unreadable], [[], []]);
});

t.test('batteries', async (t) => {
  const battery = (more: Files): Files => ({ ...intel, '/sys/class/power_supply/BAT0/type': 'Battery\n', '/sys/class/power_supply/BAT0/status': 'Discharging\n', ...more });
  const power = await find(t, battery({ '/sys/class/power_supply/BAT0/power_now': '6500000\n' }));
  t.match(power.plans[0]!.meter, { name: 'battery', scope: 'battery', total: 'BAT0' });
  t.equal(totalOf(power.files, power.plans[0]!), 6.5);
  const current = await find(t, battery({ '/sys/class/power_supply/BAT0/current_now': '500000\n', '/sys/class/power_supply/BAT0/voltage_now': '12000000\n' }));
  t.ok(Math.abs(totalOf(current.files, current.plans[0]!)! - 6) < 1e-9, 'current alone');
  const source = power.plans[0]!.source;
  if (source.kind !== 'files') throw new Error('files expected');
  const watched = filesReader(system(power.files.root, () => null), source);
  t.equal(watched.read()[0], 6.5);
  await writeFile(join(power.files.root, '/sys/class/power_supply/BAT0/status'), 'Charging\n');
  t.equal(watched.read()[0], null, 'what flows into it is not what the machine takes');
  watched.close();
  const charging = await find(t, battery({ '/sys/class/power_supply/BAT0/status': 'Charging\n', '/sys/class/power_supply/BAT0/power_now': '6500000\n' }));
  t.same(charging.plans, []);
  t.match(charging.unreadable, [{ name: 'battery', reason: /charging/, fix: 'Unplug the power supply.' }]);
  t.same((await find(t, { ...intel, '/sys/class/power_supply/AC/type': 'Mains\n' })).unreadable, []);
});

t.test('other chips in hwmon', async (t) => {
  const chip = (name: string, files: Files): Files => ({ ...intel, '/sys/class/hwmon/hwmon0/name': `${name}\n`, ...files });
  const meter = await find(t, chip('powerz', { '/sys/class/hwmon/hwmon0/in0_input': '5000\n', '/sys/class/hwmon/hwmon0/curr1_input': '2380\n' }));
  t.match(meter.plans[0]!.meter, { name: 'hwmon', scope: 'board', total: 'powerz', method: 'sampled' });
  t.ok(Math.abs(totalOf(meter.files, meter.plans[0]!)! - 11.9) < 1e-9);
  const energy = await find(t, chip('ina231', { '/sys/class/hwmon/hwmon0/energy1_input': '5000000\n', '/sys/class/hwmon/hwmon0/power1_input': '1\n' }));
  t.equal(energy.plans[0]!.meter.method, 'counter', 'a counter is better than power');
  t.equal(totalOf(energy.files, energy.plans[0]!), 5);
  const unknown = await find(t, chip('tps53679', { '/sys/class/hwmon/hwmon0/power1_input': '1000000\n' }));
  t.same(unknown.plans, []);
  t.match(unknown, { unreadable: [{ reason: 'nobody has said what tps53679 measures' }] });
  const several = await find(t, chip('ina219', { '/sys/class/hwmon/hwmon0/power1_input': '1\n', '/sys/class/hwmon/hwmon0/power2_input': '1\n' }));
  t.same(several.plans, []);
  t.match(several, { unreadable: [{ reason: /2 channels/ }] }, 'channels are not added');
  const temperature = await find(t, chip('k10temp', { '/sys/class/hwmon/hwmon0/temp1_input': '40000\n' }));
  t.same([temperature.plans, temperature.unreadable], [[], []]);
});

function stub(gpus: { name?: string; uuid?: string; partitioned?: boolean; millijoules?: number; milliwatts?: number; memory?: number }[]): MeterSurroundings {
  const value = (number: number | undefined): number => {
    if (number === undefined) throw Object.assign(new Error('Not Supported'), { status: 'unsupported' });
    return number;
  };
  const nvml: Nvml = {
    count: () => gpus.length,
    describe: (device) => ({ name: gpus[device]!.name ?? `GPU ${device}`, uuid: gpus[device]!.uuid ?? `GPU-${device}`, partitioned: gpus[device]!.partitioned ?? false }),
    millijoules: (device) => value(gpus[device]!.millijoules),
    milliwatts: (device) => value(gpus[device]!.milliwatts),
    ownMemory: (device) => value(gpus[device]!.memory),
  };
  return { nvml: () => nvml, visibleGpus: { devices: undefined, order: undefined } };
}

t.test('E5: NVML that starts and tells nothing is unreadable, not zero', async (t) => {
  const files = new SystemFiles(await writeTree(t, intel));
  const found = await findMeterPlans(files, undefined, stub([{ name: 'Orin (nvgpu)' }]));
  t.same(found.plans, []);
  t.match(found.unreadable, [{ name: 'nvml', scope: 'gpu', reason: 'Orin (nvgpu) gives neither energy (Not Supported) nor power (Not Supported)', fix: /power monitor of the board/ }]);
  const both = await findMeterPlans(files, undefined, stub([{ millijoules: 0, milliwatts: 250_000 }, { milliwatts: 250_000 }]));
  t.match(both.plans, [{ meter: { name: 'nvml', method: 'counter' }, source: { counter: true } }, { meter: { name: 'nvml-1', method: 'sampled' }, source: { device: 1, counter: false } }]);
  const parts = await findMeterPlans(files, undefined, stub([{ millijoules: 1, partitioned: true }]));
  t.match(parts.notes, [/split into parts \(MIG\)/]);
  const absent = (): Nvml => { throw Object.assign(new Error('cannot be opened'), { status: 'not_found' }); };
  t.same((await findMeterPlans(files, undefined, { nvml: absent, visibleGpus: { devices: undefined, order: undefined } })).unreadable, [], 'a machine without driver is ordinary');
  const broken = (): Nvml => { throw Object.assign(new Error('Driver/library version mismatch'), { status: 'device_failed' }); };
  t.match((await findMeterPlans(files, undefined, { nvml: broken, visibleGpus: { devices: undefined, order: undefined } })).unreadable, [{ name: 'nvml', reason: 'Driver/library version mismatch', fix: /nvidia-smi/ }]);
});

t.test('GPU memory of this process', async (t) => {
  const of = (...gpus: Parameters<typeof stub>[0]): number | null => ownGpuMemory(stub(gpus).nvml);
  t.equal(of({ memory: 5 }, {}, { memory: 7 }), 12, 'of all GPUs that tell');
  t.equal(of({}), null, 'a container: not zero');
  t.equal(of(), null);
});

t.test('the meter is one that sees where the model runs', async (t) => {
  const counters = rapl(['intel-rapl:0', 'package-0', 1e6], ['intel-rapl:1', 'psys', 2e6]);
  const gpus = stub([{ uuid: 'GPU-a', millijoules: 1 }, { uuid: 'GPU-b', millijoules: 1 }]);
  const choose = async (files: Files, surroundings: MeterSurroundings, worksOn: WorkPlace, meter?: string) => {
    const { plans, unreadable } = await findMeterPlans(new SystemFiles(await writeTree(t, files)), undefined, surroundings);
    const { plan, problem } = chooseMeter(plans, unreadable, { worksOn, meter });
    return plan?.meter.name ?? problem;
  };
  const computer = { ...intel, ...counters };
  t.equal(await choose(computer, gpus, 'cpu'), 'rapl');
  t.equal(await choose(computer, gpus, 'gpu'), 'nvml', 'a package and its platform hold no card');
  t.equal(await choose(computer, gpus, 'GPU-b'), 'nvml-1', 'the GPU that runs it, whatever the order');
  t.match(await choose(computer, gpus, 'GPU-c'), /no meter that can be read here \(rapl, rapl-psys, nvml, nvml-1\) covers the GPU/);
  t.match(await choose(intel, gpus, 'cpu'), /no meter that can be read here \(nvml, nvml-1\) covers the processor/, 'an idle GPU is not the energy of a processor');
  t.equal(await choose(intel, gpus, 'cpu', 'nvml'), 'nvml', 'unless it is asked for');
  t.match(await choose(intel, stub([]), 'cpu'), /no energy meter that can be read/);
  const orinNx = boards.find(({ name }) => name === 'Orin NX, r36')!.files;
  for (const place of ['cpu', 'gpu', 'GPU-a'] as const) t.equal(await choose(orinNx, stub([]), place), 'ina3221-hwmon', 'a module holds both');
  t.equal(workPlace({ name: 'wasm' }), 'cpu');
  t.equal(workPlace({ name: 'cuda' }), 'gpu');
  t.equal(workPlace({ name: 'cuda', gpu: { uuid: 'GPU-b', name: '', count: 2, capability: 90, multiprocessors: 1, integrated: false } }), 'GPU-b');
});

t.test('E5: CUDA_VISIBLE_DEVICES', async (t) => {
  const uuids = ['GPU-aa11', 'GPU-bb22', 'GPU-cc33'];
  const shown = (devices: string | undefined, order?: string): number[] => visibleGpus({ devices, order }, uuids);
  const byBus = 'PCI_BUS_ID';
  t.same(shown(undefined), [0, 1, 2]);
  t.same(shown('1,0', byBus), [1, 0]);
  t.same(shown('1,0'), [0, 1, 2], 'CUDA counts the fastest first, NVML by bus');
  t.same(visibleGpus({ devices: '0', order: undefined }, ['GPU-aa11']), [0]);
  t.same(shown('GPU-cc'), [2]);
  t.same(shown(''), []);
  t.same(shown('0,-1,2', byBus), [0], 'what follows something wrong is not visible');
  t.same(shown('MIG-5'), [0, 1, 2]);
});

t.test('a GPU that does not answer is one meter less', async (t) => {
  const { nvml: open, visibleGpus: all } = stub([{ millijoules: 1 }, { millijoules: 1 }]);
  const nvml = open();
  const lost: Nvml = { ...nvml, describe: (device) => { if (device === 0) throw new Error('GPU is lost'); return nvml.describe(device); } };
  const found = await findMeterPlans(new SystemFiles(await writeTree(t, { ...intel, ...rapl(['intel-rapl:0', 'package-0', 1e6]) })), undefined, { nvml: () => lost, visibleGpus: all });
  t.same(found.plans.map(({ meter }) => meter.name), ['rapl', 'nvml-1']);
  t.match(found.unreadable, [{ name: 'nvml', reason: 'GPU 0 does not answer (GPU is lost)', fix: /nvidia-smi/ }]);
});

t.test('E5: 250 W for 4 s from a GPU without a counter are 1,000 J', async (t) => {
  const { plans } = await findMeterPlans(new SystemFiles(await writeTree(t, intel)), undefined, stub([{ milliwatts: 250_000 }]));
  const plan = plans[0]!;
  const recording = new Recording(plan, 1000 / plan.mostHz);
  for (let ms = 0; ms <= 5000; ms += 1000 / plan.mostHz) recording.add(ms, [250]);
  t.ok(Math.abs(recording.between(500, 4500).joules! - 1000) < 1e-6);
});

const pairs = ['3V7_WL_SW', '3V3_SYS', '1V8_SYS', 'DDR_VDD2', 'DDR_VDDQ', '1V1_SYS', '0V8_SW', 'VDD_CORE', '3V3_DAC', '3V3_ADC', '0V8_AON', 'HDMI'];
const pmicText = (newline = '\n'): string =>
  [...pairs.map((rail, i) => `${i % 2 === 0 ? ' ' : ''}${rail}_A current(${i})=${rail === 'VDD_CORE' ? '2.00000000' : '0.10000000'}A`), ...pairs.map((rail, i) => `  ${rail}_V volt(${i + 8})=${rail === 'VDD_CORE' ? '0.90000000' : '1.00000000'}V`), 'EXT5V_V volt(24)=4.87894000V', 'BATT_V volt(25)=0.00683760V'].join(newline) + newline;

t.test('E6: the rails of a Raspberry Pi 5 that have both values', async (t) => {
  for (const newline of ['\n', '\r\n']) {
    const watts = parsePmic(pmicText(newline));
    t.same([...watts.keys()], pairs, 'EXT5V and BATT have no current');
    t.equal(watts.get('VDD_CORE'), 1.8);
  }
  t.equal(parsePmic('VCHI initialization failed').size, 0);
  t.equal(parsePmic('VDD_CORE_A current(7)=-A\nVDD_CORE_V volt(15)=0.9V').size, 0);
  const pi = deviceTree('Raspberry Pi 5 Model B Rev 1.0', 'raspberrypi,5-model-b', 'brcm,bcm2712');
  const { plans } = await find(t, { ...pi, '/usr/bin/vcgencmd': `#!/bin/sh\ncat <<'END'\n${pmicText()}END\n` });
  t.match(plans.map(({ meter }) => meter), [{ name: 'pi5-pmic', method: 'sampled', scope: 'PMIC rails' }, { name: 'pi5-pmic-board', method: 'estimated', scope: 'board', rails: [{ name: 'board (estimate)' }] }]);
  const [sum, estimate] = plans.map((plan) => (plan.source.kind === 'pmic' ? pmicValues(pmicText(), plan.source) : []));
  t.ok(Math.abs((sum as number[]).reduce((a, b) => a + b) - 2.9) < 1e-9);
  t.ok(Math.abs(estimate![0]! - (2.9 * 1.1451 + 0.5879)) < 1e-9);
  const missing = await find(t, pi);
  t.match(missing.unreadable, [{ name: 'pi5-pmic', reason: 'neither /dev/vcio nor vcgencmd is there', fix: /apt install/ }]);
  const failing = await find(t, { ...pi, '/usr/bin/vcgencmd': '#!/bin/sh\necho "Can\'t open device file: /dev/vcio" >&2\nexit 255\n' });
  t.match(failing.unreadable, [{ reason: /failed: .*\/dev\/vcio/, fix: /usermod -aG video/ }]);
  t.same(failing.plans, []);
  const both = await find(t, { ...pi, '/dev/vcio': 'no device', '/usr/bin/vcgencmd': `#!/bin/sh\ncat <<'END'\n${pmicText()}END\n` });
  t.match(both.plans[0], { source: { kind: 'pmic', way: { program: /vcgencmd$/ } }, mostHz: 4 }, 'a device that does not answer is no way to ask');
  t.match((await find(t, { ...pi, '/dev/vcio': 'no device' })).unreadable, [{ name: 'pi5-pmic', reason: /vcio does not answer/ }]);
  const partial = await find(t, { ...pi, '/usr/bin/vcgencmd': '#!/bin/sh\necho " VDD_CORE_A current(7)=1.5A"\n' });
  t.match(partial.unreadable, [{ reason: /does not show/ }]);
  const four = await find(t, deviceTree('Raspberry Pi 4', 'raspberrypi,4-model-b', 'brcm,bcm2711'));
  t.same([four.plans, four.unreadable], [[], []], 'a Pi 4 has no sensor');
});

t.test('tegrastats where the chips cannot be seen', async (t) => {
  const orin = { ...deviceTree('x', 'nvidia,p3768-0000+p3767-0005', 'nvidia,tegra234'), ...memory(7620) };
  const line = (rails: string): string => `#!/bin/sh\necho "RAM 1905/7620MB (lfb 36x4MB) CPU [0%@729,off] cpu@46.125C ${rails}"\nexec sleep 60\n`;
  const found = await find(t, { ...orin, '/usr/bin/tegrastats': line('VDD_IN 4742mW/4742mW VDD_CPU_GPU_CV 482mW/482mW VDD_SOC 1446mW/1446mW') });
  t.match(found.plans.map(({ meter }) => meter), [{ name: 'tegrastats', scope: 'module', total: 'VDD_IN', rails: [{ name: 'VDD_IN', inTotal: true }, { name: 'VDD_CPU_GPU_CV', inTotal: false }, { name: 'VDD_SOC', inTotal: false }] }]);
  const hidden = await find(t, { ...orin, '/usr/bin/tegrastats': line('') });
  t.same(hidden.plans, []);
  t.match(hidden, { unreadable: [{ name: 'tegrastats', reason: 'tegrastats shows no rails', fix: /sudo/ }] });
});

t.test('wrong options', async (t) => {
  await t.rejects(findEnergyMeters({ scope: 'everything' as 'gpu' }), TypeError);
  await t.rejects(openEnergyRecorder({ rateHz: 1000 }), RangeError);
  await t.rejects(openEnergyRecorder({ worksOn: 'GPU' as 'gpu' }), TypeError);
  await t.rejects(openEnergyRecorder({ rate: 20 } as object), TypeError);
  const root = await writeTree(t, boards.find(({ name }) => name === 'Orin NX, r36')!.files);
  await t.rejects(openEnergyRecorder({ sysRoot: root, meter: 'rapl' }), { code: 'ERR_NOT_FOUND', message: /readable: ina3221-hwmon/ });
});
