/**
 * What the operating system says about memory at one moment. Bytes throughout, null where this machine does not tell. Sources:
 * proc(5), Documentation/filesystems/proc.rst; NvMap of NVIDIA's kernels for Jetson.
 */
import { getHeapStatistics } from 'node:v8';
import { readOptions, type RuleTable } from '../options.js';
import { monotonicMs } from './energy-meter.js';
import { ownGpuMemory } from './nvml.js';
import { defaultRoot, SystemFiles, type SystemFile } from './system-files.js';

/** What the system tells about memory at one moment, in bytes; null where it does not. */
export interface MemoryReading {
  /** Milliseconds of `monotonicMs`. */
  atMs: number;
  /** Of this process: pages in memory, those shared with other processes counted in full. GPU memory of a Jetson is not in it. */
  rssBytes: number | null;
  /** The part of RSS that only this process can have: heap, stacks, KV cache, scratch. */
  anonymousBytes: number | null;
  /** The part of RSS that is mapped files: weights read in place, programs. The kernel may drop and read again such pages. */
  fileBytes: number | null;
  /** The highest RSS since the process began (VmHWM). */
  peakRssBytes: number | null;
  /** RSS with every shared page divided among those who share it. Null in recordings, where it costs too much. */
  pssBytes: number | null;
  /** Pages of this process that are in swap. */
  swappedBytes: number | null;
  /** Times that this process waited for a page to be read from a disk or from swap. A count, not bytes. */
  majorFaults: number | null;
  /** Committed for the heap of this JavaScript thread. */
  javaScriptHeapBytes: number;
  /** What JavaScript objects hold outside that heap: ArrayBuffers and the memory of a WebAssembly module. */
  externalBytes: number;
  /** Of the machine: what programs can have without swapping (MemAvailable). On a Jetson, GPU allocations lower it. */
  availableBytes: number | null;
  totalBytes: number | null;
  /** Swap of the machine in use. */
  swapUsedBytes: number | null;
  /** GPU memory of all processes of a Jetson (NvMapMemUsed); null elsewhere and on Thor. */
  nvMapBytes: number | null;
  /**
   * GPU memory of this process, the driver's own part included. On a Jetson from nvmap, which needs root; elsewhere from NVIDIA's
   * driver, which does not know processes in containers, and not in recordings, where it costs too much.
   */
  gpuProcessBytes: number | null;
}

/** The numbers of a reading by name. */
export const memoryNumbers = [
  'rssBytes',
  'anonymousBytes',
  'fileBytes',
  'peakRssBytes',
  'pssBytes',
  'swappedBytes',
  'majorFaults',
  'javaScriptHeapBytes',
  'externalBytes',
  'availableBytes',
  'totalBytes',
  'swapUsedBytes',
  'nvMapBytes',
  'gpuProcessBytes',
] as const satisfies readonly Exclude<keyof MemoryReading, 'atMs'>[];

/** A number that a reading of memory has. */
export type MemoryNumber = (typeof memoryNumbers)[number];

/** Where to read. */
export interface ReadMemoryOptions {
  /** Where the files of the kernel are. Default '/'. */
  sysRoot?: string;
}

export const readMemoryRules = { sysRoot: { kind: 'text', initial: defaultRoot } } as const satisfies RuleTable;

/** One reading, now. A number that this machine does not tell is null. TypeError for wrong options. */
export function readMemory(options?: ReadMemoryOptions): MemoryReading {
  const { sysRoot } = readOptions<ReadMemoryOptions>(readMemoryRules, options, 'readMemory');
  const reader = new MemoryReader(sysRoot!);
  try {
    const reading = reader.read();
    return { ...reading, pssBytes: reader.pss(), gpuProcessBytes: reading.gpuProcessBytes ?? reader.gpuOfDriver() };
  } finally {
    reader.close();
  }
}

const procBytes = 8192; // /proc/meminfo and /proc/self/status are below 4 KiB
const nvMapClients = '/sys/kernel/debug/nvmap/iovmm/clients';

/** Reads again and again through handles that stay open; about a tenth of a millisecond each time. */
export class MemoryReader {
  readonly #files: SystemFiles;
  readonly #here: boolean;
  readonly #status: SystemFile;
  readonly #stat: SystemFile;
  readonly #meminfo: SystemFile;
  readonly #hasClients: boolean;

