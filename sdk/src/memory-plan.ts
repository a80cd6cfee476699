/** Whether a model fits a device, and how fast it could be there, before anything is loaded. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { openModelFolder, type ModelFolder } from './checkpoint/model-folder.js';
import { tokenizerFileNames } from './checkpoint/tokenizer-files.js';
import { availableMemory } from './devices/available-memory.js';
import { boardOf } from './devices/board.js';
import type { BoardProfile } from './devices/board-profile.js';
import { boardProfile } from './devices/profile-folder.js';
import { SystemFiles } from './devices/system-files.js';
import type { KvType } from './engine.js';
import { describeFamily, type FamilySpec } from './families/index.js';
import { fewerPlanes } from './fewer-planes.js';
import { checkKvCache } from './memory-check.js';
import { kvCacheBytes, loadedWeights, scratchBytes, threadBytes } from './model-bytes.js';
import { checkContextSize } from './model-core.js';
import { buildModelSpec, type ModelTensor } from './model-spec.js';
import { defaultContextSize, planMemoryRules, readOptions, show } from './options.js';
import { resolveModel } from './resolve-model.js';
import type { BackendName } from './select-backend.js';
import { measureWeights } from './weight-bytes.js';

/** Of which device, with which context. */
export interface PlanMemoryOptions {
  /** Id of a board profile, such as `orin-nano-8gb`. Default: this machine, with the profile of its board where it has one. */
  device?: string;
  /** Name or number of a power mode of the board, for its memory bandwidth. Default: the fastest; of this machine the one in effect. */
  powerMode?: string;
  /** Bytes that are free for the model; in the place of what the device or this machine has. */
  freeBytes?: number;
  /** Default the model's limit, at most 4096. */
  contextSize?: number;
  /** Default what the profile recommends; 'cpu' without one. */
  backend?: BackendName;
  /** Default 'f16'; 'int8' with the backend cuda alone. */
  kvCache?: KvType;
  /** Default what the profile recommends, else 4. */
  threads?: number;
  /** Where `/proc` and `/sys` of this machine lie. Default `/`. */
  sysRoot?: string;
}

/** What a model needs, part by part, in bytes. */
export interface MemoryParts {
  /** Of the model's tensors and of what is decoded from them. Exact, like the next two. */
  weights: number;
  /** Of the whole context. */
  kvCache: number;
  /** Of one session. */
  scratch: number;
  /** Node.js, the SDK, the tokenizer, the threads and, with cuda, the driver. An estimate. */
  program: number;
  /** What the operating system and its firmware keep of a named device. An estimate; 0 where the free memory is known. */
  reserve: number;
}

/** Tokens per second that reading the weights allows; computed, not measured. */
export interface SpeedEstimate {
  /** Bytes that a decode step reads with an empty context, and with a full one. */
  bytesPerToken: { empty: number; full: number };
  bandwidthGBs: number;
  /** Tokens per second that reading those bytes allows; no engine can be faster. */
  bound: { empty: number; full: number };
  /** The share of the bound that shiftadd has reached elsewhere; null where it was not measured. */
  typicalShare: { least: number; most: number; source: string } | null;
}

/** Whether a model fits a device, and what it takes. */
export interface MemoryPlan {
  path: string;
  /** The named device, or the board that this machine is; null where no profile but a generic one fits it. */
  device: { id: string; name: string } | null;
  /** Whose bandwidth counts; null: the fastest of the board, or unknown. */
  powerMode: string | null;
  backend: BackendName;
  contextSize: number;
  kvCache: KvType;
  threads: number;
  bytes: MemoryParts;
  /** Of the weights, what is read in place from mapped files: the system can drop such pages, at the cost of reading them again. */
  mappedBytes: number;
  /** Sum of the parts without the reserve. */
  neededBytes: number;
  memory: {
    /** Null where the device is sold with several sizes or has none of its own. */
    totalBytes: number | null;
    /** For the model and its program; the reserve is taken off. */
    availableBytes: number | null;
    /** `board profile`, `given`, or the file that this machine's free memory was read from. */
    source: string;
  };
  /** Null when the available memory is unknown. */
  fits: boolean | null;
  /** Up to the model's limit; 0 when not even one token fits, null when the available memory is unknown. */
  largestContext: number | null;
  /** What would make it fit, the mildest first; empty when it fits. */
  advice: string[];
  /** Null where the bandwidth is unknown. */
  speed: SpeedEstimate | null;
  /** What is estimated and what nobody has measured. */
  notes: string[];
}

