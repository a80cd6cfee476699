// Field reports L1 and L3: everything a header says is checked against the file.
import { readFile, truncate, writeFile } from 'node:fs/promises';
import t from 'tap';
import { readSafetensors } from '../../sdk/src/checkpoint/safetensors.js';
import { writeSafetensors } from '../../sdk/src/checkpoint/safetensors-writer.js';
import { copyOf, join, llama, safetensorsBytes, temporaryFolder } from './fixtures.js';

const bad = (message: RegExp) => ({ code: 'ERR_BAD_MODEL_FILE', message });
const f32 = (shape: number[], begin: number, end: number) => ({ dtype: 'F32', shape, data_offsets: [begin, end] });

t.test('files of the wrong length', async (t) => {
  const path = join(await copyOf(t, llama), 'model.safetensors');
  const bytes = await readFile(path);
  const cases: [number, RegExp][] = [
    [bytes.length - 64, /tensor model\.norm\.weight.*|wants the bytes up to \d+, the file has \d+/],
    [100, /cut inside its header: wanted 2144 bytes, found 100/],
    [7, /wanted at least 8 bytes, found 7/],
    [0, /wanted at least 8 bytes, found 0/],
  ];
  for (const [length, message] of cases) {
    await writeFile(path, bytes);
    await truncate(path, length);
    await t.rejects(readSafetensors(path), bad(message), `${length} bytes`);
  }
  await writeFile(path, Buffer.concat([bytes, Buffer.alloc(64)]));
  await t.rejects(readSafetensors(path), bad(/64 bytes behind its last tensor: wanted 252640 bytes, found 252704/));
  await t.rejects(readSafetensors(`${path}.gone`), { code: 'ERR_NOT_FOUND', message: /model\.safetensors\.gone/ });
});

t.test('truncation anywhere is a typed error', async (t) => {
  const path = join(await copyOf(t, llama), 'model.safetensors');
  const bytes = await readFile(path);
  const offsets = [...(await readSafetensors(path)).tensors.values()].map((tensor) => tensor.offset);
  for (let i = 0; i < 200; i++) offsets.push(Math.floor((bytes.length * i) / 200));
  for (const length of offsets) {
    await writeFile(path, bytes.subarray(0, length));
    await t.rejects(readSafetensors(path), { code: 'ERR_BAD_MODEL_FILE' }, `${length} bytes`);
  }
});

