/** Whether a window measured the model, or a board that throttled, swapped or changed its power mode meanwhile. */
import { boardOf, type DetectedBoard } from './board.js';
import type { BoardState } from './board-state.js';
import { monotonicMs } from './energy-meter.js';
import type { SystemFiles } from './system-files.js';

/** The machine at one moment. */
export interface GuardReading {
  atMs: number;
  state: BoardState;
  /** Microseconds of processor time: of all processes, null where the system does not tell, and of this one. */
  busyMicroseconds: number | null;
  ownMicroseconds: number;
}

export interface GuardVerdict {
  problems: string[];
  celsius: number | null;
  otherCores: number | null;
}

/** The kernel counts processor time in hundredths of a second on all platforms that it runs on (USER_HZ). */
const microsecondsPerTick = 10_000;

export function readGuard(files: SystemFiles, board: DetectedBoard = boardOf(files)): GuardReading {
  const { powerMode, onBattery, processor, clocks, temperatures, throttling } = board;
  const { user, system } = process.cpuUsage();
  return {
    atMs: monotonicMs(),
    state: { powerMode, onBattery, processor, clocks, temperatures, throttling },
    busyMicroseconds: busyMicroseconds(files),
    ownMicroseconds: user + system,
  };
}

/** Without idle and waiting for disks; guests are in the user time already. */
function busyMicroseconds(files: SystemFiles): number | null {
  const found = /^cpu +(\d+) (\d+) (\d+) \d+ \d+ (\d+) (\d+) (\d+)/m.exec(files.text('/proc/stat') ?? '');
  return found === null ? null : found.slice(1).reduce((sum, ticks) => sum + Number(ticks), 0) * microsecondsPerTick;
}

/** `swapped` is what the memory recorder found; `sustained`: throttling is looked for, so it does not spoil the window. */
export function judge(before: GuardReading, after: GuardReading, swapped: string | null, sustained: boolean): GuardVerdict {
  const problems: string[] = [];
  const throttled = throttling(before.state, after.state);
  if (throttled !== null && !sustained) problems.push(`the board throttled (${throttled})`);
  const modes = [before, after].map(({ state }) => modeName(state));
  if (modes[0] !== modes[1]) problems.push(`the power mode changed from ${modes[0]} to ${modes[1]}`);
  const supplies = [before, after].map(({ state: { onBattery } }) => (onBattery === true ? 'battery' : 'mains'));
  if (supplies[0] !== supplies[1]) problems.push(`the machine changed from ${supplies[0]} to ${supplies[1]}`);
  // Throttling and another mode move the limits themselves.
  const isSteady = modes[0] === modes[1] && throttled === null;
  const limits = [before, after].map(({ state: { processor } }) => `${processor.onlineCores} cores of at most ${processor.limitMegahertz} MHz`);
  if (isSteady && limits[0] !== limits[1]) problems.push(`the processor changed from ${limits[0]} to ${limits[1]}`);
  for (const { name, limitMegahertz } of before.state.clocks) {
    const now = after.state.clocks.find((clock) => clock.name === name)?.limitMegahertz ?? null;
    if (isSteady && limitMegahertz !== null && now !== null && now !== limitMegahertz) problems.push(`the ${name === 'gpu' ? 'GPU' : name} clock's limit changed from ${Math.round(limitMegahertz)} to ${Math.round(now)} MHz`);
  }
  if (swapped !== null) problems.push(swapped);
  return { problems, celsius: hottest(after.state), otherCores: otherCores(before, after) };
}

/** What shows throttling within these two moments, or null. */
export function throttling(before: BoardState, after: BoardState): string | null {
  const fresh = after.throttling.evidence.filter((sign) => !before.throttling.evidence.includes(sign));
  const now = [before, after].find(({ throttling: { now } }) => now === true);
  if (now === undefined && fresh.length === 0) return null;
  return (fresh.length > 0 ? fresh : now!.throttling.evidence).join(', ');
}

function modeName({ powerMode }: BoardState): string {
  return powerMode === null ? 'none' : (powerMode.name ?? String(powerMode.id));
}

export function hottest({ temperatures }: BoardState): number | null {
  return temperatures.length === 0 ? null : Math.max(...temperatures.map(({ celsius }) => celsius));
}

function otherCores(before: GuardReading, after: GuardReading): number | null {
  if (before.busyMicroseconds === null || after.busyMicroseconds === null) return null;
  const others = after.busyMicroseconds - before.busyMicroseconds - (after.ownMicroseconds - before.ownMicroseconds);
  return Math.max(0, others / ((after.atMs - before.atMs) * 1000));
}
