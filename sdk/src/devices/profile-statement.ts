/** Puts a profile run together: figures, what spoils them, what to know about them, and the method in words. */
import type { EngineSession } from '../engine.js';
import type { ModelCore } from '../model-core.js';
import type { ModelInfo } from '../model-info.js';
import type { MemoryUse } from '../run.js';
import type { DetectedBoard } from './board.js';
import type { BoardState } from './board-state.js';
import type { EnergyRecorder } from './energy-meter.js';
import { type MemoryNumber, type MemoryReading, readMemory } from './memory-reading.js';
import { covers } from './meter-choice.js';
import { mean } from './interval.js';
import { idlePower, phaseFigures, type IdleReading } from './profile-energy.js';
import { throttling } from './profile-guard.js';
import type { CheckedOptions } from './profile-model.js';
import type { MemoryFigures, ProfileResult, ProfileWindow } from './profile-result.js';
import type { IdleWindow, ProfileSession } from './profile-session.js';
import type { Workload } from './profile-workload.js';

export interface RunParts {
  startedAt: string;
  info: ModelInfo;
  name: string;
  core: ModelCore;
  session: EngineSession;
  options: CheckedOptions;
  windowMs: number;
  workload: Workload;
  recorder: EnergyRecorder | null;
  /** Why there is no recorder. */
  meterProblem: string | null;
  run: ProfileSession;
  idle: [IdleWindow | null, IdleWindow | null];
  stable: ProfileResult['stable'];
  board: { detected: DetectedBoard; start: BoardState; end: BoardState };
}

/** Other processes that take more than this of one core are worth a word. */
const quietCores = 0.2;

export function assembleResult(parts: RunParts): ProfileResult {
  const { core, info, options, recorder, meterProblem, run, stable, workload } = parts;
  const idle = idleOf(parts, meterProblem);
  // A run that looked for a steady state reports that state.
  const counted = stable === null ? run.windows : run.windows.filter(({ repetition }) => repetition >= stable.firstRepetition);
  const problems = [...new Set(counted.flatMap(({ problems }) => problems))];
  const phase = (name: 'prefill' | 'decode') => phaseFigures(name, counted.filter((window) => window.phase === name), idle, meterProblem);
  return {
    kind: 'profile',
    startedAt: parts.startedAt,
    model: { name: parts.name, architecture: info.architecture, parameters: info.parameters, bitsPerWeight: info.bitsPerWeight, weightsBytes: info.bytes.total },
    backend: core.backend,
    workload: {
      turns: workload.turns.map(({ reused, prompt, steps }) => ({ promptTokens: prompt.length, reusedTokens: reused, decodeTokens: steps })),
      template: workload.template,
      digest: workload.digest,
    },
    method: {
      repetitions: new Set(counted.map(({ repetition }) => repetition)).size,
      windowMs: parts.windowMs,
      idleMs: options.idle * 1000,
      untilStable: options.untilStable,
      statement: statement(parts),
    },
    meter: recorder === null ? null : meterOf(recorder),
    meterProblem,
    idle,
    prefill: phase('prefill'),
    decode: phase('decode'),
    windows: run.windows,
    memory: { ...core.memory(parts.session), ...memoryOf(run.memory), gpuProcessBytes: core.backend.name === 'cuda' ? readMemory({ sysRoot: options.sysRoot }).gpuProcessBytes : null },
    board: { name: parts.board.detected.profile.name, id: parts.board.detected.profile.id, start: parts.board.start, end: parts.board.end },
    stable,
    valid: problems.length === 0,
    problems,
    notes: notes(parts, counted),
    timeline: { phases: run.phases, power: run.power(), memory: memoryColumns(run.memory), tokens: run.tokens },
  };
}

function memoryOf(readings: readonly MemoryReading[]): Omit<MemoryFigures, keyof MemoryUse | 'gpuProcessBytes'> {
  const known = (name: MemoryNumber): number[] => readings.map((reading) => reading[name]).filter((value) => value !== null);
  const most = (values: number[]): number | null => (values.length === 0 ? null : values.reduce((a, b) => Math.max(a, b)));
  const least = (values: number[]): number | null => (values.length === 0 ? null : values.reduce((a, b) => Math.min(a, b)));
  const [available, nvMap] = [known('availableBytes'), known('nvMapBytes')];
  return {
    residentPeakBytes: most(known('rssBytes')),
    availableBeforeBytes: available[0] ?? null,
    availableLeastBytes: least(available),
    nvMapGrowthBytes: nvMap.length === 0 ? null : most(nvMap)! - least(nvMap)!,
  };
}

