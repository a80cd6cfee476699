/** Reads a meter again and again. Runs in the recorder's worker. */
import { monotonicMs } from './energy-meter.js';
import { type MeterPlan, type MeterSource, highestHz } from './meter-plan.js';
import { openNvml } from './nvml.js';
import { askPmic, pmicValues } from './pi5-pmic.js';
import { SystemFiles } from './system-files.js';
import { followTegrastats, tegrastatsValues } from './tegrastats.js';

/** Values in the order of the plan's rails, at the middle of the read; null where it failed. */
export type OnReading = (atMs: number, values: (number | null)[]) => void;

export interface RunningReader {
  stop(): void;
}

/** Readings are not taken more seldom than this for the sake of their cost. */
const lowestHz = 20;
/** At most this share of the time is spent on reading. */
const mostCost = 0.5;
/** Part of the period by which readings are moved at random: a load with the same period must not be met in one phase. */
const jitter = 0.2;

/** How often a plan is read when `wantedHz` is asked for. */
export function plannedHz(plan: MeterPlan, wantedHz: number | undefined): number {
  return Math.min(wantedHz ?? highestHz, plan.mostHz);
}

export function startReading(root: string, plan: MeterPlan, hz: number, onReading: OnReading): RunningReader {
  const { source } = plan;
  if (source.kind === 'tegrastats') return followLines(source, onReading);
  if (source.kind === 'pmic') return askAgain(source, hz, onReading);
  const reader = source.kind === 'files' ? filesReader(new SystemFiles(root), source) : nvmlReader(source);
  return poll(reader, hz, onReading);
}

export interface Reader {
  read(): (number | null)[];
  close(): void;
}

export function filesReader(files: SystemFiles, source: MeterSource & { kind: 'files' }): Reader {
  const rails = source.rails.map(({ scale, files: names, only }) => ({
    scale,
    files: names.map((name) => files.open(name)),
    only: only === undefined ? null : { file: files.open(only.file), is: only.is },
  }));
  return {
    read: () =>
      rails.map((rail) => {
        if (rail.only !== null && rail.only.file.text()?.trim() !== rail.only.is) return null;
        let value = rail.scale;
        for (const file of rail.files) {
          const factor = file.number();
          if (factor === null) return null;
          value *= factor;
        }
        return value;
      }),
    close: () => rails.forEach(({ files: all, only }) => [...all, ...(only === null ? [] : [only.file])].forEach((file) => file.close())),
  };
}

function nvmlReader({ device, counter }: MeterSource & { kind: 'nvml' }): Reader {
  const nvml = openNvml();
  return {
    read: () => {
      try {
        return [(counter ? nvml.millijoules(device) : nvml.milliwatts(device)) / 1000];
      } catch {
        return [null]; // the driver is busy or went away: a missed reading
      }
    },
    close: () => undefined,
  };
}

function poll(reader: Reader, hz: number, onReading: OnReading): RunningReader {
  let cost = 0;
  let next = monotonicMs();
  let timer: NodeJS.Timeout | undefined;
  const step = (): void => {
    const before = monotonicMs();
    const values = reader.read();
    const after = monotonicMs();
    onReading((before + after) / 2, values);
    cost = cost === 0 ? after - before : 0.9 * cost + 0.1 * (after - before);
    const affordableHz = Math.max((1000 * mostCost) / cost, Math.min(hz, lowestHz));
    const period = (1000 / Math.min(hz, affordableHz)) * (1 + jitter * (2 * Math.random() - 1));
    // From the planned time, so that lateness does not add up; from now where that is past already.
    next = Math.max(next + period, after);
    timer = setTimeout(step, next - after);
  };
  step();
  return {
    stop: () => {
      clearTimeout(timer);
      reader.close();
    },
  };
}

function askAgain(source: MeterSource & { kind: 'pmic' }, hz: number, onReading: OnReading): RunningReader {
  let stopped = false;
  let timer: NodeJS.Timeout | undefined;
  const ask = async (): Promise<void> => {
    const before = monotonicMs();
    const text = await askPmic(source.way).catch(() => ''); // what failed is a missed reading
    const after = monotonicMs();
    if (stopped) return;
    onReading((before + after) / 2, pmicValues(text, source));
    timer = setTimeout(() => void ask(), Math.max(1000 / hz - (after - before), 0));
  };
  void ask();
  return {
    stop: () => {
      stopped = true;
      clearTimeout(timer);
    },
  };
}

function followLines({ program, rails }: MeterSource & { kind: 'tegrastats' }, onReading: OnReading): RunningReader {
  const missed = rails.map(() => null);
  return followTegrastats(
    program,
    (line) => onReading(monotonicMs(), tegrastatsValues(line, rails)),
    () => onReading(monotonicMs(), missed),
  );
}

