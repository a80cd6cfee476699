/**
 * The power monitors of Jetson boards: INA3221 through hwmon (Jetson Linux 34 and later) or IIO (28 to 32), and INA238 on Thor.
 * Chips are found by their name and rails by their label: the numbers in the paths change from boot to boot.
 */
import type { BoardProfile } from './board-profile.js';
import type { EnergyRail, EnergyScope, UnreadableMeter } from './energy-meter.js';
import { type MeterPlan, highestHz, rootSumSquare, shortestWindow } from './meter-plan.js';
import type { SystemFiles } from './system-files.js';

type ChipMeter = 'ina3221-hwmon' | 'ina3221-iio' | 'ina238';

interface Channel {
  label: string;
  files: string[];
  /** Watts of the product of the files' numbers. */
  scale: number;
  /** Watts. */
  step: number;
  updateMs: number;
  /** Why it cannot be read; null when it can. */
  failure: string | null;
}

export interface FoundMeters {
  plans: MeterPlan[];
  unreadable: UnreadableMeter[];
  /** What was left out and why. */
  notes: string[];
}

// One conversion of three channels, 64 of which the older driver averages; of the INA238 by its driver's settings.
const conversionMs = 7;
const averagedMs = 422;
const ina238Ms = 50;

// The shunt voltage has steps of 40 uV; most modules have 5 mOhm shunts.
const shuntStepMicrovolts = 40;
const usualShuntMicroohms = 5000;
/** Where a chip is busy, or its rail is switched off, while it is looked for. */
const usualMillivolts = 5000;

/** Not verified: of shunt and chip together. */
const inaGain = 0.01;

/** Totals by labels that say themselves that they are the input, for boards without a rule. */
const inputLabels: { label: string; scope: EnergyScope }[] = [
  { label: 'VIN', scope: 'board' },
  { label: 'VDD_IN', scope: 'module' },
  { label: 'POM_5V_IN', scope: 'module and carrier' },
  { label: '5V_IN', scope: 'module and carrier' },
];

export function findPowerChips(files: SystemFiles, profile: BoardProfile): FoundMeters {
  const found: FoundMeters = { plans: [], unreadable: [], notes: [] };
  const chips = { ina238: ina238Channels(files, profile, found.notes), 'ina3221-hwmon': hwmonChannels(files, found.notes), 'ina3221-iio': iioChannels(files, found.notes) };
  for (const [name, channels] of Object.entries(chips) as [ChipMeter, Channel[]][]) {
    if (channels.length > 0) addMeter(found, name, withoutTwins(channels), profile);
  }
  return found;
}

