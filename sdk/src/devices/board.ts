/** Which board this is, read from the device tree or the firmware's tables: no root, no CUDA and no other program. */
import { type RuleTable, readOptions } from '../options.js';
import type { BoardProfile } from './board-profile.js';
import { type BoardState, boardState } from './board-state.js';
import { type JetsonRelease, jetsonRelease } from './jetson-release.js';
import { loadBoardProfiles } from './profile-folder.js';
import { SystemFiles, defaultRoot } from './system-files.js';

/** Where to look instead of this machine. */
export interface DetectOptions {
  /** Where `/proc` and `/sys` of the machine lie; default `/`. */
  sysRoot?: string;
}

export const detectRules = { sysRoot: { kind: 'text', initial: defaultRoot } } as const satisfies RuleTable;

/** The board that this machine is, as far as its files tell. */
export interface DetectedBoard extends BoardState {
  profile: BoardProfile;
  /** What decided, the surest first: a part number, an entry of the device tree, the SoC with the memory, the architecture. */
  matchedBy: 'part' | 'compatible' | 'soc and memory' | 'architecture';
  /** As the board names itself; often generic. */
  model: string | null;
  /** Part number of the module, `p3767-0005`. */
  module: string | null;
  /** Flashed with the configuration that NVIDIA calls Super. */
  superConfiguration: boolean;
  compatible: string[];
  architecture: string;
  release: JetsonRelease | null;
  memory: {
    totalBytes: number | null;
    availableBytes: number | null;
    /** Free blocks of the largest size, 4 MB with pages of 4 KB. Few of them refuse a GPU large buffers however much is available. */
    largestFreeBlocks: number | null;
  };
  /** Doubts about what was detected. */
  notes: string[];
}

/** Never throws for a machine that it does not know: that one has a generic profile. TypeError for wrong options. */
export async function detectBoard(options?: DetectOptions): Promise<DetectedBoard> {
  const { sysRoot } = readOptions(detectRules, options, 'detectBoard') as Required<DetectOptions>;
  return boardOf(new SystemFiles(sysRoot));
}

export function boardOf(files: SystemFiles): DetectedBoard {
  const notes: string[] = [];
  const compatible = deviceTree(files, 'compatible')?.split('\0').filter((entry) => entry !== '') ?? [];
  const model = deviceTree(files, 'model') ?? files.text('/sys/class/dmi/id/product_name');
  const memory = memoryOf(files);
  const architecture = architectureOf(files, compatible);
  const cores = files.entries('/sys/devices/system/cpu').filter((name) => /^cpu\d+$/.test(name)).length;
  const match = matchBoard(compatible, model, memory.totalBytes, cores) ?? genericBoard(files, architecture);
  if ('doubt' in match && match.doubt !== undefined) notes.push(match.doubt);
  const release = match.profile.kind === 'jetson' ? jetsonRelease(files) : null;
  if (match.profile.kind === 'jetson' && release === null) notes.push('The Jetson Linux release is unknown, as it is in a container that does not mount /etc/nv_tegra_release.');
  if (release !== null && release.jetpack === null) notes.push(`Jetson Linux ${release.l4t} is newer or older than the releases that this version knows.`);
  const superConfiguration = compatible.some((entry) => entry.endsWith('-super'));
  const state = boardState(files, match.profile, superConfiguration);
  const module = moduleOf(compatible);
  if (module !== null && match.matchedBy === 'soc and memory') notes.push(`The module ${module} is in no profile; the board was recognised by its chip and memory.`);
  if (state.powerMode?.inEffect === false) {
    notes.push(`Power mode ${state.powerMode.name ?? state.powerMode.id} is reported but not in effect: ${state.powerMode.contradictions.join('; ')}. A reboot applies it.`);
  }
  for (const [name, code] of files.failures) notes.push(`${name} cannot be read (${code}).`);
  return {
    profile: match.profile,
    matchedBy: match.matchedBy,
    model: model === '' ? null : model,
    module,
    superConfiguration,
    compatible,
    architecture,
    release,
    memory,
    ...state,
    notes,
  };
}

function deviceTree(files: SystemFiles, name: string): string | null {
  return files.text(`/proc/device-tree/${name}`) ?? files.text(`/sys/firmware/devicetree/base/${name}`);
}

interface Match {
  profile: BoardProfile;
  matchedBy: DetectedBoard['matchedBy'];
  doubt?: string;
}

/** Part numbers in `carrier+module` or alone, the module's before the carrier's. */
function modules(compatible: readonly string[]): string[] {
  const parts = compatible.map((entry) => ({ entry, found: entry.match(/p\d{4}-\d{4}/g) ?? [] }));
  return [...parts.filter(({ entry }) => entry.includes('+')), ...parts.filter(({ entry }) => !entry.includes('+'))].flatMap(({ found }) => found.slice(-1));
}

