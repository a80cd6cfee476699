/** Takes the place of `../select-backend.js` in the worker: there is one backend. */
import type { BackendAttempt, BackendName, SelectedBackend } from '../select-backend.js';
import { WasmEngine } from '../wasm/engine-wasm.js';
import type { PagePlatform } from './page-platform.js';

let platform: PagePlatform | null = null;
let note: string | null = null;

/** What the next model runs on; `reason` says why it has not all that was asked for. */
export function usePlatform(started: PagePlatform, reason: string | null): void {
  platform = started;
  note = reason;
}

export function selectBackend(_choice: BackendName | 'auto', isa?: string): SelectedBackend {
  const attempts: BackendAttempt[] = [{ name: 'wasm', ok: true, reason: note }];
  return { name: 'wasm', engine: new WasmEngine(platform!), isa, attempts };
}
