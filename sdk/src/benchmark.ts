/** Speed of a loaded model on this machine, beside the limit that reading its weights sets. */
import { makeCancelFlag, type CancelFlag, type EngineSampling, type EngineSession } from './engine.js';
import { fromEngine } from './errors.js';
import { closedError, type ModelCore } from './model-core.js';
import type { BackendInfo } from './model.js';
import { benchmarkRules, readOptions } from './options.js';
import type { MemoryUse } from './run.js';

/** What `model.benchmark` measures, and how often. */
export interface BenchmarkOptions {
  /** Length of the prompt, in tokens. Default two cases, 16 and 512, as far as the model's context reaches. */
  promptTokens?: number;
  /** Decode steps after each prompt. Default 64. */
  steps?: number;
  /** Repetitions; the median counts. Default 3. */
  rounds?: number;
  /** Aborting rejects with the signal's reason. */
  signal?: AbortSignal;
  /** Called as the work goes on. */
  onProgress?: (progress: BenchmarkProgress) => void;
}

/** How far a benchmark is. */
export interface BenchmarkProgress {
  phase: 'read' | 'prompt';
  /** Measurements. */
  done: number;
  total: number;
}

/** The speed at one length of prompt. */
export interface BenchmarkCase {
  promptTokens: number;
  prefillTokensPerSecond: number;
  decodeTokensPerSecond: number;
  /** Weight bytes of all decode steps over their time. */
  decodeBytesPerSecond: number;
  /** Of the rate at which the same weights can be read. */
  shareOfReading: number;
}

/** Speeds in tokens per second, beside the limit that reading the weights sets. */
export interface BenchmarkResult {
  cases: BenchmarkCase[];
  steps: number;
  rounds: number;
  /** At which the weight files can be read with the same threads. */
  readBytesPerSecond: number;
  /** Read once by each decode step. */
  bytesPerToken: number;
  /** Tokens per second if decoding did nothing but read the weights. */
  limitTokensPerSecond: number;
  /** What a faster decode step needs: 'memory' when reading takes most of its time, else 'computation'. */
  limitedBy: 'memory' | 'computation';
  loadMs: number;
  memory: MemoryUse;
  backend: BackendInfo;
}

const greedy: EngineSampling = { temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, repetitionWindow: 0 };

export async function benchmark(
  core: ModelCore,
  bytesPerToken: number,
  options?: BenchmarkOptions,
): Promise<BenchmarkResult> {
  const {
    promptTokens,
    steps = 64,
    rounds = 3,
    signal,
    onProgress,
  } = readOptions<BenchmarkOptions>(benchmarkRules, options, 'benchmark');
  const prompts =
    promptTokens !== undefined ? [promptTokens] : [16, 512].filter((length) => length + steps <= core.contextLimit);
  const longest = Math.max(...prompts) + steps;
  if (longest > core.contextLimit)
    throw new RangeError(
      `Expected promptTokens and steps that fit ${core.contextLimit} positions (the model's limit) but received ${longest}`,
    );
  signal?.throwIfAborted();
  const flag = makeCancelFlag();
  const stop = (): void => void Atomics.store(flag, 0, 1);
  signal?.addEventListener('abort', stop, { once: true });
  core.running.add(stop);
  const session = await core.openSession(longest);
  try {
    const total = rounds * (prompts.length + 1);
    let done = 0;
    const reads: number[] = [];
    const samples = prompts.map(() => ({ prefill: [] as number[], decode: [] as number[] }));
    await run(core, session, Math.min(8, prompts[0]!), 1, flag); // the first use of a model reads it from the disk
    for (let round = 0; round < rounds; round++) {
      onProgress?.({ phase: 'read', done, total });
      reads.push(await core.engineModel.measureRead());
      done++;
      for (const [index, length] of prompts.entries()) {
        signal?.throwIfAborted();
        core.checkOpen();
        onProgress?.({ phase: 'prompt', done, total });
        const { prefillMs, decodeMs } = await run(core, session, length, steps, flag);
        samples[index]!.prefill.push(prefillMs);
        samples[index]!.decode.push(decodeMs);
        done++;
      }
    }
    onProgress?.({ phase: 'prompt', done: total, total });
    const readBytesPerSecond = median(reads);
    const limitTokensPerSecond = readBytesPerSecond / bytesPerToken;
    const cases = prompts.map((promptTokens, index): BenchmarkCase => {
      const decodeTokensPerSecond = (steps * 1000) / median(samples[index]!.decode);
      return {
        promptTokens,
        prefillTokensPerSecond: (promptTokens * 1000) / median(samples[index]!.prefill),
        decodeTokensPerSecond,
        decodeBytesPerSecond: decodeTokensPerSecond * bytesPerToken,
        shareOfReading: decodeTokensPerSecond / limitTokensPerSecond,
      };
    });
    return {
      cases,
      steps,
      rounds,
      readBytesPerSecond,
      bytesPerToken,
      limitTokensPerSecond,
      limitedBy: cases[0]!.shareOfReading > 0.5 ? 'memory' : 'computation',
      loadMs: core.loadMs,
      memory: core.memory(session),
      backend: core.backend,
    };
  } catch (error) {
    signal?.throwIfAborted();
    if (core.closed) throw closedError('model');
    throw fromEngine(error, 'Measuring');
  } finally {
    signal?.removeEventListener('abort', stop);
    core.running.delete(stop);
    await session.close();
  }
}

/** One prompt of arbitrary tokens and greedy steps after it; end tokens do not end it. */
async function run(
  core: ModelCore,
  session: EngineSession,
  length: number,
  steps: number,
  flag: CancelFlag,
): Promise<{ prefillMs: number; decodeMs: number }> {
  session.rewind(0);
  const prompt = Int32Array.from({ length }, (_, index) => (index * 7919 + 17) % core.vocabularySize);
  const start = performance.now();
  await session.prefill(prompt, flag);
  let token = await session.sample(greedy);
  const prefilled = performance.now();
  for (let step = 0; step < steps; step++) token = await session.decode(token, greedy, flag);
  return { prefillMs: prefilled - start, decodeMs: performance.now() - prefilled };
}

function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1]!;
}
