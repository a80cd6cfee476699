/** Takes the place of `node:fs/promises` in the worker: the files of the model that is being loaded. */
import type { ModelStore } from './model-store.js';

let mounted: ModelStore | null = null;

/** The model whose files `open` and the others see. */
export function mount(store: ModelStore): void {
  mounted = store;
}

function store(): ModelStore {
  if (mounted === null) throw new Error('no model is mounted');
  return mounted;
}

interface FileHandle {
  stat(): Promise<{ size: number; isFile(): boolean }>;
  read(buffer: Uint8Array, offset: number, length: number, position: number): Promise<{ bytesRead: number; buffer: Uint8Array }>;
  close(): Promise<void>;
}

export async function open(path: string): Promise<FileHandle> {
  const files = store();
  const size = await files.size(path);
  return {
    stat: async () => ({ size, isFile: () => true }),
    read: async (buffer, offset, length, position) => {
      const bytes = await files.bytes(path);
      const part = bytes.subarray(position, Math.min(position + length, bytes.length));
      buffer.set(part, offset);
      return { bytesRead: part.length, buffer };
    },
    close: async () => undefined,
  };
}

export async function readFile(path: string): Promise<string> {
  return store().text(path);
}

export async function readdir(folder: string): Promise<string[]> {
  return store().names(folder);
}

/** Rejects with ENOENT when there is no such file. */
export async function access(path: string): Promise<void> {
  await store().size(path);
}
