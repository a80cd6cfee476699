/** What changes on a board while it stays the same board: power mode, clocks, temperatures, throttling. No root is needed. */
import type { BoardProfile } from './board-profile.js';
import type { SystemFiles } from './system-files.js';

/** A power mode of a board. */
export interface PowerMode {
  id: number;
  /** Null where neither the board's table nor its profile names it. */
  name: string | null;
  /**
   * False when online cores or clocks contradict the mode, which then waits for a reboot or was overridden; null when
   * nothing tells.
   */
  inEffect: boolean | null;
  /** What contradicts it. */
  contradictions: string[];
}

/** The cores of one kind and their clock. */
export interface ProcessorState {
  presentCores: number | null;
  onlineCores: number | null;
  /** Of the fastest core now. */
  megahertz: number | null;
  /** The highest that the power mode allows on any core. */
  limitMegahertz: number | null;
  governor: string | null;
}

/** A clock that the kernel scales. */
export interface ClockState {
  /** `gpu`, `memory` */
  name: 'gpu' | 'memory';
  device: string;
  megahertz: number | null;
  limitMegahertz: number | null;
}

/** One sensor, in degrees Celsius. */
export interface Temperature {
  zone: string;
  celsius: number;
}

/** Whether the board is holding back, and why. */
export interface Throttling {
  /** Null where the board has no sign of it. */
  now: boolean | null;
  /** What shows it, `gpu-throttle-alert: 1`, and counts since the start. */
  evidence: string[];
}

/** Clocks, temperatures and limits at one moment. */
export interface BoardState {
  powerMode: PowerMode | null;
  /** Runs from a battery; null without one. Processors are slower there. */
  onBattery: boolean | null;
  processor: ProcessorState;
  clocks: ClockState[];
  temperatures: Temperature[];
  throttling: Throttling;
}

/** Reads everything anew at each call. `isSuper`: the board is flashed with the configuration that NVIDIA calls Super. */
export function boardState(files: SystemFiles, profile: BoardProfile, isSuper: boolean): BoardState {
  const processor = processorState(files);
  const clocks = clockStates(files);
  return {
    powerMode: powerMode(files, profile, isSuper, processor, clocks),
    onBattery: onBattery(files),
    processor,
    clocks,
    temperatures: temperatures(files),
    throttling: throttling(files),
  };
}

/** Batteries of devices, such as a mouse, do not feed the machine. */
function onBattery(files: SystemFiles): boolean | null {
  const folder = '/sys/class/power_supply';
  const batteries = files.entries(folder).filter((entry) => files.text(`${folder}/${entry}/type`) === 'Battery' && files.text(`${folder}/${entry}/scope`) !== 'Device');
  return batteries.length === 0 ? null : batteries.some((entry) => files.text(`${folder}/${entry}/status`) === 'Discharging');
}

const cpus = '/sys/devices/system/cpu';

function processorState(files: SystemFiles): ProcessorState {
  const cores = files.entries(cpus).filter((name) => /^cpu\d+$/.test(name));
  const onlineList = files.text(`${cpus}/online`);
  // A core without the file `online` cannot be switched off.
  const online = cores.filter((core) => files.number(`${cpus}/${core}/online`) !== 0).length;
  const frequency = (file: string): number | null =>
    largest(cores.map((core) => files.number(`${cpus}/${core}/cpufreq/${file}`)).map((kilohertz) => (kilohertz === null ? null : kilohertz / 1000)));
  return {
    presentCores: listLength(files.text(`${cpus}/present`)) ?? (cores.length === 0 ? null : cores.length),
    onlineCores: listLength(onlineList) ?? (cores.length === 0 ? null : online),
    megahertz: frequency('scaling_cur_freq'),
    limitMegahertz: frequency('scaling_max_freq'),
    governor: files.text(`${cpus}/cpu0/cpufreq/scaling_governor`),
  };
}

/** `0-3,5` is 5. */
function listLength(text: string | null): number | null {
  if (text === null || !/^\d+(-\d+)?(,\d+(-\d+)?)*$/.test(text)) return null;
  return text.split(',').reduce((sum, range) => {
    const [first, last] = range.split('-').map(Number);
    return sum + (last === undefined ? 1 : last - first! + 1);
  }, 0);
}

function largest(values: (number | null)[]): number | null {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : Math.max(...known);
}

// The device of the GPU from Nano to Orin, and on Thor.
const gpuDevice = /^(\d+\.(gpu|gp10b|gv11b|ga10b)|gpu-gpc-0)$/;

function clockStates(files: SystemFiles): ClockState[] {
  const folder = '/sys/class/devfreq';
  return files.entries(folder).flatMap((device): ClockState[] => {
    const name = gpuDevice.test(device) ? 'gpu' : device === 'bwmgr' ? 'memory' : null;
    if (name === null) return [];
    const megahertz = (file: string): number | null => {
      const hertz = files.number(`${folder}/${device}/${file}`);
      return hertz === null ? null : hertz / 1e6;
    };
    return [{ name, device, megahertz: megahertz('cur_freq'), limitMegahertz: megahertz('max_freq') }];
  });
}

/** What the mode's part of /etc/nvpmodel.conf asks for. */
interface ModeTable {
  name: string;
  /** How many it switches off; null where it says nothing of cores. One that is not listed stays on. */
  offlineCores: number | null;
  /** -1 there means no limit, which is null here. */
  cpuMegahertz: number | null;
  gpuMegahertz: number | null;
}

