/** Which energy meters this machine has, in order of preference, and why the others cannot be read. */
import { type RuleTable, readOptions, show } from '../options.js';
import { boardOf } from './board.js';
import type { EnergyMeter, EnergyRecorder, EnergyScope, UnreadableMeter } from './energy-meter.js';
import { type WorkPlace, chooseMeter } from './meter-choice.js';
import type { MeterPlan } from './meter-plan.js';
import { type Nvml, type VisibleGpus, findGpus, nvmlOrReason, openNvml } from './nvml.js';
import { findPmic } from './pi5-pmic.js';
import { type FoundMeters, findPowerChips } from './power-chips.js';
import { findRapl } from './rapl.js';
import { startRecorder } from './recorder.js';
import { findBatteries, findHwmonMeters } from './supply-meters.js';
import { SystemFiles, defaultRoot } from './system-files.js';
import { findTegrastats } from './tegrastats.js';

export const energyScopes = ['module', 'module and carrier', 'board', 'package', 'gpu', 'battery', 'PMIC rails'] as const satisfies readonly EnergyScope[];

/** Where meters are looked for. */
export interface FindMetersOptions {
  /** Where `/proc` and `/sys` of the machine lie; default `/`. */
  sysRoot?: string;
  /** Meters of this scope come first. */
  scope?: EnergyScope;
}

/** Which meter is read, and how often. */
export interface RecorderOptions extends FindMetersOptions {
  /** The name of a meter; default: the first that can be read and covers `worksOn`. */
  meter?: string;
  /** Where the work runs that is to be measured. Default anywhere. */
  worksOn?: WorkPlace;
  /** Readings per second, 1 to 50; default 50. A meter may give fewer. */
  rateHz?: number;
}

/** The meters that can be read, the best first, and those that cannot. */
export interface MeterList {
  meters: EnergyMeter[];
  unreadable: UnreadableMeter[];
  /** Channels that were left out, and why. */
  notes: string[];
}

const findRules = {
  sysRoot: { kind: 'text', initial: defaultRoot },
  scope: { kind: 'choice', among: energyScopes },
} as const satisfies RuleTable;

const recorderRules = {
  ...findRules,
  meter: { kind: 'text' },
  worksOn: { kind: 'text' },
  rateHz: { kind: 'number', least: 1, most: 50 },
} as const satisfies RuleTable;

/** Never throws for a meter that is missing or cannot be read. TypeError for wrong options. */
export async function findEnergyMeters(options?: FindMetersOptions): Promise<MeterList> {
  const { sysRoot, scope } = readOptions(findRules, options, 'findEnergyMeters') as FindMetersOptions;
  const { plans, unreadable, notes } = await findMeterPlans(new SystemFiles(sysRoot), scope);
  return { meters: plans.map(({ meter }) => meter), unreadable, notes };
}

/**
 * Null when nothing can be read that covers the work: energy is then unknown, never zero. ERR_NOT_FOUND for a named meter that
 * this machine does not have or cannot read, TypeError and RangeError for wrong options.
 */
export async function openEnergyRecorder(options?: RecorderOptions): Promise<EnergyRecorder | null> {
  return (await openRecorderOrReason(options)).recorder;
}

/** The same with the reason where there is none. */
export async function openRecorderOrReason(options?: RecorderOptions): Promise<OpenedRecorder> {
  const { sysRoot, scope, meter, worksOn, rateHz } = readOptions(recorderRules, options, 'openEnergyRecorder') as RecorderOptions;
  if (worksOn !== undefined && !/^(cpu|gpu|GPU-.+)$/.test(worksOn)) throw new TypeError(`Expected 'cpu', 'gpu' or the UUID of a GPU for worksOn but received ${show(worksOn)}`);
  const files = new SystemFiles(sysRoot);
  const { plans, unreadable } = await findMeterPlans(files, scope);
  const { plan, problem } = chooseMeter(plans, unreadable, { meter, worksOn });
  return plan === null ? { recorder: null, problem } : { recorder: await startRecorder(files.root, plan, rateHz), problem: null };
}

/** A recorder that the caller gives, null for none, or else the one that the options open. */
export async function givenOrOpened(given: EnergyRecorder | null | undefined, options: RecorderOptions): Promise<OpenedRecorder> {
  if (given === undefined) return openRecorderOrReason(options);
  return given === null ? { recorder: given, problem: 'it was asked to measure without a meter' } : { recorder: given, problem: null };
}

export type OpenedRecorder = { recorder: EnergyRecorder; problem: null } | { recorder: null; problem: string };

export interface MeterSurroundings {
  nvml: () => Nvml;
  visibleGpus: VisibleGpus;
}

/** GPUs belong to the machine that runs this, not to a tree of files elsewhere. */
function surroundingsOf(files: SystemFiles): MeterSurroundings | null {
  return files.root === defaultRoot ? { nvml: openNvml, visibleGpus: { devices: process.env['CUDA_VISIBLE_DEVICES'], order: process.env['CUDA_DEVICE_ORDER'] } } : null;
}

/** The board's own monitors come before what covers only a part of it, and a battery, which is slow, last. */
export async function findMeterPlans(files: SystemFiles, scope?: EnergyScope, surroundings: MeterSurroundings | null = surroundingsOf(files)): Promise<FoundMeters> {
  const { profile } = boardOf(files);
  const chips = findPowerChips(files, profile);
  const found: FoundMeters[] = [chips];
  if (profile.kind === 'jetson' && chips.plans.length === 0) found.push(await findTegrastats(files, profile));
  found.push(await findPmic(files, profile), findHwmonMeters(files, profile), findRapl(files));
  if (surroundings !== null) found.push(gpus(surroundings));
  found.push(findBatteries(files));
  const plans = uniqueNames(found.flatMap((part) => part.plans));
  const first = plans.filter(({ meter }) => meter.scope === scope);
  return {
    plans: [...first, ...plans.filter((plan) => !first.includes(plan))],
    unreadable: found.flatMap((part) => part.unreadable),
    notes: found.flatMap((part) => part.notes),
  };
}

function gpus({ nvml: open, visibleGpus }: MeterSurroundings): FoundMeters {
  const { nvml, reason } = nvmlOrReason(open);
  if (nvml !== null) return findGpus(nvml, visibleGpus);
  if (reason === null) return { plans: [], unreadable: [], notes: [] };
  return { plans: [], unreadable: [{ name: 'nvml', scope: 'gpu', reason, fix: 'Check the driver with: nvidia-smi' }], notes: [] };
}

/** A second meter of the same name, such as another battery, gets a number: a name means one meter. */
function uniqueNames(plans: MeterPlan[]): MeterPlan[] {
  const counts = new Map<string, number>();
  return plans.map((plan) => {
    const count = counts.get(plan.meter.name) ?? 0;
    counts.set(plan.meter.name, count + 1);
    return count === 0 ? plan : { ...plan, meter: { ...plan.meter, name: `${plan.meter.name}-${count}` } };
  });
}
