/** Quantizes a dense checkpoint into a packed model folder: calibration, block by block, then embedding and head. */
import { createHash } from 'node:crypto';
import { basename, resolve } from 'node:path';
import { calibrationSamples, isSelfCalibration, readCalibration, type Calibration, type CalibrationRecord } from './calibration.js';
import { ChatTemplate } from './chat-template.js';
import { checkFinite } from './checkpoint/finite-weights.js';
import { openModelFolder, type ModelFolder, type StoredTensor } from './checkpoint/model-folder.js';
import { checkOutput, writeFolder } from './checkpoint/output-folder.js';
import { writePackedFolder } from './checkpoint/packed-writer.js';
import { formatVersion } from './checkpoint/packed-tensors.js';
import { tokenizerFilesOf } from './checkpoint/tokenizer-files.js';
import { Role, describeFamily, type FamilySpec } from './families/index.js';
import { quantizeRules, readOptions } from './options.js';
import { buildModelSpec, type ModelTensor } from './model-spec.js';
import { keptTensors, normBytes } from './packed-bytes.js';
import { QuantizeJournal } from './quantize-journal.js';
import { alreadyPacked } from './quantize-plan.js';
import { isMixed, planSteps, rotationOf, type QuantizeOptions, type QuantizeStep } from './quantize-settings.js';
import { engineLayer, tuneModel, tuneSamples, tuneStepsOf, type Quantized, type Tuned } from './quantize-tune.js';
import { quantizeSteps, type Job, type Report } from './quantize-steps.js';
import { resolveModel } from './resolve-model.js';
import { rotateCheckpoint } from './rotated-checkpoint.js';
import { calibrateItself } from './self-calibration.js';
import { Tokenizer } from './tokenizer.js';
import { partOf, type WeightBytes } from './weight-bytes.js';
import { chooseWidths, typicalWidths, type Measured } from './width-plan.js';

/** What became of one matrix. */
export interface QuantizedTensor {
  name: string;
  planes: number;
  bytes: number;
  bitsPerWeight: number;
  /** |W - W_packed|^2 / |W|^2 */
  weightError: number;
  /** tr(E H E^T) / tr(W H W^T): the share of the output's energy that is lost. */
  outputError: number;
  /** KL divergence, in nats, of the dense model from itself with this matrix packed; null where it was not measured. */
  kl: number | null;
  /** Inputs that are zero in all of the calibration; their weights are fitted without it. */
  deadColumns: number;
  /** Of the Hessian, as it was used: more than asked for where that was too little to factor it. */
  damping: number;
  /** Fitted without calibration: an embedding that is no head, or a Hessian that no damping could factor. */
  plainFit: boolean;
}

/** The packed folder, what each matrix lost, and what was odd about the inputs. */
export interface QuantizeResult {
  path: string;
  /** Over the linear layers, all scales and padding counted. */
  bitsPerWeight: number;
  bytes: WeightBytes;
  tensors: QuantizedTensor[];
  calibration: CalibrationRecord;
  /** Of tuning: means over the first and the last eighth of the steps; null without it. */
  loss: { first: number; last: number } | null;
  /** What was odd about the calibration or a matrix, a sentence each. */
  warnings: string[];
  seconds: number;
}

/** Of the whole job, for a model that writes its calibration text: SmolLM2-135M, 16 windows, two cores. */
const selfCalibrationShare = 0.6;

/** Of the time of quantizing and tuning, with the default steps. */
const tuneShare = 0.7;

/**
 * Rejects with ERR_OUTPUT_EXISTS, ERR_CALIBRATION, ERR_NOT_FOUND, ERR_BAD_MODEL_FILE, ERR_UNSUPPORTED_MODEL,
 * ERR_TOKENIZER, ERR_NO_BACKEND, TypeError, RangeError or the signal's reason. The layers that were finished by then stay
 * in `<outFolder>.partial`: the same call with `resume` goes on with them and gives the same bytes.
 */
