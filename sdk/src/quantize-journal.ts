/**
 * The finished steps of a quantization on disk, one file per block, so that a job that was stopped goes on where it was.
 * A step's file appears under its name only when it is whole; the key ties the journal to one job.
 */
import { crc32 } from 'node:zlib';
import { lstat, mkdir, open, readFile, readdir, rename, rm, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isJsonObject } from './checkpoint/json-file.js';
import { readSafetensorsIfWhole, type SafetensorsFile } from './checkpoint/safetensors.js';
import { writeSafetensors, type TensorToWrite } from './checkpoint/safetensors-writer.js';
import type { EnginePackedMatrix } from './engine.js';
import { ShiftAddError, fromWriting } from './errors.js';
import type { TuneState } from './tune.js';

/** One candidate of one matrix, and the KL divergence that it alone costs the model where that was measured. */
export interface Candidate {
  matrix: EnginePackedMatrix;
  kl: number | null;
}

type Description = Omit<EnginePackedMatrix, 'planeData' | 'scales' | 'rowScales'> & { kl: number | null };

const arrays = { planeData: 'U8', scales: 'U16', rowScales: 'F16' } as const;
const parts = Object.keys(arrays) as (keyof typeof arrays)[];

export class QuantizeJournal {
  private constructor(
    readonly path: string,
    private readonly key: string,
  ) {}

  /**
   * `path` is the folder of the journal. With `resume` an existing one is taken up, and ERR_OUTPUT_EXISTS says when it
   * belongs to another job; else it is emptied. ERR_OUTPUT_EXISTS too while its job is still running, and for a folder
   * that is no journal, and ERR_WRITE when it cannot be made. Call `release` when the job ends, whichever way.
   */
  static async open(path: string, key: string, resume: boolean): Promise<QuantizeJournal> {
    const journal = new QuantizeJournal(path, key);
    if (inUse.has(path)) throw inUseBy('This process', path);
    inUse.add(path);
    try {
      const job = await journal.readJob();
      if (job !== null && job.pid !== process.pid && isRunning(job.pid)) throw inUseBy(`Process ${job.pid}`, path);
      if (!resume) await journal.remove();
      else if (job !== null && job.key !== key)
        throw new ShiftAddError(
          'ERR_OUTPUT_EXISTS',
          `${path} belongs to a job with another checkpoint, calibration or settings. Repeat that job's options, or leave out resume to start anew.`,
        );
      await mkdir(path, { recursive: true });
      await journal.writeJob(process.pid);
      return journal;
    } catch (error) {
      inUse.delete(path);
      throw fromWriting(error, path);
    }
  }

  /** Another job may take it up now. */
  async release(): Promise<void> {
    inUse.delete(this.path);
    if ((await this.readJob().catch(() => null)) !== null) await this.writeJob(0).catch(() => undefined);
  }

  private async writeJob(pid: number): Promise<void> {
    await writeFile(join(this.path, 'job.json.new'), JSON.stringify({ key: this.key, pid }));
    await rename(join(this.path, 'job.json.new'), join(this.path, 'job.json'));
  }

  /** Null when nothing is there, an empty folder, or one whose job was killed before it had a name. */
  private async readJob(): Promise<{ key: string; pid: number } | null> {
    const names = await readdir(this.path).catch(async (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return [];
      // A file in its place, or one in the place of a folder above.
      throw (await lstat(this.path).catch(() => null)) === null ? error : this.foreign(error);
    });
    if (names.every((name) => name === 'job.json.new')) return null;
    try {
      const job: unknown = JSON.parse(await readFile(join(this.path, 'job.json'), 'utf8'));
      if (isJsonObject(job) && typeof job['key'] === 'string' && typeof job['pid'] === 'number')
        return { key: job['key'], pid: job['pid'] };
    } catch (error) {
      throw this.foreign(error);
    }
    throw this.foreign();
  }

  private foreign(cause?: unknown): ShiftAddError {
    return new ShiftAddError(
      'ERR_OUTPUT_EXISTS',
      `${this.path} is where a quantization keeps its finished layers, but something else is there. Remove it, or choose another output folder.`,
      cause,
    );
  }

  private file(step: number): string {
    return join(this.path, `step-${String(step).padStart(5, '0')}.safetensors`);
  }

  /** The candidates of a finished step, without the arrays of those that `only` leaves out; null when it is not there. */
  async read(step: number, only: (index: number) => boolean = () => true): Promise<Candidate[] | null> {
    const file = await readSafetensorsIfWhole(this.file(step));
    if (file === null || file.metadata['key'] !== this.key) return null;
    const descriptions = descriptionsOf(file);
    if (descriptions === null) return null;
    const handle = await open(file.path, 'r');
    try {
      const candidates: Candidate[] = [];
      for (const [index, { kl, ...description }] of descriptions.entries()) {
        const matrix: EnginePackedMatrix = { ...description, planeData: new Uint8Array(), scales: new Uint16Array() };
        if (only(index)) {
          for (const part of parts) {
            const entry = file.tensors.get(`${index}.${part}`);
            if (entry === undefined) continue;
            const bytes = new Uint8Array(entry.bytes);
            for (let done = 0; done < entry.bytes;) {
              const { bytesRead } = await handle.read(bytes, done, entry.bytes - done, entry.offset + done);
              if (bytesRead === 0) throw new ShiftAddError('ERR_BAD_MODEL_FILE', `${file.path} was cut while it was read.`);
              done += bytesRead;
            }
            if (part === 'planeData') matrix.planeData = bytes;
            else matrix[part] = new Uint16Array(bytes.buffer);
          }
        }
        candidates.push({ matrix, kl });
      }
      return candidates;
    } finally {
      await handle.close();
    }
  }

