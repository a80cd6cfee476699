/** NVIDIA GPUs through their driver's library, which the native addon opens. A GPU that does not tell is never a zero. */
import type { Engine } from '../engine.js';
import { loadNativeEngine } from '../engine-native.js';
import { ShiftAddError } from '../errors.js';
import { type MeterPlan, shortestWindow } from './meter-plan.js';
import type { FoundMeters } from './power-chips.js';

/** Every call throws an error with `status` when the driver does not answer; `unsupported` when it never will. */
export interface Nvml {
  count(): number;
  describe(device: number): { name: string; uuid: string; /** Split into parts (MIG). */ partitioned: boolean };
  /** Since the driver was loaded. */
  millijoules(device: number): number;
  milliwatts(device: number): number;
  /** GPU memory of this process, bytes. */
  ownMemory(device: number): number;
}

interface NvmlAddon {
  nvmlCount(device?: number, library?: string): number;
  nvmlDescribe(device: number, library?: string): ReturnType<Nvml['describe']>;
  nvmlEnergy(device: number, library?: string): number;
  nvmlPower(device: number, library?: string): number;
  nvmlOwnMemory(device: number, library?: string): number;
}

/** ERR_NO_BACKEND without the native addon. `library` takes the place of the driver's own. */
export function openNvml(library?: string): Nvml {
  const addon = loadNativeEngine() as Engine & NvmlAddon;
  return {
    count: () => addon.nvmlCount(0, library),
    describe: (device) => addon.nvmlDescribe(device, library),
    millijoules: (device) => addon.nvmlEnergy(device, library),
    milliwatts: (device) => addon.nvmlPower(device, library),
    ownMemory: (device) => addon.nvmlOwnMemory(device, library),
  };
}

/** The counter is refreshed about this often. */
const counterUpdateMs = 100;
/** Of GPUs without a counter, which are those before Volta; on Ampere and later power is the mean of up to a second. */
const powerUpdateMs = 100;
/**
 * Asking an H100 for its counter keeps a core busy for 3 to 4 ms. Fewer readings than these see the moment in which it moves too
 * late for 1 % of 5 s of a changing load.
 */
const counterHz = 25;
const powerHz = 10;
/** Of boards up to Volta; not verified for later ones. */
const nvmlGain = 0.05;

/** One meter per GPU that CUDA_VISIBLE_DEVICES leaves visible: `nvml` for the first, `nvml-1` and so on after it. */
export function findGpus(nvml: Nvml, visible: VisibleGpus): FoundMeters {
  const found: FoundMeters = { plans: [], unreadable: [], notes: [] };
  const devices = Array.from({ length: nvml.count() }, (_, device) => tryCall(() => nvml.describe(device)));
  const chosen = visibleGpus(visible, devices.map(({ value }) => value?.uuid ?? ''));
  if (chosen.length === 0 && devices.length > 0) found.notes.push(`nvml: CUDA_VISIBLE_DEVICES (${visible.devices}) leaves no GPU visible`);
  for (const [index, device] of chosen.entries()) {
    const meter = index === 0 ? 'nvml' : `nvml-${index}`;
    const { value: described, reason } = devices[device]!;
    if (described === null) {
      found.unreadable.push({ name: meter, scope: 'gpu', reason: `GPU ${device} does not answer (${reason})`, fix: 'Check the driver with: nvidia-smi' });
      continue;
    }
    const { name, uuid, partitioned } = described;
    const energy = tryCall(() => nvml.millijoules(device));
    const power = energy.reason === null ? null : tryCall(() => nvml.milliwatts(device));
    if (power !== null && power.reason !== null) {
      found.unreadable.push({ name: meter, scope: 'gpu', reason: `${name} gives neither energy (${energy.reason}) nor power (${power.reason})`, fix: 'The driver of this GPU does not tell; on a Jetson use the power monitor of the board.' });
      continue;
    }
    if (partitioned) found.notes.push(`${meter}: ${name} is split into parts (MIG), and its energy is that of all of them`);
    found.plans.push(gpuPlan(meter, { device, name, uuid }, power === null));
  }
  return found;
}

function gpuPlan(meter: string, { device, name, uuid }: { device: number; name: string; uuid: string }, counter: boolean): MeterPlan {
  const [updateMs, mostHz] = counter ? [counterUpdateMs, counterHz] : [powerUpdateMs, powerHz];
  const step = 1e-3;
  return {
    meter: {
      name: meter,
      method: counter ? 'counter' : 'sampled',
      scope: 'gpu',
      gpu: uuid,
      rails: [{ name, feeds: ['all'], inTotal: true }],
      total: name,
      updateMs,
      step,
      shortestWindowMs: shortestWindow(updateMs, mostHz),
    },
    source: { kind: 'nvml', device, counter },
    steps: [step],
    ranges: [null],
    gain: nvmlGain,
    mostHz,
  };
}

/** What CUDA shows of the GPUs, from the environment. */
export interface VisibleGpus {
  /** CUDA_VISIBLE_DEVICES. */
  devices: string | undefined;
  /** CUDA_DEVICE_ORDER. */
  order: string | undefined;
}

/**
 * The indexes that CUDA_VISIBLE_DEVICES names, in its order: numbers, the beginnings of UUIDs, or parts (MIG) of any GPU. Numbers are
 * NVML's only where CUDA counts by bus: by default it counts the fastest first, and all GPUs stay in question.
 */
export function visibleGpus({ devices: text, order }: VisibleGpus, uuids: readonly string[]): number[] {
  const all = uuids.map((_, index) => index);
  if (text === undefined) return all;
  const sameNumbers = order === 'PCI_BUS_ID' || uuids.length === 1;
  const chosen: number[] = [];
  for (const word of text.split(',').map((part) => part.trim())) {
    // CUDA names the parent of a part only through NVML calls that few drivers have, so all GPUs stay in question.
    if (word.startsWith('MIG-') || (/^\d+$/.test(word) && !sameNumbers)) return all;
    const index = /^\d+$/.test(word) ? Number(word) : uuids.findIndex((uuid) => word.startsWith('GPU-') && uuid.startsWith(word));
    // CUDA stops at the first entry that is no device.
    if (!(index >= 0 && index < uuids.length)) break;
    chosen.push(index);
  }
  return chosen;
}

/** GPU memory of this process on all GPUs, bytes; null where no driver tells, as for a process in a container. */
export function ownGpuMemory(open: () => Nvml = openNvml): number | null {
  const { nvml } = nvmlOrReason(open);
  if (nvml === null) return null;
  const parts = Array.from({ length: nvml.count() }, (_, device) => tryCall(() => nvml.ownMemory(device)).value).filter((value) => value !== null);
  return parts.length === 0 ? null : parts.reduce((sum, value) => sum + value, 0);
}

function tryCall<T>(call: () => T): { value: T | null; reason: string | null } {
  try {
    return { value: call(), reason: null };
  } catch (error) {
    return { value: null, reason: (error as Error).message };
  }
}

/** Null where the driver's library is not installed; anything else that is wrong is a reason. */
export function nvmlOrReason(open: () => Nvml): { nvml: Nvml | null; reason: string | null } {
  try {
    const nvml = open();
    nvml.count();
    return { nvml, reason: null };
  } catch (error) {
    // A machine without NVIDIA's driver, or an install without native engine, has no such meter: nothing to report.
    const { status } = error as { status?: string };
    const absent = status === 'not_found' || (error instanceof ShiftAddError && error.code === 'ERR_NO_BACKEND');
    return { nvml: null, reason: absent ? null : (error as Error).message };
  }
}
