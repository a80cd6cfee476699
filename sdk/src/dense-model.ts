/** The dense model of a checkpoint in the engine, for calibration, quantization and tuning. */
import type { ModelFolder } from './checkpoint/model-folder.js';
import { makeCancelFlag, type CancelFlag, type EngineModel } from './engine.js';
import { fromEngine } from './errors.js';
import type { FamilySpec } from './families/index.js';
import { openEngineModel } from './model.js';
import { buildModelSpec } from './model-spec.js';
import { selectBackend } from './select-backend.js';

export interface DenseModelOptions {
  threads?: number | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * Opens the dense model for `use`, whose flag the signal sets, and closes it. Rejects with what `use` rejects with, an
 * engine's error as a ShiftAddError that says what was going on (`doing`), or the signal's reason.
 */
export async function withDenseModel<T>(
  source: ModelFolder,
  family: FamilySpec,
  { threads, signal }: DenseModelOptions,
  doing: string,
  use: (engineModel: EngineModel, cancel: CancelFlag) => Promise<T>,
): Promise<T> {
  signal?.throwIfAborted();
  const cancel = makeCancelFlag();
  const stop = (): void => void Atomics.store(cancel, 0, 1);
  signal?.addEventListener('abort', stop, { once: true });
  let engineModel: EngineModel | null = null;
  try {
    const open = { threads, precision: 'exact' as const, signal };
    ({ engineModel } = await openEngineModel(selectBackend('cpu'), buildModelSpec(source, family), open, source.path));
    return await use(engineModel, cancel);
  } catch (error) {
    signal?.throwIfAborted();
    throw fromEngine(error, `${doing} ${source.path}`);
  } finally {
    signal?.removeEventListener('abort', stop);
    await engineModel?.close();
  }
}