  /** Whether the step is finished and undamaged. A step that is not is done again. */
  async has(step: number): Promise<boolean> {
    const candidates = await this.read(step);
    if (candidates === null) return false;
    const file = await readSafetensorsIfWhole(this.file(step));
    return file !== null && file.metadata['crc32'] === checksum(file.metadata['matrices']!, candidates);
  }

  /** ERR_WRITE when the disk is full, for instance. */
  async write(step: number, candidates: readonly Candidate[]): Promise<void> {
    const tensors = candidates.flatMap(({ matrix }, index) =>
      parts.flatMap((part): TensorToWrite[] => {
        const data = bytesOf(matrix[part]);
        if (data === null) return [];
        return [{ name: `${index}.${part}`, dtype: arrays[part], shape: [matrix[part]!.length], bytes: data.length, data: () => [data] }];
      }),
    );
    const matrices = candidates.map(({ matrix, kl }): Description => {
      const { planeData: _planes, scales: _scales, rowScales: _rows, ...rest } = matrix;
      return { ...rest, kl };
    });
    const text = JSON.stringify(matrices);
    const metadata = { key: this.key, matrices: text, crc32: checksum(text, candidates) };
    await this.replaceFile(this.file(step), tensors, metadata);
  }

  private async replaceFile(path: string, tensors: TensorToWrite[], metadata: Record<string, string>): Promise<void> {
    try {
      await writeSafetensors(path, tensors, metadata, 'replace');
    } catch (error) {
      throw fromWriting(error, path);
    }
  }

  /** Where a rotated copy of the checkpoint may lie, and what it must be made from. */
  get rotatedFile(): { path: string; key: string } {
    return { path: join(this.path, 'rotated.safetensors'), key: this.key };
  }

  private get tuneFile(): string {
    return join(this.path, 'tune.safetensors');
  }

  /** Where tuning was under this key, or null. */
  async readTuneState(key: string): Promise<TuneState | null> {
    const file = await readSafetensorsIfWhole(this.tuneFile);
    const entry = file?.tensors.get('state');
    if (file === null || entry === undefined) return null;
    const { key: found, done, losses, crc32: sum } = parseObject(file.metadata['tune']);
    if (found !== `${this.key} ${key}` || !Number.isInteger(done) || !Array.isArray(losses)) return null;
    const bytes = (await readFile(this.tuneFile)).subarray(entry.offset, entry.offset + entry.bytes);
    if (crc32(bytes) !== sum) return null;
    return { done: done as number, losses: losses as number[], engine: new Float32Array(Uint8Array.from(bytes).buffer) };
  }

  /** ERR_WRITE as above. */
  async writeTuneState(key: string, { done, losses, engine }: TuneState): Promise<void> {
    const data = bytesOf(engine)!;
    await this.replaceFile(
      this.tuneFile,
      [{ name: 'state', dtype: 'F32', shape: [engine.length], bytes: data.length, data: () => [data] }],
      { tune: JSON.stringify({ key: `${this.key} ${key}`, done, losses, crc32: crc32(data) }) },
    );
  }

  /** Removes the journal's files, and its folder when that is empty then. */
  async remove(): Promise<void> {
    await this.readJob(); // refuses a folder that is none of ours
    const names = await readdir(this.path).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return null;
      throw error;
    });
    if (names === null) return;
    for (const name of names)
      if (ownFile.test(name)) await rm(join(this.path, name), { force: true });
    await rmdir(this.path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOTEMPTY') throw error;
    });
  }
}

/** Null when the header does not describe matrices with all their arrays. */
function descriptionsOf({ metadata, tensors }: SafetensorsFile): Description[] | null {
  try {
    const all: unknown = JSON.parse(metadata['matrices'] ?? '');
    const whole = Array.isArray(all) && all.every((one, index) => isJsonObject(one) && tensors.has(`${index}.planeData`) && tensors.has(`${index}.scales`));
    return whole ? (all as Description[]) : null;
  } catch {
    return null;
  }
}

function parseObject(text: string | undefined): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text ?? '');
    return isJsonObject(value) ? value : {};
  } catch {
    return {};
  }
}

function bytesOf(array: Uint8Array | Uint16Array | Float32Array | undefined): Uint8Array | null {
  return array === undefined ? null : new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

/** Over the descriptions and all arrays. */
function checksum(descriptions: string, candidates: readonly Candidate[]): string {
  let sum = crc32(descriptions);
  for (const { matrix } of candidates) for (const part of parts) sum = crc32(bytesOf(matrix[part]) ?? '', sum);
  return sum.toString(16);
}

const ownFile = /^(job\.json(\.new)?|(step-\d+|tune|rotated)\.safetensors(\.partial)?)$/;

/** Journals of this process. */
const inUse = new Set<string>();

function inUseBy(who: string, path: string): ShiftAddError {
  return new ShiftAddError(
    'ERR_OUTPUT_EXISTS',
    `${who} is quantizing into this folder (${path}). Wait for it, or choose another output folder. If no such job is running, remove ${join(path, 'job.json')} and its folder.`,
  );
}

function isRunning(pid: number): boolean {
  if (pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
