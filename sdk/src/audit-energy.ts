/**
 * An energy ESTIMATE from operation counts and weight bits. It tells which way and roughly how far, for a chip that does
 * nothing else; it is no measurement, and no CPU comes near it.
 *
 * The unit costs are those of ShiftAddLLM (arXiv 2406.05981, table 1 and its released energy model), for 45 nm CMOS. The
 * 32-bit values agree with Horowitz (ISSCC 2014). Where the printed table and the released model differ (16-bit
 * multiplication 0.9 or 1.1 pJ, 32-bit addition 1.1 or 0.9 pJ, perhaps swapped in print) the released one is used.
 *
 * What that model gets wrong is not copied: its results are in mJ although printed as J; its shift-add layers do not
 * pay for reading the sign bits of the weights, and its table look-ups hide that the traffic, not the arithmetic, decides.
 * Here every bit that is stored for a weight, scales and padding included, is read once per token and costs what 16 bits
 * of DRAM cost, divided by 16. Activations, caches, on-chip movement, attention, norms and leakage are left out for every
 * model alike.
 */
import type { OperationCounts } from './audit-counts.js';

/** Picojoules per operation, 45 nm. */
export interface UnitCosts {
  /** Of a dense layer with 32-bit weights. */
  multiplication32: number;
  addition32: number;
  /** Of everything else, row scales and table sums included. */
  multiplication16: number;
  addition16: number;
  /** By a power of two: an addition to an exponent. */
  shift: number;
  /** The published cost of a table of 256 entries; the tables here have 16, so this is an upper bound. */
  lookup: number;
  /** Reading 16 bits from DRAM. */
  dram16: number;
}

export const unitCosts: Readonly<UnitCosts> = {
  multiplication32: 3.7,
  addition32: 0.9,
  multiplication16: 1.1,
  addition16: 0.4,
  shift: 0.15,
  lookup: 0.37,
  dram16: 200,
};

/** An estimate in microjoules per token (1 microjoule = 10^6 picojoules). */
export interface EnergyEstimate {
  arithmetic: number;
  /** Reading the weights from DRAM. */
  weightTraffic: number;
  total: number;
}

const picojoulesPerMicrojoule = 1e6;

/**
 *     arithmetic [uJ] = (multiplications * 1.1 + additions * 0.4 + shifts * 0.15 + look-ups * 0.37) pJ / 10^6
 *     traffic [uJ]    = weight bits / 16 * 200 pJ / 10^6
 *
 * With `wide`, multiplications cost 3.7 pJ and additions 0.9 pJ (32-bit weights).
 */
export function estimateEnergy(counts: OperationCounts, weightBits: number, wide = false): EnergyEstimate {
  const multiplication = wide ? unitCosts.multiplication32 : unitCosts.multiplication16;
  const addition = wide ? unitCosts.addition32 : unitCosts.addition16;
  const picojoules =
    counts.multiplications * multiplication +
    counts.additions * addition +
    counts.shifts * unitCosts.shift +
    counts.lookups * unitCosts.lookup;
  const arithmetic = picojoules / picojoulesPerMicrojoule;
  const weightTraffic = ((weightBits / 16) * unitCosts.dram16) / picojoulesPerMicrojoule;
  return { arithmetic, weightTraffic, total: arithmetic + weightTraffic };
}

export function sumEnergy(all: readonly EnergyEstimate[]): EnergyEstimate {
  const sum = { arithmetic: 0, weightTraffic: 0, total: 0 };
  for (const energy of all) {
    sum.arithmetic += energy.arithmetic;
    sum.weightTraffic += energy.weightTraffic;
    sum.total += energy.total;
  }
  return sum;
}
