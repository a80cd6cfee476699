/**
 * The finished steps of a quantization on disk, one file per block, so that a job that was stopped goes on where it was.
 * A step's file appears under its name only when it is whole; the key ties the journal to one job.
 */
import { mkdir, open, readFile, readdir, rename, rm, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isJsonObject } from './checkpoint/json-file.js';
import { readSafetensors } from './checkpoint/safetensors.js';
import { writeSafetensors, type TensorToWrite } from './checkpoint/safetensors-writer.js';
import type { EnginePackedMatrix } from './engine.js';
import { ShiftAddError } from './errors.js';
import type { TuneState } from './tune.js';

/** One candidate of one matrix, and the KL divergence that it alone costs the model where that was measured. */
export interface Candidate {
  matrix: EnginePackedMatrix;
  kl: number | null;
}

type Description = Omit<EnginePackedMatrix, 'planeData' | 'scales' | 'rowScales'> & { kl: number | null };

const arrays = { planeData: 'U8', scales: 'U16', rowScales: 'F16' } as const;

export class QuantizeJournal {
  private constructor(
    readonly path: string,
    private readonly key: string,
  ) {}

  /**
   * `path` is the folder of the journal. With `resume` an existing one is taken up, and ERR_OUTPUT_EXISTS says when it
   * belongs to another job; else it is emptied. ERR_OUTPUT_EXISTS too while its job is still running, and for a folder
   * that is no journal. Call `release` when the job ends, whichever way.
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
      throw error;
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

  /** Null when nothing is there, or an empty folder. */
  private async readJob(): Promise<{ key: string; pid: number } | null> {
    const names = await readdir(this.path).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return [];
      throw this.foreign(error);
    });
    if (names.length === 0) return null;
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

  /** The candidates of a finished step, or null when it is not there. ERR_BAD_MODEL_FILE when it is damaged. */
  async read(step: number, only?: (index: number) => boolean): Promise<Candidate[] | null> {
    let file: Awaited<ReturnType<typeof readSafetensors>>;
    try {
      file = await readSafetensors(this.file(step));
    } catch (error) {
      if (error instanceof ShiftAddError && error.code === 'ERR_NOT_FOUND') return null;
      throw error;
    }
    if (file.metadata['key'] !== this.key || file.metadata['matrices'] === undefined) return null;
    const descriptions = JSON.parse(file.metadata['matrices']) as Description[];
    const handle = await open(file.path, 'r');
    try {
      const candidates: Candidate[] = [];
      for (const [index, { kl, ...description }] of descriptions.entries()) {
        const matrix: EnginePackedMatrix = { ...description, planeData: new Uint8Array(), scales: new Uint16Array() };
        if (only?.(index) ?? true) {
          for (const part of Object.keys(arrays) as (keyof typeof arrays)[]) {
            const entry = file.tensors.get(`${index}.${part}`);
            if (entry === undefined) continue;
            const bytes = new Uint8Array(entry.bytes);
            for (let done = 0; done < entry.bytes;) {
              const { bytesRead } = await handle.read(bytes, done, entry.bytes - done, entry.offset + done);
              if (bytesRead === 0) throw new ShiftAddError('ERR_BAD_MODEL_FILE', `${file.path} is cut. Quantize again.`);
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

  /** Whether the step is finished. */
  async has(step: number): Promise<boolean> {
    return (await this.read(step, () => false)) !== null;
  }

  async write(step: number, candidates: readonly Candidate[]): Promise<void> {
    const tensors = candidates.flatMap(({ matrix }, index) =>
      (Object.keys(arrays) as (keyof typeof arrays)[]).flatMap((part): TensorToWrite[] => {
        const array = matrix[part];
        if (array === undefined) return [];
        const data = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
        return [{ name: `${index}.${part}`, dtype: arrays[part], shape: [array.length], bytes: data.length, data: () => [data] }];
      }),
    );
    const matrices = candidates.map(({ matrix, kl }): Description => {
      const { planeData: _planes, scales: _scales, rowScales: _rows, ...rest } = matrix;
      return { ...rest, kl };
    });
    const path = this.file(step);
    await rm(`${path}.partial`, { force: true }); // of a job that was killed while it wrote
    await writeSafetensors(path, tensors, { key: this.key, matrices: JSON.stringify(matrices) });
  }

  private get tuneFile(): string {
    return join(this.path, 'tune.safetensors');
  }

  /** Where tuning was under this key, or null. */
  async readTuneState(key: string): Promise<TuneState | null> {
    let file: Awaited<ReturnType<typeof readSafetensors>>;
    try {
      file = await readSafetensors(this.tuneFile);
    } catch (error) {
      if (error instanceof ShiftAddError && error.code === 'ERR_NOT_FOUND') return null;
      throw error;
    }
    const { done, losses, key: found } = JSON.parse(file.metadata['tune'] ?? '{}') as Partial<TuneState> & { key?: string };
    const entry = file.tensors.get('state');
    if (found !== `${this.key} ${key}` || entry === undefined || done === undefined || losses === undefined) return null;
    const bytes = await readFile(this.tuneFile);
    return { done, losses, engine: new Float32Array(bytes.buffer.slice(bytes.byteOffset + entry.offset, bytes.byteOffset + entry.offset + entry.bytes)) };
  }

  async writeTuneState(key: string, { done, losses, engine }: TuneState): Promise<void> {
    const data = new Uint8Array(engine.buffer, engine.byteOffset, engine.byteLength);
    await rm(`${this.tuneFile}.partial`, { force: true });
    await writeSafetensors(this.tuneFile, [{ name: 'state', dtype: 'F32', shape: [engine.length], bytes: data.length, data: () => [data] }], {
      tune: JSON.stringify({ key: `${this.key} ${key}`, done, losses }),
    });
  }

  /** Removes the journal's files, and its folder when that is empty then. */
  async remove(): Promise<void> {
    if ((await this.readJob()) === null) return;
    for (const name of await readdir(this.path))
      if (ownFile.test(name)) await rm(join(this.path, name), { force: true });
    await rmdir(this.path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOTEMPTY') throw error;
    });
  }
}

const ownFile = /^(job\.json(\.new)?|(step-\d+|tune)\.safetensors(\.partial)?)$/;

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
