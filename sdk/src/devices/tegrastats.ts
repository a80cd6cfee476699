/**
 * `tegrastats` of Jetson Linux, where the power monitor cannot be read directly. Its lines differ between releases and have no
 * grammar, so each part is looked for by itself and anything unknown is passed over; nothing in a line makes it throw.
 */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { BoardProfile } from './board-profile.js';
import { type MeterPlan, rootSumSquare, shortestWindow } from './meter-plan.js';
import { firstProgram } from './pi5-pmic.js';
import type { FoundMeters } from './power-chips.js';
import type { SystemFiles } from './system-files.js';

export interface TegrastatsLine {
  /** Milliwatts now. The second and third number of a rail are its mean and maximum since tegrastats started. */
  rails: { name: string; milliwatts: number }[];
  /** Degrees Celsius now; zones that are switched off are left out. */
  temperatures: { zone: string; celsius: number }[];
  memory: { usedMegabytes: number; totalMegabytes: number } | null;
  /** Per core; null for one that is off. */
  cores: ({ load: number; megahertz: number | null } | null)[];
  /** Percent; null where the release or the missing root right hides it. */
  gpuLoad: number | null;
  gpuMegahertz: number | null;
  memoryMegahertz: number | null;
}

export function parseTegrastats(line: string): TegrastatsLine {
  const number = (pattern: RegExp): number | null => {
    const found = pattern.exec(line)?.[1];
    return found === undefined ? null : Number(found);
  };
  const ram = /\bRAM\s+(\d+)\/(\d+)MB/.exec(line);
  // Rails are a name with two or three numbers; RAM, SWAP and IRAM look alike up to the unit of bytes after them.
  const rails = [...line.matchAll(/(?:^|\s)([A-Z0-9][A-Z0-9_]*)\s+(-?\d+)(?:mW)?\/(-?\d+)(?:mW)?(?:\/(-?\d+)(?:mW)?)?(?=\s|$)/g)]
    .map(([, name, now]) => ({ name: name!, milliwatts: Number(now) }))
    .filter(({ name }) => name !== 'NC');
  const temperatures = [...line.matchAll(/(?:^|\s)([A-Za-z][A-Za-z0-9_]*)@(-?\d+(?:\.\d+)?)C(?:\/-?\d+(?:\.\d+)?C)?(?=\s|$)/g)]
    .map(([, zone, celsius]) => ({ zone: zone!, celsius: Number(celsius) }))
    .filter(({ celsius }) => celsius > -256);
  return {
    rails,
    temperatures,
    memory: ram === null ? null : { usedMegabytes: Number(ram[1]), totalMegabytes: Number(ram[2]) },
    cores: coresOf(line),
    gpuLoad: number(/\bGR3D(?:_FREQ)?\s+(\d+)%/),
    gpuMegahertz: number(/\bGR3D(?:_FREQ)?\s+(?:\d+%)?@\[?(\d+)/),
    memoryMegahertz: number(/\bEMC(?:_FREQ)?\s+(?:\d+%)?@(\d+)/),
  };
}

/** `[2%@345,off]`, or one clock for all after the bracket: `[0%,5%,off]@2601`. */
function coresOf(line: string): TegrastatsLine['cores'] {
  const found = /\b(?:CPU|cpu)\s+\[([^\]]*)\](?:@(\d+))?/.exec(line);
  if (found === null) return [];
  const shared = found[2] === undefined ? null : Number(found[2]);
  return found[1]!.split(',').map((core) => {
    const value = /^\s*(\d+)%(?:@(\d+))?\s*$/.exec(core);
    return value === null ? null : { load: Number(value[1]), megahertz: value[2] === undefined ? shared : Number(value[2]) };
  });
}

const intervalMs = 100;
/** Not verified. */
const tegrastatsGain = 0.01;
/** It prints whole milliwatts of readings with the sensor's step, which it does not tell: at most 77 mW of an input, 392 mW of a branch. */
const [inputStep, branchStep] = [0.08, 0.4];
const firstLineMs = 3000;

/** The first line tells the rails; the total is that of the board's profile, never a sum of everything. */
export async function findTegrastats(files: SystemFiles, profile: BoardProfile): Promise<FoundMeters> {
  const found: FoundMeters = { plans: [], unreadable: [], notes: [] };
  const program = await firstProgram([files.path('/usr/bin/tegrastats')]);
  if (program === null || profile.energy === null) return found;
  const line = await firstLine(program);
  const rails = line === null ? [] : parseTegrastats(line).rails.map(({ name }) => name);
  const rule = profile.energy.totals.find((total) => total.rails.every((rail) => rails.includes(rail)));
  if (rule === undefined) {
    const reason = line === null ? 'tegrastats printed nothing' : `tegrastats shows ${rails.length === 0 ? 'no rails' : `only ${rails.join(', ')}`}`;
    found.unreadable.push({ name: 'tegrastats', scope: profile.energy.scope, reason, fix: 'Some releases show the rails to root only: sudo shiftadd devices' });
    return found;
  }
  found.plans.push(tegrastatsPlan(program, rails, rule, profile.energy));
  return found;
}

type EnergyRule = NonNullable<BoardProfile['energy']>;

function tegrastatsPlan(program: string, rails: string[], { rails: total, scope }: EnergyRule['totals'][number], energy: EnergyRule): MeterPlan {
  const railStep = total.length === 1 ? inputStep : branchStep;
  const steps = rails.map(() => railStep);
  return {
    meter: {
      name: 'tegrastats',
      method: 'sampled',
      scope: scope ?? energy.scope,
      rails: rails.map((name) => ({ name, feeds: energy.rails?.[name] ?? [], inTotal: total.includes(name) })),
      total: total.join(' + '),
      updateMs: intervalMs,
      step: rootSumSquare(total.map(() => railStep)),
      shortestWindowMs: shortestWindow(intervalMs, 1000 / intervalMs),
    },
    source: { kind: 'tegrastats', program, rails },
    steps,
    ranges: steps.map(() => null),
    gain: tegrastatsGain,
    mostHz: 1000 / intervalMs,
  };
}

/** Watts of a plan's rails in one line; null for those that it lacks. */
export function tegrastatsValues(line: string, rails: readonly string[]): (number | null)[] {
  const shown = new Map(parseTegrastats(line).rails.map(({ name, milliwatts }) => [name, milliwatts / 1000]));
  return rails.map((rail) => shown.get(rail) ?? null);
}

/** Calls back for each line until `stop` is called or the program ends. */
export function followTegrastats(program: string, onLine: (line: string) => void, onEnd: () => void): { stop(): void } {
  const child = spawn(program, ['--interval', String(intervalMs)], { stdio: ['ignore', 'pipe', 'ignore'] });
  child.on('error', onEnd).on('close', onEnd);
  createInterface({ input: child.stdout }).on('line', onLine);
  return {
    stop: () => {
      child.kill();
      child.stdout.destroy(); // what it started itself may hold the other end
    },
  };
}

function firstLine(program: string): Promise<string | null> {
  return new Promise((resolve) => {
    const end = (line: string | null): void => {
      clearTimeout(timer);
      follow.stop();
      resolve(line);
    };
    const timer = setTimeout(() => end(null), firstLineMs);
    const follow = followTegrastats(program, (line) => end(line), () => end(null));
  });
}
