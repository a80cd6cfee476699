// A meter whose power is known: it follows what a profile run is doing. And a board as a tree of files.
import { loadModel, monotonicMs, profileModel, type EnergyRecorder, type EnergyWindow, type PowerSample, type ProfileOptions, type ProfileProgress, type ProfileResult } from '../../sdk/src/index.js';
import { deviceTree, hwmonChip, memory, powerMode, release, zone, type Files } from './board-tree.js';
import { stories } from './fixtures.js';

export const prompt = 'Once upon a time, there was a little girl named Lily.';
export const quick = { prompt, tokens: 24, repetitions: 3, idle: 0.4, window: 0.3 };

/** An Orin Nano in its 15W mode that draws 9.569 W at its input, of which 2.488 W are a part. */
export const orin: Files = {
  ...deviceTree('NVIDIA Jetson Orin Nano Developer Kit', 'nvidia,p3768-0000+p3767-0003-super', 'nvidia,p3767-0003', 'nvidia,tegra234'),
  ...release(36),
  ...memory(7620),
  ...hwmonChip('1-0040', 1, [['VDD_IN', 4984, 1920], ['VDD_CPU_GPU_CV', 4976, 500], ['VDD_SOC', 4976, 304]]),
  ...powerMode(0, { online: 6, present: 6 }),
  ...zone(0, 'cpu-thermal', 51_000),
  '/proc/self/status': 'VmHWM:\t  300000 kB\nVmRSS:\t  292969 kB\nVmSwap:\t       0 kB\n',
};

export class KnownPower implements EnergyRecorder {
  readonly meter;
  readonly load = 0;
  closed = 0;
  private readonly changes: { atMs: number; watts: number }[] = [];

  /** `relative` is the half-interval of each window, as a share. */
  constructor(
    watts: number,
    private readonly relative = 0,
    scope: EnergyRecorder['meter']['scope'] = 'board',
  ) {
    this.meter = { name: 'known', method: 'sampled' as const, scope, rails: [{ name: 'IN', feeds: ['all' as const], inTotal: true }, { name: 'GPU', feeds: ['gpu' as const], inTotal: false }], total: 'IN', updateMs: 1, step: 0, shortestWindowMs: 10 };
    this.set(watts);
  }

  /** From now on. */
  set(watts: number): void {
    this.changes.push({ atMs: monotonicMs(), watts });
  }

  async between(startMs: number, endMs: number): Promise<EnergyWindow> {
    const watts = this.at((startMs + endMs) / 2);
    const joules = (watts * (endMs - startMs)) / 1000;
    const rails = this.meter.rails.map(({ name, inTotal }, rail) => ({ name, inTotal, joules: joules / (rail + 1), averageWatts: watts / (rail + 1), peakWatts: watts / (rail + 1) }));
    return { startMs, endMs, joules, uncertainty: joules * this.relative, averageWatts: watts, peakWatts: watts, rails, samples: 100, coverage: 1, problem: null };
  }

  samples(startMs: number, endMs: number): PowerSample[] {
    const samples: PowerSample[] = [];
    for (let atMs = Math.max(startMs, this.changes[0]!.atMs); atMs <= endMs; atMs += 20) samples.push({ atMs, watts: this.at(atMs), rails: [this.at(atMs), this.at(atMs) / 2] });
    return samples;
  }

  async close(): Promise<void> {
    this.closed++;
  }

  private at(ms: number): number {
    return (this.changes.findLast(({ atMs }) => atMs <= ms) ?? this.changes[0]!).watts;
  }
}

export interface PhasePower {
  /** Of the idle windows in their order. */
  idle: number[];
  prefill: number;
  decode: number;
}

/** A run on the smallest model with this power in each phase. */
export async function withPower(watts: PhasePower, options: ProfileOptions = {}, relative = 0, scope: EnergyRecorder['meter']['scope'] = 'board'): Promise<ProfileResult> {
  await using model = await loadModel(stories);
  const recorder = new KnownPower(watts.idle[0]!, relative, scope);
  let idles = 0;
  let last = '';
  const onProgress = ({ phase }: ProfileProgress): void => {
    if (phase === last) return;
    if (phase === 'idle') recorder.set(watts.idle[idles++]!);
    else if (phase !== 'warm-up') recorder.set(watts[phase]);
    last = phase;
  };
  return await profileModel(model, { ...quick, recorder, ...options, onProgress });
}