t.test('headers', async (t) => {
  const path = join(await temporaryFolder(t), 'x.safetensors');
  const read = async (header: object | string, dataBytes = 0) => {
    await writeFile(path, safetensorsBytes(header, dataBytes));
    return readSafetensors(path);
  };
  const text = JSON.stringify({ a: f32([2], 0, 8) });
  t.same((await read(`${text}   `, 8)).tensors.get('a'), {
    name: 'a',
    dtype: 'F32',
    shape: [2],
    offset: 8 + text.length + 3,
    bytes: 8,
  });
  t.same((await read({ __metadata__: { a: '1' } })).metadata, { a: '1' });
  t.equal((await read('{}')).tensors.size, 0);
  t.equal((await read({ e: f32([0], 0, 0) })).tensors.get('e')?.bytes, 0, 'an empty tensor is legal');
  t.equal((await read({ s: f32([], 0, 4) }, 4)).tensors.get('s')?.bytes, 4, 'a scalar is legal');

  await t.rejects(read(`${text}\0\0\0`, 8), bad(/padded with NUL/));
  await t.rejects(
    read(`{"key00":${JSON.stringify(f32([1], 0, 4))},"key00":${JSON.stringify(f32([1], 0, 4))}}`, 4),
    bad(/duplicate key 'key00'/),
  );
  await t.rejects(
    read('{"a":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}}', 4),
    bad(/duplicate key 'shape'/),
  );
  await t.rejects(read('{"a\\"b":1,"a\\u0022b":1}'), bad(/duplicate key 'a"b'/));
  await t.rejects(read({ e: f32([1], 0, 0) }), bad(/tensor e: shape \[1\] of F32 wants 4 bytes, data_offsets give 0/));
  await t.rejects(read({ a: f32([1000, 1000], 0, 4) }, 4), bad(/wants 4000000 bytes, data_offsets give 4/));
  await t.rejects(read({ a: f32([1], 8, 4) }, 8), bad(/end \(4\) lies before begin \(8\)/));
  await t.rejects(read({ a: f32([2 ** 31, 2 ** 31, 4], 0, 0) }), bad(/is too large/));
  await t.rejects(read({ a: f32([-1], 0, 4) }, 4), bad(/shape must be a list of whole numbers/));
  await t.rejects(read({ a: f32([1], 0, 4.5) }, 8), bad(/two whole numbers/));
  await t.rejects(read({ a: { dtype: 'F99', shape: [1], data_offsets: [0, 4] } }, 4), bad(/dtype 'F99' is not known/));
  await t.rejects(read({ a: { dtype: 'toString', shape: [1], data_offsets: [0, 4] } }, 4), bad(/is not known/));
  await t.rejects(read({ a: f32([1], 4, 8) }, 8), bad(/hole of 4 bytes before tensor a/));
  await t.rejects(read({ a: f32([1], 0, 4), b: f32([1], 8, 12) }, 12), bad(/hole of 4 bytes before tensor b/));
  await t.rejects(
    read({ a: f32([2], 0, 8), b: f32([2], 4, 12) }, 12),
    bad(/tensor b that overlaps the one before it by 4 bytes/),
  );
  await t.rejects(read('[]'), bad(/must be a JSON object/));
  await t.rejects(read('\uFEFF{}'), bad(/byte order mark/));
  await t.rejects(read('{"a":'), bad(/not valid JSON/));
  await t.rejects(read('{"__metadata__":{"a":1}}'), bad(/__metadata__ 'a' that is not a string/));
  await t.rejects(read(''), bad(/must be a JSON object/));
  for (const [length, message] of [
    [2n ** 64n - 1n, /the limit is 100000000/],
    [2n ** 63n - 1n, /the limit is 100000000/],
    [100_000_001n, /the limit is 100000000/],
    [17n, /wanted 25 bytes, found 24/],
  ] as const) {
    const bytes = new Uint8Array(24);
    new DataView(bytes.buffer).setBigUint64(0, length, true);
    await writeFile(path, bytes);
    await t.rejects(readSafetensors(path), bad(message), String(length));
  }
});

t.test('the writer', async (t) => {
  const folder = await temporaryFolder(t);
  const path = join(folder, 'x.safetensors');
  const planes = new Uint8Array(128).fill(7);
  await writeSafetensors(
    path,
    [
      {
        name: 'a.planes',
        dtype: 'U8',
        shape: [128],
        bytes: 128,
        data: () => [planes.subarray(0, 100), planes.subarray(100)],
      },
      { name: 'b', dtype: 'F16', shape: [3], bytes: 6, data: () => [new Uint8Array(6)] },
    ],
    { format: 'pt' },
  );
  const file = await readSafetensors(path);
  t.equal(file.tensors.get('a.planes')!.offset % 64, 0);
  t.equal(file.metadata['format'], 'pt');
  t.equal((await readFile(path))[file.tensors.get('a.planes')!.offset + 127], 7);
  const short = { name: 'c', dtype: 'U8', shape: [4], bytes: 4, data: () => [new Uint8Array(3)] };
  await t.rejects(writeSafetensors(join(folder, 'y'), [short]), /tensor c has 3 bytes, not 4/);
  await t.rejects(readFile(join(folder, 'y')), { code: 'ENOENT' });
  await t.rejects(readFile(join(folder, 'y.partial')), { code: 'ENOENT' });
});
