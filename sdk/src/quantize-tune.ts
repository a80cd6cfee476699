/** The tuning stage of a quantization: which windows, how many steps, and the state that `resume` goes on from. */
import { createHash } from 'node:crypto';
import { calibrationSamples, isSelfCalibration, type Calibration } from './calibration.js';
import { withDenseModel } from './dense-model.js';
import { Role, type FamilyTensor } from './families/index.js';
import { partOf } from './weight-bytes.js';
import type { Candidate, QuantizeJournal } from './quantize-journal.js';
import type { QuantizeOptions } from './quantize-settings.js';
import type { Job } from './quantize-steps.js';
import { tuneMatrices } from './tune.js';

/** A matrix with the width that was chosen for it. */
export interface Quantized extends Candidate {
  name: string;
  role: number;
  layer: number;
}

export interface Tuned {
  matrices: Quantized[];
  /** By tensor name. Empty without tuning. */
  gains: Map<string, Float32Array>;
  /** Means over the first and the last eighth of the steps; null without tuning. */
  loss: { first: number; last: number } | null;
}

/** Finished steps between two states on disk. */
const stepsPerState = 4;

const defaultSteps = { full: 128, blocks: 32 };

/** Steps of the model, or of each block. */
export function tuneStepsOf({ tune, tuneSteps }: QuantizeOptions): number {
  return tune === 'full' || tune === 'blocks' ? (tuneSteps ?? defaultSteps[tune]) : 0;
}

/** How many windows to read for tuning: other ones than those of the Hessians, each once, while the text has them. */
export function tuneSamples(options: QuantizeOptions): number {
  const few = calibrationSamples(options);
  if (options.tune !== 'full' || isSelfCalibration(options.calibration)) return few;
  return Math.max(few, Math.min(tuneStepsOf(options) * options.tuneWindows!, 2 ** 13));
}

/** Rejects as `tuneMatrices` does. */
export async function tuneModel(
  { source, family, options, report }: Job,
  calibration: Pick<Calibration, 'tokens' | 'samples' | 'window'>,
  matrices: Quantized[],
  journal: QuantizeJournal,
): Promise<Tuned> {
  const { tune, seed = 1, tuneWindows = 2 } = options;
  if (tune !== 'full' && tune !== 'blocks') return { matrices, gains: new Map(), loss: null };
  const norms = family.tensors.filter(({ role }) => partOf(role) === 'norms');
  const steps = tuneStepsOf(options);
  const hash = createHash('sha256').update(JSON.stringify([tune, steps, tuneWindows, seed, matrices.map(({ matrix }) => matrix.planes)]));
  const key = hash.update(new Uint8Array(calibration.tokens.buffer)).digest('hex');
  let resume = await journal.readTuneState(key);
  const total = steps * (tune === 'blocks' ? family.layers : 1);
  if (resume !== null && resume.done > total) resume = null;
  let pending: Promise<void> = Promise.resolve();
  const tuning = withDenseModel(source, family, options, 'Tuning', (engineModel, cancel) =>
    tuneMatrices(engineModel, {
      matrices,
      norms,
      tokens: calibration.tokens,
      windows: calibration.samples,
      window: calibration.window,
      method: tune === 'full' ? 'model' : 'blocks',
      steps,
      windowsPerStep: tuneWindows,
      seed,
      ...(resume === null ? {} : { resume }),
      cancel,
      onProgress: (done, loss, state) => {
        report('tune', done, 0, loss);
        if (Math.round(done * total) % stepsPerState !== 0) return;
        const kept = state();
        pending = pending.then(() => journal.writeTuneState(key, kept));
        pending.catch(() => undefined); // seen by the await below
      },
    }),
  );
  // Also when tuning fails: nothing writes into the journal afterwards.
  const tuned = await tuning.finally(() => pending);
  const part = Math.max(1, Math.floor(tuned.losses.length / 8));
  const mean = (losses: number[]): number => losses.reduce((a, b) => a + b, 0) / losses.length;
  return {
    matrices: matrices.map((item, i) => ({ ...item, matrix: tuned.matrices[i]!.matrix })),
    gains: tuned.gains,
    loss: { first: mean(tuned.losses.slice(0, part)), last: mean(tuned.losses.slice(-part)) },
  };
}

/** The layer that the engine counts a matrix to. */
export function engineLayer({ role, layer }: FamilyTensor): number {
  return role === Role.embedding || role === Role.head || layer === null ? 0 : layer;
}
