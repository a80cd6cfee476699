/** Finds stop strings in streamed text: held back while one may be beginning, released when it does not come. */
export class StopStrings {
  private held = '';

  constructor(private readonly stops: string[]) {}

  /** Text that may be shown, and whether a stop string has come (it and what follows are dropped). */
  push(text: string): { text: string; stopped: boolean } {
    if (this.stops.length === 0) return { text, stopped: false };
    this.held += text;
    let first = -1;
    for (const stop of this.stops) {
      const at = this.held.indexOf(stop);
      if (at !== -1 && (first === -1 || at < first)) first = at;
    }
    if (first !== -1) return { text: this.held.slice(0, first), stopped: true };
    const keep = this.beginning();
    const shown = this.held.slice(0, this.held.length - keep);
    this.held = this.held.slice(shown.length);
    return { text: shown, stopped: false };
  }

  /** What was held back. */
  end(): string {
    const text = this.held;
    this.held = '';
    return text;
  }

  /** Length of the longest end of the held text that begins a stop string. */
  private beginning(): number {
    const longest = Math.max(...this.stops.map((stop) => stop.length)) - 1;
    for (let length = Math.min(longest, this.held.length); length > 0; length--) {
      const end = this.held.slice(-length);
      if (this.stops.some((stop) => stop.startsWith(end))) return length;
    }
    return 0;
  }
}
