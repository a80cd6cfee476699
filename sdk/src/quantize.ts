/** Quantizes a dense checkpoint into a packed model folder: calibration, block by block, then embedding and head. */
import { createHash } from 'node:crypto';
import { basename, resolve } from 'node:path';
import { readCalibration, type Calibration } from './calibration.js';
import { ChatTemplate } from './chat-template.js';
import { openModelFolder, type ModelFolder, type StoredTensor } from './checkpoint/model-folder.js';
import { checkOutput, writeFolder } from './checkpoint/output-folder.js';
import { writePackedFolder } from './checkpoint/packed-writer.js';
import { packedFormatVersion } from './checkpoint/packed-tensors.js';
import { readTokenizerFiles } from './checkpoint/tokenizer-files.js';
import type { CancelFlag, EngineModel, EngineQuantizer } from './engine.js';
import { ShiftAddError, fromEngine } from './errors.js';
import { describeFamily, type FamilySpec } from './families/index.js';
import { openEngineModel } from './model.js';
import { buildModelSpec } from './model-spec.js';
import { quantizeRules, readOptions } from './options.js';
import { packedBytes } from './packed-bytes.js';
import { QuantizeJournal, type Candidate } from './quantize-journal.js';
import { alreadyPacked } from './quantize-plan.js';
import { isMixed, planSteps, type QuantizeOptions, type QuantizeProgress, type QuantizeStep } from './quantize-settings.js';
import { resolveModel } from './resolve-model.js';
import { selectBackend } from './select-backend.js';
import { Tokenizer } from './tokenizer.js';
import { partOf, type WeightBytes } from './weight-bytes.js';
import { chooseWidths, isOpen, measuredCandidate, typicalWidths, type Measured } from './width-plan.js';

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

/** Tokens of the windows on which divergences are measured. */
const measuredWindow = 256;

interface Quantized extends Candidate {
  name: string;
  role: number;
}

/** Everything that a quantization is made from. */
interface Job {
  source: ModelFolder;
  family: FamilySpec;
  steps: QuantizeStep[];
  calibration: Calibration;
  options: QuantizeOptions;
  report: Report;
}

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
  await checkOutput(out, source.path, overwrite!);
  if (source.quantization !== null) throw alreadyPacked(source.path);
  const family = describeFamily(source.config, source.configPath);
  if (window > family.contextLimit)
    throw new RangeError(
      `Expected an integer from 2 to ${family.contextLimit} for window (the model's limit) but received ${window}`,
    );
  const steps = planSteps(family, checked);
  checkShardSize(steps, checked);
  typicalWidths(steps, checked, denseBytes(source, family)); // refuses a budget that is too small
  const report = progressReporter(family.layers, onProgress);
  report('calibrate', 0, 0);
  const calibration = await calibrate(source, checked);
  const job: Job = { source, family, steps, calibration, options: checked, report };
  const journal = await QuantizeJournal.open(`${out}.partial`, journalKey(job), checked.resume!);
  await runEngine(job, journal);
  const written = await write(out, job, await collect(job, journal));
  if (!checked.keepMeasurements!) await journal.remove();
  return { path: out, ...written, calibration: calibration.record, seconds: (performance.now() - started) / 1000 };
}