/** Resident at the start of a process that has imported shiftadd: Node.js 20 on Linux x64 with the native engine. */
const processBytes = 60e6;
/** Objects that a tokenizer becomes, per byte of its files; measured with 49,152 entries. */
const tokenizerFactor = 12;
/** A CUDA context with its kernels: 510 to 560 MB on an H100 (benchmarks/results/2026-11-28-energy.md). Not measured on a Jetson. */
const cudaContextBytes = 550e6;
/** WebAssembly: compiled code and the module's own memory. */
const wasmBytes = 12e6;

/** What firmware keeps of a Jetson's memory: 3 to 7 % between nominal size and MemTotal. */
const firmwareShare = 0.07;
/** What Ubuntu with a desktop uses on an Orin Nano of 8 GB, where 5.2 to 6.3 GB stay; at most this share of smaller ones. */
const systemBytes = 2.2e9;
const systemShare = 0.3;

type Share = SpeedEstimate['typicalShare'];

/** Steps over fewer bytes than this are too short for a GPU: launches take longer than reading. */
const shortStepBytes = 300e6;
const shares: Record<BackendName | 'cudaShort', Share> = {
  cpu: { least: 0.64, most: 0.81, source: 'readShare of benchmarks/results/2026-11-25-smollm2.json and 2026-11-25-scale.json: 135M to 1B weights, 1 and 2 threads of an AMD EPYC, beside the reading measured there' },
  cuda: { least: 0.26, most: 0.5, source: 'benchmarks/results/2026-11-27-cuda-h100.md: 1B to 8B weights on an H100; a smaller GPU is not measured' },
  cudaShort: { least: 0.03, most: 0.26, source: 'benchmarks/results/2026-11-27-cuda-node.md and 2026-11-27-cuda-h100.md: 135M and 1B weights on an H100; a smaller GPU is not measured' },
  wasm: null,
};

/** Needs no backend. TypeError and RangeError for wrong options, ERR_NOT_FOUND (model or device), ERR_NO_BACKEND (kvCache int8 without cuda), ERR_BAD_MODEL_FILE, ERR_UNSUPPORTED_MODEL. */
export async function planMemory(folderOrName?: string | URL, options?: PlanMemoryOptions): Promise<MemoryPlan> {
  const checked = readOptions<PlanMemoryOptions>(planMemoryRules, options, 'planMemory');
  const place = placeOf(checked);
  const folder = await openModelFolder(await resolveModel(folderOrName));
  const family = describeFamily(folder.config, folder.configPath);
  if (checked.contextSize !== undefined) checkContextSize(checked.contextSize, family.contextLimit);
  const { tensors } = buildModelSpec(folder, family);
  return planOf(folder, family, tensors, await tokenizerBytes(folder), place, checked);
}

