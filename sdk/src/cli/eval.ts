/** `shiftadd eval`: the perplexity of a model on a text. */
import { readFile } from 'node:fs/promises';
import { fromFileSystem } from '../errors.js';
import { evaluatePerplexity } from '../index.js';
import { evaluateRules } from '../options.js';
import { UsageError, defineCommand, engineOptions, given, outputOptions } from './command.js';
import { loadWithProgress } from './load-model.js';
import { bytes, count, counted, duration, fixed, table } from './quantities.js';

export const evaluate = defineCommand({
  name: 'eval',
  arguments: ['[model]'],
  summary: 'measure the perplexity of a model on a text: how well it predicts it (lower is better)',
  details: ['The text is cut into windows that do not overlap; each is predicted from its own beginning. The mean goes over all predicted tokens.'],
  options: {
    text: { rule: { kind: 'text' }, value: 'FILE', help: 'the text, in UTF-8 (required)' },
    window: { rule: evaluateRules.window as { kind: 'integer'; least: number; most: number; initial?: number }, value: 'N', help: 'tokens per window' },
    'max-tokens': { rule: evaluateRules.maxTokens as { kind: 'integer'; least: number; most: number }, value: 'N', help: 'use only the first N tokens of the text', otherwise: 'the whole text' },
    ...engineOptions,
    ...outputOptions,
  },
  examples: [
    { command: 'shiftadd eval --text book.txt', does: 'the embedded chat model on a text' },
    { command: 'shiftadd eval ./my-model --text book.txt --window 512 --max-tokens 20000 --json', does: 'the start of a text, for a program' },
  ],
  async run(call) {
    const { arguments: [name], values, terminal, signal } = call;
    if (values.text === undefined) throw new UsageError('eval needs --text FILE', 'eval');
    const file = values.text;
    const text = await readFile(file, 'utf8').catch((error: unknown) => {
      throw fromFileSystem(error, file, 'Pass the path of a text file to --text.');
    });
    const model = await loadWithProgress(name, values, call);
    const progress = terminal.progress('Evaluating');
    try {
      const result = await evaluatePerplexity(model, text, {
        ...given({ window: values.window, maxTokens: values['max-tokens'] }),
        signal,
        onProgress: ({ phase, done, total, perplexity }) => {
          const detail = perplexity === null ? phase : `window ${done} of ${total} · perplexity ${perplexity.toFixed(3)}`;
          progress.update(phase === 'evaluate' ? done / total : 0, detail);
        },
      });
      progress.end();
      if (terminal.json) return terminal.document({ model: { name: model.info.name, path: model.path }, text: file, ...result });
      terminal.line(
        table(
          ['measure', 'value'],
          [
            ['perplexity', result.perplexity.toFixed(4)],
            ['mean negative log-likelihood', `${result.negativeLogLikelihood.toFixed(5)} nats`],
            ['text', `${counted(result.tokens, 'token')}, ${counted(result.windows, 'window')} of ${count(result.window)}`],
            ['predicted', counted(result.predictedTokens, 'token')],
            ['time', `${duration(result.timings.evaluateMs)}, ${fixed(result.timings.tokensPerSecond, 1)} tokens per second`],
            ['backend', `${result.backend.name} (${result.backend.isa}, ${counted(result.backend.threads, 'thread')}, ${result.backend.precision})`],
            ['peak memory', bytes(result.memory.peakRssBytes)],
          ],
        ),
      );
    } finally {
      progress.end();
      await model.close();
    }
  },
});