function addMeter(found: FoundMeters, name: ChipMeter, channels: Channel[], profile: BoardProfile): void {
  const has = (label: string): boolean => channels.some((channel) => channel.label === label);
  const rules = profile.energy?.totals.filter(({ meter }) => meter === undefined || meter === name) ?? [];
  const rule = rules.find(({ rails }) => rails.every(has)) ?? inputRule(channels);
  const scope = rule?.scope ?? profile.energy?.scope ?? 'module';
  if (rule === undefined) {
    const missing = rules[0]?.rails.filter((label) => !has(label)) ?? [];
    const reason = missing.length > 0 ? `the total of ${profile.name} needs ${missing.join(', ')}, which the chips do not show` : `nobody has said which of ${channels.map(({ label }) => label).join(', ')} make the total of this board`;
    found.unreadable.push({ name, scope, reason, fix: 'Add the rails of the total to the profile of this board (docs/energy.md).' });
    return;
  }
  const lost = channels.filter(({ label, failure }) => failure !== null && rule.rails.includes(label));
  if (lost.length > 0) {
    const denied = lost.some(({ failure }) => failure === 'EACCES' || failure === 'EPERM');
    found.unreadable.push({
      name,
      scope,
      reason: `${lost.map(({ label, failure }) => `${label} cannot be read (${failure})`).join(', ')}, so the total ${rule.rails.join(' + ')} is unknown`,
      fix: denied ? `Allow everyone to read it: sudo chmod a+r ${lost.flatMap((channel) => channel.files).join(' ')}` : 'Look for errors of the power monitor with: sudo dmesg | grep -i ina',
    });
    return;
  }
  for (const { label, failure } of channels) if (failure !== null) found.notes.push(`${name}: ${label} is left out, it cannot be read (${failure})`);
  const read = channels.filter(({ failure }) => failure === null);
  const rails: EnergyRail[] = read.map(({ label }) => ({ name: label, feeds: profile.energy?.rails?.[label] ?? [], inTotal: rule.rails.includes(label) }));
  const updateMs = Math.max(...read.map((channel) => channel.updateMs));
  // A chip that averages shows the same value again and again.
  const mostHz = Math.min(highestHz, 2000 / updateMs);
  found.plans.push({
    meter: {
      name,
      method: 'sampled',
      scope,
      rails,
      total: rule.rails.join(' + '),
      updateMs,
      step: rootSumSquare(read.filter((_, rail) => rails[rail]!.inTotal).map(({ step }) => step)),
      shortestWindowMs: shortestWindow(updateMs, mostHz),
    },
    source: { kind: 'files', rails: read.map((channel) => ({ files: channel.files, scale: channel.scale })) },
    steps: read.map(({ step }) => step),
    ranges: read.map(() => null),
    gain: inaGain,
    mostHz,
  });
}

function inputRule(channels: Channel[]): { rails: string[]; scope?: EnergyScope } | undefined {
  const input = inputLabels.find(({ label }) => channels.some((channel) => channel.label === label));
  return input === undefined ? undefined : { rails: [input.label], scope: input.scope };
}

/** The same chip may be found through two paths, and no board has a label twice. */
function withoutTwins(channels: Channel[]): Channel[] {
  return channels.filter(({ label }, index) => channels.findIndex((other) => other.label === label) === index);
}

/** hwmon folders of chips with such a name, by I2C address where that shows: through the class, else through the bus. */
function hwmonFolders(files: SystemFiles, name: RegExp): string[] {
  const direct = files.entries('/sys/class/hwmon').map((entry) => `/sys/class/hwmon/${entry}`);
  const places = [...direct, ...deviceFolders(files).flatMap((device) => files.entries(`${device}/hwmon`).map((entry) => `${device}/hwmon/${entry}`))];
  const seen = new Set<string>();
  const chips: { folder: string; address: string }[] = [];
  for (const folder of places) {
    if (!name.test(files.text(`${folder}/name`) ?? '')) continue;
    const real = files.real(folder) ?? folder;
    if (seen.has(real)) continue;
    seen.add(real);
    chips.push({ folder, address: /\d+-00[0-9a-f]{2}/.exec(files.real(`${folder}/device`) ?? '')?.[0] ?? /\d+-00[0-9a-f]{2}/.exec(real)?.[0] ?? '' });
  }
  return chips.sort((a, b) => a.address.localeCompare(b.address)).map(({ folder }) => folder);
}

/** Folders of I2C devices, through the list of devices and through their drivers. */
function deviceFolders(files: SystemFiles): string[] {
  const isDevice = (entry: string): boolean => /^\d+-00[0-9a-f]{2}$/.test(entry);
  const devices = files.entries('/sys/bus/i2c/devices').filter(isDevice).map((entry) => `/sys/bus/i2c/devices/${entry}`);
  const drivers = files.entries('/sys/bus/i2c/drivers').filter((entry) => /^ina\d+x?$/.test(entry));
  return [...devices, ...drivers.flatMap((driver) => files.entries(`/sys/bus/i2c/drivers/${driver}`).filter(isDevice).map((entry) => `/sys/bus/i2c/drivers/${driver}/${entry}`))];
}

