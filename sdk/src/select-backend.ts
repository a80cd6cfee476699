/** Which backends there are, and which one runs. An explicit choice is used or throws; nothing is substituted. */
import type { Engine, EngineDevice } from './engine.js';
import { loadNativeEngine } from './engine-native.js';
import { ShiftAddError, fromEngine } from './errors.js';
import { isaNames, show } from './options.js';

export type BackendName = 'cpu' | 'cuda' | 'wasm';

export interface BackendReport {
  name: BackendName;
  available: boolean;
  /** Why it is not available, with the fix; null when it is. */
  reason: string | null;
  /** What it runs on, when it is available. */
  device?: { isa: string; cores: number };
}

export interface BackendAttempt {
  name: BackendName;
  ok: boolean;
  reason: string | null;
}

export interface SelectedBackend {
  name: BackendName;
  engine: Engine;
  /** The ISA that was asked for, by option or SHIFTADD_ISA. */
  isa: string | undefined;
  attempts: BackendAttempt[];
}

/** Every backend of this package with its state on this machine. Never throws for a missing backend. */
export async function listBackends(): Promise<BackendReport[]> {
  const cpu = probeCpu(undefined);
  const other = (name: BackendName): BackendReport => ({ name, available: false, reason: 'not part of this build' });
  return [cpu.report, other('cuda'), other('wasm')];
}

/**
 * The backend for a model. ERR_NO_BACKEND lists every reason and its fix; TypeError for an unknown SHIFTADD_ISA.
 * `isa` wins over the environment.
 */
export function selectBackend(choice: BackendName | 'auto', isa?: string): SelectedBackend {
  const attempts: BackendAttempt[] = [];
  for (const name of choice === 'auto' ? (['cuda', 'cpu', 'wasm'] as const) : [choice]) {
    if (name !== 'cpu') {
      attempts.push({ name, ok: false, reason: 'not part of this build' });
      continue;
    }
    const { report, engine, forced } = probeCpu(isa);
    attempts.push({ name, ok: report.available, reason: report.reason });
    if (engine !== null) return { name, engine, isa: forced, attempts };
  }
  const reasons = attempts.map(({ name, reason }) => `${name}: ${reason}`).join('; ');
  const fix = choice === 'auto' || choice === 'cpu' ? '' : " Use backend 'auto' or 'cpu'.";
  throw new ShiftAddError('ERR_NO_BACKEND', `No backend for '${choice}'. ${reasons}.${fix}`);
}

function probeCpu(isa: string | undefined): {
  report: BackendReport;
  engine: Engine | null;
  forced: string | undefined;
} {
  const forced = isa ?? isaFromEnvironment();
  let engine: Engine;
  let device: EngineDevice;
  try {
    engine = loadNativeEngine();
    device = engine.describeDevice(forced);
  } catch (error) {
    const failure = fromEngine(error, `Asking for the instruction set ${forced ?? 'of this machine'}`) as Error;
    const fix = forced === undefined ? '' : ' Leave isa and SHIFTADD_ISA away to use the widest that there is.';
    return { report: { name: 'cpu', available: false, reason: failure.message + fix }, engine: null, forced };
  }
  return {
    report: { name: 'cpu', available: true, reason: null, device: { isa: device.isa, cores: device.cores } },
    engine,
    forced,
  };
}

function isaFromEnvironment(): string | undefined {
  const isa = process.env['SHIFTADD_ISA'];
  if (isa === undefined || isa === '') return undefined;
  if (!(isaNames as readonly string[]).includes(isa)) {
    throw new TypeError(`Expected one of ${isaNames.join(', ')} for SHIFTADD_ISA but received ${show(isa)}`);
  }
  return isa;
}
