/** `shiftadd import`: turns a published Lat. checkpoint into a packed model, bit for bit. */
import { importModel, type ImportResult } from '../index.js';
import { UsageError, defineCommand, outputOptions } from './command.js';
import { bytes, duration, table } from './quantities.js';

export const importCommand = defineCommand({
  name: 'import',
  arguments: ['<lat>', '<out>'],
  summary: 'turn a published Lat. checkpoint (bit-planes in .pt files) into a packed model folder',
  details: [
    'Signs and scales are taken over exactly. Embedding, norms, output head and tokenizer come from the base: the dense checkpoint that the Lat. checkpoint was made from. Acc. checkpoints are dense; use quantize for them.',
  ],
  options: {
    base: { rule: { kind: 'text' }, value: 'CHECKPOINT', help: 'the dense checkpoint it was made from, a Hugging Face folder (required)' },
    overwrite: { rule: { kind: 'flag', initial: false }, help: 'replace an existing model folder' },
    ...outputOptions,
  },
  examples: [
    { command: 'shiftadd import ./Llama-2-7b-wbits3-lat ./packed --base ./Llama-2-7b-hf', does: 'the published 3-bit model' },
  ],
  async run({ arguments: [lat, out], values, terminal, signal }) {
    if (values.base === undefined) throw new UsageError('import needs --base CHECKPOINT', 'import');
    const progress = terminal.progress('Importing');
    let result: ImportResult;
    try {
      result = await importModel(lat!, out!, {
        base: values.base,
        overwrite: values.overwrite,
        signal,
        onProgress: ({ phase, done }) => progress.update(done, phase === 'check' ? 'reading the scales' : 'writing'),
      });
    } finally {
      progress.end();
    }
    if (terminal.json) return terminal.document(result);
    const floats = result.tensors.filter(({ scaleType }) => scaleType === 'F32').length;
    terminal.line(
      table(
        ['part', 'value'],
        [
          ['model', result.path],
          ['bits per weight', `${result.bitsPerWeight.toFixed(3)} over the linear layers`],
          ['linear layers', bytes(result.bytes.linearLayers)],
          ['all tensors', bytes(result.bytes.total)],
          ['float scales', `${floats} of ${result.tensors.length} matrices, whose scales no 16-bit codes express exactly`],
          ['time', duration(result.seconds * 1000)],
        ],
      ),
    );
  },
});