const shuntStep = (microohms: number | null): number => shuntStepMicrovolts / (microohms ?? usualShuntMicroohms);

function hwmonChannels(files: SystemFiles, notes: string[]): Channel[] {
  return hwmonFolders(files, /^ina3221x?$/).flatMap((folder) => {
    const updateMs = files.number(`${folder}/update_interval`) ?? conversionMs;
    // Channel 7 and current 4 are sums of these three.
    return [1, 2, 3].flatMap((channel): Channel[] => {
      const label = files.text(`${folder}/in${channel}_label`);
      if (label === null) notes.push(`ina3221-hwmon: channel ${channel} of ${folder} has no label and is left out`);
      if (label === null || isUnconnected(label)) return [];
      const parts = [`${folder}/in${channel}_input`, `${folder}/curr${channel}_input`];
      const { values, failure } = tryReading(files, parts);
      return [{ label, files: parts, scale: 1e-6, step: ((values[0] || usualMillivolts) / 1000) * shuntStep(files.number(`${folder}/shunt${channel}_resistor`)), updateMs, failure }];
    });
  });
}

function iioChannels(files: SystemFiles, notes: string[]): Channel[] {
  const seen = new Set<string>();
  return deviceFolders(files).flatMap((device) =>
    files
      .entries(device)
      .filter((entry) => /^iio[:_]device/.test(entry))
      .flatMap((entry) => {
        const folder = `${device}/${entry}`;
        const real = files.real(folder) ?? folder;
        if (seen.has(real)) return [];
        seen.add(real);
        return [0, 1, 2].flatMap((channel): Channel[] => {
          const label = files.text(`${folder}/rail_name_${channel}`);
          if (label === null) notes.push(`ina3221-iio: channel ${channel} of ${folder} has no label and is left out`);
          if (label === null || isUnconnected(label)) return [];
          const volts = files.number(`${folder}/in_voltage${channel}_input`) || usualMillivolts;
          const parts = [`${folder}/in_power${channel}_input`];
          const { failure } = tryReading(files, parts);
          return [{ label, files: parts, scale: 1e-3, step: (volts / 1000) * shuntStep(null), updateMs: averagedMs, failure }];
        });
      }),
  );
}

function ina238Channels(files: SystemFiles, profile: BoardProfile, notes: string[]): Channel[] {
  const isInput = profile.energy?.totals.some(({ meter }) => meter === 'ina238') === true;
  return hwmonFolders(files, /^ina23[78]$/).flatMap((folder): Channel[] => {
    const label = files.text(`${folder}/label`) ?? files.text(`${folder}/device/label`) ?? (isInput ? 'VIN' : null);
    if (label === null) notes.push(`ina238: ${folder} has no label and is left out`);
    if (label === null) return [];
    const parts = [`${folder}/power1_input`];
    const { failure } = tryReading(files, parts);
    return [{ label, files: parts, scale: 1e-6, step: 0.02, updateMs: ina238Ms, failure }];
  });
}

function isUnconnected(label: string): boolean {
  return label === '' || /(^|[^A-Za-z])NC([^A-Za-z]|$)/.test(label);
}

// A busy chip answers EAGAIN for a while.
const attempts = 3;

function tryReading(files: SystemFiles, names: string[]): { values: (number | null)[]; failure: string | null } {
  let failure: string | null = null;
  for (let attempt = 0; attempt < attempts; attempt++) {
    const values = names.map((name) => files.number(name));
    const bad = names.find((_, index) => values[index] === null);
    if (bad === undefined) return { values, failure: null };
    failure = files.failures.get(bad) ?? (files.text(bad) === null ? 'ENOENT' : 'no number');
  }
  for (const name of names) files.failures.delete(name);
  // Still busy is no reason to give the rail up: its missed readings are counted while it is recorded.
  return { values: [], failure: failure === 'EAGAIN' || failure === 'EBUSY' ? null : failure };
}
