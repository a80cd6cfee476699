// Trees of /proc, /sys and /etc as boards have them, from short descriptions. Facts: the documents that docs/energy.md names.
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Test } from 'tap';
import { temporaryFolder } from './fixtures.js';

/** Path to text. A text that begins with `-> ` is a link. */
export type Files = Record<string, string>;

export async function writeTree(t: Test, ...parts: Files[]): Promise<string> {
  const root = await temporaryFolder(t);
  await addFiles(root, ...parts);
  return root;
}

export async function addFiles(root: string, ...parts: Files[]): Promise<void> {
  for (const [name, text] of Object.entries(Object.assign({}, ...parts) as Files)) {
    const path = join(root, name);
    await mkdir(dirname(path), { recursive: true });
    if (text.startsWith('-> ')) await symlink(text.slice(3), path);
    else await writeFile(path, text, { mode: text.startsWith('#!') ? 0o755 : 0o644 });
  }
}

export function deviceTree(model: string | null, ...compatible: string[]): Files {
  return {
    ...(model === null ? {} : { '/proc/device-tree/model': `${model}\0` }),
    '/proc/device-tree/compatible': compatible.map((entry) => `${entry}\0`).join(''),
  };
}

// Those of 28 and 34 are made after the others; only the numbers count.
const lines: Record<string, string> = {
  28: '# R28 (release), REVISION: 2.1, GCID: 11272647, BOARD: t186ref, EABI: aarch64, DATE: Thu May 17 07:29:06 UTC 2018\n',
  34: '# R34 (release), REVISION: 1.1, GCID: 30414990, BOARD: t186ref, EABI: aarch64, DATE: Tue May 17 04:20:55 UTC 2022\n',
  32: '# R32 (release), REVISION: 7.1, GCID: 29689809, BOARD: t186ref, EABI: aarch64, DATE: Wed Feb  2 21:33:23 UTC 2022\n',
  35: '# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64, DATE: Tue Aug  1 19:57:35 UTC 2023\n',
  36: '# R36 (release), REVISION: 4.4, GCID: 41062509, BOARD: generic, EABI: aarch64, DATE: Mon Jun 16 16:07:13 UTC 2025\n# KERNEL_VARIANT: oot\nTARGET_USERSPACE_LIB_DIR=nvidia\nTARGET_USERSPACE_LIB_DIR_PATH=/usr/lib/aarch64-linux-gnu/nvidia\n',
  38: '# R38 (release), REVISION: 4.0, GCID: 43443517, BOARD: generic, EABI: aarch64, DATE: Wed Dec 31 00:15:19 UTC 2025\n',
  39: '# R39 (release), REVISION: 2.0, GCID: 45755727, BOARD: generic, EABI: aarch64, DATE: Mon Jun  1 09:28:48 PM UTC 2026\n',
};

export const release = (major: 28 | 32 | 34 | 35 | 36 | 38 | 39): Files => ({ '/etc/nv_tegra_release': lines[major]! });

export const memory = (totalMegabytes: number): Files => ({
  '/proc/meminfo': `MemTotal:       ${totalMegabytes * 1024} kB\nMemFree:         300000 kB\nMemAvailable:   ${totalMegabytes * 512} kB\n`,
});

/** Label, mV, mA; a label of null has no file. */
export type Rail = [string | null, number, number];

