// Writes a Llama-shaped model with random weights: a packed model folder, with --gguf a GGUF file for the peer, or with --dense
// a checkpoint to quantize. Only for speed: what it says is noise.
//
//     node benchmarks/scale-model.mjs <folder> --bits 2 [--head-bits 4] [--row-group 512]
//     node benchmarks/scale-model.mjs <file> --gguf TQ2_0
//     node benchmarks/scale-model.mjs <folder> --dense
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { runScript, setUp } from '../scripts/setup.mjs';
import { StepError } from '../scripts/run-step.mjs';
import { readInteger, usageErrors } from './options.mjs';
import { blockTypes } from './scale-model/gguf-blocks.mjs';
import { writeGgufModel } from './scale-model/gguf-model.mjs';
import { checkShape, oneBillion } from './scale-model/shape.mjs';

await runScript(async () => {
  const { out, gguf, dense, shape, settings } = usageErrors(readCommandLine);
  if (existsSync(out)) throw new StepError(`${out} is there already. Remove it or name another place.`);
  await mkdir(dirname(out), { recursive: true });
  if (gguf !== undefined) {
    await writeGgufModel(out, shape, gguf);
    return;
  }
  await setUp();
  // It uses the writers of the SDK, which the set-up has just compiled.
  const { writeDenseModel } = await import('./scale-model/dense-model.mjs');
  const { writePackedModel } = await import('./scale-model/packed-model.mjs');
  if (dense) await writeDenseModel(out, shape);
  else await writePackedModel(out, shape, settings);
});

function readCommandLine() {
  const text = { type: 'string' };
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: {
      'bits': text, 'head-bits': text, 'row-group': text, 'gguf': text, 'dense': { type: 'boolean', default: false }, 'layers': text, 'hidden': text, 'feed-forward': text,
      'heads': text, 'key-value-heads': text, 'vocabulary': text,
    },
  });
  if (positionals.length !== 1) throw new TypeError(`Expected one place to write to but received ${positionals.length}`);
  const { gguf, dense } = values;
  if (gguf !== undefined && !Object.hasOwn(blockTypes, gguf)) {
    throw new TypeError(`Expected one of ${Object.keys(blockTypes).join(', ')} for --gguf but received ${gguf}`);
  }
  if ([gguf !== undefined, values.bits !== undefined, dense].filter(Boolean).length !== 1) throw new TypeError('Expected one of --bits, --gguf and --dense');
  const integer = (name, initial, least, most) => readInteger(`--${name}`, values[name], initial, least, most);
  const size = (name, initial) => integer(name, initial, 1, 2 ** 24);
  const shape = {
    ...oneBillion,
    layers: size('layers', oneBillion.layers), hidden: size('hidden', oneBillion.hidden),
    feedForward: size('feed-forward', oneBillion.feedForward), heads: size('heads', oneBillion.heads),
    keyValueHeads: size('key-value-heads', oneBillion.keyValueHeads), vocabulary: size('vocabulary', oneBillion.vocabulary),
  };
  checkShape(shape);
  const settings = {
    bits: integer('bits', 2, 1, 8), headBits: integer('head-bits', 4, 1, 8), rowGroup: integer('row-group', 512, 32, 2 ** 24),
  };
  if (settings.rowGroup % 32 !== 0) throw new RangeError(`Expected a multiple of 32 for --row-group but received ${settings.rowGroup}`);
  return { out: resolve(positionals[0]), gguf, dense, shape, settings };
}
