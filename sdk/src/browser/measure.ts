/** Takes the place of `../measure.js` in the worker: a browser has no meter and does not tell the memory of the process. */
import { type EnergyUse, type MemoryGrowth, unmeasured } from '../run.js';

export class Measure {
  static async open(): Promise<Measure> {
    return new Measure();
  }

  now(): number {
    return performance.now();
  }

  async between(): Promise<{ energy: EnergyUse; growth: MemoryGrowth | null }> {
    return { energy: unmeasured('a browser has no energy meter'), growth: null };
  }

  async close(): Promise<void> {
    // nothing is open
  }
}
