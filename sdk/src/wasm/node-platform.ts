/** WebAssembly in Node: modules from the package, weight files from the file system, threads as worker threads. */
import { existsSync } from 'node:fs';
import { open, readFile, stat } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';
import { importFile } from '../module-place.js';
import { packagedFile } from '../native-path.js';
import { bundledFix, packageRoot, packageVersion } from '../package-root.js';
import { WasmEngine, type WasmPlatform } from './engine-wasm.js';
import { chooseFlavour, hasSimd, webAssembly, type Flavour, type WasmGlue, type WasmMemory } from './glue.js';
import { WasmInstance, engineError, type Block } from './instance.js';

const readBytes = 16 * 1024 * 1024;
const stackBytes = 512 * 1024;
const threadLimit = 64;

/** Of this checkout or of the package @shiftadd/wasm; null where there is neither. */
function modulesFolder(): string | null {
  const packaged = packagedFile('@shiftadd/wasm');
  return [join(packageRoot(), 'backends', 'wasm', 'modules'), ...(packaged === null ? [] : [dirname(packaged)])].find((folder) => existsSync(join(folder, 'single_bg.wasm'))) ?? null;
}

/** Runs in a worker thread: joins the memory of the instance and works for it until the process ends. */
const threadSource = `
const { workerData } = require('node:worker_threads');
import(workerData.glue).then((glue) => {
  glue.initSync({ module: workerData.module, memory: workerData.memory, thread_stack_size: workerData.stackBytes });
  glue.lend_thread();
});`;

interface Running {
  instance: WasmInstance;
  module: unknown;
  memory: WasmMemory;
  glue: string;
}

class NodePlatform implements WasmPlatform {
  /** One instance of every module per process, as the glue of wasm-bindgen has it; another after one has stopped. */
  private readonly running = new Map<Flavour, Promise<Running>>();
  private started = 0;

  cores(): number {
    return Math.min(availableParallelism(), threadLimit);
  }

  limit(): number {
    return threadLimit;
  }

  async instance(threads: number, isa: string | undefined): Promise<WasmInstance> {
    const flavour = chooseFlavour(threads, isa);
    let running = await this.running.get(flavour);
    if (running === undefined || running.instance.isBroken) {
      const starting = this.start(flavour);
      this.running.set(flavour, starting);
      running = await starting;
    }
    if (threads > 1) await lendThreads(running, threads - 1);
    return running.instance;
  }

  async size(path: string): Promise<number> {
    return (await stat(path).catch((error: Error) => notFound(path, error))).size;
  }

  async load(instance: WasmInstance, path: string): Promise<Block> {
    const file = await open(path, 'r').catch((error: Error) => notFound(path, error));
    let block: Block | undefined;
    try {
      const { size } = await file.stat();
      block = instance.allocate(size, path);
      for (let done = 0; done < size; ) {
        const part = Math.min(readBytes, size - done);
        const { bytesRead } = await file.read(instance.view(block, done, done + part), 0, part, done);
        if (bytesRead === 0) throw engineError('bad_format', `${path} ended while it was read`);
        done += bytesRead;
      }
      return block;
    } catch (error) {
      if (block !== undefined) instance.release(block);
      throw error;
    } finally {
      await file.close();
    }
  }

  private async start(flavour: Flavour): Promise<Running> {
    const folder = modulesFolder();
    if (folder === null) throw engineError('not_found', wasmProblem()!);
    const path = join(folder, `${flavour}.js`);
    // A query makes the same file another module with an instance of its own.
    const glue = `${pathToFileURL(path).href}?instance=${this.started++}`;
    const exports = (await importFile(path, glue.slice(glue.indexOf('?')))) as WasmGlue;
    const module = await webAssembly!.compile(await readFile(join(folder, `${flavour}_bg.wasm`)));
    const { memory } = exports.initSync({ module });
    return { instance: new WasmInstance(exports, memory), module, memory, glue };
  }
}

/** Starts workers until the instance has as many threads besides the caller's. */
async function lendThreads({ instance, module, memory, glue }: Running, wanted: number): Promise<void> {
  const lent = instance.call((exports) => exports.lent_threads());
  for (let i = lent; i < wanted; i++) {
    const worker = new Worker(threadSource, { eval: true, execArgv: [], workerData: { glue, module, memory, stackBytes } });
    worker.unref();
    const failed = new Promise<never>((_, reject) => worker.once('error', reject));
    failed.catch(() => undefined);
    await Promise.race([failed, untilLent(instance, i + 1)]);
  }
}

async function untilLent(instance: WasmInstance, wanted: number): Promise<void> {
  while (instance.call((exports) => exports.lent_threads()) < wanted) await new Promise((resolve) => setTimeout(resolve, 1));
}

function notFound(path: string, error: Error): never {
  throw engineError('not_found', `cannot open ${path}: ${error.message}`);
}

/** Why WebAssembly cannot run here, with the fix; null when it can. */
export function wasmProblem(): string | null {
  if (!hasSimd()) return 'this version of Node.js has no WebAssembly SIMD; use Node.js 20 or later';
  // Its reason ends where the sentence of a list of reasons goes on.
  if (modulesFolder() === null) return `the package @shiftadd/wasm is not installed. Install it: "npm install @shiftadd/wasm@${packageVersion()}"${bundledFix().replace(/\.$/, '')}`;
  return null;
}

let engine: WasmEngine | null = null;

export function loadWasmEngine(): WasmEngine {
  return (engine ??= new WasmEngine(new NodePlatform()));
}