function planOf(
  folder: ModelFolder,
  family: FamilySpec,
  tensors: ModelTensor[],
  tokenizer: number,
  place: Place,
  options: PlanMemoryOptions,
): MemoryPlan {
  const { profile, mode } = place;
  const backend = options.backend ?? profile?.recommended.backend ?? 'cpu';
  const threads = options.threads ?? profile?.recommended.threads ?? 4;
  const kvCache = options.kvCache ?? 'f16';
  checkKvCache(kvCache, backend);
  const contextSize = options.contextSize ?? Math.min(family.contextLimit, defaultContextSize);
  const { totalBytes, reserve, availableBytes, source } = memoryOf(place, options);
  const { mapped, held } = loadedWeights(tensors, backend);
  const partsAt = (context: number, kv: KvType): MemoryParts => ({
    weights: mapped + held,
    kvCache: kvCacheBytes(family, context, kv, backend),
    scratch: scratchBytes(family),
    program: Math.round(
      processBytes + tokenizerFactor * tokenizer + (backend === 'cuda' ? cudaContextBytes : threadBytes(family, context, threads)) + (backend === 'wasm' ? wasmBytes : 0),
    ),
    reserve,
  });
  const fitsAt = (context: number, kv: KvType, lessWeights = 0): boolean => neededOf(partsAt(context, kv)) - lessWeights <= availableBytes!;
  const bytes = partsAt(contextSize, kvCache);
  const fits = availableBytes === null ? null : fitsAt(contextSize, kvCache);
  const largestContext = availableBytes === null ? null : largest(family.contextLimit, (context) => fitsAt(context, kvCache));
  const advice: string[] = [];
  if (fits === false) {
    if (largestContext! > 0) advice.push(`a context of at most ${largestContext} tokens`);
    if (kvCache === 'f32' && fitsAt(contextSize, 'f16')) advice.push('a KV cache of 16-bit numbers (f16)');
    if (backend === 'cuda' && kvCache !== 'int8' && fitsAt(contextSize, 'int8')) advice.push('a KV cache of 8-bit integers (int8)');
    const fewer = fewerPlanes(tensors, backend).find(({ saved }) => fitsAt(contextSize, kvCache, saved));
    if (fewer !== undefined) advice.push(`linear layers of ${fewer.planes} bit-planes: shiftadd quantize <checkpoint> <output> --bits ${fewer.planes}`);
    if (advice.length === 0) advice.push('a smaller model, or a device with more memory');
  }
  return {
    path: folder.path,
    device: profile === null ? null : { id: profile.id, name: profile.name },
    powerMode: mode?.name ?? null,
    backend,
    contextSize,
    kvCache,
    threads,
    bytes,
    mappedBytes: mapped,
    neededBytes: neededOf(bytes),
    memory: { totalBytes, availableBytes, source },
    fits,
    largestContext,
    advice,
    speed: speedOf(place, backend, tensors, bytes.kvCache),
    notes: notesOf(place, backend, reserve, availableBytes),
  };
}

/** Where the model is to run. */
interface Place {
  /** Null on a machine that only a generic profile fits. */
  profile: BoardProfile | null;
  mode: BoardProfile['powerModes'][number] | null;
  /** This machine, whose free memory can be read. */
  isHere: boolean;
}

function placeOf({ device, powerMode, sysRoot }: PlanMemoryOptions): Place {
  if (device !== undefined) {
    const profile = boardProfile(device);
    return { profile, mode: powerMode === undefined ? null : modeOf(profile, powerMode), isHere: false };
  }
  const board = boardOf(new SystemFiles(sysRoot));
  const profile = board.profile.kind === 'generic' ? null : board.profile;
  if (powerMode !== undefined) return { profile, mode: modeOf(board.profile, powerMode), isHere: true };
  // A mode that waits for a reboot is not the one that runs.
  const mode = board.powerMode === null || board.powerMode.inEffect === false ? null : board.profile.powerModes.find(({ name }) => name === board.powerMode!.name);
  return { profile, mode: mode ?? null, isHere: true };
}

function modeOf({ name, powerModes }: BoardProfile, wanted: string): BoardProfile['powerModes'][number] {
  const found = powerModes.find((mode) => mode.name.toLowerCase() === wanted.toLowerCase() || String(mode.id) === wanted);
  if (found !== undefined) return found;
  const known = powerModes.length === 0 ? 'which has none' : `one of ${powerModes.map((mode) => `'${mode.name}'`).join(', ')}`;
  throw new TypeError(`Expected a power mode of ${name}, ${known}, for powerMode but received ${show(wanted)}`);
}