/** The reported mode stays the old one after a switch that needs a reboot, so it is held against cores and clocks. */
function powerMode(files: SystemFiles, profile: BoardProfile, isSuper: boolean, processor: ProcessorState, clocks: ClockState[]): PowerMode | null {
  const status = files.text('/var/lib/nvpmodel/status');
  const found = status === null ? null : /pmode:\s*(\d+)/.exec(status);
  if (found === null) return null;
  const id = Number(found[1]);
  const table = modeTable(files.text('/etc/nvpmodel.conf'), id);
  // The numbers of another configuration mean other modes.
  const known = table ?? profile.powerModes.find((mode) => mode.id === id && (mode.super !== true || isSuper)) ?? null;
  const name = known?.name ?? null;
  const offline = table?.offlineCores ?? null;
  const wantedCores = offline === null ? coresInName(name) : processor.presentCores === null ? null : processor.presentCores - offline;
  const contradictions: string[] = [];
  let checks = 0;
  const check = (wrong: boolean, text: string): void => {
    checks++;
    if (wrong) contradictions.push(text);
  };
  if (wantedCores !== null && processor.onlineCores !== null) {
    check(wantedCores !== processor.onlineCores, `${processor.onlineCores} cores are online, the mode has ${wantedCores}`);
  }
  // Clocks are set to the nearest step, hence the tolerance.
  const limit = (what: string, wanted: number | null, is: number | null): void => {
    if (wanted !== null && is !== null) check(Math.abs(is - wanted) > 0.05 * wanted, `the ${what} may run at ${Math.round(is)} MHz, the mode has ${Math.round(wanted)} MHz`);
  };
  limit('processor', table?.cpuMegahertz ?? null, processor.limitMegahertz);
  const gpu = clocks.find((clock) => clock.name === 'gpu');
  limit('GPU', table === null ? null : table.gpuMegahertz, gpu?.limitMegahertz ?? null);
  return { id, name, inEffect: checks === 0 ? null : contradictions.length === 0, contradictions };
}

function coresInName(name: string | null): number | null {
  const found = name === null ? null : /_(\d+)CORE/.exec(name);
  return found === null ? null : Number(found[1]);
}

function modeTable(text: string | null, id: number): ModeTable | null {
  const start = new RegExp(`<\\s*POWER_MODEL\\s+ID=${id}\\s+NAME=(\\S+)\\s*>`).exec(text ?? '');
  if (start === null) return null;
  const body = text!.slice(start.index + start[0].length).split('<')[0]!;
  const switches = [...body.matchAll(/^CPU_ONLINE\s+CORE_\d+\s+([01])/gm)];
  const most = (pattern: RegExp, perMegahertz: number): number | null => {
    const values = [...body.matchAll(pattern)].map((found) => Number(found[1]));
    // One unit without a limit leaves the highest clock open.
    return values.length === 0 || values.some((value) => value <= 0) ? null : Math.max(...values) / perMegahertz;
  };
  return {
    name: start[1]!,
    offlineCores: switches.length === 0 ? null : switches.filter((found) => found[1] === '0').length,
    cpuMegahertz: most(/^CPU_(?!ONLINE)\S*\s+MAX_FREQ\s+(-?\d+)/gm, 1e3),
    gpuMegahertz: most(/^GPU\s+MAX_FREQ\s+(-?\d+)/gm, 1e6),
  };
}

function temperatures(files: SystemFiles): Temperature[] {
  const folder = '/sys/class/thermal';
  return files.entries(folder).flatMap((name): Temperature[] => {
    if (!name.startsWith('thermal_zone')) return [];
    const thousandths = files.number(`${folder}/${name}/temp`);
    // A zone whose unit is switched off reads -256 degrees or not at all.
    if (thousandths === null || thousandths <= -256_000) return [];
    return [{ zone: files.text(`${folder}/${name}/type`) ?? name, celsius: thousandths / 1000 }];
  });
}

function throttling(files: SystemFiles): Throttling {
  const signs: { text: string; now: boolean }[] = [];
  let known = false;
  const note = (name: string, value: number | null, isCount: boolean): void => {
    if (value === null) return;
    // The alarm of a Raspberry Pi tells of its supply alone, not of heat.
    if (!(name.startsWith('rpi_volt') && value === 0)) known = true;
    if (value > 0) signs.push({ text: isCount ? `${name}: ${value} since the start` : `${name}: ${value}`, now: !isCount });
  };
  for (const name of files.entries('/sys/class/thermal').filter((entry) => entry.startsWith('cooling_device'))) {
    const type = files.text(`/sys/class/thermal/${name}/type`);
    if (type?.endsWith('-throttle-alert')) note(type, files.number(`/sys/class/thermal/${name}/cur_state`), false);
  }
  for (const chip of files.entries('/sys/class/hwmon')) {
    const folder = `/sys/class/hwmon/${chip}`;
    const name = files.text(`${folder}/name`);
    const pattern = name === 'soctherm' ? /^oc\d+_event_cnt$/ : name === 'ina3221' ? /^curr[123]_(crit|max)_alarm$/ : name === 'rpi_volt' ? /^in0_lcrit_alarm$/ : null;
    if (pattern === null) continue;
    for (const file of files.entries(folder).filter((entry) => pattern.test(entry))) {
      note(`${name} ${file}`, files.number(`${folder}/${file}`), name === 'soctherm');
    }
  }
  return { now: known ? signs.some((sign) => sign.now) : null, evidence: signs.map((sign) => sign.text) };
}
