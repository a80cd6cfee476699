// pytorch_model.bin, single and in shards, and field report L5.
import { readFile, rm, writeFile } from 'node:fs/promises';
import t from 'tap';
import { openModelFolder } from '../../sdk/src/checkpoint/model-folder.js';
import { readSafetensors } from '../../sdk/src/checkpoint/safetensors.js';
import { readTorchCheckpoint } from '../../sdk/src/checkpoint/torch-checkpoint.js';
import { withDenseModel } from '../../sdk/src/dense-model.js';
import { describeFamily } from '../../sdk/src/families/index.js';
import { copyOf, families, join, temporaryFolder } from './fixtures.js';
import { dict, global, pack, pickle, tensor, text, torchFile, tuple } from './torch-writer.js';

const storageOf: Record<string, string> = { F16: 'Half', F32: 'Float', BF16: 'BFloat16' };

async function logitsOf(path: string): Promise<number[]> {
  const folder = await openModelFolder(path);
  return withDenseModel(folder, describeFamily(folder.config, folder.configPath), {}, 'Testing', async (model) => [
    ...(await (await model.openSession(8)).prefillLogits(Int32Array.of(3, 14, 15, 92, 65))),
  ]);
}

/** The tensors of a safetensors file as torch.save writes them. */
async function torchBytes(path: string, keep: (name: string, index: number) => boolean = () => true): Promise<{ bytes: Buffer; names: string[] }> {
  const file = await readFile(path);
  const entries = [...(await readSafetensors(path)).tensors.values()].filter(({ name }, i) => keep(name, i));
  const data = dict(Object.fromEntries(entries.map(({ name, dtype, shape }, i) => [name, tensor({ type: storageOf[dtype]!, key: String(i), shape })])));
  const storages = entries.map(({ offset, bytes }) => file.subarray(offset, offset + bytes));
  return { bytes: torchFile(pickle(data), storages), names: entries.map(({ name }) => name) };
}

t.test('one file and shards', async (t) => {
  for (const fixture of ['opt', 'bloom', 'llama']) {
    const folder = await copyOf(t, join(families, fixture));
    const whole = join(folder, 'model.safetensors');
    const straight = await logitsOf(folder);
    const single = await torchBytes(whole);
    const [even, odd] = [await torchBytes(whole, (_, i) => i % 2 === 0), await torchBytes(whole, (_, i) => i % 2 === 1)];
    await rm(whole);
    await writeFile(join(folder, 'pytorch_model.bin'), single.bytes);
    t.same(await logitsOf(folder), straight, fixture);
    await rm(join(folder, 'pytorch_model.bin'));
    const map: Record<string, string> = {};
    for (const [i, part] of [even, odd].entries()) {
      const name = `pytorch_model-0000${i + 1}-of-00002.bin`;
      await writeFile(join(folder, name), part.bytes);
      for (const tensorName of part.names) map[tensorName] = name;
    }
    await writeFile(join(folder, 'pytorch_model.bin.index.json'), JSON.stringify({ weight_map: map }));
    t.same(await logitsOf(folder), straight, `${fixture} in shards`);
    await rm(join(folder, 'pytorch_model-00002-of-00002.bin'));
    await t.rejects(openModelFolder(folder), { code: 'ERR_NOT_FOUND', message: /pytorch_model-00002-of-00002\.bin/ });
  }
});

t.test('L5: what is no such file', async (t) => {
  const path = join(await temporaryFolder(t), 'pytorch_model.bin');
  const refused = async (bytes: Uint8Array, message: RegExp, code = 'ERR_BAD_MODEL_FILE') => {
    await writeFile(path, bytes);
    await t.rejects(readTorchCheckpoint(path), { code, message }, String(message));
  };
  const data = new Uint8Array(64);
  const w = (odd: object = {}) => tensor({ type: 'Float', key: '0', shape: [4, 4], ...odd });
  await refused(pickle(dict({ w: w() })), /old torch format.*save it again/, 'ERR_UNSUPPORTED_MODEL');
  await refused(new Uint8Array(0), /./);
  const good = torchFile(pickle(dict({ w: w(), v: w({ shape: [2], offset: 3, elements: 16 }) })), [data]);
  await writeFile(path, good);
  const { tensors } = await readTorchCheckpoint(path);
  t.equal(tensors.get('v')!.offset - tensors.get('w')!.offset, 12, 'two tensors in one storage');
  await refused(good.subarray(0, good.length / 2), /./);
  await refused(torchFile(pack('\x80\x04', dict({ w: w() }), '.'), [data]), /protocol 2/);
  await refused(torchFile(pickle(dict({ w: w({ key: '7' }) })), [data]), /no data for tensor w \(storage 7\)/);
  await refused(torchFile(pickle(dict({ w: w({ elements: 99 }) })), [data]), /64 bytes for tensor w/);
  await refused(torchFile(pickle(dict({ w: w({ stride: [1, 4] }) })), [data]), /./);
  await refused(torchFile(pickle(dict({ model: dict({ w: w() }) })), [data]), /something else than a tensor under model/);
  await refused(torchFile(pickle(text('x')), [data]), /does not hold a dict/);
  await refused(torchFile(pickle(pack(global('posix.system'), tuple(text('touch /tmp/shiftadd-was-here')), 'R')), []), /posix\.system/);
  await t.rejects(readTorchCheckpoint(`${path}x`), { code: 'ERR_NOT_FOUND' });
  await t.rejects(readTorchCheckpoint(join(path, '..')), { code: /ERR_(NOT_FOUND|BAD_MODEL_FILE)/ });
});
