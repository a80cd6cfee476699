/** `shiftadd pull`: downloads a model from the Hugging Face Hub. */
import { pullModel, type PullResult } from '../index.js';
import { defineCommand, given, outputOptions } from './command.js';
import { bytes } from './quantities.js';

export const pull = defineCommand({
  name: 'pull',
  arguments: ['<repository>'],
  summary: 'download a model from the Hugging Face Hub into the cache that other tools share',
  details: [
    'Config, tokenizer and weights, or one GGUF file. A download that broke off goes on where it stopped; every file is checked. Other commands take the same name.',
    'Variables: HF_TOKEN (private repositories), HF_HOME or HF_HUB_CACHE (the cache), HF_ENDPOINT (a mirror), HF_HUB_OFFLINE=1 (the cache alone).',
  ],
  options: {
    revision: { rule: { kind: 'text' }, value: 'NAME', help: 'branch, tag or commit', otherwise: 'main, or what follows @' },
    file: { rule: { kind: 'text' }, value: 'NAME', help: 'one file, such as one GGUF file of many' },
    ...outputOptions,
  },
  examples: [
    { command: 'shiftadd pull HuggingFaceTB/SmolLM2-135M-Instruct', does: 'a checkpoint, to chat with or to quantize' },
    { command: 'shiftadd pull bartowski/SmolLM2-135M-Instruct-GGUF --file SmolLM2-135M-Instruct-Q8_0.gguf', does: 'one GGUF file of many' },
  ],
  async run({ arguments: [repository], values, terminal, signal }) {
    const progress = terminal.progress('Downloading');
    let result: PullResult;
    try {
      result = await pullModel(repository!, {
        ...given({ revision: values.revision, file: values.file }),
        signal,
        onProgress: ({ file, doneBytes, totalBytes }) =>
          progress.update(totalBytes === 0 ? 0 : doneBytes / totalBytes, `${file}, ${bytes(doneBytes)} of ${bytes(totalBytes)}`),
      });
    } finally {
      progress.end();
    }
    if (terminal.json) return terminal.document(result);
    terminal.line(result.path);
  },
});