function checkShardSize(steps: QuantizeStep[], { maxShardBytes }: QuantizeOptions): void {
  for (const { tensors, candidates } of steps) {
    tensors.forEach((tensor, i) => {
      const needed = Math.max(...candidates[i]!.map((settings) => packedBytes(tensor, settings))) + headerRoom;
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

/** Quantizes every step that the journal does not hold yet. */
async function runEngine(
  { source, family, steps, calibration, options, report }: Job,
  journal: QuantizeJournal,
): Promise<void> {
  const finished = await Promise.all(steps.map((_, index) => journal.has(index)));
  const last = finished.lastIndexOf(false);
  if (last < 0) return;
  const { threads, signal } = options;
  const flag: CancelFlag = new Int32Array(new SharedArrayBuffer(4));
  const stop = (): void => void Atomics.store(flag, 0, 1);
  signal?.addEventListener('abort', stop, { once: true });
  let engineModel: EngineModel | null = null;
  try {
    const open = { threads, precision: 'exact' as const, signal };
    ({ engineModel } = await openEngineModel(selectBackend('auto'), buildModelSpec(source, family), open, source.path));
    const quantizer = await engineModel.openQuantizer(calibration.tokens, calibration.samples, calibration.window);
    const measures = isMixed(options) && (options.sensitivity ?? 'kl').startsWith('kl');
    if (measures) {
      const window = Math.min(calibration.window, measuredWindow);
      const windows = Math.min(calibration.samples, Math.ceil(options.measureTokens! / window));
      await quantizer.openSensitivity(windows, window, flag);
    }
    let before = 0;
    for (const [index, step] of steps.slice(0, last + 1).entries()) {
      signal?.throwIfAborted();
      const onDone = (done: number): void => report('quantize', before + step.share * done, index + 1);
      onDone(0);
      if (!finished[index]) await journal.write(index, await runStep(quantizer, step, options, measures, onDone, flag));
      else if (step.layer !== null) await quantizer.skip(onDone, flag);
      before += step.share;
    }
    await quantizer.close();
  } catch (error) {
    signal?.throwIfAborted();
    throw fromEngine(error, `Quantizing ${source.path}`);
  } finally {
    signal?.removeEventListener('abort', stop);
    await engineModel?.close();
  }
}

/** The candidates of one step, tensor by tensor, measured where that is wanted. */
async function runStep(
  quantizer: EngineQuantizer,
  { layer, candidates }: QuantizeStep,
  { sensitivity }: QuantizeOptions,
  measures: boolean,
  onDone: (done: number) => void,
  flag: CancelFlag,
): Promise<Candidate[]> {
  const count = candidates[0]!.length;
  const settings = candidates.flat();
  const quantized = (done: number): void => onDone(measures ? done / 2 : done);
  const matrices = await (layer === null
    ? quantizer.head(settings, count, quantized, flag)
    : quantizer.block(settings, count, quantized, flag));
  const wanted = candidates.flatMap((list, tensor) => {
    if (!measures || !isOpen(list)) return [];
    const indices = sensitivity === 'kl-all' ? list.keys() : [measuredCandidate(list)];
    return [...indices].map((index) => tensor * count + index);
  });
  const kl = new Map<number, number>();
  for (const index of wanted) {
    kl.set(index, await quantizer.measure(index, flag));
    onDone(0.5 + (0.5 * kl.size) / wanted.length);
  }
  return matrices.map((matrix, index) => ({ matrix, kl: kl.get(index) ?? null }));
}

/** Reads the chosen candidate of every matrix back from the journal. */
async function collect({ source, family, steps, options }: Job, journal: QuantizeJournal): Promise<Quantized[]> {
  let widths = typicalWidths(steps, options, denseBytes(source, family));
  if (isMixed(options)) {
    const measured = await Promise.all(steps.map((_, index) => journal.read(index, () => false)));
    const at = (s: number, t: number, c: number): Measured => {
      const { matrix, kl } = measured[s]![t * steps[s]!.candidates[t]!.length + c]!;
      return { outputError: matrix.outputError, criterion: matrix.criterion, kl };
    };
    widths = chooseWidths(steps, options, denseBytes(source, family), at);
  }
  const matrices: Quantized[] = [];
  for (const [s, { tensors, candidates }] of steps.entries()) {
    const count = candidates[0]!.length;
    const chosen = (index: number): boolean => widths[s]![Math.floor(index / count)] === index % count;
    const read = (await journal.read(s, chosen))!.filter((_, index) => chosen(index));
    tensors.forEach(({ name, role }, t) => matrices.push({ name, role, ...read[t]! }));
  }
  return matrices;
}

function denseTensors(source: ModelFolder, family: FamilySpec): StoredTensor[] {
  return family.tensors.filter(({ shape }) => shape.length === 1).map(({ name }) => source.stored.get(name)!);
}

function denseBytes(source: ModelFolder, family: FamilySpec): number {
  return denseTensors(source, family).reduce((sum, tensor) => sum + tensor.bytes, 0);
}

/** Names what the journal holds: the same key, the same bytes. */
function journalKey({ source, steps, calibration, options }: Job): string {
  const hash = createHash('sha256');
  const files = source.files.map(({ path, fileBytes, tensors }) => [basename(path), fileBytes, [...tensors.keys()]]);
  const measures = isMixed(options) ? [options.sensitivity, options.measureTokens] : [];
  const candidates = steps.map((step) => step.candidates);
  hash.update(JSON.stringify([packedFormatVersion, source.config, files, candidates, measures, calibration.window]));
  hash.update(new Uint8Array(calibration.tokens.buffer));
  return hash.digest('hex');
}

async function write(
  out: string,
  { source, family, calibration, options, report }: Job,
  matrices: Quantized[],
): Promise<Pick<QuantizeResult, 'bitsPerWeight' | 'bytes' | 'tensors'>> {
  const dense = denseTensors(source, family);
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
      packed: matrices,
      dense,
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
  return summarize(matrices, denseBytes(source, family));
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
    const { planes, weightError, outputError } = matrix;
    return { name, planes, bytes: size, bitsPerWeight: (size * 8) / weights, weightError, outputError, kl };
  });
  return { bitsPerWeight: (bytes.linearLayers * 8) / linearWeights, bytes, tensors };
}
