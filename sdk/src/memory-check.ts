/** Refuses to load what certainly cannot be had, before an allocation gets the process killed, or what a backend does not have. */
import type { KvType } from './engine.js';
import { ShiftAddError } from './errors.js';
import type { FamilySpec } from './families/index.js';
import { kvCacheBytes, loadedWeights, scratchBytes } from './model-bytes.js';
import type { ModelTensor } from './model-spec.js';
import type { BackendName, SelectedBackend } from './select-backend.js';

/**
 * ERR_OUT_OF_MEMORY when the weights that must be resident and the cache of one token exceed all that this process could ever
 * get. Mapped weights do not count: they are read in parts, however slowly. Scratch counts on a GPU, which has no lazy pages.
 */
export function checkMemory(
  path: string,
  family: FamilySpec,
  tensors: readonly ModelTensor[],
  kvCache: KvType,
  { name, memory }: Pick<SelectedBackend, 'name' | 'memory'>,
): void {
  const available = memory?.() ?? null;
  if (available === null) return;
  const { mapped, held } = loadedWeights(tensors, name);
  const cache = kvCacheBytes(family, 1, kvCache, name);
  const scratch = name === 'cuda' ? scratchBytes(family) : 0;
  const needed = held + cache + scratch;
  if (needed <= available.mostBytes) return;
  const parts = [`weights ${size(held)}`, `KV cache ${size(cache)} for one token`, ...(scratch > 0 ? [`scratch ${size(scratch)}`] : [])];
  const beside = mapped > 0 ? ` besides ${size(mapped)} that can stay in the files` : '';
  throw new ShiftAddError(
    'ERR_OUT_OF_MEMORY',
    `${path} needs ${size(needed)} of memory (${parts.join(', ')})${beside}, but at most ${size(available.mostBytes)} can be had here (${available.limitedBy}, swap included). planMemory or "shiftadd inspect --plan" says what would fit.`,
  );
}

/** ERR_NO_BACKEND for a KV cache that this backend does not have. */
export function checkKvCache(kvCache: KvType, backend: BackendName): void {
  if (kvCache !== 'int8' || backend === 'cuda') return;
  throw new ShiftAddError('ERR_NO_BACKEND', `An int8 KV cache (kvCache) needs the backend cuda; this is ${backend}, where f16 is the smallest.`);
}

function size(bytes: number): string {
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
}