function neededOf({ weights, kvCache, scratch, program }: MemoryParts): number {
  return weights + kvCache + scratch + program;
}

function memoryOf({ profile, isHere }: Place, { freeBytes, sysRoot }: PlanMemoryOptions): { totalBytes: number | null; reserve: number; availableBytes: number | null; source: string } {
  const totalBytes = profile?.memory.bytes ?? null;
  if (freeBytes !== undefined) return { totalBytes, reserve: 0, availableBytes: freeBytes, source: 'given' };
  if (isHere) {
    const here = availableMemory(sysRoot);
    return { totalBytes, reserve: 0, availableBytes: here?.bytes ?? null, source: here?.limitedBy ?? 'unknown' };
  }
  if (totalBytes === null) return { totalBytes, reserve: 0, availableBytes: null, source: 'board profile' };
  const firmware = profile!.kind === 'jetson' ? firmwareShare * totalBytes : 0;
  const reserve = Math.round(firmware + Math.min(systemBytes, systemShare * totalBytes));
  return { totalBytes, reserve, availableBytes: totalBytes - reserve, source: 'board profile' };
}

/** The largest count from 1 to `most` that fits, 0 without one; what fits grows with the count. */
function largest(most: number, fits: (count: number) => boolean): number {
  let [low, high] = [0, most];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (fits(middle)) low = middle;
    else high = middle - 1;
  }
  return low;
}

function speedOf({ profile, mode }: Place, backend: BackendName, tensors: ModelTensor[], fullCache: number): SpeedEstimate | null {
  const bandwidthGBs = mode?.bandwidthGBs ?? profile?.memory.bandwidthGBs ?? null;
  if (bandwidthGBs === null) return null;
  const { bytes } = measureWeights(tensors);
  // Of an embedding with a head of its own, a step reads one row.
  const empty = bytes.total - (bytes.head > 0 ? bytes.embedding : 0);
  const full = empty + fullCache;
  const bound = { empty: (bandwidthGBs * 1e9) / empty, full: (bandwidthGBs * 1e9) / full };
  return { bytesPerToken: { empty, full }, bandwidthGBs, bound, typicalShare: shares[backend === 'cuda' && empty < shortStepBytes ? 'cudaShort' : backend] };
}

function notesOf({ profile, mode }: Place, backend: BackendName, reserve: number, availableBytes: number | null): string[] {
  const notes = ['The program and runtime are an estimate; weights, KV cache and scratch are what the engine allocates.'];
  if (reserve > 0) notes.push('The reserve is an estimate: of the public reports of an Orin Nano of 8 GB, where the system leaves 5.2 to 6.3 GB, scaled to other boards.');
  if (availableBytes === null) notes.push('The memory of this device is unknown or comes in several sizes; say how much is free (freeBytes, --free).');
  if (profile !== null && profile.memory.unified && backend === 'cuda') notes.push('GPU and processor share one memory. Weights are in it once: the pages of the model files are given back while they are loaded.');
  if (profile !== null) {
    const whose = mode?.bandwidthGBs !== undefined ? `the power mode ${mode.name}` : `the board in its fastest power mode; slower modes have less${mode === null ? '' : `, and that of ${mode.name} is not in the profile`}`;
    notes.push(`The bandwidth is that of ${whose}. The speed is an estimate, not measured on this device.`);
  }
  if (profile !== null && backend === 'cpu') notes.push('The share was measured on x86 processors; a core that computes more slowly than its memory delivers stays below it.');
  return notes;
}

async function tokenizerBytes(folder: ModelFolder): Promise<number> {
  let sum = 0;
  for (const name of tokenizerFileNames) {
    sum += await stat(join(folder.path, name)).then(
      (entry) => entry.size,
      () => 0, // a model has one of several kinds of tokenizer files
    );
  }
  return sum;
}
