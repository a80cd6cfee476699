/**
 * The power management chip of the Raspberry Pi 5. The firmware tells its readings through the mailbox, /dev/vcio, or through the
 * program vcgencmd, which asks there. It sees twelve rails behind its converters and neither their losses nor what hangs on 5 V.
 */
import { execFile } from 'node:child_process';
import { access, constants } from 'node:fs/promises';
import type { Engine } from '../engine.js';
import { loadNativeEngine } from '../engine-native.js';
import type { BoardProfile } from './board-profile.js';
import { type MeterPlan, type MeterSource, type PmicWay, rootSumSquare, shortestWindow } from './meter-plan.js';
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

const command = 'pmic_read_adc';
const mailbox = '/dev/vcio';

/** How often the chip has new values is not published. Where a program is started for each reading, they are fewer. */
const mailboxHz = 10;
const programHz = 4;
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
  let problem = { reason: `neither ${mailbox} nor vcgencmd is there`, fix: 'sudo apt install raspi-utils, or mount /dev/vcio into the container' };
  for (const way of await waysToAsk(files)) {
    const answer = await askPmic(way).then(parsePmic, (error: Error) => error);
    if (answer instanceof Error) {
      problem = { reason: `${command} failed: ${answer.message.trim().split('\n').at(-1)}`, fix: 'Allow this user to ask the firmware, then log in again: sudo usermod -aG video $USER' };
      continue;
    }
    const lost = wanted.filter((rail) => !answer.has(rail));
    if (lost.length === 0) {
      found.plans.push(pmicPlan(way, wanted, profile), pmicPlan(way, wanted, profile, true));
      return found;
    }
    problem = { reason: `${command} does not show ${lost.join(', ')}`, fix: 'Update the firmware: sudo rpi-eeprom-update -a' };
  }
  found.unreadable.push({ name: 'pi5-pmic', scope: 'PMIC rails', ...problem });
  return found;
}

function pmicPlan(way: PmicWay, rails: string[], { energy }: BoardProfile, estimate = false): MeterPlan {
  const hz = 'device' in way ? mailboxHz : programHz;
  const steps = estimate ? [boardFactor * rootSumSquare(rails.map(() => railStep))] : rails.map(() => railStep);
  const sum = `${rails.length} rails with current and voltage`;
  return {
    meter: {
      name: estimate ? 'pi5-pmic-board' : 'pi5-pmic',
      method: estimate ? 'estimated' : 'sampled',
      scope: estimate ? 'board' : 'PMIC rails',
      rails: estimate ? [{ name: 'board (estimate)', feeds: ['all'], inTotal: true }] : rails.map((name) => ({ name, feeds: energy?.rails?.[name] ?? [], inTotal: true })),
      total: estimate ? `${boardFactor} x (${sum}) + ${boardOffsetWatts} W` : sum,
      updateMs: 1000 / hz,
      step: rootSumSquare(steps),
      shortestWindowMs: shortestWindow(1000 / hz, hz),
    },
    source: { kind: 'pmic', way, rails, estimate },
    steps,
    ranges: steps.map(() => null),
    gain: estimate ? estimateGain : pmicGain,
    mostHz: hz,
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

/** The mailbox first: a program for each reading costs more than the reading. */
async function waysToAsk(files: SystemFiles): Promise<PmicWay[]> {
  const device = files.path(mailbox);
  const hasDevice = await access(device).then(
    () => true,
    () => false, // it is not there
  );
  const program = await firstProgram(programs.map((name) => files.path(name)));
  return [...(hasDevice ? [{ device }] : []), ...(program === null ? [] : [{ program }])];
}

const patienceMs = 2000;

/** The firmware's text. Rejects when the device, the program or the firmware refuses. */
export function askPmic(way: PmicWay): Promise<string> {
  if ('device' in way) return Promise.resolve().then(() => askMailbox(way.device));
  return new Promise((resolve, reject) => {
    execFile(way.program, [command], { timeout: patienceMs }, (error, output) => (error === null ? resolve(output) : reject(error)));
  });
}

function askMailbox(device: string): string {
  const addon = loadNativeEngine() as Engine & { askFirmware(device: string, command: string): string };
  return addon.askFirmware(device, command);
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