  constructor(sysRoot: string) {
    this.#files = new SystemFiles(sysRoot);
    this.#here = this.#files.root === defaultRoot;
    this.#status = this.#files.open('/proc/self/status', procBytes);
    this.#stat = this.#files.open('/proc/self/stat', procBytes);
    this.#meminfo = this.#files.open('/proc/meminfo', procBytes);
    this.#hasClients = this.#files.text(nvMapClients) !== null;
  }

  /** Everything but PSS and what NVIDIA's driver tells. */
  read(): MemoryReading {
    const status = kilobyteFields(this.#status.text());
    const machine = kilobyteFields(this.#meminfo.text());
    const heap = getHeapStatistics();
    const [swapTotal, swapFree] = [machine('SwapTotal'), machine('SwapFree')];
    return {
      atMs: monotonicMs(),
      // Other systems have no such files, but Node knows this much of the process itself.
      rssBytes: status('VmRSS') ?? (this.#here ? process.memoryUsage.rss() : null),
      anonymousBytes: status('RssAnon'),
      fileBytes: status('RssFile'),
      peakRssBytes: status('VmHWM') ?? (this.#here ? process.resourceUsage().maxRSS * 1024 : null),
      pssBytes: null,
      swappedBytes: status('VmSwap'),
      majorFaults: majorFaults(this.#stat.text()),
      javaScriptHeapBytes: heap.total_heap_size,
      externalBytes: heap.external_memory,
      availableBytes: machine('MemAvailable'),
      totalBytes: machine('MemTotal'),
      swapUsedBytes: swapTotal === null || swapFree === null ? null : swapTotal - swapFree,
      nvMapBytes: machine('NvMapMemUsed'),
      gpuProcessBytes: this.#hasClients ? nvMapClientBytes(this.#files.text(nvMapClients) ?? '', process.pid) : null,
    };
  }

  /** Walks all pages of the process: milliseconds for a large one. */
  pss(): number | null {
    const sum = kilobyteFields(this.#files.text('/proc/self/smaps_rollup'))('Pss');
    // Kernels before 4.14, as that of JetPack 4, tell of each mapping alone.
    return sum ?? kilobyteSum(this.#files.text('/proc/self/smaps'), 'Pss');
  }

  /** GPUs belong to the machine that runs this, not to a tree of files elsewhere. */
  gpuOfDriver(): number | null {
    return this.#here ? ownGpuMemory() : null;
  }

  close(): void {
    for (const file of [this.#status, this.#stat, this.#meminfo]) file.close();
  }
}

/** Fields such as `VmRSS:\t  5268 kB` in bytes. Their unit is kB whatever the size of a page. */
export function kilobyteFields(text: string | null): (name: string) => number | null {
  const lines = `\n${text ?? ''}\n`;
  return (name) => {
    // Searched, not matched with a pattern for each name: this runs between two tokens.
    const start = lines.indexOf(`\n${name}:`);
    const value = start < 0 ? '' : lines.slice(start + name.length + 2, lines.indexOf('\n', start + 1));
    const found = /^\s*(\d+)\s*kB\s*$/.exec(value);
    return found === null ? null : Number(found[1]) * 1024;
  };
}

/** Of a field that stands once per mapping; null without any. */
function kilobyteSum(text: string | null, name: string): number | null {
  const values = [...(text ?? '').matchAll(new RegExp(`^${name}:\\s*(\\d+) kB$`, 'gm'))];
  return values.length === 0 ? null : values.reduce((sum, [, value]) => sum + Number(value) * 1024, 0);
}

/** Field 12 of /proc/self/stat. The second is the program's name in parentheses and may hold spaces and parentheses. */
export function majorFaults(stat: string | null): number | null {
  const value = stat?.slice(stat.lastIndexOf(')') + 1).trim().split(/\s+/)[9];
  return value === undefined || !/^\d+$/.test(value) ? null : Number(value);
}

const unitBytes: Readonly<Record<string, number>> = { K: 1024, M: 1024 ** 2, G: 1024 ** 3 };

/** The rows `user  node  1234  5268K` of a process, summed; null without one, and where they show nothing, as on Thor. */
export function nvMapClientBytes(clients: string, pid: number): number | null {
  let sum: number | null = null;
  for (const line of clients.split('\n')) {
    const found = /^\S+\s+.*\s(\d+)\s+(\d+)([KMG])\s*$/.exec(line);
    if (found !== null && Number(found[1]) === pid) sum = (sum ?? 0) + Number(found[2]) * unitBytes[found[3]!]!;
  }
  return sum === 0 ? null : sum;
}
