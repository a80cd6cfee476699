/** Records a meter in a thread of its own. The thread keeps no program alive except while a window is waited for. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { ShiftAddError } from '../errors.js';
import { moduleFolder } from '../module-place.js';
import { packageRoot } from '../package-root.js';
import { type EnergyMeter, type EnergyRecorder, type EnergyWindow, type PowerSample, monotonicMs } from './energy-meter.js';
import type { MeterPlan } from './meter-plan.js';
import { plannedHz } from './meter-reader.js';
import type { RecorderRequest, RecorderWork } from './recorder-worker.js';
import { Recording } from './recording.js';

/** A meter that gives nothing for this long is not waited for. */
const silenceMs = 2000;

/** A counter that stood still for so many updates is taken as it is. */
const firstMoves = 5;

/** A busy machine may take this long to start a thread. */
const startMs = 60_000;

/** Resolves after the first reading from which a window can begin. ERR_WORKER when the thread ends before that. */
export async function startRecorder(root: string, plan: MeterPlan, wantedHz: number | undefined): Promise<EnergyRecorder> {
  const recorder = new WorkerRecorder(root, plan, plannedHz(plan, wantedHz));
  await recorder.started();
  return recorder;
}

/** Beside the modules that run, compiled or not; for code in somebody's bundle, in the package. */
function workerFile(): string {
  const beside = join(moduleFolder, 'devices', 'recorder-worker');
  return [`${beside}.js`, `${beside}.ts`].find(existsSync) ?? join(packageRoot(), 'dist', 'esm', 'devices', 'recorder-worker.js');
}

class WorkerRecorder implements EnergyRecorder {
  readonly meter: EnergyMeter;
  readonly #worker: Worker;
  readonly #recording: Recording;
  readonly #periodMs: number;
  /** Called when readings came or the thread ended. */
  readonly #waiting = new Set<() => void>();
  #failure: Error | null = null;
  #ended = false;
  #closed: Promise<void> | null = null;
  #load = 0;
  /** Of the thread's first moments, in which it loads its modules. */
  #before: ReturnType<Worker['performance']['eventLoopUtilization']> | undefined;

  constructor(root: string, plan: MeterPlan, hz: number) {
    this.#periodMs = 1000 / hz;
    const shortestWindowMs = Math.max(plan.meter.shortestWindowMs, 5 * this.#periodMs);
    this.meter = { ...plan.meter, shortestWindowMs };
    this.#recording = new Recording({ ...plan, meter: this.meter }, this.#periodMs);
    const workerData: RecorderWork = { root, plan, hz };
    this.#worker = new Worker(workerFile(), { workerData });
    this.#worker.on('message', (readings: Float64Array) => this.#take(readings));
    this.#worker.on('error', (error) => (this.#failure = error instanceof Error ? error : new Error(String(error))));
    this.#worker.on('exit', () => {
      this.#ended = true;
      this.#wake();
    });
    this.#worker.unref();
  }

  async started(): Promise<void> {
    await this.#wait(() => this.#recording.lastMs !== null, startMs);
    if (this.#recording.lastMs !== null) {
      // A window cannot begin before a slow counter has moved once.
      await this.#wait(() => this.#recording.knownMs !== null, firstMoves * this.meter.updateMs);
      this.#before = this.#worker.performance.eventLoopUtilization();
      return;
    }
    await this.close();
    throw this.#failed('gave no reading');
  }

  get load(): number {
    if (!this.#ended) this.#load = this.#worker.performance.eventLoopUtilization(this.#before).utilization;
    return this.#load;
  }

  async between(startMs: number, endMs: number): Promise<EnergyWindow> {
    if (this.#closed !== null) throw new ShiftAddError('ERR_CLOSED', 'This energy recorder is closed.');
    // A counter that stands still shows no movement after the end.
    const patience = 5 * Math.max(this.meter.updateMs, this.#periodMs);
    const known = (): boolean => (this.#recording.knownMs ?? -Infinity) >= endMs || (this.#recording.lastMs ?? -Infinity) >= endMs + patience;
    await this.#wait(known, Math.max(endMs - monotonicMs(), 0) + patience + silenceMs);
    if (this.#failure !== null) throw this.#failed('stopped');
    return this.#recording.between(startMs, endMs);
  }

  samples(startMs: number, endMs: number): PowerSample[] {
    return this.#recording.samples(startMs, endMs);
  }

  close(): Promise<void> {
    return (this.#closed ??= this.#end());
  }

  async #end(): Promise<void> {
    void this.load;
    if (this.#ended) return;
    this.#worker.ref();
    const ended = new Promise((resolve) => this.#worker.once('exit', resolve));
    this.#ask('close');
    await ended;
  }

  #take(readings: Float64Array): void {
    const width = this.meter.rails.length + 1;
    for (let i = 0; i < readings.length; i += width) {
      this.#recording.add(readings[i]!, Array.from(readings.subarray(i + 1, i + width), (value) => (Number.isNaN(value) ? null : value)));
    }
    this.#wake();
  }

  #wake(): void {
    for (const wake of this.#waiting) wake();
  }

  /** Until it is so, the thread ends, or the time is over. */
  async #wait(done: () => boolean, mostMs: number): Promise<void> {
    if (done() || this.#ended) return;
    await new Promise<void>((resolve) => {
      const end = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(wake);
        if (this.#waiting.size === 0) {
          this.#ask('together');
          // What is being closed is waited for.
          if (this.#closed === null) this.#worker.unref();
        }
        resolve();
      };
      const wake = (): void => {
        if (done() || this.#ended) end();
      };
      const timer = setTimeout(end, mostMs);
      if (this.#waiting.size === 0) this.#ask('each');
      this.#waiting.add(wake);
      this.#worker.ref();
    });
  }

  #ask(request: RecorderRequest): void {
    this.#worker.postMessage(request);
  }

  #failed(what: string): ShiftAddError {
    return new ShiftAddError('ERR_WORKER', `The recorder of ${this.meter.name} ${what}${this.#failure === null ? '' : `: ${this.#failure.message}`}.`, this.#failure ?? undefined);
  }
}
