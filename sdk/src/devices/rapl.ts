/**
 * Intel and AMD processors count their energy (RAPL, /sys/class/powercap). Domains nest: the platform contains the packages, a
 * package contains its cores. So the packages are one meter, with their memory, and the platform is another; cores and
 * graphics are shown and never added.
 */
import type { RailLoad, UnreadableMeter } from './energy-meter.js';
import { type MeterPlan, highestHz, rootSumSquare, shortestWindow } from './meter-plan.js';
import type { FoundMeters } from './power-chips.js';
import type { SystemFiles } from './system-files.js';

interface Zone {
  /** `package-0`, or `package-0 dram` inside one. */
  label: string;
  name: string;
  file: string;
  range: number | null;
  /** Microjoules; null with `failure`. */
  value: number | null;
  failure: string | null;
}

const folder = '/sys/class/powercap';
const microjoule = 1e-6;
const updateMs = 1;
/** The usual unit of the counters, 2^-14 J. */
const step = 2 ** -14;
/** Not verified. */
const raplGain = 0.05;

export function findRapl(files: SystemFiles): FoundMeters {
  const found: FoundMeters = { plans: [], unreadable: [], notes: [] };
  const zones = readZones(files, found.notes);
  const packages = withoutTwins(files, zones.filter(({ label }) => /^package-\S+$/.test(label)), found.notes);
  const parts = zones.filter((zone) => packages.some(({ label }) => zone.label.startsWith(`${label} `)));
  const memory = parts.filter(({ name }) => name === 'dram');
  addMeter(found, 'rapl', 'package', [...packages, ...memory], parts.filter((zone) => !memory.includes(zone)));
  addMeter(found, 'rapl-psys', 'board', zones.filter(({ label }) => label === 'psys'), []);
  return found;
}

function addMeter(found: FoundMeters, name: string, scope: 'package' | 'board', total: Zone[], others: Zone[]): void {
  if (total.length === 0) return;
  const lost = total.find(({ failure }) => failure !== null);
  if (lost !== undefined) return void found.unreadable.push(unreadable(name, scope, lost));
  const shown = [...total, ...others.filter(({ failure }) => failure === null)];
  const plan: MeterPlan = {
    meter: {
      name,
      method: 'counter',
      scope,
      rails: shown.map((zone) => ({ name: zone.label, feeds: loadOf(zone), inTotal: total.includes(zone) })),
      total: total.map(({ label }) => label).join(' + '),
      updateMs,
      step: rootSumSquare(total.map(() => step)),
      shortestWindowMs: shortestWindow(updateMs, highestHz),
    },
    source: { kind: 'files', rails: shown.map(({ file }) => ({ files: [file], scale: microjoule })) },
    steps: shown.map(() => step),
    ranges: shown.map(({ range }) => (range === null ? null : range * microjoule)),
    gain: raplGain,
    mostHz: highestHz,
  };
  found.plans.push(plan);
}

/** Packages and the platform hold what is in them. `uncore` is the graphics of a package on clients, and on servers its caches. */
function loadOf({ name }: Zone): RailLoad[] {
  return name === 'core' ? ['cpu'] : name === 'dram' ? ['memory'] : name === 'uncore' ? [] : ['all'];
}

function unreadable(name: string, scope: 'package' | 'board', zone: Zone): UnreadableMeter {
  const denied = zone.failure === 'EACCES' || zone.failure === 'EPERM';
  return {
    name,
    scope,
    reason: denied ? `${zone.file} may be read by root only` : `${zone.file} cannot be read (${zone.failure})`,
    fix: denied ? `Until the next start: sudo chmod a+r ${folder}/*/energy_uj` : 'The system does not pass the counters on, as in most virtual machines; measure on the machine itself.',
  };
}

function readZones(files: SystemFiles, notes: string[]): Zone[] {
  const entries = files.entries(folder).filter((entry) => /^intel-rapl(-mmio)?(:\d+)+$/.test(entry));
  // The memory-mapped twin of a package shows the same energy; it is used where the first cannot be read.
  const labels = new Map<string, string>();
  for (const entry of entries) {
    const name = files.text(`${folder}/${entry}/name`);
    if (name !== null) labels.set(entry, name);
    else notes.push(`rapl: ${folder}/${entry} has no name and is left out`);
  }
  const zones = entries.flatMap((entry): Zone[] => {
    const name = labels.get(entry);
    if (name === undefined) return [];
    const parent = labels.get(entry.slice(0, entry.lastIndexOf(':')));
    const file = `${folder}/${entry}/energy_uj`;
    const value = files.number(file);
    const failure = value === null ? (files.failures.get(file) ?? 'ENOENT') : null;
    files.failures.delete(file);
    return [{ label: parent === undefined ? name : `${parent} ${name}`, name, file, range: files.number(`${folder}/${entry}/max_energy_range_uj`), value, failure }];
  });
  return zones.filter((zone, index) => {
    const same = zones.filter((other) => other.label === zone.label);
    const best = same.find(({ failure }) => failure === null) ?? same[0];
    return best === zone && zones.indexOf(zone) === index;
  });
}

// Two reads cannot fall between the same updates each time.
const attempts = 5;

/** Some processors show the one counter of a package once for each of its dies. */
function withoutTwins(files: SystemFiles, packages: Zone[], notes: string[]): Zone[] {
  const kept: Zone[] = [];
  for (const zone of packages) {
    const twin = kept.find((other) => sharePackage(other.label, zone.label) && sameCounter(files, other, zone));
    if (twin === undefined) kept.push(zone);
    else notes.push(`rapl: ${zone.label} is the counter of ${twin.label} and is not added`);
  }
  return kept;
}

function sharePackage(a: string, b: string): boolean {
  const number = (label: string): string | undefined => /^package-(\d+)-die-\d+$/.exec(label)?.[1];
  return number(a) !== undefined && number(a) === number(b);
}

function sameCounter(files: SystemFiles, a: Zone, b: Zone): boolean {
  for (let attempt = 0; attempt < attempts; attempt++) {
    const value = files.number(a.file);
    if (value !== null && value > 0 && value === files.number(b.file)) return true;
  }
  return false;
}
