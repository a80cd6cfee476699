/** A running WebAssembly module: its memory, the blocks in it, and its failures as errors of the engine. */
import type { EngineError, EngineStatus } from '../engine.js';
import type { WasmFailure, WasmGlue, WasmMemory } from './glue.js';

const statuses: readonly EngineStatus[] = [
  'invalid_argument', 'not_found', 'bad_format', 'unsupported', 'out_of_memory', 'device_failed', 'cancelled',
]; // prettier-ignore: 1 to 7, as in core/c_api.h

/** What 32 bits address, less the rest that the instance needs besides weights. */
export const memoryLimitBytes = 2 ** 32 - 2 ** 16;

export function engineError(status: EngineStatus, message: string): EngineError {
  return Object.assign(new Error(message), { status });
}

/** Bytes in the memory of an instance that hold one file. */
export interface Block {
  address: number;
  bytes: number;
}

export class WasmInstance {
  /** Why nothing can be called any more; null while all is well. */
  private broken: EngineError | null = null;

  constructor(
    readonly glue: WasmGlue,
    private readonly memory: WasmMemory,
  ) {}

  get isBroken(): boolean {
    return this.broken !== null;
  }

  get memoryBytes(): number {
    return this.memory.buffer.byteLength;
  }

  /** The bytes of a block; valid until the next call that may need memory. */
  view({ address, bytes }: Block, from = 0, to = bytes): Uint8Array {
    return new Uint8Array(this.memory.buffer, address + from, to - from);
  }

  /** Throws `out_of_memory`. */
  allocate(bytes: number, what: string): Block {
    const address = bytes > memoryLimitBytes ? 0 : this.call((glue) => glue.allocate(bytes));
    if (address === 0) throw engineError('out_of_memory', `${what} needs ${bytes} bytes, more than the ${(memoryLimitBytes / 2 ** 30).toFixed(0)} GiB of WebAssembly or of this machine leave`);
    return { address: address >>> 0, bytes };
  }

  release({ address }: Block): void {
    if (this.broken === null) this.glue.release(address);
  }

  /**
   * Runs a function of the module. Its failures become `EngineError`; a trap leaves the instance in an unknown state, so that
   * every later call fails too.
   */
  call<T>(run: (glue: WasmGlue) => T): T {
    if (this.broken !== null) throw this.broken;
    try {
      return run(this.glue);
    } catch (error) {
      if (isFailure(error)) {
        const { status, message } = error;
        error.free();
        throw engineError(statuses[status - 1] ?? 'device_failed', message);
      }
      const why = error instanceof Error ? error.message : String(error);
      this.broken = engineError('device_failed', `the WebAssembly module stopped (${why}), most likely for lack of memory; load the model again`);
      throw this.broken;
    }
  }
}

function isFailure(error: unknown): error is WasmFailure {
  return typeof error === 'object' && error !== null && typeof (error as WasmFailure).free === 'function' && typeof (error as WasmFailure).status === 'number';
}