/** INA3221 in hwmon, found through its class and its bus; `shuntMicroohms` of each channel. */
export function hwmonChip(address: string, number: number, rails: Rail[], shuntMicroohms = 5000, driver = 'ina3221'): Files {
  const real = `/sys/devices/platform/c240000.i2c/${address}`;
  const folder = `${real}/hwmon/hwmon${number}`;
  const files: Files = {
    [`${folder}/name`]: 'ina3221\n',
    [`${folder}/samples`]: '1\n',
    [`${folder}/update_interval`]: '7\n',
    [`${folder}/in7_label`]: 'sum of shunt voltages\n',
    [`${folder}/in7_input`]: '760\n',
    [`${folder}/curr4_input`]: '360\n',
    [`${folder}/device`]: '-> ../..',
    [`/sys/class/hwmon/hwmon${number}`]: `-> ../../devices/platform/c240000.i2c/${address}/hwmon/hwmon${number}`,
    [`/sys/bus/i2c/drivers/${driver}/${address}`]: `-> ../../../../devices/platform/c240000.i2c/${address}`,
    [`/sys/bus/i2c/devices/${address}`]: `-> ../../../devices/platform/c240000.i2c/${address}`,
  };
  for (const [index, [label, millivolts, milliamperes]] of rails.entries()) {
    const channel = index + 1;
    if (label !== null) files[`${folder}/in${channel}_label`] = `${label}\n`;
    files[`${folder}/in${channel}_input`] = `${millivolts}\n`;
    files[`${folder}/curr${channel}_input`] = `${milliamperes}\n`;
    files[`${folder}/shunt${channel}_resistor`] = `${shuntMicroohms}\n`;
    files[`${folder}/in${channel + 3}_input`] = '120\n';
    files[`${folder}/curr${channel}_crit_alarm`] = '0\n';
  }
  return files;
}

/** INA3221 of NVIDIA's older driver in IIO. */
export function iioChip(address: string, device: number, rails: Rail[], folderName = `iio:device${device}`): Files {
  const folder = `/sys/bus/i2c/drivers/ina3221x/${address}/${folderName}`;
  const files: Files = { [`${folder}/name`]: 'ina3221x\n', [`${folder}/running_mode`]: 'continuous\n' };
  for (const [channel, [label, millivolts, milliamperes]] of rails.entries()) {
    if (label !== null) files[`${folder}/rail_name_${channel}`] = `${label}\n`;
    files[`${folder}/in_voltage${channel}_input`] = `${millivolts}\n`;
    files[`${folder}/in_current${channel}_input`] = `${milliamperes}\n`;
    files[`${folder}/in_power${channel}_input`] = `${Math.trunc((millivolts * milliamperes) / 1000)}\n`;
    files[`${folder}/crit_current_limit_${channel}`] = '32760 ma\n';
  }
  return files;
}

/** The same in Jetson Linux 28: the folder has another name, and the driver's folder in the bus is not there. */
export function oldIioChip(address: string, rails: Rail[]): Files {
  const real = `/sys/devices/3160000.i2c/i2c-${address[0]}/${address}`;
  const files = Object.entries(iioChip(address, 0, rails)).map(([name, text]) => [`${real}/iio_device/${name.split('/').at(-1)}`, text]);
  return { ...(Object.fromEntries(files) as Files), [`/sys/bus/i2c/devices/${address}`]: `-> ../../../devices/3160000.i2c/i2c-${address[0]}/${address}` };
}

/** The monitor of Thor's input. */
export function ina238(number: number, microwatts: number): Files {
  const folder = `/sys/devices/platform/c600000.i2c/2-0044/hwmon/hwmon${number}`;
  return {
    [`${folder}/name`]: 'ina238\n',
    [`${folder}/label`]: 'VIN\n',
    [`${folder}/in1_input`]: '19780\n',
    [`${folder}/curr1_input`]: '1264\n',
    [`${folder}/power1_input`]: `${microwatts}\n`,
    [`${folder}/temp1_input`]: '41000\n',
    [`/sys/class/hwmon/hwmon${number}`]: `-> ../../devices/platform/c600000.i2c/2-0044/hwmon/hwmon${number}`,
  };
}

