/** Quantizes a dense checkpoint into a packed model folder: calibration, block by block, then embedding and head. */
import { mkdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import { calibrationSamples, isSelfCalibration, readCalibration, type Calibration, type CalibrationRecord } from './calibration.js';
import { ChatTemplate } from './chat-template.js';
import { checkFinite } from './checkpoint/finite-weights.js';
import { openModelFolder, type ModelFolder } from './checkpoint/model-folder.js';
import { writePackedFolder } from './checkpoint/packed-writer.js';
import { readTokenizerFiles } from './checkpoint/tokenizer-files.js';
import type { CancelFlag, EngineModel, EnginePackedMatrix } from './engine.js';
import { ShiftAddError, fromEngine } from './errors.js';
import { Role, describeFamily, type FamilySpec } from './families/index.js';
import { openEngineModel } from './model.js';
import { buildModelSpec } from './model-spec.js';
import { quantizeRules, readOptions } from './options.js';
import { alreadyPacked, packedBytes } from './quantize-plan.js';
import { planSteps, type QuantizeOptions, type QuantizeProgress, type QuantizeStep } from './quantize-settings.js';
import { resolveModel } from './resolve-model.js';
import { selectBackend } from './select-backend.js';
import { calibrateItself } from './self-calibration.js';
import { Tokenizer } from './tokenizer.js';
import { partOf, type WeightBytes } from './weight-bytes.js';

export interface QuantizedTensor {
  name: string;
  planes: number;
  bytes: number;
  bitsPerWeight: number;
  /** |W - W_packed|^2 / |W|^2 */
  weightError: number;
  /** tr(E H E^T) / tr(W H W^T): the share of the output's energy that is lost. */
  outputError: number;
  /** Inputs that are zero in all of the calibration; their weights are fitted without it. */
  deadColumns: number;
  /** Of the Hessian, as it was used: more than asked for where that was too little to factor it. */
  damping: number;
  /** Fitted without calibration: an embedding that is no head, or a Hessian that no damping could factor. */
  plainFit: boolean;
}

export interface QuantizeResult {
  path: string;
  /** Over the linear layers, all scales and padding counted. */
  bitsPerWeight: number;
  bytes: WeightBytes;
  tensors: QuantizedTensor[];
  calibration: CalibrationRecord;
  /** What was odd about the calibration or a matrix, a sentence each. */
  warnings: string[];
  seconds: number;
}

/** Of the whole job, for a model that writes its calibration text: SmolLM2-135M, 16 windows, two cores. */
const selfCalibrationShare = 0.6;

/** Of a weight file besides one matrix. */
const headerRoom = 1024;

interface Quantized {
  name: string;
  role: number;
  matrix: EnginePackedMatrix;
}

/**
 * Rejects with ERR_OUTPUT_EXISTS, ERR_CALIBRATION, ERR_NOT_FOUND, ERR_BAD_MODEL_FILE, ERR_UNSUPPORTED_MODEL,
 * ERR_TOKENIZER, ERR_NO_BACKEND, TypeError, RangeError or the signal's reason. Nothing is left behind then.
 */
export async function quantizeModel(
  checkpointFolder: string | URL,
  outFolder: string,
  options?: QuantizeOptions,
): Promise<QuantizeResult> {
  const checked = readOptions<QuantizeOptions>(quantizeRules, options, 'quantizeModel');
  const started = performance.now();
  const { signal, onProgress, overwrite, window = 512 } = checked;
  signal?.throwIfAborted();
  const out = resolve(outFolder);
  const source = await openModelFolder(await resolveModel(checkpointFolder));
  await checkOutput(out, source, overwrite!);
  if (source.quantization !== null) throw alreadyPacked(source.path);
  const family = describeFamily(source.config, source.configPath);
  if (window > family.contextLimit)
    throw new RangeError(
      `Expected an integer from 2 to ${family.contextLimit} for window (the model's limit) but received ${window}`,
    );
  const steps = planSteps(family, checked);
  checkShardSize(steps, checked);
  const report = progressReporter(family.layers, isSelfCalibration(checked.calibration), onProgress);
  report('calibrate', 0, 0);
  await checkFinite(source, signal);
  const calibration = await calibrate(source, family, checked, report);
  const matrices = await runEngine(source, family, steps, calibration, checked, report);
  const written = await write(out, source, family, matrices, calibration, checked, report);
  const warnings = [...calibration.warnings, ...matrixWarnings(matrices)];
  const seconds = (performance.now() - started) / 1000;
  return { path: out, ...written, calibration: calibration.record, warnings, seconds };
}

async function checkOutput(out: string, source: ModelFolder, overwrite: boolean): Promise<void> {
  const there = await stat(out).catch(() => null);
  if (there === null) return;
  if (out === source.path)
    throw new ShiftAddError(
      'ERR_OUTPUT_EXISTS',
      `The output folder ${out} is the checkpoint itself. Choose another one.`,
    );
  if (!overwrite)
    throw new ShiftAddError(
      'ERR_OUTPUT_EXISTS',
      `The output folder ${out} exists. Remove it, choose another one, or pass overwrite.`,
    );
  const isModel =
    there.isDirectory() &&
    (await stat(`${out}/config.json`).then(
      () => true,
      () => false,
    ));
  if (!isModel)
    throw new ShiftAddError(
      'ERR_OUTPUT_EXISTS',
      `${out} is not a model folder and is not overwritten. Choose another one.`,
    );
}

function checkShardSize(steps: QuantizeStep[], { maxShardBytes }: QuantizeOptions): void {
  for (const { tensors, settings } of steps) {
    tensors.forEach((tensor, i) => {
      const needed = packedBytes(tensor, settings[i]!) + headerRoom;
      if (needed > maxShardBytes!)
        throw new RangeError(
          `Expected at least ${needed} for maxShardBytes (tensor ${tensor.name}) but received ${maxShardBytes}`,
        );
    });
  }
}

async function calibrate(
  source: ModelFolder,
  family: FamilySpec,
  options: QuantizeOptions,
  report: Report,
): Promise<Calibration> {
  const files = await readTokenizerFiles(source.path);
  const tokenizer = new Tokenizer(files);
  const template = new ChatTemplate(files.chatTemplate, tokenizer.specialTokens);
  const { calibration: path, window = 512, seed = 1, signal } = options;
  const samples = calibrationSamples(options);
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

type Report = (phase: QuantizeProgress['phase'], done: number, block: number) => void;

/** Calibration and writing take 1 % each, unless the model writes the calibration text. */
function progressReporter(blocks: number, selfCalibrated: boolean, onProgress: QuantizeOptions['onProgress']): Report {
  const started = { calibrate: performance.now(), quantize: 0, write: 0 };
  const calibrating = selfCalibrated ? selfCalibrationShare : 0.01;
  const shares = { calibrate: [0, calibrating], quantize: [calibrating, 0.99], write: [0.99, 1] } as const;
  return (phase, done, block) => {
    started[phase] ||= performance.now();
    const [from, to] = shares[phase];
    const whole = from + (to - from) * done;
    const known = done > 0.005 && (phase === 'quantize' || (phase === 'calibrate' && selfCalibrated));
    const remainingMs = known ? ((performance.now() - started[phase]) / (whole - from)) * (1 - whole) : null;
    onProgress?.({ phase, done: whole, block, blocks, remainingMs });
  };
}

async function runEngine(
  source: ModelFolder,
  family: FamilySpec,
  steps: QuantizeStep[],
  calibration: Calibration,
  { threads, signal }: QuantizeOptions,
  report: Report,
): Promise<Quantized[]> {
  const flag: CancelFlag = new Int32Array(new SharedArrayBuffer(4));
  const stop = (): void => void Atomics.store(flag, 0, 1);
  signal?.addEventListener('abort', stop, { once: true });
  let engineModel: EngineModel | null = null;
  try {
    const open = { threads, precision: 'exact' as const, signal };
    ({ engineModel } = await openEngineModel(selectBackend('auto'), buildModelSpec(source, family), open, source.path));
    const quantizer = await engineModel.openQuantizer(calibration.tokens, calibration.samples, calibration.window);
    const matrices: Quantized[] = [];
    let before = 0;
    for (const [index, { layer, tensors, settings, share }] of steps.entries()) {
      signal?.throwIfAborted();
      const onDone = (done: number): void => report('quantize', before + share * done, index + 1);
      onDone(0);
      const packed = await (layer === null
        ? quantizer.head(settings, onDone, flag)
        : quantizer.block(settings, onDone, flag)
      ).catch((error: unknown) => {
        throw withTensorName(error, tensors);
      });
      tensors.forEach(({ name, role }, i) => matrices.push({ name, role, matrix: packed[i]! }));
      before += share;
    }
    await quantizer.close();
    return matrices;
  } catch (error) {
    signal?.throwIfAborted();
    throw fromEngine(error, `Quantizing ${source.path}`);
  } finally {
    signal?.removeEventListener('abort', stop);
    await engineModel?.close();
  }
}

/** The engine counts matrices; people know tensors. */
function withTensorName(error: unknown, tensors: QuantizeStep['tensors']): unknown {
  if (error instanceof Error)
    error.message = error.message.replace(/^matrix (\d+)\b/, (word, index: string) => tensors[Number(index)]?.name ?? word);
  return error;
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
  source: ModelFolder,
  family: FamilySpec,
  matrices: Quantized[],
  calibration: Calibration,
  options: QuantizeOptions,
  report: Report,
): Promise<Pick<QuantizeResult, 'bitsPerWeight' | 'bytes' | 'tensors'>> {
  const dense = family.tensors.filter(({ shape }) => shape.length === 1).map(({ name }) => source.stored.get(name)!);
  const {
    bits,
    overrides,
    embeddingBits,
    headBits,
    rowGroup = 96,
    mode = 'lat',
    scaleTerms,
    fitRounds,
    refits,
    sweeps,
    damping,
  } = options;
  const partial = `${out}.partial-${process.pid}`;
  report('write', 0, 0);
  try {
    await mkdir(dirname(out), { recursive: true });
    await rm(partial, { recursive: true, force: true });
    await mkdir(partial);
    await writePackedFolder(partial, {
      source,
      packed: matrices,
      dense,
      record: {
        mode,
        rowGroup,
        calibration: calibration.record,
        source: {
          name: basename(source.path),
          weight_bytes: source.files.reduce((sum, file) => sum + file.fileBytes, 0),
        },
        settings: {
          bits,
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
    });
    options.signal?.throwIfAborted();
    await replaceFolder(partial, out);
  } catch (error) {
    await rm(partial, { recursive: true, force: true });
    throw error;
  }
  return summarize(
    matrices,
    dense.reduce((sum, tensor) => sum + tensor.bytes, 0),
  );
}

/** The old folder goes only when the new one is in its place. */
async function replaceFolder(partial: string, out: string): Promise<void> {
  const old = `${out}.old-${process.pid}`;
  const replaced = await rename(out, old).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return false;
      throw error;
    },
  );
  try {
    await rename(partial, out);
  } catch (error) {
    if (replaced) await rename(old, out);
    throw error;
  }
  if (replaced) await rm(old, { recursive: true, force: true });
}

function summarize(matrices: Quantized[], norms: number): Pick<QuantizeResult, 'bitsPerWeight' | 'bytes' | 'tensors'> {
  const bytes: WeightBytes = { linearLayers: 0, embedding: 0, head: 0, norms, total: norms };
  let linearWeights = 0;
  const tensors = matrices.map(({ name, role, matrix }) => {
    const size = matrix.planeData.byteLength + matrix.scales.byteLength + (matrix.rowScales?.byteLength ?? 0);
    const weights = matrix.rows * matrix.columns;
    bytes[partOf(role)] += size;
    bytes.total += size;
    if (partOf(role) === 'linearLayers') linearWeights += weights;
    const { planes, weightError, outputError, deadColumns, damping, plainFit } = matrix;
    const bitsPerWeight = (size * 8) / weights;
    return { name, planes, bytes: size, bitsPerWeight, weightError, outputError, deadColumns, damping, plainFit };
  });
  return { bitsPerWeight: (bytes.linearLayers * 8) / linearWeights, bytes, tensors };
}
