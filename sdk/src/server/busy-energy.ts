/** The energy of the time in which requests ran, each moment counted once however many ran. */
import type { Measure } from '../measure.js';

export class BusyEnergy {
  private joules = 0;
  private running = 0;
  private since = 0;

  constructor(private readonly measure: Measure) {}

  get total(): number {
    return this.joules;
  }

  begin(): void {
    if (this.running++ === 0) this.since = this.measure.now();
  }

  end(): void {
    this.running--;
    const from = this.since;
    const to = this.measure.now();
    this.since = to;
    void this.measure.between(from, to, 0).then(({ energy }) => {
      this.joules += energy.joules ?? 0; // a window that the meter cannot resolve stays out
    });
  }
}
