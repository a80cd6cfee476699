/** From windows to figures per token. No clock and no meter is read here. */
import { type Figure, inverse, mean, repeated } from './interval.js';
import type { IdlePower, PhaseEnergy, PhaseName, ProfilePhase, ProfileWindow } from './profile-result.js';

/** One reading of idle power. */
export interface IdleReading {
  watts: number;
  uncertainty: number;
}

/**
 * The power of an idle board from a reading before and one after the load. Half of their difference bounds how far it
 * drifted in between.
 */
export function idlePower(before: IdleReading | null, after: IdleReading | null, problem: string | null): IdlePower {
  if (before === null || after === null) return { before, after, watts: null, problem: problem ?? 'the idle board was not measured before and after the load' };
  const drift = Math.abs(after.watts - before.watts) / 2;
  const own = Math.max(before.uncertainty, after.uncertainty);
  return { before, after, watts: { value: (before.watts + after.watts) / 2, uncertainty: Math.hypot(drift, own) }, problem: null };
}

/** One repetition of a phase: what one pass over all turns costs. */
interface Pass {
  tokens: number;
  seconds: number;
  joules: number;
  uncertainty: number;
}

/** `windows` are those of one phase that count, of whole repetitions; at least one. */
export function phaseFigures(name: PhaseName, windows: readonly ProfileWindow[], idle: IdlePower, meterProblem: string | null): ProfilePhase {
  const repetitions = [...new Set(windows.map(({ repetition }) => repetition))];
  const passes = repetitions.map((repetition) => onePass(windows.filter((window) => window.repetition === repetition)));
  return {
    name,
    tokens: passes[0]!.tokens,
    // By the mean time per token, so that joules per token times tokens per second is the mean power.
    tokensPerSecond: inverse(repeated(passes.map(({ tokens, seconds }) => seconds / tokens)))!,
    energy: phaseEnergy(windows, passes, idle, meterProblem),
  };
}

/** The turns of one repetition may have run a different number of times, so each is brought to one time first. */
function onePass(windows: readonly ProfileWindow[]): Pass {
  const sum = (of: (window: ProfileWindow) => number): number => windows.reduce((total, window) => total + of(window) / window.passes, 0);
  return {
    tokens: sum(({ tokens }) => tokens),
    seconds: sum(({ startMs, endMs }) => (endMs - startMs) / 1000),
    joules: sum(({ energy }) => energy?.joules ?? 0),
    // Of one meter, whose errors in two windows may be the same: not in quadrature.
    uncertainty: sum(({ energy }) => energy?.uncertainty ?? 0),
  };
}

function phaseEnergy(windows: readonly ProfileWindow[], passes: readonly Pass[], idle: IdlePower, meterProblem: string | null): PhaseEnergy {
  const unresolved = windows.find(({ energy }) => energy === null);
  const problem = meterProblem ?? (unresolved === undefined ? null : (unresolved.energyProblem ?? 'a window was not measured'));
  if (problem !== null) {
    return { joulesPerToken: null, netJoulesPerToken: null, tokensPerJoule: null, averageWatts: null, peakWatts: null, rails: [], problem, netProblem: problem };
  }
  const joulesPerToken = repeated(
    passes.map(({ joules, tokens }) => joules / tokens),
    passes.map(({ uncertainty, tokens }) => uncertainty / tokens),
  );
  const energies = windows.map(({ energy }) => energy!);
  const seconds = windows.map(({ startMs, endMs }) => (endMs - startMs) / 1000);
  const weighted = (watts: readonly (number | null)[]): number | null => {
    if (watts.some((value) => value === null)) return null;
    return watts.reduce<number>((sum, value, i) => sum + value! * seconds[i]!, 0) / seconds.reduce((sum, value) => sum + value, 0);
  };
  return {
    joulesPerToken,
    netJoulesPerToken: netOf(joulesPerToken, passes, idle),
    tokensPerJoule: inverse(joulesPerToken),
    averageWatts: weighted(energies.map(({ averageWatts }) => averageWatts)),
    peakWatts: Math.max(...energies.map(({ peakWatts }) => peakWatts)),
    rails: energies[0]!.rails.map(({ name, inTotal }, rail) => {
      const peaks = energies.map(({ rails }) => rails[rail]!.peakWatts);
      return {
        name,
        inTotal,
        averageWatts: weighted(energies.map(({ rails }) => rails[rail]!.averageWatts)),
        peakWatts: peaks.some((peak) => peak === null) ? null : Math.max(...peaks.map((peak) => peak!)),
      };
    }),
    problem: null,
    netProblem: idle.watts === null ? (idle.problem ?? 'the idle board was not measured') : null,
  };
}

/** (E - P idle x t) / tokens. The drift of the idle power stays in its interval. */
function netOf(gross: Figure, passes: readonly Pass[], idle: IdlePower): Figure | null {
  if (idle.watts === null) return null;
  const secondsPerToken = mean(passes.map(({ seconds, tokens }) => seconds / tokens));
  const net = mean(passes.map(({ joules, seconds, tokens }) => (joules - idle.watts!.value * seconds) / tokens));
  return { value: net, uncertainty: Math.hypot(gross.uncertainty!, idle.watts.uncertainty! * secondsPerToken) };
}

/** Repetitions that have to agree before a run counts as levelled off. */
export const levelRepetitions = 4;
/** Share of their mean within which rate and power of those repetitions have to stay. */
const levelShare = 0.02;
/** Within which the temperature has to stay: zones show whole or half degrees, and fans hunt around a point. */
const levelCelsius = 1.5;

/** What is known of one repetition. */
export interface RepetitionState {
  tokensPerSecond: number;
  averageWatts: number | null;
  celsius: number | null;
}

/** Whether rate, power and temperature have levelled off over the last repetitions; what is not measured is left out. */
export function isLevel(history: readonly RepetitionState[]): boolean {
  if (history.length < levelRepetitions) return false;
  const last = history.slice(-levelRepetitions);
  const spread = (values: readonly (number | null)[]): number | null => {
    if (values.some((value) => value === null)) return null;
    return Math.max(...values.map((value) => value!)) - Math.min(...values.map((value) => value!));
  };
  const within = (values: readonly (number | null)[]): boolean => {
    const width = spread(values);
    return width === null || width <= levelShare * 2 * Math.abs(mean(values.map((value) => value!)));
  };
  const warmth = spread(last.map(({ celsius }) => celsius));
  return within(last.map(({ tokensPerSecond }) => tokensPerSecond)) && within(last.map(({ averageWatts }) => averageWatts)) && (warmth === null || warmth <= levelCelsius);
}
