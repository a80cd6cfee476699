/** Which backends there are, and which one runs. An explicit choice is used or throws; nothing is substituted. */
import { availableMemory, type AvailableMemory } from './devices/available-memory.js';
import type { Engine, EngineGpu } from './engine.js';
import { loadNativeEngine } from './engine-native.js';
import { ShiftAddError, fromEngine } from './errors.js';
import { platformName } from './native-path.js';
import { backendChoices, isaNames, show } from './options.js';
import { loadWasmEngine, wasmProblem } from './wasm/node-platform.js';

/** What can run a model. */
export type BackendName = 'cpu' | 'cuda' | 'wasm';

/** One backend of this machine: whether it can be used, and why not. */
export interface BackendReport {
  name: BackendName;
  available: boolean;
  /** Why it is not available, with the fix; null when it is. */
  reason: string | null;
  /** What it runs on, when it is available. */
  device?: { isa: string; cores: number };
  /** Of `cuda`: its GPUs, in the order of their indexes. */
  gpus?: EngineGpu[];
}

/** A backend that was not chosen, and why. */
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
  /** Index of the GPU. */
  device?: number;
  /** Of `cuda`. */
  gpu?: EngineGpu;
  attempts: BackendAttempt[];
  /** What the weights of this backend share with the rest of the machine; absent where that is not known. */
  memory?: () => AvailableMemory | null;
}

/** Every backend of this package with its state on this machine. Never throws for a missing backend. */
export async function listBackends(): Promise<BackendReport[]> {
  return Object.values(probes).map((probe) => probe(undefined, 0).report);
}

/**
 * The backend for a model. ERR_NO_BACKEND lists every reason and its fix; TypeError for an unknown SHIFTADD_ISA or SHIFTADD_BACKEND.
 * `isa` and a named backend win over SHIFTADD_ISA and SHIFTADD_BACKEND.
 */
export function selectBackend(wanted: BackendName | 'auto', isa?: string, device = 0): SelectedBackend {
  const choice = wanted === 'auto' ? backendFromEnvironment() : wanted;
  const attempts: BackendAttempt[] = [];
  for (const name of choice === 'auto' ? automatic(isa) : [choice]) {
    const { report, engine, forced } = probes[name](isa, device);
    attempts.push({ name, ok: report.available, reason: report.reason });
    // A GPU with memory of its own says itself when that is full.
    const gpu = report.gpus?.[device];
    const shares = name !== 'cuda' || gpu?.integrated === true;
    if (engine !== null) return { name, engine, isa: forced, device, attempts, ...(gpu === undefined ? {} : { gpu }), ...(shares ? { memory: availableMemory } : {}) };
    // Nothing takes the place of a file that the user names.
    if (name === 'cpu' && process.env['SHIFTADD_NATIVE']) break;
  }
  // CUDA and the processor share the native engine, and so what is wrong with it.
  const told = (index: number): string => (index > 0 && attempts[index]!.reason === attempts[index - 1]!.reason ? 'the same' : attempts[index]!.reason!.replace(/\.$/, ''));
  const reasons = attempts.map(({ name }, index) => `${name}: ${told(index)}`).join('; ');
  const fix = choice === 'auto' || choice === 'cpu' ? '' : " Use backend 'auto' or 'cpu'.";
  throw new ShiftAddError('ERR_NO_BACKEND', `No backend for '${choice}'. ${reasons}.${fix}`);
}

/** The backends in the order in which they are tried. An instruction set that is asked for is one of the processor's. */
function automatic(isa: string | undefined): BackendName[] {
  return (isa ?? isaFromEnvironment()) === undefined ? ['cuda', 'cpu', 'wasm'] : ['cpu', 'wasm'];
}

interface Probe {
  report: BackendReport;
  engine: Engine | null;
  /** The ISA that was asked for, by option or SHIFTADD_ISA. */
  forced: string | undefined;
}

// The binary matrix instruction comes with Ampere.
const leastCapability = 80;

// In the order of the list of backends.
const probes: Record<BackendName, (isa: string | undefined, device: number) => Probe> = { cpu: probeCpu, cuda: probeCuda, wasm: probeWasm };

function probeCuda(isa: string | undefined, device: number): Probe {
  const missing = (reason: string): Probe => ({ report: { name: 'cuda', available: false, reason }, engine: null, forced: undefined });
  if (isa !== undefined) return missing(`the instruction set ${isa} was asked for`);
  try {
    const engine = loadNativeEngine();
    const { count, name, multiprocessors, capability } = engine.describeGpu!(device);
    if (capability < leastCapability) return missing(`${name} has compute capability ${capability / 10}; 8.0 (Ampere) is the first that works`);
    const gpus = Array.from({ length: count }, (_, index) => engine.describeGpu!(index));
    return { report: { name: 'cuda', available: true, reason: null, device: { isa: name, cores: multiprocessors }, gpus }, engine, forced: undefined };
  } catch (error) {
    const { message } = error as Error;
    return missing(/libshiftadd_cuda\.so: cannot open/.test(message) ? `this engine has no CUDA backend: install @shiftadd/${platformName()}-cuda, or build it as docs/cuda.md of the repository says` : message);
  }
}

function probeWasm(isa: string | undefined): Probe {
  const problem = wasmProblem();
  if (problem !== null) return { report: { name: 'wasm', available: false, reason: problem }, engine: null, forced: isa };
  return probeEngine('wasm', isa, loadWasmEngine);
}

function probeCpu(isa: string | undefined): Probe {
  return probeEngine('cpu', isa, loadNativeEngine);
}

function probeEngine(name: BackendName, isa: string | undefined, load: () => Engine): Probe {
  const forced = isa ?? isaFromEnvironment();
  try {
    const engine = load();
    const { isa: chosen, cores } = engine.describeDevice(forced);
    return { report: { name, available: true, reason: null, device: { isa: chosen, cores } }, engine, forced };
  } catch (error) {
    const failure = fromEngine(error, `Asking for the instruction set ${forced ?? 'of this machine'}`) as Error;
    const fix = forced === undefined ? '' : ' Leave isa and SHIFTADD_ISA away to use the widest that there is.';
    return { report: { name, available: false, reason: failure.message + fix }, engine: null, forced };
  }
}

function backendFromEnvironment(): BackendName | 'auto' {
  const name = process.env['SHIFTADD_BACKEND'];
  if (name === undefined || name === '') return 'auto';
  if (!backendChoices.some((choice) => choice === name)) {
    throw new TypeError(`Expected one of ${backendChoices.join(', ')} for SHIFTADD_BACKEND but received ${show(name)}`);
  }
  return name as BackendName | 'auto';
}

function isaFromEnvironment(): string | undefined {
  const isa = process.env['SHIFTADD_ISA'];
  if (isa === undefined || isa === '') return undefined;
  if (!(isaNames as readonly string[]).includes(isa)) {
    throw new TypeError(`Expected one of ${isaNames.join(', ')} for SHIFTADD_ISA but received ${show(isa)}`);
  }
  return isa;
}