export async function quantizeModel(
  checkpointFolder: string | URL,
  outFolder: string,
  options?: QuantizeOptions,
): Promise<QuantizeResult> {
  const checked = readOptions<QuantizeOptions>(quantizeRules, options, 'quantizeModel');
  const started = performance.now();
  const { signal, overwrite, window = 512 } = checked;
  signal?.throwIfAborted();
  const out = resolve(outFolder);
  const source = await openModelFolder(await resolveModel(checkpointFolder));
  await checkOutput(out, [source.path], overwrite!);
  if (source.quantization !== null) throw alreadyPacked(source.path);
  const family = describeFamily(source.config, source.configPath);
  if (window > family.contextLimit)
    throw new RangeError(
      `Expected an integer from 2 to ${family.contextLimit} for window (the model's limit) but received ${window}`,
    );
  const steps = planSteps(family, checked);
  const rotation = rotationOf(family, checked);
  const norms = normBytes(source, family, checked, rotation !== null);
  typicalWidths(steps, checked, norms); // refuses a budget that is too small
  const report = progressReporter(family.layers, checked);
  report('calibrate', 0, 0);
  const weightHash = await checkFinite(source, signal);
  const calibration = await calibrate(source, family, checked, calibrationSamples(checked), report);
  // Windows that tuning sees are others than those of the Hessians, where the text is long enough for both.
  const more = tuneSamples(checked);
  const tuningText =
    more === calibration.samples ? calibration : await calibrate(source, family, { ...checked, seed: checked.seed! + 1 }, more, report);
  const key = journalKey(source, steps, calibration, checked, weightHash, rotation !== null);
  const journal = await QuantizeJournal.open(`${out}.partial`, key, checked.resume!);
  let tuned: Tuned;
  let written: Awaited<ReturnType<typeof write>>;
  try {
    const dense =
      rotation === null
        ? source
        : await rotateCheckpoint(source, family, rotation, journal.rotatedFile, { ...checked, onProgress: (done) => report('rotate', done, 0) });
    const job: Job = { source: dense, family, steps, calibration, options: checked, report };
    await quantizeSteps(job, journal);
    tuned = await tuneModel(job, tuningText, await collect(job, norms, journal), journal);
    written = await write(out, job, source, norms, tuned);
    if (!checked.keepMeasurements!) await journal.remove();
  } finally {
    await journal.release();
  }
  const { matrices, loss } = tuned;
  const warnings = [...calibration.warnings, ...matrixWarnings(matrices)];
  const seconds = (performance.now() - started) / 1000;
  return { path: out, ...written, calibration: calibration.record, loss, warnings, seconds };
}

async function calibrate(
  source: ModelFolder,
  family: FamilySpec,
  options: QuantizeOptions,
  samples: number,
  report: Report,
): Promise<Calibration> {
  const files = await tokenizerFilesOf(source, family.vocabularySize);
  const tokenizer = new Tokenizer(files);
  const template = new ChatTemplate(files.chatTemplate, tokenizer.specialTokens);
  const { calibration: path, window = 512, seed = 1, signal } = options;
  if (!isSelfCalibration(path)) return readCalibration({ tokenizer, template }, { path, samples, window, seed, signal });
  return calibrateItself(source, family, files, tokenizer, {
    samples,
    window,
    seed,
    threads: options.threads,
    signal,
    onProgress: (done) => report('calibrate', done, 0),
  });
}

/** Calibration, rotation and writing take 1 % each; a model that writes its own calibration text takes longer. */
function progressReporter(blocks: number, options: QuantizeOptions): Report {
  const { onProgress, tune } = options;
  const selfCalibrated = isSelfCalibration(options.calibration);
  const started = { calibrate: performance.now(), rotate: 0, quantize: 0, tune: 0, write: 0 };
  const calibrated = selfCalibrated ? selfCalibrationShare : 0.01;
  const rotated = calibrated + 0.01;
  const quantized = tune === 'off' ? 0.99 : rotated + (0.99 - rotated) * (1 - tuneShare);
  const shares = { calibrate: [0, calibrated], rotate: [calibrated, rotated], quantize: [rotated, quantized], tune: [quantized, 0.99], write: [0.99, 1] } as const;
  return (phase, done, block, loss) => {
    started[phase] ||= performance.now();
    const [from, to] = shares[phase];
    const whole = from + (to - from) * done;
    const known = done > 0.005 && phase !== 'write' && (phase !== 'calibrate' || selfCalibrated);
    const remainingMs = known ? ((performance.now() - started[phase]) / (whole - from)) * (1 - whole) : null;
    onProgress?.({ phase, done: whole, block, blocks, loss: loss ?? null, remainingMs });
  };
}

/** Chooses the widths and reads that candidate of every matrix back from the journal. */
async function collect({ steps, options }: Job, norms: number, journal: QuantizeJournal): Promise<Quantized[]> {
  const widths = isMixed(options) ? await measuredWidths(steps, options, norms, journal) : typicalWidths(steps, options, norms);
  const matrices: Quantized[] = [];
  for (const [s, { tensors, candidates }] of steps.entries()) {
    const count = candidates[0]!.length;
    const chosen = (index: number): boolean => widths[s]![Math.floor(index / count)] === index % count;
    const read = (await journal.read(s, chosen))!.filter((_, index) => chosen(index));
    tensors.forEach(({ name, role }, t) => matrices.push({ name, role, layer: engineLayer(tensors[t]!), ...read[t]! }));
  }
  return matrices;
}

