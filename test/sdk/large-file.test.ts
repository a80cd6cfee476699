// Tensors beyond 2^31 and 2^32 bytes, and the ways to name a folder. The file is sparse: it takes no room on disk.
import { cp, mkdir, open, readFile, symlink } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import t from 'tap';
import { readSafetensors } from '../../sdk/src/checkpoint/safetensors.js';
import { loadModel } from '../../sdk/src/index.js';
import { stories, temporaryFolder } from './fixtures.js';

const prompt = 'Once upon a time, there was a little girl named Lily.';

t.test('weights beyond 4 GB in one file', async (t) => {
  const folder = join(await temporaryFolder(t), 'model "ü" #1');
  await mkdir(folder);
  for (const name of ['config.json', 'tokenizer.json', 'tokenizer_config.json']) await cp(join(stories, name), join(folder, name));
  const source = join(stories, 'model.safetensors');
  const bytes = await readFile(source);
  const { tensors } = await readSafetensors(source);

  // Two fillers that every loader ignores push the weights beyond 2^31 and 2^32.
  const header: Record<string, unknown> = {};
  const writes: { at: number; data: Uint8Array }[] = [];
  let offset = 0;
  const filler = (layer: number, size: number) => {
    header[`model.layers.${layer}.self_attn.rotary_emb.inv_freq`] = { dtype: 'F32', shape: [size / 4], data_offsets: [offset, offset + size] };
    offset += size;
  };
  let index = 0;
  for (const tensor of tensors.values()) {
    if (index === 10) filler(0, 2 ** 31);
    if (index++ === 20) filler(1, 2 ** 31);
    header[tensor.name] = { dtype: tensor.dtype, shape: tensor.shape, data_offsets: [offset, offset + tensor.bytes] };
    writes.push({ at: offset, data: bytes.subarray(tensor.offset, tensor.offset + tensor.bytes) });
    offset += tensor.bytes;
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const file = await open(join(folder, 'model.safetensors'), 'w');
  await file.write(length, 0, 8, 0);
  await file.write(text, 0, text.length, 8);
  for (const { at, data } of writes) await file.write(data, 0, data.length, 8 + text.length + at);
  await file.truncate(8 + text.length + offset);
  await file.close();

  const answer = async (name: string | URL) => {
    const model = await loadModel(String(name), { threads: 1 });
    const result = await model.generate(prompt, { maxTokens: 48 }).text();
    await model.close();
    return result;
  };
  const expected = await answer(stories);
  t.match(expected, /She loved to play outside/);
  t.equal(await answer(folder), expected, 'by absolute path');
  t.equal(await answer(relative(process.cwd(), folder)), expected, 'by relative path');
  t.equal(await answer(pathToFileURL(folder)), expected, 'by file URL');
  const link = join(await temporaryFolder(t), 'link');
  await symlink(folder, link);
  t.equal(await answer(link), expected, 'through a symbolic link');
  t.ok(process.memoryUsage().rss < 500e6, 'the file is mapped, not read');
});
