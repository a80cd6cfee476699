/**
 * Tunes the scales of packed matrices and the norm gains against the dense model: the schedule of learning rates and
 * windows around `EngineTuner`.
 */
import { randomIntegers } from './calibration.js';
import type { CancelFlag, EngineModel, EnginePackedMatrix, EngineTuner, EngineTuneRates } from './engine.js';
import { Role, type FamilyTensor } from './families/index.js';

export interface TunableMatrix {
  name: string;
  role: number;
  layer: number;
  matrix: EnginePackedMatrix;
}

export interface TuneOptions {
  /** Matrices of the blocks are tuned; embedding and head are in the loop as they are; those that are missing stay dense. */
  matrices: TunableMatrix[];
  /** The norms whose gains are wanted. */
  norms: Pick<FamilyTensor, 'name' | 'role' | 'layer' | 'shape'>[];
  /** windows x window ids. */
  tokens: Int32Array;
  windows: number;
  window: number;
  /** `model`: the loss is the divergence of the model's output. `blocks`: block by block, with less memory. */
  method?: 'model' | 'blocks';
  /** Of the model, or of every block. */
  steps: number;
  windowsPerStep: number;
  /** At the top of the schedule; the default depends on the planes. */
  rates?: EngineTuneRates;
  seed: number;
  /** Where an earlier run was when it gave this state; all other options must be the same. */
  resume?: TuneState;
  /** After every step: the share that is done, the loss before the step, and a way to keep the state. */
  onProgress?: (done: number, loss: number, state: () => TuneState) => void;
  /** Ends it with an engine error when it becomes 1. */
  cancel: CancelFlag;
}

export interface TuneState {
  /** Steps that are done, over all blocks. */
  done: number;
  losses: number[];
  engine: Float32Array;
}

export interface TuneResult {
  /** As given, with new scales; `weightError` and `outputError` are those from before. */
  matrices: TunableMatrix[];
  /** By tensor name. */
  gains: Map<string, Float32Array>;
  /** Before each step: nats per token, or the mean squared error of the block's output. */
  losses: number[];
}

const baseRates: EngineTuneRates = { scales: 4e-3, rowScales: 2e-3, gains: 2e-3 };
const warmUpSteps = 4;
const warmUpShare = 0.02;
/** Of the base rates: planes on average, and the factor that the design study used there; not compared anew. */
const rateFactors: readonly (readonly [planes: number, factor: number])[] = [
  [2, 2.5],
  [3, 1],
  [4, 0.25],
];

/** Rejects with the engine's error. */
export async function tuneMatrices(engineModel: EngineModel, options: TuneOptions): Promise<TuneResult> {
  const { matrices, norms } = options;
  const tuner = await engineModel.openTuner();
  try {
    for (const { role, layer, matrix } of matrices) await tuner.set(role, layer, matrix);
    const losses = await runSteps(tuner, options);
    const gains = new Map<string, Float32Array>();
    for (const { name, role, layer, shape } of norms) gains.set(name, tuner.gains(role, layer, shape[0]!));
    const tuned = matrices.map((item) => ({ ...item, matrix: { ...item.matrix, ...tuner.scales(item.role, item.layer) } }));
    return { matrices: tuned, gains, losses };
  } finally {
    await tuner.close();
  }
}

async function runSteps(tuner: EngineTuner, options: TuneOptions): Promise<number[]> {
  const { matrices, tokens, windows, window, steps, windowsPerStep, seed, resume, onProgress, cancel } = options;
  const rates = options.rates ?? defaultRates(matrices);
  const blockwise = options.method === 'blocks';
  const blocks = blockwise ? 1 + Math.max(-1, ...matrices.filter(isOfBlock).map(({ layer }) => layer)) : 1;
  const losses = [...(resume?.losses ?? [])];
  const from = resume?.done ?? 0;
  if (resume !== undefined) tuner.loadState(resume.engine);
  if (blockwise) {
    await tuner.beginBlocks(tokens, windows, window);
    for (let block = 0; block < Math.floor(from / steps); block++) await tuner.nextBlock(cancel);
    // Going on to the next block started its steps anew.
    if (resume !== undefined && from % steps !== 0) tuner.loadState(resume.engine);
  }
  const nextWindow = shuffledWindows(windows, seed);
  for (let skipped = 0; skipped < from * windowsPerStep; skipped++) nextWindow();
  for (let done = from; done < steps * blocks; done++) {
    const chosen = Int32Array.from({ length: windowsPerStep }, nextWindow);
    const scaled = scaleRates(rates, scheduleFactor(done % steps, steps));
    const loss = blockwise
      ? await tuner.blockStep(chosen, scaled, cancel)
      : await tuner.step(gather(tokens, chosen, window), windowsPerStep, window, scaled, cancel);
    losses.push(loss);
    onProgress?.((done + 1) / (steps * blocks), loss, () => ({
      done: done + 1,
      losses: [...losses],
      engine: tuner.saveState(),
    }));
    if (blockwise && (done + 1) % steps === 0) await tuner.nextBlock(cancel);
  }
  return losses;
}

function isOfBlock({ role }: TunableMatrix): boolean {
  return role !== Role.embedding && role !== Role.head;
}

/** By the average number of planes of the block matrices: the smaller the errors, the smaller the steps. */
export function defaultRates(matrices: TunableMatrix[]): EngineTuneRates {
  let planes = 0;
  let weights = 0;
  for (const { matrix } of matrices.filter(isOfBlock)) {
    planes += matrix.planes * matrix.rows * matrix.columns;
    weights += matrix.rows * matrix.columns;
  }
  return scaleRates(baseRates, rateFactor(weights === 0 ? 3 : planes / weights));
}

/** Between these points the logarithm is linear; beyond them it stays. */
function rateFactor(planes: number): number {
  const above = rateFactors.findIndex(([at]) => planes < at);
  if (above === 0) return rateFactors[0]![1];
  if (above < 0) return rateFactors.at(-1)![1];
  const [[low, from], [high, to]] = [rateFactors[above - 1]!, rateFactors[above]!];
  return from * (to / from) ** ((planes - low) / (high - low));
}

function scaleRates({ scales, rowScales, gains }: EngineTuneRates, factor: number): EngineTuneRates {
  return { scales: scales * factor, rowScales: rowScales * factor, gains: gains * factor };
}

/** A linear warm-up of 4 steps or 2 %, at most half of all, then half a cosine to zero. */
export function scheduleFactor(step: number, steps: number): number {
  const warmUp = Math.min(Math.max(warmUpSteps, Math.ceil(warmUpShare * steps)), Math.floor(steps / 2));
  if (step < warmUp) return (step + 1) / warmUp;
  return 0.5 * (1 + Math.cos((Math.PI * (step - warmUp)) / (steps - warmUp)));
}

/** Every window once in random order, then again in another order, and so on. */
function shuffledWindows(windows: number, seed: number): () => number {
  const random = randomIntegers(seed);
  const order = Array.from({ length: windows }, (_, index) => index);
  let next = windows;
  return () => {
    if (next === windows) {
      for (let i = windows - 1; i > 0; i--) {
        const j = random(i + 1);
        [order[i], order[j]] = [order[j]!, order[i]!];
      }
      next = 0;
    }
    return order[next++]!;
  };
}

function gather(tokens: Int32Array, chosen: Int32Array, window: number): Int32Array {
  const out = new Int32Array(chosen.length * window);
  chosen.forEach((index, i) => out.set(tokens.subarray(index * window, (index + 1) * window), i * window));
  return out;
}
