/** Batteries, and power monitors that somebody put between the supply and the board. */
import type { BoardProfile } from './board-profile.js';
import type { EnergyScope } from './energy-meter.js';
import { type FileRail, type MeterPlan, highestHz, shortestWindow } from './meter-plan.js';
import type { FoundMeters } from './power-chips.js';
import type { SystemFiles } from './system-files.js';

const batteryUpdateMs = 2000;
const batteryHz = 5;
/** Not verified: of the gauge in a battery. */
const batteryGain = 0.05;

/** One battery that is being discharged; a sum of several is not offered. USB entries tell what was negotiated, not what flows. */
export function findBatteries(files: SystemFiles): FoundMeters {
  const found: FoundMeters = { plans: [], unreadable: [], notes: [] };
  const folder = '/sys/class/power_supply';
  for (const entry of files.entries(folder)) {
    const place = `${folder}/${entry}`;
    if (files.text(`${place}/type`) !== 'Battery' || files.text(`${place}/scope`) === 'Device') continue;
    const missing = (reason: string, fix: string): void => void found.unreadable.push({ name: 'battery', scope: 'battery', reason: `${entry}: ${reason}`, fix });
    const status = files.text(`${place}/status`);
    if (status !== 'Discharging') {
      missing(`it is ${(status ?? 'of unknown state').toLowerCase()}, and tells what the machine takes only while it is being discharged`, 'Unplug the power supply.');
      continue;
    }
    const watts = files.number(`${place}/power_now`) !== null;
    const product = files.number(`${place}/current_now`) !== null && files.number(`${place}/voltage_now`) !== null;
    if (!watts && !product) {
      missing('it shows neither power nor current with voltage', 'Its driver does not tell; use another meter.');
      continue;
    }
    // What it shows while it is charged is what flows into it.
    const only = { file: `${place}/status`, is: 'Discharging' };
    const rail = watts ? { files: [`${place}/power_now`], scale: 1e-6, only } : { files: [`${place}/current_now`, `${place}/voltage_now`], scale: 1e-12, only };
    found.plans.push(onePlan('battery', 'battery', entry, rail, { updateMs: batteryUpdateMs, hz: batteryHz, step: 0.01, gain: batteryGain }));
  }
  return found;
}

// Chips of which is known what they measure, by their name in hwmon.
const hwmonScopes: Readonly<Record<string, EnergyScope>> = { power_meter: 'board', ina219: 'board', ina226: 'board', ina231: 'board', ina260: 'board' };

const hwmonUpdateMs = 100;
/** Not verified. */
const hwmonGain = 0.01;

/** One meter per chip that shows one power or one energy. */
export function findHwmonMeters(files: SystemFiles, { kind }: BoardProfile): FoundMeters {
  const found: FoundMeters = { plans: [], unreadable: [], notes: [] };
  for (const entry of files.entries('/sys/class/hwmon')) {
    const folder = `/sys/class/hwmon/${entry}`;
    const chip = files.text(`${folder}/name`) ?? '';
    if (/^ina(3221x?|23[78])$/.test(chip)) continue;
    if (chip === 'powerz') {
      found.plans.push(onePlan('hwmon', 'board', chip, { files: [`${folder}/in0_input`, `${folder}/curr1_input`], scale: 1e-6 }, { updateMs: hwmonUpdateMs, hz: highestHz, step: 0.01, gain: hwmonGain }));
      continue;
    }
    const channels = files.entries(folder).filter((file) => /^(power|energy)\d+_(input|average)$/.test(file));
    if (channels.length === 0) continue;
    // A carrier of a Jetson has such chips of its own, each on one of its rails.
    const scope = kind === 'jetson' && chip.startsWith('ina') ? undefined : hwmonScopes[chip];
    const energy = channels.filter((file) => file.startsWith('energy'));
    const power = channels.filter((file) => file.startsWith('power'));
    const chosen = energy.length > 0 ? energy : power;
    if (scope === undefined || chosen.length !== 1) {
      const reason = scope === undefined ? `nobody has said what ${chip} measures${kind === 'jetson' ? ' on this board' : ''}` : `${chip} shows ${chosen.length} channels, and nobody has said which are parts of others`;
      found.unreadable.push({ name: 'hwmon', scope: scope ?? 'board', reason, fix: 'Use a meter whose scope is known; docs/energy.md lists them.' });
      continue;
    }
    const file = `${folder}/${chosen[0]!}`;
    if (files.number(file) === null) {
      const code = files.failures.get(file) ?? 'no number';
      files.failures.delete(file);
      found.unreadable.push({ name: 'hwmon', scope, reason: `${file} cannot be read (${code})`, fix: `sudo chmod a+r ${file}` });
      continue;
    }
    const label = files.text(file.replace(/_(input|average)$/, '_label')) ?? chip;
    const updateMs = files.number(`${folder}/update_interval`) ?? hwmonUpdateMs;
    const plan = onePlan('hwmon', scope, label, { files: [file], scale: 1e-6 }, { updateMs, hz: highestHz, step: 0.01, gain: hwmonGain });
    found.plans.push(energy.length > 0 ? { ...plan, meter: { ...plan.meter, method: 'counter' } } : plan);
  }
  return found;
}

interface Figures {
  updateMs: number;
  hz: number;
  step: number;
  gain: number;
}

function onePlan(name: string, scope: EnergyScope, label: string, rail: FileRail, { updateMs, hz, step, gain }: Figures): MeterPlan {
  return {
    meter: { name, method: 'sampled', scope, rails: [{ name: label, feeds: ['all'], inTotal: true }], total: label, updateMs, step, shortestWindowMs: shortestWindow(updateMs, hz) },
    source: { kind: 'files', rails: [rail] },
    steps: [step],
    ranges: [null],
    gain,
    mostHz: hz,
  };
}