/** A power mode that is reported, and what the processor really does. */
export function powerMode(id: number, { online, present, table = '' }: { online: number; present: number; table?: string }): Files {
  const cores: Files = { '/sys/devices/system/cpu/present': `0-${present - 1}\n`, '/sys/devices/system/cpu/online': `0-${online - 1}\n` };
  for (let core = 0; core < present; core++) {
    cores[`/sys/devices/system/cpu/cpu${core}/online`] = core < online ? '1\n' : '0\n';
    if (core >= online) continue;
    const folder = `/sys/devices/system/cpu/cpu${core}/cpufreq`;
    Object.assign(cores, { [`${folder}/scaling_cur_freq`]: '729600\n', [`${folder}/scaling_max_freq`]: '1497600\n', [`${folder}/scaling_governor`]: 'schedutil\n' });
  }
  return { ...cores, '/var/lib/nvpmodel/status': `pmode:${String(id).padStart(4, '0')} fmode:fan_mode_quiet\n`, ...(table === '' ? {} : { '/etc/nvpmodel.conf': table }) };
}

export function zone(number: number, type: string, thousandths: number): Files {
  return { [`/sys/class/thermal/thermal_zone${number}/type`]: `${type}\n`, [`/sys/class/thermal/thermal_zone${number}/temp`]: `${thousandths}\n` };
}

/** Zones of RAPL: entry (`intel-rapl:0:1`), name, microjoules. */
export function rapl(...zones: [string, string, number][]): Files {
  return Object.assign({}, ...zones.map(([entry, name, microjoules]) => ({
    [`/sys/class/powercap/${entry}/name`]: `${name}\n`,
    [`/sys/class/powercap/${entry}/energy_uj`]: `${microjoules}\n`,
    [`/sys/class/powercap/${entry}/max_energy_range_uj`]: '262143328850\n',
  }))) as Files;
}

export const intel: Files = { '/proc/cpuinfo': 'processor\t: 0\nvendor_id\t: GenuineIntel\n', '/sys/class/dmi/id/chassis_type': '10\n' };

// ---- the boards ----

const orinRails: Rail[] = [['VDD_IN', 4984, 960], ['VDD_CPU_GPU_CV', 4976, 120], ['VDD_SOC', 4976, 304]];
const agxOrinFirst: Rail[] = [['VDD_GPU_SOC', 12008, 280], ['VDD_CPU_CV', 12008, 40], ['VIN_SYS_5V0', 4968, 980]];
const agxXavier: [Rail[], Rail[]] = [
  [['GPU', 19400, 0], ['CPU', 19400, 16], ['SOC', 19400, 48]],
  [['CV', 19400, 0], ['VDDRQ', 19400, 32], ['SYS5V', 19400, 80]],
];
const thorRails: Rail[] = [['VDD_GPU', 12040, 640], ['VDD_CPU_SOC_MSS', 12040, 960], ['VIN_SYS_5V0', 5088, 1740]];
const thorTree = deviceTree('NVIDIA Jetson AGX Thor Developer Kit', 'nvidia,p4071-0000+p3834-0008', 'nvidia,p3834-0008', 'nvidia,tegra264');
const agxOrinTree = deviceTree('NVIDIA Jetson AGX Orin Developer Kit', 'nvidia,p3737-0000+p3701-0005', 'nvidia,p3701-0005', 'nvidia,tegra234');

export interface BoardFixture {
  name: string;
  files: Files;
  profile: string;
  l4t: string | null;
  /** The preferred meter; null for none. */
  meter: { name: string; scope: string; total: string; watts: number; rails: string[] } | null;
  /** Names of meters that are there and cannot be read. */
  unreadable?: string[];
}

