/** What is wrong with a file that was to be loaded as an engine. The system's own words hide a wrong processor. */
import { closeSync, openSync, readSync } from 'node:fs';

const elfMachines: Readonly<Record<number, string>> = { 3: 'ia32', 40: 'arm', 62: 'x64', 183: 'arm64', 243: 'riscv64' };
const ownFormats: Readonly<Record<string, Kind['format']>> = { linux: 'ELF', darwin: 'Mach-O', win32: 'PE' };

interface Kind {
  format: 'ELF' | 'Mach-O' | 'PE';
  /** As in process.arch; null where it is not read. */
  processor: string | null;
}

/** Null where the file looks right: then the system's message tells more. */
export function describeBinary(path: string): string | null {
  const head = readHead(path);
  if (head === null) return 'it cannot be read';
  const kind = kindOf(head);
  if (kind === null) return 'it is no binary';
  const wanted = ownFormats[process.platform];
  if (wanted !== undefined && kind.format !== wanted) return `it is a ${kind.format} file of another system`;
  return kind.processor === null || kind.processor === process.arch ? null : `it is for ${kind.processor}, and this Node.js is for ${process.arch}`;
}

function kindOf(head: Buffer): Kind | null {
  if (head.length < 20) return null;
  if (head.readUInt32BE(0) === 0x7f454c46) {
    const machine = head[5] === 2 ? head.readUInt16BE(18) : head.readUInt16LE(18);
    return { format: 'ELF', processor: elfMachines[machine] ?? `machine ${machine}` };
  }
  if ([0xfeedfacf, 0xcafebabe].includes(head.readUInt32LE(0)) || head.readUInt32BE(0) === 0xcafebabe) return { format: 'Mach-O', processor: null };
  return head.toString('latin1', 0, 2) === 'MZ' ? { format: 'PE', processor: null } : null;
}

function readHead(path: string): Buffer | null {
  try {
    const file = openSync(path, 'r');
    try {
      const head = Buffer.alloc(64);
      return head.subarray(0, readSync(file, head, 0, head.length, 0));
    } finally {
      closeSync(file);
    }
  } catch {
    return null;
  }
}