function memoryColumns(readings: readonly MemoryReading[]): ProfileResult['timeline']['memory'] {
  return {
    atMs: readings.map(({ atMs }) => atMs),
    residentBytes: readings.map(({ rssBytes }) => rssBytes),
    availableBytes: readings.map(({ availableBytes }) => availableBytes),
  };
}

function meterOf({ meter, load }: EnergyRecorder): NonNullable<ProfileResult['meter']> {
  const { name, method, scope, total, rails, updateMs, step, shortestWindowMs } = meter;
  return { name, method, scope, total, rails, updateMs, step, shortestWindowMs, load };
}

function idleOf({ idle: [before, after] }: RunParts, meterProblem: string | null): ProfileResult['idle'] {
  const reading = (window: IdleWindow | null): IdleReading | null => {
    if (window === null || window.energy === null) return null;
    return { watts: window.energy.averageWatts, uncertainty: window.energy.uncertainty / window.seconds };
  };
  const problem = meterProblem ?? before?.problem ?? after?.problem ?? (before === null ? 'the idle board was left out (idle 0)' : null);
  return idlePower(reading(before), reading(after), problem);
}

function notes({ board, core, run, recorder, options, stable }: RunParts, counted: readonly ProfileWindow[]): string[] {
  const notes = [...board.detected.notes];
  const busy = counted.map(({ otherCores }) => otherCores).filter((cores) => cores !== null);
  if (busy.length > 0 && mean(busy) > quietCores) notes.push(`Other processes kept ${mean(busy).toFixed(1)} cores busy meanwhile: rates are lower and energies higher than on a quiet machine.`);
  if (recorder !== null && !covers(recorder.meter, core.worksOn)) notes.push(`${recorder.meter.name} covers the ${recorder.meter.scope} alone, and the model ran on the ${core.worksOn === 'cpu' ? 'processor' : 'GPU'}: its energy is not in the figures.`);
  const uncovered = counted.map(({ energy }) => energy?.coverage ?? 1).filter((coverage) => coverage < 0.95);
  if (uncovered.length > 0) notes.push(`The meter missed up to ${Math.round((1 - Math.min(...uncovered)) * 100)} % of a window; the interval holds what that may hide.`);
  if (recorder !== null && recorder.load > 0.05) notes.push(`Reading the meter took ${Math.round(recorder.load * 100)} % of a core.`);
  if (options.repetitions === 1 && stable === null) notes.push('One repetition: intervals hold what the meter says of itself, not how repeats differ.');
  if (stable !== null && !stable.reached) notes.push(`Rate, power and temperature had not levelled off after ${Math.round(stable.afterMs / 1000)} s; the figures are of the last repetitions.`);
  const throttled = options.untilStable ? throttling(board.start, board.end) : null;
  if (throttled !== null) notes.push(`The board throttled (${throttled}); these are its sustained figures.`);
  const thin = run.windows.some(({ energy }) => energy !== null && energy.samples < 10);
  if (thin) notes.push('A window had fewer than ten readings.');
  return notes;
}

function statement({ options, recorder, windowMs, stable }: RunParts): string[] {
  const window = `${(windowMs / 1000).toFixed(windowMs < 1000 ? 2 : 1)} s`;
  const lines = [
    `Prompts are read and answers are generated in windows of their own, each repeated until it lasts ${window}; a first pass over everything is not counted. Answers have a fixed length: end tokens do not end them.`,
  ];
  if (recorder !== null) {
    const { name, scope, total, method } = recorder.meter;
    const how = { counter: 'a counter of the hardware', sampled: 'power that was read and integrated', estimated: 'an estimate' }[method];
    lines.push(`Energy covers the ${scope} (${total}), read from ${name}: ${how}. What lies outside of it, such as a power supply, is not in it.`);
    if (options.idle > 0) lines.push(`Net energy is the measured energy less what the idle board draws in the same time, with the model in memory; it was measured for ${options.idle} s before and after the load, and half of the difference is part of the interval.`);
    lines.push('An interval is one of 95 %: how repetitions differ, together with steps, gaps, edges and gain of the meter as it is specified. The offset of a sensor is not in it; net figures are free of it.');
  } else lines.push('Without an energy meter there are no joules; nothing is estimated in their place.');
  if (stable !== null) lines.push('The figures are those of the last repetitions, when rate, power and temperature no longer changed or the limit was reached.');
  return lines;
}
