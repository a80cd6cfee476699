/** Memory over a profile run: read a few times a second, and what the engine itself accounts for. */
import type { MemoryUse } from '../run.js';
import type { SystemFiles } from './system-files.js';

export interface MemoryFigures extends MemoryUse {
  /** The most that this process held in memory at a reading during the run. */
  residentPeakBytes: number;
  /** What the system could still give, before and at its least; null where it does not tell. Other programs change it too. */
  availableBeforeBytes: number | null;
  availableLeastBytes: number | null;
}

export interface MemoryReading {
  residentBytes: number;
  availableBytes: number | null;
}

export function readProcessMemory(files: SystemFiles): MemoryReading {
  const found = /^MemAvailable:\s*(\d+) kB/m.exec(files.text('/proc/meminfo') ?? '');
  return { residentBytes: process.memoryUsage.rss(), availableBytes: found === null ? null : Number(found[1]) * 1024 };
}
