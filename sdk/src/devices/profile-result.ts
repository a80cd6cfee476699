/** What a profile run measured. Everything in it is JSON; times are milliseconds since the run began. */
import type { BackendInfo } from '../model.js';
import type { ModelInfo } from '../model-info.js';
import type { MemoryUse } from '../run.js';
import type { BoardState } from './board-state.js';
import type { EnergyMeter, EnergyMethod, EnergyScope } from './energy-meter.js';
import type { Figure } from './interval.js';

/** The phases of a generation. */
export type PhaseName = 'prefill' | 'decode';

/** A stretch of steady load: passes over one turn's prompt, or over its answer. */
export interface ProfileWindow {
  phase: PhaseName;
  /** From 0. */
  turn: number;
  /** From 0. */
  repetition: number;
  startMs: number;
  endMs: number;
  passes: number;
  /** Of all passes. */
  tokens: number;
  /** Null without a meter, or where it cannot resolve the window; `energyProblem` says why. */
  energy: WindowEnergy | null;
  energyProblem: string | null;
  /** Of the hottest zone at the end. */
  celsius: number | null;
  /** Cores that other processes kept busy. */
  otherCores: number | null;
  /** Why this window does not count as a measurement of the model: throttling, swapping, a changed power mode. */
  problems: string[];
}

/** Energy of one window, in joules. */
export interface WindowEnergy {
  joules: number;
  /** Half of the 95 % interval. */
  uncertainty: number;
  averageWatts: number;
  peakWatts: number;
  rails: { name: string; inTotal: boolean; averageWatts: number | null; peakWatts: number | null }[];
  samples: number;
  coverage: number;
}

/** Energy of one phase, in joules. */
export interface PhaseEnergy {
  /** Everything within the scope of the meter, idle power included. Null with a `problem`. */
  joulesPerToken: Figure | null;
  /** Less what the idle board with the model in memory draws in that time. Null with a `netProblem`. */
  netJoulesPerToken: Figure | null;
  tokensPerJoule: Figure | null;
  averageWatts: number | null;
  peakWatts: number | null;
  rails: { name: string; inTotal: boolean; averageWatts: number | null; peakWatts: number | null }[];
  problem: string | null;
  netProblem: string | null;
}

/** Speed and energy of one phase. */
export interface ProfilePhase {
  name: PhaseName;
  /** Of one pass over all turns. */
  tokens: number;
  tokensPerSecond: Figure;
  energy: PhaseEnergy;
}

/** Power without work, in watts. */
export interface IdlePower {
  /** Power of the total, with the model in memory and nothing running. */
  before: { watts: number; uncertainty: number } | null;
  after: { watts: number; uncertainty: number } | null;
  /** The mean of both; its interval holds both. */
  watts: Figure | null;
  problem: string | null;
}

/** What the engine accounts for, and what the system showed over the whole run; null where it does not tell. */
export interface MemoryFigures extends MemoryUse {
  /** The most that this process held in memory at once, mapped weights included; GPU memory of a Jetson is not in it. */
  residentPeakBytes: number | null;
  /** What the machine could still give before the run, and at the least. Other programs change it too. */
  availableBeforeBytes: number | null;
  availableLeastBytes: number | null;
  /** By how much GPU memory of all processes of a Jetson was above its least at the most. */
  nvMapGrowthBytes: number | null;
  /** GPU memory of this process at the end, with the driver's own part; null where it is not told. */
  gpuProcessBytes: number | null;
}

/** Readings over the run, in columns. */
export interface ProfileTimeline {
  phases: { name: 'idle' | PhaseName; turn: number | null; repetition: number | null; startMs: number; endMs: number }[];
  power: { atMs: number[]; watts: (number | null)[]; rails: { name: string; watts: (number | null)[] }[] };
  memory: { atMs: number[]; residentBytes: (number | null)[]; availableBytes: (number | null)[] };
  /** Tokens computed until then. */
  tokens: { atMs: number[]; prefill: number[]; decode: number[] };
}

/** What a token costs on this device. */
export interface ProfileResult {
  /** Tells a saved profile from other documents. */
  kind: 'profile';
  startedAt: string;
  model: Pick<ModelInfo, 'name' | 'architecture' | 'parameters' | 'bitsPerWeight'> & { weightsBytes: number };
  backend: BackendInfo;
  workload: {
    /** `reusedTokens` were in the cache from earlier turns. */
    turns: { promptTokens: number; reusedTokens: number; decodeTokens: number }[];
    /** The texts were put into the model's chat template. */
    template: boolean;
    /** Tells equal workloads: a hash of all token ids. */
    digest: string;
  };
  method: { repetitions: number; windowMs: number; idleMs: number; untilStable: boolean; statement: string[] };
  /** Null without one; `meterProblem` says why. */
  meter: (Pick<EnergyMeter, 'name' | 'total' | 'rails' | 'updateMs' | 'step' | 'shortestWindowMs'> & { method: EnergyMethod; scope: EnergyScope; /** Share of one core. */ load: number }) | null;
  meterProblem: string | null;
  idle: IdlePower;
  prefill: ProfilePhase;
  decode: ProfilePhase;
  windows: ProfileWindow[];
  memory: MemoryFigures;
  board: { name: string; id: string; start: BoardState; end: BoardState } | null;
  /** With `untilStable`: whether rate, power and temperature levelled off within the limit. */
  stable: { reached: boolean; afterMs: number; firstRepetition: number } | null;
  /** False when a window was throttled, swapped, or ran in another power mode. */
  valid: boolean;
  problems: string[];
  notes: string[];
  timeline: ProfileTimeline;
}