/** The number of a developer kit, which stands alone, is not that of its module. */
function moduleOf(compatible: readonly string[]): string | null {
  const known = loadBoardProfiles().flatMap(({ match }) => match.parts ?? []);
  const joined = modules(compatible.filter((entry) => entry.includes('+')));
  return modules(compatible).find((part) => known.includes(part)) ?? joined[0] ?? null;
}

function matchBoard(compatible: readonly string[], model: string | null, memoryBytes: number | null, cores: number): Match | null {
  const profiles = loadBoardProfiles();
  for (const part of modules(compatible)) {
    const profile = profiles.find(({ match }) => match.parts?.includes(part));
    if (profile !== undefined) return { profile, matchedBy: 'part' };
  }
  for (const entry of compatible) {
    const profile = profiles.find(({ match }) => match.compatible?.some((pattern) => new RegExp(pattern).test(entry)));
    if (profile !== undefined) return { profile, matchedBy: 'compatible' };
  }
  const sameSoc = profiles.filter(({ match }) => match.fallback !== undefined && compatible.includes(match.fallback.compatible));
  if (sameSoc.length === 0) return null;
  const named = sameSoc.filter(({ match }) => match.fallback!.model !== undefined && model?.includes(match.fallback!.model));
  const unnamed = sameSoc.filter(({ match }) => match.fallback!.model === undefined);
  const knownName = named.length > 0 || (model !== null && /AGX|Jetson Nano/.test(model));
  const candidates = named.length > 0 ? named : knownName && unnamed.length > 0 ? unnamed : sameSoc;
  const fitting = bestMemory(candidates, memoryBytes);
  const profile = fitting.find((candidate) => candidate.cpu.cores === cores) ?? fitting[0]!;
  const doubt = fitting.length > 1 && !knownName ? `It may also be ${fitting.filter((other) => other !== profile).map(({ name }) => name).join(' or ')}: the device tree names no module.` : undefined;
  return { profile, matchedBy: 'soc and memory', ...(doubt === undefined ? {} : { doubt }) };
}

/** Of the boards that have at least this memory, those with the least; the largest ones when none has. */
function bestMemory(candidates: BoardProfile[], memoryBytes: number | null): BoardProfile[] {
  const size = (profile: BoardProfile): number => profile.memory.bytes ?? 0;
  const enough = candidates.filter((profile) => memoryBytes === null || size(profile) >= memoryBytes);
  const wanted = enough.length > 0 ? Math.min(...enough.map(size)) : Math.max(...candidates.map(size));
  return candidates.filter((profile) => size(profile) === wanted);
}

function genericBoard(files: SystemFiles, architecture: string): Match {
  const profiles = loadBoardProfiles();
  const chassis = chassisOf(files);
  const profile =
    profiles.find(({ match }) => match.architecture === architecture && (match.chassis === undefined || match.chassis.includes(chassis))) ??
    profiles.find(({ match }) => match.chassis?.includes(chassis))!;
  return { profile, matchedBy: 'architecture' };
}

// SMBIOS types of chassis.
const laptopChassis = [8, 9, 10, 11, 14, 30, 31, 32];
const desktopChassis = [3, 4, 5, 6, 7, 13, 15, 16, 24, 35, 36];

function chassisOf(files: SystemFiles): 'laptop' | 'desktop' | 'server' {
  const type = files.number('/sys/class/dmi/id/chassis_type');
  if (type !== null && laptopChassis.includes(type)) return 'laptop';
  if (files.entries('/sys/class/power_supply').some((name) => name.startsWith('BAT'))) return 'laptop';
  if (/^flags\s*:.*\bhypervisor\b/m.test(files.text('/proc/cpuinfo') ?? '')) return 'server';
  // Racks, blades, and what calls itself "other".
  return type === null || desktopChassis.includes(type) ? 'desktop' : 'server';
}

/** Of the machine whose files these are. */
function architectureOf(files: SystemFiles, compatible: readonly string[]): string {
  const info = files.text('/proc/cpuinfo') ?? '';
  if (compatible.length > 0 || /^CPU implementer/m.test(info)) return 'arm64';
  return /^vendor_id\s*:\s*(GenuineIntel|AuthenticAMD)/m.test(info) ? 'x64' : process.arch;
}

function memoryOf(files: SystemFiles): DetectedBoard['memory'] {
  const text = files.text('/proc/meminfo') ?? '';
  const bytes = (name: string): number | null => {
    const found = new RegExp(`^${name}:\\s*(\\d+) kB`, 'm').exec(text);
    return found === null ? null : Number(found[1]) * 1024;
  };
  return { totalBytes: bytes('MemTotal'), availableBytes: bytes('MemAvailable'), largestFreeBlocks: largestFreeBlocks(files) };
}

/** The last column of /proc/buddyinfo over all zones; what tegrastats calls lfb. */
function largestFreeBlocks(files: SystemFiles): number | null {
  const zones = [...(files.text('/proc/buddyinfo') ?? '').matchAll(/^Node\s+\d+,\s+zone\s+\S+\s.*\s(\d+)\s*$/gm)];
  return zones.length === 0 ? null : zones.reduce((sum, [, count]) => sum + Number(count), 0);
}
