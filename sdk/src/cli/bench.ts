/** `shiftadd bench`: speed of a model on this machine, and what limits it. */
import { type Rule, benchmarkRules } from '../options.js';
import type { BackendName } from '../select-backend.js';
import { defineCommand, engineOptions, given, outputOptions } from './command.js';
import { loadWithProgress } from './load-model.js';
import { bytes, count, counted, duration, fixed, table } from './quantities.js';

type IntegerRule = Rule & { kind: 'integer' };

/** What makes computation faster on a backend. */
const computation: Record<BackendName, string> = {
  cpu: 'computation: more threads or a wider instruction set are faster',
  cuda: 'computation and the launches of a step, which weigh less the larger the model is',
  wasm: 'computation: more threads are faster, and the backend cpu is',
};

export const bench = defineCommand({
  name: 'bench',
  arguments: ['[model]'],
  summary: 'measure how fast a model runs on this machine, and what limits it',
  details: [
    'A decode step reads all weights once. The speed is shown beside the one that reading alone would allow, measured in the same run. Other programs that use processor or memory lower both.',
  ],
  options: {
    prompt: { rule: benchmarkRules.promptTokens as IntegerRule, value: 'N', help: 'length of the prompt, in tokens', otherwise: 'two cases, 16 and 512', sdkName: 'promptTokens' },
    steps: { rule: benchmarkRules.steps as IntegerRule, value: 'N', help: 'tokens generated after each prompt' },
    rounds: { rule: benchmarkRules.rounds as IntegerRule, value: 'N', help: 'repetitions; the median counts' },
    ...engineOptions,
    ...outputOptions,
  },
  examples: [
    { command: 'shiftadd bench', does: 'the embedded chat model' },
    { command: 'shiftadd bench ./my-model --threads 1 --prompt 128 --json', does: 'one thread and one prompt length, for a program' },
  ],
  async run(call) {
    const { arguments: [name], values, terminal, signal } = call;
    const model = await loadWithProgress(name, values, call);
    const progress = terminal.progress('Measuring');
    try {
      const result = await model.benchmark({
        ...given({ promptTokens: values.prompt, steps: values.steps, rounds: values.rounds }),
        signal,
        onProgress: ({ done, total, phase }) => progress.update(done / total, phase),
      });
      progress.end();
      if (terminal.json) return terminal.document({ model: { name: model.info.name, path: model.path }, ...result });
      terminal.line(
        table(
          ['prompt', 'prefill tokens/s', 'decode tokens/s', 'GB/s', 'share of reading'],
          result.cases.map((entry) => [
            counted(entry.promptTokens, 'token'),
            fixed(entry.prefillTokensPerSecond, 1),
            fixed(entry.decodeTokensPerSecond, 1),
            fixed(entry.decodeBytesPerSecond / 1e9, 2),
            `${fixed(entry.shareOfReading * 100, 0)} %`,
          ]),
        ),
      );
      terminal.line();
      terminal.line(
        table(
          ['measure', 'value'],
          [
            ['weights read per token', bytes(result.bytesPerToken)],
            ['reading them', `${fixed(result.readBytesPerSecond / 1e9, 2)} GB/s, which would allow ${fixed(result.limitTokensPerSecond, 1)} tokens/s`],
            ['limited by', result.limitedBy === 'memory' ? 'memory bandwidth: fewer bits per weight are faster' : computation[result.backend.name]],
            ['time to load', duration(result.loadMs)],
            ['peak memory', bytes(result.memory.peakRssBytes!)],
            ['backend', `${result.backend.name} (${result.backend.isa}, ${counted(result.backend.threads, 'thread')}, ${result.backend.precision}, ${result.backend.kvCache} cache)`],
            ['repetitions', `${count(result.rounds)} of ${counted(result.steps, 'step')}`],
          ],
        ),
      );
    } finally {
      progress.end();
      await model.close();
    }
  },
});
