// Detection of boards from trees of files: every board and release, and what such trees do to fool a reader.
import { readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { detectBoard, type DetectedBoard } from '../../sdk/src/index.js';
import { boardOf } from '../../sdk/src/devices/board.js';
import { SystemFiles } from '../../sdk/src/devices/system-files.js';
import { type Files, boards, deviceTree, hwmonChip, intel, memory, powerMode, release, writeTree, zone } from './board-tree.js';

async function detect(t: Test, ...parts: Files[]): Promise<DetectedBoard> {
  return detectBoard({ sysRoot: await writeTree(t, ...parts) });
}

t.test('every board', async (t) => {
  for (const { name, files, profile, l4t } of boards) {
    const board = await detect(t, files);
    t.equal(board.profile.id, profile, name);
    t.equal(board.release?.l4t ?? null, l4t, name);
    t.equal(board.architecture, 'arm64', name);
    t.notMatch(board.model, /\0/, name);
  }
});

t.test('releases and their JetPack', async (t) => {
  const orin = deviceTree('NVIDIA Jetson AGX Orin Developer Kit', 'nvidia,p3737-0000+p3701-0004', 'nvidia,tegra234');
  const jetpack = async (line: string) => (await detect(t, orin, { '/etc/nv_tegra_release': line })).release;
  t.match(await jetpack('# R36 (release), REVISION: 4.4, GCID: 41062509, BOARD: generic'), { l4t: '36.4.4', jetpack: '6.2.1' });
  t.match(await jetpack('# R39 (release), REVISION: 2.0, DATE: Mon Jun  1 09:28:48 PM UTC 2026'), { l4t: '39.2.0', jetpack: '7.2' });
  t.match(await jetpack('# R38 (release), REVISION: 2.0, GCID: 41844464'), { l4t: '38.2.0', jetpack: '7.0' });
  t.match(await jetpack('# R32 (release), REVISION: 7.6, GCID: 1'), { l4t: '32.7.6', jetpack: '4' });
  t.match(await jetpack('# R47 (release), REVISION: 1.0, GCID: 1'), { l4t: '47.1.0', jetpack: null }, 'an unknown release is no failure');
  t.equal(await jetpack('nonsense'), null);
  const dpkg = 'Package: bash\nVersion: 5.1\n\nPackage: nvidia-l4t-core\nStatus: install ok installed\nVersion: 39.2.0-20260601141651\n';
  t.match((await detect(t, orin, { '/var/lib/dpkg/status': dpkg })).release, { l4t: '39.2.0', source: '/var/lib/dpkg/status' });
  const container = await detect(t, orin);
  t.equal(container.release, null);
  t.match(container.notes, [/release is unknown, as it is in a container/]);
  t.equal(container.profile.id, 'agx-orin-32gb', 'the device tree is enough');
});

t.test('the module counts, not the carrier; Super is the same board', async (t) => {
  const board = await detect(t, deviceTree('x', 'nvidia,p3768-0000+p3767-0005-super', 'nvidia,p3767-0005', 'nvidia,tegra234'), memory(7620));
  t.match(board, { module: 'p3767-0005', superConfiguration: true, matchedBy: 'part', profile: { id: 'orin-nano-8gb' } });
  t.match(await detect(t, deviceTree('x', 'nvidia,p3768-0000+p3767-0004', 'nvidia,tegra234')), { superConfiguration: false, profile: { id: 'orin-nano-4gb' } });
  t.match(await detect(t, deviceTree('x', 'nvidia,p3971-0080+p3834-0008', 'nvidia,tegra264')), { profile: { id: 'agx-thor-t5000' } });
  t.match(await detect(t, deviceTree('Raspberry Pi 5 Model B Rev 1.0', 'raspberrypi,5-model-b', 'brcm,bcm2712')), { profile: { id: 'raspberry-pi-5' }, matchedBy: 'compatible' });
  t.match(await detect(t, deviceTree('Raspberry Pi 4 Model B Rev 1.4', 'raspberrypi,4-model-b', 'brcm,bcm2711')), { profile: { id: 'raspberry-pi-4' } });
  t.match(await detect(t, deviceTree('Radxa ROCK 5B', 'radxa,rock-5b', 'rockchip,rk3588')), { profile: { id: 'rk3588' } });
});

t.test('the number of a kit is not that of its module', async (t) => {
  t.match(await detect(t, deviceTree('Jetson-AGX', 'nvidia,p2972-0000', 'nvidia,tegra194'), memory(31927)), { module: null, profile: { id: 'agx-xavier-32gb' } });
  const unknown = await detect(t, deviceTree('x', 'nvidia,p3971-0050+p3834-0005', 'nvidia,tegra264'), memory(125773), release(38));
  t.match(unknown, { module: 'p3834-0005', profile: { id: 'agx-thor-t5000' }, notes: [/module p3834-0005 is in no profile/] });
});

t.test('without a part number the memory decides, and doubt is said', async (t) => {
  const tegra = (soc: string, model: string | null, megabytes: number) => detect(t, deviceTree(model, `vendor,board`, `nvidia,tegra${soc}`), memory(megabytes), release(36));
  t.match(await tegra('264', 'Some carrier', 125773), { profile: { id: 'agx-thor-t5000' }, matchedBy: 'soc and memory' });
  t.match(await tegra('264', null, 62800), { profile: { id: 'agx-thor-t4000' } });
  for (const [model, megabytes, id] of [['NVIDIA Jetson AGX Orin Developer Kit', 30697, 'agx-orin-32gb'], ['NVIDIA Orin NX Developer Kit', 7546, 'orin-nx-8gb']] as const) {
    const sure = await tegra('234', model, megabytes);
    t.equal(sure.profile.id, id);
    t.same(sure.notes, []);
  }
  const unsure = await tegra('234', 'Some carrier', 7620);
  t.match(unsure.profile.id, /^orin-(nano|nx)-8gb$/);
  t.match(unsure.notes, [/It may also be NVIDIA Jetson Orin (NX|Nano) 8 GB/]);
});

t.test('E4: an unknown, an absent and an empty model string', async (t) => {
  for (const model of ['Nobody knows this', null, '']) {
    const board = await detect(t, deviceTree(model, 'nvidia,p3768-0000+p3767-0000', 'nvidia,tegra234'));
    t.equal(board.profile.id, 'orin-nx-16gb');
    t.equal(board.model, model === '' ? null : model);
  }
  t.match(await detect(t, deviceTree('Future', 'nvidia,p9999-0000+p9998-0000', 'nvidia,tegra999')), { profile: { id: 'generic-arm64' }, matchedBy: 'architecture' });
});

t.test('computers', async (t) => {
  const chassis = async (type: string, more: Files = {}) => (await detect(t, { ...intel, '/sys/class/dmi/id/chassis_type': `${type}\n`, ...more })).profile.id;
  t.equal(await chassis('10'), 'generic-laptop');
  t.equal(await chassis('3'), 'generic-desktop');
  t.equal(await chassis('23'), 'generic-server');
  t.equal(await chassis('3', { '/sys/class/power_supply/BAT0/type': 'Battery\n' }), 'generic-laptop');
  t.equal(await chassis('', { '/proc/cpuinfo': 'vendor_id\t: AuthenticAMD\nflags\t\t: fpu sse2 hypervisor\n' }), 'generic-server', 'a virtual machine');
  t.equal((await detect(t, {})).matchedBy, 'architecture', 'an empty tree is a machine too');
});

const orin = deviceTree('NVIDIA Jetson Orin Nano Developer Kit', 'nvidia,p3768-0000+p3767-0005', 'nvidia,tegra234');
const xavier = deviceTree('NVIDIA Jetson Xavier NX Developer Kit', 'nvidia,p3509-0000+p3668-0000', 'nvidia,tegra194');
const table = '< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\nCPU_ONLINE CORE_1 1\nCPU_ONLINE CORE_2 1\nCPU_ONLINE CORE_3 1\nCPU_ONLINE CORE_4 0\nCPU_ONLINE CORE_5 0\nCPU_A78_0 MAX_FREQ 1497600\nGPU MAX_FREQ 624750000\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\nCPU_A78_0 MAX_FREQ -1\nGPU MAX_FREQ -1\n< PM_CONFIG DEFAULT=2 >\n';
const gpuClock = (limit: number): Files => ({ '/sys/class/devfreq/17000000.gpu/cur_freq': '306000000\n', '/sys/class/devfreq/17000000.gpu/max_freq': `${limit}\n` });

t.test('the power mode', async (t) => {
  t.match(await detect(t, orin, powerMode(0, { online: 4, present: 6, table }), gpuClock(624_750_000)), { powerMode: { id: 0, name: '15W', inEffect: true } });
  t.match(await detect(t, orin, powerMode(2, { online: 6, present: 6, table })), { powerMode: { id: 2, name: 'MAXN_SUPER', inEffect: null } }, 'a mode without limits cannot be checked');
  const orinSuper = deviceTree('NVIDIA Jetson Orin Nano Developer Kit', 'nvidia,p3768-0000+p3767-0005-super', 'nvidia,tegra234');
  t.match(await detect(t, orinSuper, powerMode(1, { online: 6, present: 6 })), { powerMode: { id: 1, name: '25W', inEffect: null } }, 'named by the profile');
  t.match(await detect(t, orin, powerMode(1, { online: 6, present: 6 })), { powerMode: { id: 1, name: null } }, 'number 1 of a board that is not Super is another mode');
  const tx2 = deviceTree('quill', 'nvidia,quill', 'nvidia,tegra186');
  const maxn = '< POWER_MODEL ID=0 NAME=MAXN >\n' + [1, 2, 3, 4, 5].map((core) => `CPU_ONLINE CORE_${core} 1\n`).join('');
  t.match(await detect(t, tx2, powerMode(0, { online: 6, present: 6, table: maxn })), { powerMode: { name: 'MAXN', inEffect: true } }, 'a core that is not listed stays on');
  t.match(await detect(t, orin, powerMode(9, { online: 6, present: 6 })), { powerMode: { id: 9, name: null } });
  t.equal((await detect(t, orin)).powerMode, null);
});

t.test('a stale power mode is found out by cores and clocks', async (t) => {
  const cores = await detect(t, xavier, powerMode(0, { online: 6, present: 6 }));
  t.match(cores.powerMode, { name: 'MODE_15W_2CORE', inEffect: false, contradictions: ['6 cores are online, the mode has 2'] });
  t.ok(cores.notes.some((note) => /reported but not in effect.*A reboot applies it/.test(note)));
  const clocks = await detect(t, orin, powerMode(0, { online: 4, present: 6, table }), gpuClock(1_020_000_000));
  t.match(clocks.powerMode, { inEffect: false, contradictions: ['the GPU may run at 1020 MHz, the mode has 625 MHz'] });
});

t.test('processor, clocks and temperatures', async (t) => {
  const board = await detect(t, orin, powerMode(0, { online: 4, present: 6, table }), gpuClock(624_750_000), zone(0, 'cpu-thermal', 46125), zone(1, 'cv0-thermal', -256000), zone(10, 'tj-thermal', 47000), { '/sys/class/thermal/thermal_zone2/type': 'gpu-thermal\n' });
  t.same(board.processor, { presentCores: 6, onlineCores: 4, megahertz: 729.6, limitMegahertz: 1497.6, governor: 'schedutil' });
  t.same(board.clocks, [{ name: 'gpu', device: '17000000.gpu', megahertz: 306, limitMegahertz: 624.75 }]);
  t.same(board.temperatures, [{ zone: 'cpu-thermal', celsius: 46.125 }, { zone: 'tj-thermal', celsius: 47 }], 'gated zones and zones without a value are left out');
  const thor = await detect(t, deviceTree('x', 'nvidia,p4071-0000+p3834-0008'), { '/sys/class/devfreq/gpu-gpc-0/cur_freq': '314000000\n', '/sys/class/devfreq/bwmgr/cur_freq': '4266000000\n' });
  t.same(thor.clocks.map(({ name, megahertz }) => [name, megahertz]), [['memory', 4266], ['gpu', 314]]);
});

t.test('battery or mains', async (t) => {
  const supply = (status: string, more: Files = {}): Files => ({ ...intel, '/sys/class/power_supply/BAT0/type': 'Battery\n', '/sys/class/power_supply/BAT0/status': `${status}\n`, ...more });
  t.equal((await detect(t, supply('Discharging'))).onBattery, true);
  t.equal((await detect(t, supply('Full'))).onBattery, false);
  t.equal((await detect(t, supply('Discharging', { '/sys/class/power_supply/BAT0/scope': 'Device\n' }))).onBattery, null, 'the battery of a mouse');
  t.equal((await detect(t, intel)).onBattery, null);
});

t.test('memory, and how it is broken up', async (t) => {
  const buddyinfo = 'Node 0, zone      DMA   1046    527    216    109     47     19      7      3      2      3     91 \nNode 0, zone   Normal   5000    400    300    200    100     50     20     10      5      2      29 \n';
  t.same((await detect(t, orin, memory(7620), { '/proc/buddyinfo': buddyinfo })).memory, { totalBytes: 7620 * 2 ** 20, availableBytes: 3810 * 2 ** 20, largestFreeBlocks: 120 });
  t.equal((await detect(t, orin, { '/proc/buddyinfo': 'nonsense' })).memory.largestFreeBlocks, null);
});

t.test('throttling', async (t) => {
  const cooling = (state: number): Files => ({ '/sys/class/thermal/cooling_device3/type': 'gpu-throttle-alert\n', '/sys/class/thermal/cooling_device3/cur_state': `${state}\n` });
  t.same((await detect(t, orin)).throttling, { now: null, evidence: [] }, 'nothing tells');
  t.same((await detect(t, orin, cooling(0))).throttling, { now: false, evidence: [] });
  t.same((await detect(t, orin, cooling(1))).throttling, { now: true, evidence: ['gpu-throttle-alert: 1'] });
  const events = { '/sys/class/hwmon/hwmon0/name': 'soctherm\n', '/sys/class/hwmon/hwmon0/oc1_event_cnt': '7\n' };
  t.same((await detect(t, orin, events)).throttling, { now: false, evidence: ['soctherm oc1_event_cnt: 7 since the start'] }, 'what happened is not what happens');
  const chip = hwmonChip('1-0040', 1, [['VDD_IN', 4984, 7800]]);
  const alarm = Object.keys(chip).find((name) => name.endsWith('curr1_crit_alarm'))!;
  t.same((await detect(t, orin, { ...chip, [alarm]: '1\n' })).throttling, { now: true, evidence: ['ina3221 curr1_crit_alarm: 1'] });
});

t.test('files that fail or vanish', async (t) => {
  const root = await writeTree(t, orin, memory(7620), release(36), zone(0, 'cpu-thermal', 46125), zone(1, 'gpu-thermal', 45000));
  const files = new SystemFiles(root, (path) => {
    if (path.endsWith('thermal_zone0/temp')) throw Object.assign(new Error('no data'), { code: 'ENODATA' });
    return readFileSync(path, 'utf8');
  });
  const board = boardOf(files);
  t.same(board.temperatures, [{ zone: 'gpu-thermal', celsius: 45 }]);
  t.match(board.notes, ['/sys/class/thermal/thermal_zone0/temp cannot be read (ENODATA).']);
  await rm(join(root, 'proc'), { recursive: true });
  t.equal((await detectBoard({ sysRoot: root })).compatible.length, 0);
});

t.test('wrong options', async (t) => {
  await t.rejects(detectBoard({ sysRoot: 5 as unknown as string }), TypeError);
  await t.rejects(detectBoard({ sysroot: '/' } as object), { name: 'TypeError', message: /Did you mean 'sysRoot'/ });
});