export const boards: BoardFixture[] = [
  {
    name: 'TX1, r28',
    files: {
      ...deviceTree('jetson_tx1', 'nvidia,p2371-2180', 'nvidia,jetson-cv', 'nvidia,tegra210'), ...release(28), ...memory(3983),
      ...oldIioChip('1-0040', [['VDD_IN', 19080, 132], ['VDD_GPU', 19080, 1], ['VDD_CPU', 19080, 4]]),
      ...oldIioChip('1-0042', [['VDD_MUX', 19080, 200], ['VDD_5V_IO_SYS', 4976, 100], ['VDD_3V3_SYS', 3320, 80]]),
      ...oldIioChip('1-0043', [['VDD_3V3_IO', 3320, 0], ['VDD_1V8_IO', 1800, 8], ['VDD_M2_IN', 3320, 0]]),
    },
    profile: 'jetson-tx1',
    l4t: '28.2.1',
    meter: { name: 'ina3221-iio', scope: 'module', total: 'VDD_IN', watts: 2.518, rails: ['VDD_IN', 'VDD_GPU', 'VDD_CPU', 'VDD_MUX', 'VDD_5V_IO_SYS', 'VDD_3V3_SYS', 'VDD_3V3_IO', 'VDD_1V8_IO', 'VDD_M2_IN'] },
  },
  {
    name: 'TX1, r32',
    files: { ...deviceTree('jetson_tx1', 'nvidia,p2371-2180', 'nvidia,tegra210'), ...release(32), ...memory(3983), ...iioChip('1-0040', 0, [['VDD_IN', 19080, 132], ['VDD_GPU', 19080, 1], ['VDD_CPU', 19080, 4]]) },
    profile: 'jetson-tx1',
    l4t: '32.7.1',
    meter: { name: 'ina3221-iio', scope: 'module', total: 'VDD_IN', watts: 2.518, rails: ['VDD_IN', 'VDD_GPU', 'VDD_CPU'] },
  },
  {
    name: 'TX2, r28',
    files: {
      ...deviceTree('quill', 'nvidia,quill', 'nvidia,tegra186'), ...release(28), ...memory(7829),
      ...oldIioChip('0-0040', [['VDD_SYS_GPU', 19080, 8], ['VDD_SYS_SOC', 19080, 36], ['VDD_4V0_WIFI', 4848, 0]]),
      ...oldIioChip('0-0041', [['VDD_IN', 19080, 160], ['VDD_SYS_CPU', 19080, 8], ['VDD_SYS_DDR', 19080, 46]]),
    },
    profile: 'jetson-tx2',
    l4t: '28.2.1',
    meter: { name: 'ina3221-iio', scope: 'module', total: 'VDD_IN', watts: 3.052, rails: ['VDD_SYS_GPU', 'VDD_SYS_SOC', 'VDD_4V0_WIFI', 'VDD_IN', 'VDD_SYS_CPU', 'VDD_SYS_DDR'] },
  },
  {
    name: 'TX2 NX, r32',
    files: { ...deviceTree('NVIDIA Jetson TX2 NX', 'nvidia,p3509-0000+p3636-0001', 'nvidia,tegra186'), ...release(32), ...memory(3825), ...iioChip('7-0040', 0, [['VDD_IN', 4984, 400], ['VDD_CPU_GPU', 4984, 80], ['VDD_SOC', 4984, 160]]) },
    profile: 'jetson-tx2-nx',
    l4t: '32.7.1',
    meter: { name: 'ina3221-iio', scope: 'module', total: 'VDD_IN', watts: 1.993, rails: ['VDD_IN', 'VDD_CPU_GPU', 'VDD_SOC'] },
  },
  {
    name: 'Xavier NX 16 GB, r32',
    files: { ...deviceTree('NVIDIA Jetson Xavier NX Developer Kit', 'nvidia,p3509-0000+p3668-0003', 'nvidia,tegra194'), ...release(32), ...memory(15452), ...iioChip('7-0040', 0, [['VDD_IN', 4984, 816], ['VDD_CPU_GPU_CV', 4984, 144], ['VDD_SOC', 4984, 272]]) },
    profile: 'xavier-nx-16gb',
    l4t: '32.7.1',
    meter: { name: 'ina3221-iio', scope: 'module', total: 'VDD_IN', watts: 4.066, rails: ['VDD_IN', 'VDD_CPU_GPU_CV', 'VDD_SOC'] },
  },
  {
    name: 'Orin NX 8 GB, r35',
    files: { ...deviceTree('NVIDIA Orin NX Developer Kit', 'nvidia,p3509-0000+p3767-0001', 'nvidia,tegra234'), ...release(35), ...memory(7337), ...hwmonChip('1-0040', 2, orinRails) },
    profile: 'orin-nx-8gb',
    l4t: '35.4.1',
    meter: { name: 'ina3221-hwmon', scope: 'module', total: 'VDD_IN', watts: 4.984 * 0.96, rails: ['VDD_IN', 'VDD_CPU_GPU_CV', 'VDD_SOC'] },
  },
  {
    name: 'Orin Nano 4 GB, r36',
    files: { ...deviceTree('NVIDIA Orin Nano Developer Kit', 'nvidia,p3768-0000+p3767-0004', 'nvidia,tegra234'), ...release(36), ...memory(3419), ...hwmonChip('1-0040', 1, orinRails) },
    profile: 'orin-nano-4gb',
    l4t: '36.4.4',
    meter: { name: 'ina3221-hwmon', scope: 'module', total: 'VDD_IN', watts: 4.984 * 0.96, rails: ['VDD_IN', 'VDD_CPU_GPU_CV', 'VDD_SOC'] },
  },
  {
    name: 'Orin Nano, r39',
    files: { ...deviceTree('NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super', 'nvidia,p3768-0000+p3767-0005-super', 'nvidia,tegra234'), ...release(39), ...memory(7546), ...hwmonChip('1-0040', 4, [['VDD_IN', 4968, 1520], ['VDD_CPU_GPU_CV', 4960, 1784], ['VDD_SOC', 4960, 496]]) },
    profile: 'orin-nano-8gb',
    l4t: '39.2.0',
    meter: { name: 'ina3221-hwmon', scope: 'module', total: 'VDD_IN', watts: 4.968 * 1.52, rails: ['VDD_IN', 'VDD_CPU_GPU_CV', 'VDD_SOC'] },
  },
  {
    name: 'AGX Orin, r34',
    files: { ...deviceTree('NVIDIA Jetson AGX Orin Developer Kit', 'nvidia,p3737-0000+p3701-0000', 'nvidia,tegra234'), ...release(34), ...memory(30536), ...hwmonChip('1-0040', 3, agxOrinFirst, 2000, 'ina3221x'), ...hwmonChip('1-0041', 4, [['NC', 0, 0], ['VDDQ_VDD2_1V8AO', 4968, 60], ['NC', 0, 0]], 2000, 'ina3221x') },
    profile: 'agx-orin-32gb',
    l4t: '34.1.1',
    meter: { name: 'ina3221-hwmon', scope: 'module', total: 'VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0', watts: 12.008 * 0.32 + 4.968 * 0.98, rails: ['VDD_GPU_SOC', 'VDD_CPU_CV', 'VIN_SYS_5V0', 'VDDQ_VDD2_1V8AO'] },
  },
  {
    name: 'AGX Orin Industrial, r36, with the monitors of its carrier',
    files: {
      ...deviceTree('NVIDIA Jetson AGX Orin Developer Kit', 'nvidia,p3737-0000+p3701-0008', 'nvidia,tegra234'), ...release(36), ...memory(62841),
      ...hwmonChip('1-0040', 3, agxOrinFirst, 2000), ...hwmonChip('2-0041', 5, [['CVB_ATX_12V', 12000, 800], ['CVB_ATX_3V3', 3304, 200], ['CVB_ATX_5V', 5000, 400]]),
      '/sys/class/hwmon/hwmon6/name': 'ina219\n', '/sys/class/hwmon/hwmon6/power1_input': '9000000\n',
    },
    profile: 'agx-orin-64gb',
    l4t: '36.4.4',
    meter: { name: 'ina3221-hwmon', scope: 'module', total: 'VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0', watts: 12.008 * 0.32 + 4.968 * 0.98, rails: ['VDD_GPU_SOC', 'VDD_CPU_CV', 'VIN_SYS_5V0', 'CVB_ATX_12V', 'CVB_ATX_3V3', 'CVB_ATX_5V'] },
    unreadable: ['hwmon'],
  },
  {
    name: 'Thor T4000, r38',
    files: { ...deviceTree('NVIDIA Jetson AGX Thor', 'nvidia,p3971-0050+p3834-0000', 'nvidia,tegra264'), ...release(38), ...memory(62800), ...hwmonChip('2-0040', 1, thorRails, 2000) },
    profile: 'agx-thor-t4000',
    l4t: '38.4.0',
    meter: { name: 'ina3221-hwmon', scope: 'module', total: 'VDD_GPU + VDD_CPU_SOC_MSS + VIN_SYS_5V0', watts: 12.04 * 1.6 + 5.088 * 1.74, rails: ['VDD_GPU', 'VDD_CPU_SOC_MSS', 'VIN_SYS_5V0'] },
  },
  { name: 'Raspberry Pi 4', files: { ...deviceTree('Raspberry Pi 4 Model B Rev 1.4', 'raspberrypi,4-model-b', 'brcm,bcm2711'), ...memory(3792) }, profile: 'raspberry-pi-4', l4t: null, meter: null },
  { name: 'RK3588', files: { ...deviceTree('Radxa ROCK 5B', 'radxa,rock-5b', 'rockchip,rk3588'), ...memory(15962) }, profile: 'rk3588', l4t: null, meter: null },
  {
    name: 'Nano, r32',
    files: { ...deviceTree('NVIDIA Jetson Nano Developer Kit', 'nvidia,p3450-0000', 'nvidia,tegra210'), ...release(32), ...memory(3964), ...iioChip('6-0040', 0, [['POM_5V_IN', 5000, 204], ['POM_5V_GPU', 5000, 0], ['POM_5V_CPU', 5000, 40]]) },
    profile: 'jetson-nano',
    l4t: '32.7.1',
    meter: { name: 'ina3221-iio', scope: 'module and carrier', total: 'POM_5V_IN', watts: 1.02, rails: ['POM_5V_IN', 'POM_5V_GPU', 'POM_5V_CPU'] },
  },
  { name: 'Nano 2 GB without chips', files: { ...deviceTree('NVIDIA Jetson Nano 2GB Developer Kit', 'nvidia,p3541-0000', 'nvidia,p3448-0003', 'nvidia,tegra210'), ...release(32), ...memory(1980) }, profile: 'jetson-nano-2gb', l4t: '32.7.1', meter: null },
  {
    name: 'TX2, r32, four chips',
    files: {
      ...deviceTree('quill', 'nvidia,p2597-0000+p3310-1000', 'nvidia,quill', 'nvidia,tegra186'), ...release(32), ...memory(7852),
      ...iioChip('0-0040', 0, [['VDD_SYS_GPU', 19080, 8], ['VDD_SYS_SOC', 19080, 36], ['VDD_4V0_WIFI', 4848, 0]]),
      ...iioChip('0-0041', 1, [['VDD_IN', 19080, 160], ['VDD_SYS_CPU', 19080, 8], ['VDD_SYS_DDR', 19080, 46]]),
      ...iioChip('0-0042', 2, [['VDD_MUX', 19080, 200], ['VDD_5V0_IO_SYS', 4976, 100], ['VDD_3V3_SYS', 3320, 80]]),
      ...iioChip('0-0043', 3, [['VDD_3V3_IO_SLP', 3320, 0], ['VDD_1V8_IO', 1800, 8], ['VDD_3V3_SYS_M2', 3320, 0]]),
    },
    profile: 'jetson-tx2',
    l4t: '32.7.1',
    meter: { name: 'ina3221-iio', scope: 'module', total: 'VDD_IN', watts: 3.052, rails: ['VDD_SYS_GPU', 'VDD_SYS_SOC', 'VDD_4V0_WIFI', 'VDD_IN', 'VDD_SYS_CPU', 'VDD_SYS_DDR', 'VDD_MUX', 'VDD_5V0_IO_SYS', 'VDD_3V3_SYS', 'VDD_3V3_IO_SLP', 'VDD_1V8_IO', 'VDD_3V3_SYS_M2'] },
  },
  {
    name: 'AGX Xavier, r32',
    files: { ...deviceTree('Jetson-AGX', 'nvidia,p2972-0000', 'nvidia,tegra194'), ...release(32), ...memory(31927), ...iioChip('1-0040', 0, agxXavier[0]), ...iioChip('1-0041', 1, agxXavier[1]) },
    profile: 'agx-xavier-32gb',
    l4t: '32.7.1',
    meter: { name: 'ina3221-iio', scope: 'module', total: 'GPU + CPU + SOC + CV + VDDRQ + SYS5V', watts: 0.31 + 0.931 + 0.62 + 1.552, rails: ['GPU', 'CPU', 'SOC', 'CV', 'VDDRQ', 'SYS5V'] },
  },
  {
    name: 'AGX Xavier, r35',
    files: { ...deviceTree('Jetson-AGX', 'nvidia,p2972-0000+p2888-0001', 'nvidia,tegra194'), ...release(35), ...memory(15692), ...hwmonChip('1-0040', 4, agxXavier[0]), ...hwmonChip('1-0041', 3, agxXavier[1]) },
    profile: 'agx-xavier-16gb',
    l4t: '35.4.1',
    meter: { name: 'ina3221-hwmon', scope: 'module', total: 'GPU + CPU + SOC + CV + VDDRQ + SYS5V', watts: (19.4 * 176) / 1000, rails: ['GPU', 'CPU', 'SOC', 'CV', 'VDDRQ', 'SYS5V'] },
  },
  {
    name: 'Xavier NX, r35',
    files: { ...deviceTree('NVIDIA Jetson Xavier NX Developer Kit', 'nvidia,p3509-0000+p3668-0000', 'nvidia,tegra194'), ...release(35), ...memory(6854), ...hwmonChip('7-0040', 2, [['VDD_IN', 4984, 816], ['VDD_CPU_GPU_CV', 4984, 144], ['VDD_SOC', 4984, 272]]) },
    profile: 'xavier-nx-8gb',
    l4t: '35.4.1',
    meter: { name: 'ina3221-hwmon', scope: 'module', total: 'VDD_IN', watts: 4.984 * 0.816, rails: ['VDD_IN', 'VDD_CPU_GPU_CV', 'VDD_SOC'] },
  },
  {
    name: 'Orin Nano, r36, super',
    files: { ...deviceTree('NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super', 'nvidia,p3768-0000+p3767-0005-super', 'nvidia,p3767-0005', 'nvidia,tegra234'), ...release(36), ...memory(7620), ...hwmonChip('1-0040', 1, orinRails) },
    profile: 'orin-nano-8gb',
    l4t: '36.4.4',
    meter: { name: 'ina3221-hwmon', scope: 'module', total: 'VDD_IN', watts: 4.984 * 0.96, rails: ['VDD_IN', 'VDD_CPU_GPU_CV', 'VDD_SOC'] },
  },
  {
    name: 'Orin Nano, r36, after another boot',
    files: { ...deviceTree('NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super', 'nvidia,p3768-0000+p3767-0005-super', 'nvidia,tegra234'), ...release(36), ...memory(7620), '/sys/class/hwmon/hwmon1/name': 'pwmfan\n', ...hwmonChip('1-0040', 5, orinRails) },
    profile: 'orin-nano-8gb',
    l4t: '36.4.4',
    meter: { name: 'ina3221-hwmon', scope: 'module', total: 'VDD_IN', watts: 4.984 * 0.96, rails: ['VDD_IN', 'VDD_CPU_GPU_CV', 'VDD_SOC'] },
  },
  {
    name: 'Orin NX, r36',
    files: { ...deviceTree('NVIDIA Orin NX Developer Kit', 'nvidia,p3768-0000+p3767-0000', 'nvidia,tegra234'), ...release(36), ...memory(15657), ...hwmonChip('1-0040', 2, orinRails) },
    profile: 'orin-nx-16gb',
    l4t: '36.4.4',
    meter: { name: 'ina3221-hwmon', scope: 'module', total: 'VDD_IN', watts: 4.984 * 0.96, rails: ['VDD_IN', 'VDD_CPU_GPU_CV', 'VDD_SOC'] },
  },
  {
    name: 'AGX Orin, r35, with NC labels',
    files: { ...agxOrinTree, ...release(35), ...memory(62801), ...hwmonChip('1-0040', 3, agxOrinFirst, 2000), ...hwmonChip('1-0041', 4, [['NC', 0, 0], ['VDDQ_VDD2_1V8AO', 4968, 60], ['NC', 0, 0]], 2000) },
    profile: 'agx-orin-64gb',
    l4t: '35.4.1',
    meter: { name: 'ina3221-hwmon', scope: 'module', total: 'VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0', watts: 12.008 * 0.32 + 4.968 * 0.98, rails: ['VDD_GPU_SOC', 'VDD_CPU_CV', 'VIN_SYS_5V0', 'VDDQ_VDD2_1V8AO'] },
  },
  {
    name: 'AGX Orin, r36, with channels without label',
    files: { ...agxOrinTree, ...release(36), ...memory(62841), ...hwmonChip('1-0040', 3, agxOrinFirst, 2000), ...hwmonChip('1-0041', 4, [[null, 0, 0], ['VDDQ_VDD2_1V8AO', 4968, 60], [null, 0, 0]], 2000) },
    profile: 'agx-orin-64gb',
    l4t: '36.4.4',
    meter: { name: 'ina3221-hwmon', scope: 'module', total: 'VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0', watts: 12.008 * 0.32 + 4.968 * 0.98, rails: ['VDD_GPU_SOC', 'VDD_CPU_CV', 'VIN_SYS_5V0', 'VDDQ_VDD2_1V8AO'] },
  },
  {
    name: 'AGX Orin, r39',
    files: { ...agxOrinTree, ...release(39), ...memory(62817), ...hwmonChip('1-0040', 6, agxOrinFirst, 2000) },
    profile: 'agx-orin-64gb',
    l4t: '39.2.0',
    meter: { name: 'ina3221-hwmon', scope: 'module', total: 'VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0', watts: 12.008 * 0.32 + 4.968 * 0.98, rails: ['VDD_GPU_SOC', 'VDD_CPU_CV', 'VIN_SYS_5V0'] },
  },
  {
    name: 'Thor, r38, without ina238',
    files: { ...thorTree, ...release(38), ...memory(125773), ...hwmonChip('2-0040', 1, thorRails, 2000) },
    profile: 'agx-thor-t5000',
    l4t: '38.4.0',
    meter: { name: 'ina3221-hwmon', scope: 'module', total: 'VDD_GPU + VDD_CPU_SOC_MSS + VIN_SYS_5V0', watts: 12.04 * 1.6 + 5.088 * 1.74, rails: ['VDD_GPU', 'VDD_CPU_SOC_MSS', 'VIN_SYS_5V0'] },
  },
  {
    name: 'Thor, r38, with ina238',
    files: { ...thorTree, ...release(38), ...memory(125772), ...hwmonChip('2-0040', 1, thorRails, 2000), ...ina238(2, 25_000_000), '/sys/class/power_supply/ucsi-source-psy-2-00081/type': 'USB\n', '/sys/class/power_supply/ucsi-source-psy-2-00081/current_now': '3000000\n', '/sys/class/power_supply/ucsi-source-psy-2-00081/voltage_now': '20000000\n' },
    profile: 'agx-thor-t5000',
    l4t: '38.4.0',
    meter: { name: 'ina238', scope: 'board', total: 'VIN', watts: 25, rails: ['VIN'] },
  },
  {
    name: 'Thor, r39',
    files: { ...thorTree, ...release(39), ...memory(125811), ...hwmonChip('2-0040', 7, thorRails, 2000), ...ina238(3, 124_486_000) },
    profile: 'agx-thor-t5000',
    l4t: '39.2.0',
    meter: { name: 'ina238', scope: 'board', total: 'VIN', watts: 124.486, rails: ['VIN'] },
  },
];
