/** Quantizes a dense checkpoint into a packed model folder: calibration, block by block, then embedding and head. */
import { basename, resolve } from 'node:path';
import { readCalibration, type Calibration } from './calibration.js';
import { ChatTemplate } from './chat-template.js';
import { openModelFolder, type ModelFolder } from './checkpoint/model-folder.js';
import { checkOutput, writeFolder } from './checkpoint/output-folder.js';
import { writePackedFolder } from './checkpoint/packed-writer.js';
import { readTokenizerFiles } from './checkpoint/tokenizer-files.js';
import type { CancelFlag, EngineModel, EnginePackedMatrix } from './engine.js';
import { ShiftAddError, fromEngine } from './errors.js';
import { describeFamily, type FamilySpec } from './families/index.js';
import { openEngineModel } from './model.js';
import { buildModelSpec } from './model-spec.js';
import { quantizeRules, readOptions } from './options.js';
import { alreadyPacked, packedBytes } from './quantize-plan.js';
import { planSteps, type QuantizeOptions, type QuantizeProgress, type QuantizeStep } from './quantize-settings.js';
import { resolveModel } from './resolve-model.js';
import { selectBackend } from './select-backend.js';
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
}

export interface QuantizeResult {
  path: string;
  /** Over the linear layers, all scales and padding counted. */
  bitsPerWeight: number;
  bytes: WeightBytes;
  tensors: QuantizedTensor[];
  calibration: Calibration['record'];
  seconds: number;
}

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
  if (checked.calibration === undefined) {
    throw new ShiftAddError(
      'ERR_CALIBRATION',
      'A calibration text is needed. Pass calibration: the path of a text file, or of a .jsonl file of {"messages": [...]}.',
    );
  }
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
  checkShardSize(steps, checked);
  const report = progressReporter(family.layers, onProgress);
  report('calibrate', 0, 0);
  const calibration = await calibrate(source, checked);
  const matrices = await runEngine(source, family, steps, calibration, checked, report);
  const written = await write(out, source, family, matrices, calibration, checked, report);
  return { path: out, ...written, calibration: calibration.record, seconds: (performance.now() - started) / 1000 };
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

async function calibrate(source: ModelFolder, options: QuantizeOptions): Promise<Calibration> {
  const files = await readTokenizerFiles(source.path);
  const tokenizer = new Tokenizer(files);
  const template = new ChatTemplate(files.chatTemplate, tokenizer.specialTokens);
  const { samples = 64, window = 512, seed = 1, signal } = options;
  return readCalibration({ tokenizer, template }, { path: options.calibration!, samples, window, seed, signal });
}

type Report = (phase: QuantizeProgress['phase'], done: number, block: number) => void;

/** Work is quantizing for 98 %; calibration and writing share the rest. */
function progressReporter(blocks: number, onProgress: QuantizeOptions['onProgress']): Report {
  let quantizing: number | null = null;
  return (phase, done, block) => {
    if (phase === 'quantize') quantizing ??= performance.now();
    const whole = phase === 'calibrate' ? 0.01 * done : phase === 'quantize' ? 0.01 + 0.98 * done : 0.99 + 0.01 * done;
    const elapsed = quantizing === null ? 0 : performance.now() - quantizing;
    const remainingMs = phase === 'quantize' && done > 0.005 ? (elapsed / done) * (1 - done) : null;
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
        : quantizer.block(settings, onDone, flag));
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
  report('write', 0, 0);
  await writeFolder(out, options.signal, (partial) =>
    writePackedFolder(partial, {
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
    }),
  );
  return summarize(
    matrices,
    dense.reduce((sum, tensor) => sum + tensor.bytes, 0),
  );
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
    const { planes, weightError, outputError } = matrix;
    return { name, planes, bytes: size, bitsPerWeight: (size * 8) / weights, weightError, outputError };
  });
  return { bitsPerWeight: (bytes.linearLayers * 8) / linearWeights, bytes, tensors };
}
