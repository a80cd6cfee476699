/**
 * The power management chip of the Raspberry Pi 5, through `vcgencmd pmic_read_adc`. It sees twelve rails behind its converters
 * and neither their losses nor what hangs on 5 V.
 */
import { execFile } from 'node:child_process';
import { access, constants } from 'node:fs/promises';
import type { BoardProfile } from './board-profile.js';
import type { UnreadableMeter } from './energy-meter.js';
import { type MeterPlan, type MeterSource, rootSumSquare, shortestWindow } from './meter-plan.js';
import type { FoundMeters } from './power-chips.js';
import type { SystemFiles } from './system-files.js';

/** Watts by rail, of the rails that have both a current and a voltage. Lines that say something else are passed over. */
export function parsePmic(text: string): Map<string, number> {
  const values = { A: new Map<string, number>(), V: new Map<string, number>() };
  for (const [, rail, quantity, number] of text.matchAll(/^\s*(\w+)_([AV])\s+(?:current|volt)\(\d+\)=(-?\d+(?:\.\d+)?)[AV]\s*$/gm)) {
    values[quantity as 'A' | 'V'].set(rail!, Number(number));
  }
  const watts = new Map<string, number>();
  for (const [rail, amperes] of values.A) {
    const volts = values.V.get(rail);
    if (volts !== undefined) watts.set(rail, amperes * volts);
  }
  return watts;
}

/** A community's fit of board power to the sum of the rails, watts. */
const boardFactor = 1.1451;
const boardOffsetWatts = 0.5879;

/** A program is started for each reading. */
const pmicHz = 4;
const pmicUpdateMs = 250;
/** The last digit of a current at 5 V is far below this; the converter's real step is not published. */
const railStep = 0.005;
/** Not verified. */
const pmicGain = 0.05;
const estimateGain = 0.1;

const programs = ['/usr/bin/vcgencmd', '/opt/vc/bin/vcgencmd'];

/** The sum of the rails is measured; the power of the board is an estimate from it and called one. */
export async function findPmic(files: SystemFiles, profile: BoardProfile): Promise<FoundMeters> {
  const found: FoundMeters = { plans: [], unreadable: [], notes: [] };
  const wanted = profile.energy?.totals.find(({ meter }) => meter === 'pi5-pmic')?.rails;
  if (wanted === undefined) return found;
  const missing = (reason: string, fix: string): void => {
    const meter: UnreadableMeter = { name: 'pi5-pmic', scope: 'PMIC rails', reason, fix };
    found.unreadable.push(meter);
  };
  const program = await firstProgram(programs.map((name) => files.path(name)));
  if (program === null) {
    missing('vcgencmd is not installed', 'sudo apt install raspi-utils, or mount it and /dev/vcio into the container');
    return found;
  }
  let text: string;
  try {
    text = await readPmic(program);
  } catch (error) {
    missing(`vcgencmd pmic_read_adc failed: ${(error as Error).message.trim().split('\n').at(-1)}`, 'Allow this user to ask the firmware, then log in again: sudo usermod -aG video $USER');
    return found;
  }
  const watts = parsePmic(text);
  const lost = wanted.filter((rail) => !watts.has(rail));
  if (lost.length > 0) {
    missing(`vcgencmd pmic_read_adc does not show ${lost.join(', ')}`, 'Update the firmware: sudo rpi-eeprom-update -a');
    return found;
  }
  found.plans.push(pmicPlan(program, wanted, profile), pmicPlan(program, wanted, profile, true));
  return found;
}

function pmicPlan(program: string, rails: string[], { energy }: BoardProfile, estimate = false): MeterPlan {
  const steps = estimate ? [boardFactor * rootSumSquare(rails.map(() => railStep))] : rails.map(() => railStep);
  const sum = `${rails.length} rails with current and voltage`;
  return {
    meter: {
      name: estimate ? 'pi5-pmic-board' : 'pi5-pmic',
      method: estimate ? 'estimated' : 'sampled',
      scope: estimate ? 'board' : 'PMIC rails',
      rails: estimate ? [{ name: 'board (estimate)', feeds: ['all'], inTotal: true }] : rails.map((name) => ({ name, feeds: energy?.rails?.[name] ?? [], inTotal: true })),
      total: estimate ? `${boardFactor} x (${sum}) + ${boardOffsetWatts} W` : sum,
      updateMs: pmicUpdateMs,
      step: rootSumSquare(steps),
      shortestWindowMs: shortestWindow(pmicUpdateMs, pmicHz),
    },
    source: { kind: 'pmic', program, rails, estimate },
    steps,
    ranges: steps.map(() => null),
    gain: estimate ? estimateGain : pmicGain,
    mostHz: pmicHz,
  };
}

/** The values of a plan's rails from one print: one by one, or the estimate of the board. */
export function pmicValues(text: string, source: MeterSource & { kind: 'pmic' }): (number | null)[] {
  const watts = parsePmic(text);
  const values = source.rails.map((rail) => watts.get(rail) ?? null);
  if (!source.estimate) return values;
  if (values.includes(null)) return [null];
  return [(values as number[]).reduce((sum, value) => sum + value, 0) * boardFactor + boardOffsetWatts];
}

const patienceMs = 2000;

export function readPmic(program: string): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(program, ['pmic_read_adc'], { timeout: patienceMs }, (error, output) => (error === null ? resolve(output) : reject(error)));
  });
}

export async function firstProgram(paths: string[]): Promise<string | null> {
  for (const path of paths) {
    try {
      await access(path, constants.X_OK);
      return path;
    } catch {
      continue; // the next place
    }
  }
  return null;
}
