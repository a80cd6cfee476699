/**
 * Stands in for the SDK's browser build in the tests of the page: no worker, no weights, words instead of a model. What
 * is sent chooses what happens: `long` a long answer, `overflow` a failure, `crash` the end of the model. So does a word
 * in an address: `damaged` fails, `stalled` stays in the middle of the download.
 */
import { ShiftAddError } from '../../sdk/src/errors.js';
import { Run, noEnergy, type FinishReason, type GenerationResult } from '../../sdk/src/run.js';
import type * as contract from '../sdk-contract.js';

export { ShiftAddError };

const storeKey = 'fake-sdk-models';
const size = 66_000_000;
const backend: contract.BrowserModel['backend'] = {
  name: 'wasm',
  isa: 'wasm_simd128',
  threads: 1,
  precision: 'fast',
  kvCache: 'f16',
  attempts: [
    { name: 'wasm threads', ok: false, reason: 'this is the fake, which has none' },
    { name: 'wasm', ok: true, reason: null },
  ],
};

function readStore(): { url: string; bytes: number }[] {
  return JSON.parse(localStorage.getItem(storeKey) ?? '[]') as { url: string; bytes: number }[];
}

function writeStore(models: { url: string; bytes: number }[]): void {
  localStorage.setItem(storeKey, JSON.stringify(models));
}

export const listCachedModels: typeof contract.listCachedModels = async () => readStore();

export const removeCachedModel: typeof contract.removeCachedModel = async (url) => {
  const models = readStore();
  writeStore(models.filter((model) => model.url !== url));
  return models.some((model) => model.url === url);
};

export const loadModel: typeof contract.loadModel = async (source, { signal, onProgress } = {}) => {
  const isAddress = typeof source === 'string' || source instanceof URL;
  const url = isAddress ? String(source) : null;
  for (const phase of ['open', 'download', 'verify', 'load'] as const) {
    for (let step = 0; step <= 10; step++) {
      await pause(signal);
      onProgress?.({ phase, done: (step * size) / 10, total: phase === 'open' ? 0 : size });
      while (url?.includes('stalled') && phase === 'download' && step === 5) await pause(signal);
    }
    if (url?.includes('damaged') && phase === 'verify') {
      throw new ShiftAddError('ERR_CHECKSUM', 'model.safetensors is damaged: its checksum differs. Download it again.');
    }
  }
  if (url !== null) writeStore([...readStore().filter((model) => model.url !== url), { url, bytes: size }]);
  const name = url?.split('/').findLast((part) => part !== '') ?? (source as File[])[0]!.webkitRelativePath.split('/')[0]!;
  return fakeModel(name);
};

function fakeModel(name: string): contract.BrowserModel {
  let end: (error: Error | null) => void = () => undefined;
  const closed = new Promise<Error | null>((resolve) => (end = resolve));
  return {
    info: {
      name,
      architecture: 'llama',
      parameters: 134_515_008,
      layers: 30,
      contextLimit: 8192,
      vocabularySize: 49152,
      packed: true,
      bitsPerWeight: 3.564,
      bytes: { total: 62_000_000 },
    },
    backend,
    contextSize: 4096,
    closed,
    createChat: (options) => fakeChat(options?.system, end),
    generate: (prompt) => answer(prompt, [], () => undefined),
    memory: async () => ({ wasmBytes: 128_000_000, weightsBytes: 62_000_000 }),
    close: async () => end(null),
  };
}

function fakeChat(system: string | undefined, end: (error: Error) => void): contract.BrowserChat {
  const history: { role: string; content: string }[] = system === undefined ? [] : [{ role: 'system', content: system }];
  return {
    history,
    send: (text) => answer(text, history, end),
    reset: async () => void history.splice(system === undefined ? 0 : 1),
    close: async () => undefined,
  };
}

function answer(text: string, history: { role: string; content: string }[], end: (error: Error) => void): Run {
  let stopped = false;
  const work = async (emit: (text: string) => void): Promise<GenerationResult> => {
    const began = performance.now();
    await pause();
    if (text.includes('overflow')) throw new ShiftAddError('ERR_CONTEXT_OVERFLOW', 'The conversation has no room left.');
    if (text.includes('crash')) {
      const error = new ShiftAddError('ERR_ENGINE', 'The worker ended: out of memory.');
      end(error);
      throw error;
    }
    const pieces = wordsOf(text, history);
    let written = '';
    let firstTokenMs: number | null = null;
    for (const piece of pieces) {
      if (stopped) break;
      await pause();
      firstTokenMs ??= performance.now() - began;
      written += piece;
      emit(piece);
    }
    if (!stopped) history.push({ role: 'user', content: text }, { role: 'assistant', content: written });
    return resultOf(written, pieces.length, stopped ? 'aborted' : 'stop', firstTokenMs);
  };
  return new Run(
    ({ emit }) => work((piece) => emit({ type: 'text', text: piece, tokens: [1] })),
    () => (stopped = true),
  );
}

function wordsOf(text: string, history: { role: string; content: string }[]): string[] {
  if (text.includes('long')) return Array.from({ length: 600 }, (_, n) => `word${n}${n % 40 === 39 ? '\n\n' : ' '}`);
  const reply = [
    `You wrote: ${text}`,
    `This is turn ${history.filter(({ role }) => role === 'user').length + 1}, and **the system message** is \`${history.find(({ role }) => role === 'system')?.content ?? 'none'}\`.`,
    'Markup stays text: <img src="x" onerror="document.title=\'broken\'">.',
    '```js\nconst sum = (x << 3) + (x >> 1);\n```',
  ].join('\n\n');
  return reply.split(/(?<= )/);
}

function resultOf(text: string, tokens: number, finishReason: FinishReason, firstTokenMs: number | null): GenerationResult {
  return {
    text,
    tokens: Array<number>(tokens).fill(1),
    finishReason,
    usage: { promptTokens: 24, cachedPromptTokens: 0, completionTokens: tokens },
    timings: { loadMs: 1, promptMs: 200, firstTokenMs, decodeMs: tokens * 25, promptTokensPerSecond: 120, tokensPerSecond: 40 },
    memory: { weightsBytes: 62_000_000, mappedBytes: 0, gpuBytes: null, wasmMemoryBytes: 128_000_000, kvCacheBytes: 1e6, scratchBytes: 1e6, prefixCacheBytes: 0, peakRssBytes: 0, growth: null },
    energy: noEnergy,
    backend: backend as GenerationResult['backend'],
  };
}

/** About the time of a token. */
async function pause(signal?: AbortSignal): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 15));
  signal?.throwIfAborted();
}
