/** Measures single generations: what `loadModel({ measure })` puts on their results. A browser has another one of this name. */
import { type EnergyRecorder, type EnergyWindow, monotonicMs } from './devices/energy-meter.js';
import { type OpenedRecorder, openRecorderOrReason } from './devices/find-meters.js';
import type { WorkPlace } from './devices/meter-choice.js';
import { openMemoryRecorder, type MemoryRecorder } from './devices/memory-recorder.js';
import { type EnergyUse, type MemoryGrowth, unmeasured } from './run.js';

export interface Measured {
  energy: EnergyUse;
  growth: MemoryGrowth | null;
}

/** The kernel keeps the peak between readings, and each takes time from the tokens. */
const memoryHz = 5;

/** Shared by all generations of a model. */
export class Measure {
  private isClosed = false;

  private constructor(
    private readonly meter: OpenedRecorder,
    private readonly memory: MemoryRecorder,
    private readonly owned: boolean,
  ) {}

  /** `true` opens the first meter that covers where the model runs; a recorder stays its owner's. */
  static async open(measure: true | EnergyRecorder, worksOn: WorkPlace): Promise<Measure> {
    const meter = measure === true ? await openRecorderOrReason({ worksOn }) : { recorder: measure, problem: null };
    return new Measure(meter, openMemoryRecorder({ rateHz: memoryHz }), measure === true);
  }

  /** Of the start or the end of what is measured, which may be that the model is closed. */
  now(): number {
    return this.isClosed ? monotonicMs() : this.memory.read().atMs;
  }

  /** Never rejects: a generation that succeeded is not lost to its measurement, whose `problem` says what failed. */
  async between(startMs: number, endMs: number, tokens: number): Promise<Measured> {
    return { energy: await this.energy(startMs, endMs, tokens), growth: await this.growth(startMs, endMs) };
  }

  async close(): Promise<void> {
    this.isClosed = true;
    this.memory.close();
    if (this.owned) await this.meter.recorder?.close();
  }

  private async energy(startMs: number, endMs: number, tokens: number): Promise<EnergyUse> {
    const { recorder, problem } = this.meter;
    if (recorder === null) return unmeasured(problem);
    const { meter } = recorder;
    const from = { meter: meter.name, method: meter.method, scope: meter.scope };
    try {
      return { ...from, ...energyUse(await recorder.between(startMs, endMs), tokens) };
    } catch (error) {
      return { ...unmeasured(error instanceof Error ? error.message : String(error)), ...from };
    }
  }

  private async growth(startMs: number, endMs: number): Promise<MemoryGrowth | null> {
    try {
      const { numbers, invalid } = await this.memory.between(startMs, endMs);
      return {
        residentPeakBytes: numbers.rssBytes.peak,
        residentGrowthBytes: numbers.rssBytes.growth,
        availableDropBytes: numbers.availableBytes.growth,
        problem: invalid,
      };
    } catch (error) {
      const problem = error instanceof Error ? error.message : String(error);
      return { residentPeakBytes: null, residentGrowthBytes: null, availableDropBytes: null, problem };
    }
  }
}

/** Null where the meter could not resolve the window. */
export function energyUse({ joules, uncertainty, problem }: EnergyWindow, tokens: number): Pick<EnergyUse, 'joules' | 'joulesPerToken' | 'uncertainty' | 'problem'> {
  return { joules, joulesPerToken: joules === null || tokens === 0 ? null : joules / tokens, uncertainty, problem };
}
