/** WebAssembly in a page: the modules beside this script, weights from the `ModelStore`, threads as workers of the same script. */
import * as single from '../../../backends/wasm/modules/single.js';
import * as singleRelaxed from '../../../backends/wasm/modules/single-relaxed.js';
import * as threads from '../../../backends/wasm/modules/threads.js';
import * as threadsRelaxed from '../../../backends/wasm/modules/threads-relaxed.js';
import { ShiftAddError } from '../errors.js';
import type { WasmPlatform } from '../wasm/engine-wasm.js';
import { chooseFlavour, hasRelaxedSimd, hasSimd, type Flavour, type WasmGlue, type WasmMemory } from '../wasm/glue.js';
import { WasmInstance, type Block } from '../wasm/instance.js';
import type { ModelStore } from './model-store.js';

// Written out, so that bundlers find the files.
const modules: Record<Flavour, { glue: WasmGlue; url: () => URL }> = {
  single: { glue: single, url: () => new URL('./single_bg.wasm', import.meta.url) },
  'single-relaxed': { glue: singleRelaxed, url: () => new URL('./single-relaxed_bg.wasm', import.meta.url) },
  threads: { glue: threads, url: () => new URL('./threads_bg.wasm', import.meta.url) },
  'threads-relaxed': { glue: threadsRelaxed, url: () => new URL('./threads-relaxed_bg.wasm', import.meta.url) },
};

const stackBytes = 512 * 1024;
const startTimeoutMs = 20_000;
// Shared memory reserves addresses for all that it may become, which some systems, phones above all, refuse.
const sharedPages = [65536, 32768, 16384, 8192, 4096]; // of 64 KiB
const firstPages = 64; // more than any module begins with

/** The first message of a worker that lends its thread. */
export interface LendThread {
  kind: 'lend';
  flavour: Flavour;
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
}

/** Works for the models of the sender and never returns. */
export function lendThread({ flavour, module, memory }: LendThread): void {
  const { glue } = modules[flavour];
  glue.initSync({ module, memory: memory as WasmMemory, thread_stack_size: stackBytes });
  glue.lend_thread();
}

/** How many threads a page may use, and why not more; null when the wish is met. */
export function threadsFor(wanted: number | undefined): { threads: number; reason: string | null } {
  if (wanted === 1) return { threads: 1, reason: null };
  if (globalThis.crossOriginIsolated !== true) {
    return { threads: 1, reason: 'one thread: the page is not cross-origin isolated (send Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp)' };
  }
  const processors = navigator.hardwareConcurrency ?? 1;
  // Above four, processors are often two per core, or slow ones; a pool waits for its slowest thread.
  const sensible = processors <= 4 ? processors : Math.max(4, Math.floor(processors / 2));
  return { threads: Math.min(wanted ?? sensible, 64), reason: null };
}

/** The instance of this worker: a worker has one model. */
export class PagePlatform implements WasmPlatform {
  store: ModelStore | null = null;

  private constructor(
    private readonly running: WasmInstance,
    private readonly threads: number,
    /** Why there are not as many threads as were asked for; null when there are. */
    readonly reason: string | null,
  ) {}

  /** Starts the module and its threads. ERR_NO_BACKEND says what is missing. */
  static async start(threads: number, isa: string | undefined): Promise<PagePlatform> {
    if (!hasSimd()) throw new ShiftAddError('ERR_NO_BACKEND', 'This browser has no WebAssembly SIMD. Update it: Chrome and Edge 91, Firefox 89 and Safari 16.4 have it.');
    if (isa === 'relaxedsimd' && !hasRelaxedSimd()) throw new ShiftAddError('ERR_NO_BACKEND', "This browser does not have the instruction set 'relaxedsimd'. Leave isa away.");
    const flavour = chooseFlavour(threads, isa);
    const { glue, url } = modules[flavour];
    const module = await compile(url());
    const memory = threads > 1 ? joinShared(glue, module) : glue.initSync({ module }).memory;
    if (memory === null) {
      const { running } = await PagePlatform.start(1, isa);
      return new PagePlatform(running, 1, 'one thread: this browser refuses shared memory');
    }
    const instance = new WasmInstance(glue, memory);
    for (let lent = 1; lent < threads; lent++) {
      const worker = new Worker(globalThis.location.href, { type: 'module' });
      const message: LendThread = { kind: 'lend', flavour, module, memory: memory as WebAssembly.Memory };
      worker.postMessage(message);
      await untilLent(instance, worker, lent);
    }
    return new PagePlatform(instance, threads, null);
  }

  get wasm(): WasmInstance {
    return this.running;
  }

  cores(): number {
    return this.threads;
  }

  limit(): number {
    return this.threads;
  }

  async instance(): Promise<WasmInstance> {
    return this.running;
  }

  size(path: string): Promise<number> {
    return this.store!.size(path);
  }

  load(_: WasmInstance, path: string): Promise<Block> {
    return this.store!.block(path);
  }
}

/** The memory of an instance that threads can join, as large as the browser allows; null when it allows none. */
function joinShared(glue: WasmGlue, module: WebAssembly.Module): WasmMemory | null {
  for (const maximum of sharedPages) {
    try {
      const memory = new WebAssembly.Memory({ initial: firstPages, maximum, shared: true });
      return glue.initSync({ module, memory: memory as WasmMemory }).memory;
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
    }
  }
  return null;
}

async function compile(url: URL): Promise<WebAssembly.Module> {
  const failed = (why: string, cause?: unknown): ShiftAddError =>
    new ShiftAddError('ERR_NO_BACKEND', `${url.href} cannot be loaded (${why}). Serve the files of shiftadd/dist/browser, and allow 'wasm-unsafe-eval' for scripts where the page has a Content-Security-Policy.`, cause);
  const response = await fetch(url).catch((error: unknown) => {
    throw failed((error as Error).message, error);
  });
  if (!response.ok) throw failed(`${response.status} ${response.statusText}`);
  try {
    // Compiling while loading wants the right type from the server, which not all of them send.
    if (response.headers.get('content-type')?.startsWith('application/wasm') === true) return await WebAssembly.compileStreaming(response);
    return await WebAssembly.compile(await response.arrayBuffer());
  } catch (error) {
    throw failed((error as Error).message, error);
  }
}

async function untilLent(instance: WasmInstance, worker: Worker, wanted: number): Promise<void> {
  let failure: string | null = null;
  worker.onerror = (event) => {
    event.preventDefault(); // or it would be an error of this worker too
    failure = event.message || 'the worker did not start';
  };
  const started = performance.now();
  while (instance.call((glue) => glue.lent_threads()) < wanted) {
    if (performance.now() - started > startTimeoutMs) failure ??= 'the worker did not start in time';
    if (failure !== null) throw new ShiftAddError('ERR_NO_BACKEND', `A thread cannot be started (${failure}). Load the model with threads: 1.`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
