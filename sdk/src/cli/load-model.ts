/** Loads the model of a command as its options say. */
import { loadModel, type KvType, type LoadOptions, type Model } from '../index.js';
import type { Call, CommandOptions, Values } from './command.js';
import { type engineOptions, given } from './command.js';

type EngineValues = Values<typeof engineOptions>;

/** The load options that the options of a command ask for. */
export function loadOptions(values: EngineValues): Pick<LoadOptions, 'backend' | 'device' | 'threads' | 'precision' | 'kvCache'> {
  return {
    backend: values.backend as LoadOptions['backend'] & string,
    device: values.device,
    precision: values.precision as 'exact' | 'fast',
    ...given({ threads: values.threads, kvCache: values['kv-cache'] as KvType | undefined }),
  };
}

/** Loading, shown when it takes long. The caller closes the model. */
export async function loadWithProgress(
  model: string | undefined,
  values: EngineValues,
  { terminal, signal }: Pick<Call<CommandOptions>, 'terminal' | 'signal'>,
  more: Pick<LoadOptions, 'contextSize' | 'measure' | 'prefixCache'> = {},
): Promise<Model> {
  const progress = terminal.progress('Loading');
  try {
    const loaded = await loadModel(model, {
      ...loadOptions(values),
      ...given(more),
      signal,
      onProgress: ({ phase, done, total }) => progress.update(phase === 'load' ? 1 : done / Math.max(1, total), phase),
    });
    const native = loaded.backend.attempts.find(({ name, ok }) => name === 'cpu' && !ok);
    if (native !== undefined) terminal.note(`WebAssembly takes the place of the native engine and is several times slower. ${native.reason}`);
    return loaded;
  } finally {
    progress.end();
  }
}
