/** Chooses one width per matrix from what the quantizer measured: costs and sizes for `bit-allocation.ts`. */
import { allocateWidths } from './bit-allocation.js';
import type { EngineQuantizeSettings } from './engine.js';
import { ShiftAddError } from './errors.js';
import type { FamilyTensor } from './families/index.js';
import { isMixed, type QuantizeOptions, type QuantizeStep } from './quantize-settings.js';
import { packedBytes } from './packed-bytes.js';
import { partOf } from './weight-bytes.js';

/** What is known about one candidate of a matrix. */
export interface Measured {
  outputError: number;
  criterion: number;
  /** Null where it was not measured. */
  kl: number | null;
}

/** Width at which 'kl' is measured: errors that stand out from rounding noise, and still near the models people use. */
export const measuredPlanes = 2;

/**
 * For every step and tensor the index of its candidate. `measured(step, tensor, candidate)`; `fixedBytes` are the tensors
 * that stay dense. RangeError when the budget is too small, with the least that is possible.
 */
export function chooseWidths(
  steps: readonly QuantizeStep[],
  options: QuantizeOptions,
  fixedBytes: number,
  measured: (step: number, tensor: number, candidate: number) => Measured,
): number[][] {
  const { budget, bits = 4, sensitivity = 'kl' } = options;
  const matrices = steps.flatMap(({ tensors, candidates }, s) =>
    tensors.map((tensor, t) => ({ tensor, candidates: candidates[t]!, of: candidates[t]!.map((_, c) => measured(s, t, c)) })),
  );
  // Under `bits` the embedding and head take no part: they have one width, and no size.
  const counts = (tensor: FamilyTensor): boolean => budget !== undefined || partOf(tensor.role) === 'linearLayers';
  const weights = (tensor: FamilyTensor): number => (counts(tensor) ? tensor.shape[0]! * tensor.shape[1]! : 0);
  const limit =
    budget === undefined ? Math.round(bits * matrices.reduce((sum, { tensor }) => sum + weights(tensor), 0)) : budget - fixedBytes;
  const size = (tensor: FamilyTensor, settings: EngineQuantizeSettings): number =>
    budget === undefined ? settings.planes * weights(tensor) : packedBytes(tensor, settings);
  const chosen = allocateWidths(
    matrices.map(({ tensor, candidates, of }) =>
      candidates.map((settings, c) => ({ size: size(tensor, settings), cost: costOf(of, candidates, c, sensitivity) })),
    ),
    limit,
  );
  if (chosen === null) {
    const least = matrices.reduce((sum, { tensor, candidates }) => sum + Math.min(...candidates.map((s) => size(tensor, s))), 0);
    throw new RangeError(
      budget === undefined
        ? `Expected at least ${least / matrices.reduce((sum, { tensor }) => sum + weights(tensor), 0)} for bits (overrides count) but received ${bits}`
        : `Expected at least ${least + fixedBytes} for budget (the smallest widths of this model) but received ${budget}`,
    );
  }
  let next = 0;
  return steps.map(({ tensors }) => tensors.map(() => chosen[next++]!));
}

/**
 * The same before anything is measured: a quarter of the error for each plane, as is typical. Outside mode 'mixed' every
 * tensor has one candidate. RangeError as above.
 */
export function typicalWidths(steps: readonly QuantizeStep[], options: QuantizeOptions, fixedBytes: number): number[][] {
  if (!isMixed(options)) return steps.map(({ tensors }) => tensors.map(() => 0));
  return chooseWidths(steps, { ...options, sensitivity: 'output' }, fixedBytes, (s, t, c) => {
    const { shape } = steps[s]!.tensors[t]!;
    return { outputError: shape[0]! * shape[1]! * 4 ** -steps[s]!.candidates[t]![c]!.planes, criterion: 0, kl: null };
  });
}

/** The index of the candidate that 'kl' measures. */
export function measuredCandidate(candidates: readonly EngineQuantizeSettings[]): number {
  const index = candidates.findIndex(({ planes }) => planes === measuredPlanes);
  return index < 0 ? 0 : index; // the embedding: its smallest
}

/** Whether there is a width to choose. */
export function isOpen(candidates: readonly EngineQuantizeSettings[]): boolean {
  return candidates.some(({ planes }) => planes !== candidates[0]!.planes);
}

function costOf(
  of: readonly Measured[],
  candidates: readonly EngineQuantizeSettings[],
  candidate: number,
  sensitivity: NonNullable<QuantizeOptions['sensitivity']>,
): number {
  const { outputError, criterion, kl } = of[candidate]!;
  if (sensitivity === 'output') return outputError;
  if (!isOpen(candidates)) return 0;
  const anchor = of[measuredCandidate(candidates)]!;
  const ratio = anchor.outputError > 0 ? outputError / anchor.outputError : 0;
  // Without a Hessian there is no criterion: what is lost of the weights then.
  if (sensitivity === 'criterion') return criterion > 0 ? criterion * ratio : outputError;
  if (kl !== null) return kl;
  if (anchor.kl === null) throw new ShiftAddError('ERR_ENGINE', 'A matrix has no measured divergence.');
  return anchor.kl * ratio;
}