async function measuredWidths(steps: QuantizeStep[], options: QuantizeOptions, norms: number, journal: QuantizeJournal): Promise<number[][]> {
  const measured = await Promise.all(steps.map((_, index) => journal.read(index, () => false)));
  return chooseWidths(steps, options, norms, (s, t, c): Measured => {
    const { matrix, kl } = measured[s]![t * steps[s]!.candidates[t]!.length + c]!;
    return { outputError: matrix.outputError, criterion: matrix.criterion, kl };
  });
}

/** Names what the journal holds: the same key, the same bytes on one kind of processor. */
function journalKey(
  source: ModelFolder,
  steps: QuantizeStep[],
  calibration: Calibration,
  options: QuantizeOptions,
  weightHash: string,
  rotated: boolean,
): string {
  const measures = isMixed(options) ? [options.sensitivity, options.measureTokens] : [];
  const candidates = steps.map((step) => step.candidates);
  const hash = createHash('sha256');
  hash.update(JSON.stringify([formatVersion(rotated), source.config, weightHash, candidates, measures, calibration.window]));
  hash.update(new Uint8Array(calibration.tokens.buffer));
  return hash.digest('hex');
}

function matrixWarnings(matrices: Quantized[]): string[] {
  const hasHead = matrices.some(({ role }) => role === Role.head);
  return matrices
    .filter(({ role, matrix }) => matrix.plainFit && !(role === Role.embedding && hasHead))
    .map(
      ({ name }) =>
        `${name} was fitted without calibration: its inputs are zero, or too alike for any damping. More or other calibration text may help.`,
    );
}

async function write(
  out: string,
  { source: dense, family, calibration, options, report }: Job,
  source: ModelFolder,
  norms: number,
  { matrices, gains, loss }: Tuned,
): Promise<Pick<QuantizeResult, 'bitsPerWeight' | 'bytes' | 'tensors'>> {
  const gainsOf = ({ wanted, dense: stored }: ModelTensor): StoredTensor & { values?: Float32Array } => {
    const values = gains.get(wanted.name);
    return values === undefined ? stored! : { ...stored!, dtype: 'F32', bytes: values.byteLength, values };
  };
  const {
    bits,
    overrides,
    embeddingBits,
    headBits,
    rowGroup = 96,
    scaleTerms,
    fitRounds,
    refits,
    sweeps,
    damping,
  } = options;
  report('write', 0, 0);
  await writeFolder(out, options.signal, (partial) =>
    writePackedFolder(partial, {
      source,
      packed: matrices.map(({ name, matrix, kl }) => {
        const { weightError, outputError } = matrix;
        return { name, matrix, report: { weightError, outputError, kl } };
      }),
      dense: keptTensors(buildModelSpec(dense, family).tensors).map(gainsOf),
      rotation: dense.rotation,
      record: {
        mode: options.mode === 'acc' ? 'acc' : 'lat',
        rowGroup,
        calibration: calibration.record,
        source: {
          name: basename(source.path),
          weight_bytes: source.files.reduce((sum, file) => sum + file.fileBytes, 0),
        },
        settings: {
          bits,
          ...(isMixed(options)
            ? { mixed: true, budget: options.budget, sensitivity: options.sensitivity, measure_tokens: options.measureTokens }
            : {}),
          ...(loss === null ? {} : { tune: options.tune, tune_steps: tuneStepsOf(options), tune_windows: options.tuneWindows, tune_loss: loss }),
          overrides,
          embedding_bits: embeddingBits,
          head_bits: headBits,
          row_scales: options.rowScales,
          scale_terms: scaleTerms,
          fit_rounds: fitRounds,
          refits,
          sweeps,
          damping,
        },
      },
      maxShardBytes: options.maxShardBytes!,
      signal: options.signal,
      onProgress: (done) => report('write', done, 0),
    }),
  );
  return summarize(matrices, norms);
}

function summarize(matrices: Quantized[], norms: number): Pick<QuantizeResult, 'bitsPerWeight' | 'bytes' | 'tensors'> {
  const bytes: WeightBytes = { linearLayers: 0, embedding: 0, head: 0, norms, total: norms };
  let linearWeights = 0;
  const tensors = matrices.map(({ name, role, matrix, kl }) => {
    const size = matrix.planeData.byteLength + matrix.scales.byteLength + (matrix.rowScales?.byteLength ?? 0);
    const weights = matrix.rows * matrix.columns;
    bytes[partOf(role)] += size;
    bytes.total += size;
    if (partOf(role) === 'linearLayers') linearWeights += weights;
    const { planes, weightError, outputError, deadColumns, damping, plainFit } = matrix;
    const bitsPerWeight = (size * 8) / weights;
    return { name, planes, bytes: size, bitsPerWeight, weightError, outputError, kl, deadColumns, damping, plainFit };
  });
  return { bitsPerWeight: (bytes.linearLayers * 8) / linearWeights, bytes, tensors };
}
