/**
 * What every energy meter is to the rest of the SDK: it is recorded while work runs, then asked for the energy between two
 * moments. Times are milliseconds of `monotonicMs`, the same clock in every thread.
 */

/** What a joule figure covers. Figures of different scope are never compared. `PMIC rails`: without what hangs on 5 V. */
export type EnergyScope = 'module' | 'module and carrier' | 'board' | 'package' | 'gpu' | 'battery' | 'PMIC rails';

/** `counter`: the hardware integrates. `sampled`: power was read and integrated here. `estimated`: neither. */
export type EnergyMethod = 'counter' | 'sampled' | 'estimated';

/**
 * What hangs on a rail; `all`: everything in the scope of the meter. `cv`: the accelerators of a Jetson for vision and learning,
 * `soc`: the rest of its chip.
 */
export type RailLoad = 'all' | 'cpu' | 'gpu' | 'cv' | 'soc' | 'memory' | 'wireless' | 'io' | 'carrier';

/** One supply line that a meter reads. */
export interface EnergyRail {
  /** As the board labels it, such as VDD_IN. */
  name: string;
  /** Never a guess from the name: empty where it is not known. */
  feeds: readonly RailLoad[];
  /** Counts in the total; rails that are part of another one do not. */
  inTotal: boolean;
}

/** Something on this machine that tells power or energy, and what it covers. */
export interface EnergyMeter {
  /** Which interface it reads: `ina3221-hwmon`, `ina3221-iio`, `ina238`, `rapl`, `nvml`, `pi5-pmic`, `battery`, `hwmon`, `tegrastats`. */
  readonly name: string;
  readonly method: EnergyMethod;
  readonly scope: EnergyScope;
  /** UUID of the GPU, with the scope `gpu`. */
  readonly gpu?: string;
  readonly rails: readonly EnergyRail[];
  /** How the total comes about, in words: `VDD_IN`, `VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0`. */
  readonly total: string;
  /** The hardware shows a new value about this often. */
  readonly updateMs: number;
  /** Step of the total, of its rails in quadrature: watts when sampled, joules when a counter. */
  readonly step: number;
  /** Windows shorter than this cannot be resolved. */
  readonly shortestWindowMs: number;
}

/** A meter that was found but cannot be read, with the command or permission that changes it. */
export interface UnreadableMeter {
  name: string;
  scope: EnergyScope;
  reason: string;
  fix: string;
}

/** One reading, in watts. */
export interface PowerSample {
  atMs: number;
  /** Of the total; null where a reading was missed. */
  watts: number | null;
  /** In the order of `EnergyMeter.rails`. */
  rails: (number | null)[];
}

/** The energy between two times, in joules, with its interval. */
export interface EnergyWindow {
  startMs: number;
  endMs: number;
  /** Null when the meter cannot resolve the window; `problem` says why. */
  joules: number | null;
  /** Half of the 95 % interval, joules; null with `joules`. */
  uncertainty: number | null;
  averageWatts: number | null;
  peakWatts: number | null;
  rails: { name: string; inTotal: boolean; joules: number | null; averageWatts: number | null; peakWatts: number | null }[];
  samples: number;
  /** Part of the window between readings that were not further apart than three periods; 0 to 1. */
  coverage: number;
  problem: string | null;
}

/** Reads a meter in the background until it is closed. */
export interface EnergyRecorder {
  readonly meter: EnergyMeter;
  /** Waits until readings reach `endMs`, then integrates. RangeError when the window was not recorded. */
  between(startMs: number, endMs: number): Promise<EnergyWindow>;
  /** The readings that are still held within these times. */
  samples(startMs: number, endMs: number): PowerSample[];
  /** Share of the time in which the recording thread is busy, 0 to 1; on a machine that is busy itself this includes its waiting. */
  readonly load: number;
  /** Idempotent. */
  close(): Promise<void>;
}

/** Milliseconds of a clock that never goes back, the one that all recorders use. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
