/** A board as `devices/profiles/*.json` describes it. Adding a board is adding one file. */
import type { Precision } from '../engine.js';
import type { EnergyScope, RailLoad } from './energy-meter.js';

/** What is known of a kind of board: memory, bandwidth, where its meters are. */
export interface BoardProfile {
  /** File name without `.json`; what `--device` takes: `orin-nano-8gb`. */
  id: string;
  /** `NVIDIA Jetson Orin Nano 8 GB`. */
  name: string;
  kind: 'jetson' | 'raspberry-pi' | 'rockchip' | 'generic' | 'browser';
  /** Any one that matches makes the board; the more specific profile wins. */
  match: {
    /** Module part numbers in the device tree, `p3767-0003`. */
    parts?: string[];
    /** Regular expressions on entries of `compatible`. */
    compatible?: string[];
    /**
     * Where no part number is known: the SoC's entry of `compatible`, a part of the model string where boards share the SoC,
     * and of those the one with the memory that fits best.
     */
    fallback?: { compatible: string; model?: string };
    /** `arm64`, `x64`, with `chassis` for generic profiles. */
    architecture?: string;
    chassis?: ('laptop' | 'desktop' | 'server')[];
  };
  soc: string;
  cpu: { cores: number | null; features: string[] };
  gpu: { name: string; architecture: string | null; multiprocessors: number | null; megahertz: number | null } | null;
  memory: {
    /** What is soldered on; an operating system shows less. Null where boards differ. */
    bytes: number | null;
    /** Theoretical, 10^9 bytes per second, in the fastest power mode. */
    bandwidthGBs: number | null;
    /** The GPU uses the same memory. */
    unified: boolean;
  };
  /** Name to what changes with it; `default` is the one a new board boots into. */
  powerModes: { id: number | null; name: string; default?: boolean; bandwidthGBs?: number; gpuMegahertz?: number; watts?: number; /** Has this number only where the board is flashed as Super. */ super?: boolean }[];
  energy: {
    scope: EnergyScope;
    /** What hangs on the rail of a label; labels of older releases are beside the newer ones. */
    rails?: Record<string, RailLoad[]>;
    /** Labels that sum to the total, one list per kind of release; of those for a meter the first whose labels all exist is used. */
    totals: { rails: string[]; meter?: string; scope?: EnergyScope }[];
  } | null;
  recommended: { backend: 'cpu' | 'cuda' | 'wasm'; threads: number | null; precision: Precision };
  /** What nobody has tried on a board, and facts that are not verified. */
  notes: string[];
}
