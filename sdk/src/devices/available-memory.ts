/** What memory this process can still have: of the machine, and of the control group (a container) that it runs in. */
import { freemem } from 'node:os';
import { kilobyteFields } from './memory-reading.js';
import { defaultRoot, SystemFiles } from './system-files.js';

export interface AvailableMemory {
  /** Without swapping: the least of what the machine and the control group leave. */
  bytes: number;
  /** All that there can be, with swap and with what could be given back: more than this cannot be had at all. */
  mostBytes: number;
  /** What sets the limit: `MemAvailable`, or the control group's file. */
  limitedBy: string;
}

/** Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst of the kernel. */
export function availableMemory(sysRoot = defaultRoot): AvailableMemory | null {
  const files = new SystemFiles(sysRoot);
  const machine = kilobyteFields(files.text('/proc/meminfo'));
  const free = machine('MemAvailable') ?? (files.root === defaultRoot ? freemem() : null);
  if (free === null) return null;
  const swapFree = machine('SwapFree') ?? 0;
  // MemAvailable leaves a part of what could be given back to those who use it.
  const most = Math.max(free, ['MemFree', 'Buffers', 'Cached', 'SReclaimable'].reduce((sum, name) => sum + (machine(name) ?? 0), 0));
  let best: AvailableMemory = { bytes: free, mostBytes: most + swapFree, limitedBy: 'MemAvailable' };
  for (const { limit, used, swap, file } of groupLimits(files, swapFree)) {
    const bytes = Math.max(limit - used, 0);
    const mostBytes = Math.min(best.mostBytes, limit + swap);
    best = bytes < best.bytes ? { bytes, mostBytes, limitedBy: file } : { ...best, mostBytes };
  }
  return best;
}

interface GroupLimit {
  limit: number;
  /** Without the files that the kernel could drop. */
  used: number;
  swap: number;
  file: string;
}

/** Of the process's group and those above it, as far as they are visible here. */
function groupLimits(files: SystemFiles, swapFree: number): GroupLimit[] {
  const limits: GroupLimit[] = [];
  for (const line of (files.text('/proc/self/cgroup') ?? '').split('\n')) {
    const [id, controllers, path] = line.split(':');
    const isUnified = id === '0' && controllers === '';
    if (path === undefined || !(isUnified || controllers!.split(',').includes('memory'))) continue;
    // In a container the path may be the host's while the group is mounted as the root.
    const parts = path.split('/').filter((part) => part !== '');
    for (let depth = parts.length; depth >= 0; depth--) {
      const folder = ['/sys/fs/cgroup', ...(isUnified ? [] : ['memory']), ...parts.slice(0, depth)].join('/');
      const limit = isUnified ? unifiedLimit(files, folder, swapFree) : oldLimit(files, folder, swapFree);
      if (limit !== null) limits.push(limit);
    }
  }
  return limits;
}

function unifiedLimit(files: SystemFiles, folder: string, swapFree: number): GroupLimit | null {
  const file = `${folder}/memory.max`;
  const [limit, current] = [files.number(file), files.number(`${folder}/memory.current`)];
  if (limit === null || current === null) return null; // `max`: no limit
  const used = Math.max(current - statSum(files, folder, ['inactive_file', 'active_file']), 0);
  return { limit, used, swap: Math.min(files.number(`${folder}/memory.swap.max`) ?? swapFree, swapFree), file };
}

function oldLimit(files: SystemFiles, folder: string, swapFree: number): GroupLimit | null {
  const file = `${folder}/memory.limit_in_bytes`;
  const [limit, current] = [files.number(file), files.number(`${folder}/memory.usage_in_bytes`)];
  if (limit === null || current === null) return null;
  return { limit, used: Math.max(current - statSum(files, folder, ['total_inactive_file', 'total_active_file']), 0), swap: swapFree, file };
}

function statSum(files: SystemFiles, folder: string, names: string[]): number {
  const text = files.text(`${folder}/memory.stat`) ?? '';
  return names.reduce((sum, name) => sum + Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1] ?? 0), 0);
}
