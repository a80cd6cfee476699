/** Two saved profiles side by side. */
import { ShiftAddError } from '../errors.js';
import { type Comparison, compareFigures, type Figure } from './interval.js';
import type { ProfilePhase, ProfileResult } from './profile-result.js';

/** One figure of two profiles. */
export interface ComparedFigure extends Comparison {
  name: string;
  unit: 'J/token' | 'tokens/J' | 'tokens/s' | 'W' | 'bytes';
  /** Null where a run did not measure it. */
  a: Figure | null;
  b: Figure | null;
}

/** Two profiles beside each other, and whether they may be compared. */
export interface ProfileComparison {
  figures: ComparedFigure[];
  /** What is not the same in the two runs, in words: model, backend, workload, board, power mode, meter. */
  differences: string[];
  /** What to know before the figures are believed. */
  warnings: string[];
}

/** ERR_PROFILE when the meters cover different things: a ratio of a module's joules and a board's means nothing. */
export function compareProfiles(a: ProfileResult, b: ProfileResult): ProfileComparison {
  const scopes = [a.meter?.scope, b.meter?.scope];
  if (scopes[0] !== undefined && scopes[1] !== undefined && scopes[0] !== scopes[1]) {
    throw new ShiftAddError('ERR_PROFILE', `The first profile covers the ${scopes[0]}, the second the ${scopes[1]}: their energies cannot be compared. Measure both with meters of one scope (--meter).`);
  }
  return { figures: figures(a, b), differences: differences(a, b), warnings: warnings(a, b) };
}

function figures(a: ProfileResult, b: ProfileResult): ComparedFigure[] {
  const compared = (name: string, unit: ComparedFigure['unit'], of: (result: ProfileResult) => Figure | null): ComparedFigure => {
    const [left, right] = [of(a), of(b)];
    return { name, unit, a: left, b: right, ...(left === null || right === null ? { ratio: null, differs: null } : compareFigures(left, right)) };
  };
  const alone = (value: number | null): Figure | null => (value === null ? null : { value, uncertainty: null });
  const phase = (name: 'prefill' | 'decode'): ComparedFigure[] => {
    const of = (get: (phase: ProfilePhase) => Figure | null) => (result: ProfileResult) => get(result[name]);
    return [
      compared(`${name} energy, gross`, 'J/token', of(({ energy }) => energy.joulesPerToken)),
      compared(`${name} energy, net`, 'J/token', of(({ energy }) => energy.netJoulesPerToken)),
      compared(`${name} tokens per joule`, 'tokens/J', of(({ energy }) => energy.tokensPerJoule)),
      compared(`${name} rate`, 'tokens/s', of(({ tokensPerSecond }) => tokensPerSecond)),
      compared(`${name} average power`, 'W', of(({ energy }) => alone(energy.averageWatts))),
      compared(`${name} peak power`, 'W', of(({ energy }) => alone(energy.peakWatts))),
    ];
  };
  return [
    ...phase('decode'),
    ...phase('prefill'),
    compared('idle power', 'W', ({ idle }) => idle.watts),
    compared('resident memory, peak', 'bytes', ({ memory }) => alone(memory.residentPeakBytes)),
    compared('weights', 'bytes', ({ memory }) => alone(memory.weightsBytes)),
    compared('KV cache', 'bytes', ({ memory }) => alone(memory.kvCacheBytes)),
  ];
}

function differences(a: ProfileResult, b: ProfileResult): string[] {
  const lines: string[] = [];
  const compare = (what: string, of: (result: ProfileResult) => string | number | null): void => {
    const [left, right] = [of(a), of(b)];
    if (left !== right) lines.push(`${what}: ${left ?? 'unknown'} and ${right ?? 'unknown'}`);
  };
  compare('model', ({ model }) => model.name);
  compare('bits per weight', ({ model }) => (model.bitsPerWeight === null ? 'dense' : model.bitsPerWeight.toFixed(3)));
  compare('backend', ({ backend }) => `${backend.name} (${backend.isa}, ${backend.threads} threads, ${backend.precision}, ${backend.kvCache} cache)`);
  compare('board', ({ board }) => board?.name ?? null);
  compare('power mode', ({ board }) => board?.start.powerMode?.name ?? null);
  compare('meter', ({ meter }) => meter?.name ?? 'none');
  compare('total of the meter', ({ meter }) => meter?.total ?? 'none');
  compare('window', ({ method }) => `${method.windowMs} ms`);
  compare('state', ({ method }) => (method.untilStable ? 'levelled off' : 'from the start'));
  return lines;
}

function warnings(a: ProfileResult, b: ProfileResult): string[] {
  const lines: string[] = [];
  if (a.workload.digest !== b.workload.digest) {
    const tokens = ({ workload }: ProfileResult): string => workload.turns.map(({ promptTokens, decodeTokens }) => `${promptTokens} + ${decodeTokens}`).join(', ');
    const same = tokens(a) === tokens(b);
    lines.push(same ? 'The tokens are not the same, their numbers are.' : `The work is not the same: prompts and answers of ${tokens(a)} and of ${tokens(b)} tokens.`);
  }
  for (const [name, result] of [['first', a], ['second', b]] as const) {
    if (!result.valid) lines.push(`The ${name} run is not valid: ${result.problems.join('; ')}.`);
    if (result.meter === null) lines.push(`The ${name} run has no energy: ${result.meterProblem}.`);
  }
  return lines;
}

/** The profile in the text of a saved file. ERR_PROFILE names the file. */
export function parseProfile(text: string, path: string): ProfileResult {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new ShiftAddError('ERR_PROFILE', `${path} is no JSON document. Save a profile with: shiftadd profile --json > ${path}`, error);
  }
  if (!isProfile(value)) throw new ShiftAddError('ERR_PROFILE', `${path} is no saved profile. Save one with: shiftadd profile --json > ${path}`);
  return value;
}

/** As far as it is needed to compare. */
function isProfile(value: unknown): value is ProfileResult {
  const figure = (entry: unknown): boolean => entry === null || (isObject(entry) && typeof entry['value'] === 'number');
  const phase = (entry: unknown): boolean =>
    isObject(entry) && figure(entry['tokensPerSecond']) && isObject(entry['energy']) && ['joulesPerToken', 'netJoulesPerToken', 'tokensPerJoule'].every((name) => figure((entry['energy'] as Record<string, unknown>)[name]));
  return (
    isObject(value) &&
    value['kind'] === 'profile' &&
    phase(value['prefill']) &&
    phase(value['decode']) &&
    ['model', 'backend', 'method', 'idle', 'memory'].every((name) => isObject(value[name])) &&
    isObject(value['workload']) &&
    Array.isArray(value['workload']['turns']) &&
    Array.isArray(value['problems']) &&
    (value['meter'] === null || isObject(value['meter']))
  );
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
