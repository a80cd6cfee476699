// The reader of torch files: what torch.save writes, and hostile or damaged archives and pickles.
import { writeFile } from 'node:fs/promises';
import t from 'tap';
import { parsePickle, PickledTensor, PickledTuple } from '../../sdk/src/checkpoint/pickle.js';
import { openTorchFile, readTensor, tensorOf } from '../../sdk/src/checkpoint/torch-file.js';
import { openZip, readEntry } from '../../sdk/src/checkpoint/zip-archive.js';
import { join, temporaryFolder } from './fixtures.js';
import { bytesOf, crc32, dict, global, integer, latFile, pack, pickle, tensor, text, torchFile, tuple, zip, type EntryToZip, type ZipOptions } from './torch-writer.js';

const bad = (message: RegExp) => ({ code: 'ERR_BAD_MODEL_FILE', message });

/** Each call writes a file of its own. */
async function files(t: any): Promise<(bytes: Uint8Array) => Promise<string>> {
  const folder = await temporaryFolder(t);
  let count = 0;
  return async (bytes) => {
    const path = join(folder, `${count++}.pt`);
    await writeFile(path, bytes);
    return path;
  };
}

t.test('what torch.save writes', async (t) => {
  const file = await files(t);
  const numbers = Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8);
  const integers = Int32Array.of(-1, 0x7fffffff);
  const halves = Uint16Array.of(0x3c00);
  const data = dict({
    all: tensor({ type: 'Float', key: '0', shape: [2, 4] }),
    part: tensor({ type: 'Float', key: '0', shape: [1, 3], stride: [99, 1], offset: 2, elements: 8 }),
    empty: tensor({ type: 'Float', key: '0', shape: [0, 3], elements: 8 }),
    scalar: tensor({ type: 'Float', key: '0', shape: [], offset: 7, elements: 8 }),
    integers: tensor({ type: 'Int', key: '1', shape: [2] }),
    half: tensor({ type: 'Half', key: '2', shape: [1] }),
    bfloat: tensor({ type: 'BFloat16', key: '2', shape: [1] }),
  });
  for (const options of [{}, { wide: true }, { short: true }, { comment: 'made by a test' }, { root: 'a.b' }] satisfies (ZipOptions & { root?: string })[]) {
    const torch = await openTorchFile(await file(torchFile(pickle(data), [bytesOf(numbers), bytesOf(integers), bytesOf(halves)], options)));
    const floats = async (name: string) => {
      const bytes = await readTensor(torch, tensorOf(torch, name, 'F32'));
      return [...new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4)];
    };
    t.same(await floats('all'), [1, 2, 3, 4, 5, 6, 7, 8], JSON.stringify(options));
    t.same(await floats('part'), [3, 4, 5]);
    t.same(await floats('empty'), []);
    t.same(await floats('scalar'), [8]);
    t.same(await readTensor(torch, tensorOf(torch, 'integers', 'I32')), bytesOf(integers));
    t.same(await readTensor(torch, tensorOf(torch, 'half', 'F16')), bytesOf(halves));
    t.same(await readTensor(torch, tensorOf(torch, 'bfloat', 'BF16')), bytesOf(halves));
    t.throws(() => tensorOf(torch, 'half', 'F32'), bad(/tensor half of type F16 where F32/));
    t.throws(() => tensorOf(torch, 'gone', 'F32'), bad(/no tensor gone/));
  }
  // A storage larger than the parts in which it is read.
  const large = new Float32Array(3_000_000).map((_, i) => i);
  const torch = await openTorchFile(
    await file(torchFile(pickle(dict({ late: tensor({ type: 'Float', key: '0', shape: [1_500_000], offset: 1_000_000, elements: 3_000_000 }) })), [bytesOf(large)])),
  );
  const late = await readTensor(torch, tensorOf(torch, 'late', 'F32'));
  t.ok(Buffer.from(late).equals(Buffer.from(bytesOf(large.subarray(1_000_000, 2_500_000)))));
});

t.test('values of a pickle', async (t) => {
  const parse = (...body: Uint8Array[]) => parsePickle('x.pt', pickle(...body));
  t.same(parse(pack(']q', [1, 0], '(K\x07M', [2, 300], 'J', [4, 2 ** 32 - 5], '\x8a\x03', [3, 2 ** 23], '\x8a\x00NG?\xf8\x00\x00\x00\x00\x00\x00e')), [7, 300, -5, -(2 ** 23), 0, null, 1.5]);
  t.same(parse(pack(text('ü'), '\x85')), new PickledTuple(['ü']));
  t.same((parse(pack('K\x01K\x02\x86K\x03\x88\x87')) as any).items[2], true);
  t.same(parse(pack('}', text('a'), 'q\x05K\x01s')), new Map([['a', 1]]));
  t.same(parse(pack(text('a'), 'r', [4, 70_000], 'j', [4, 70_000], '\x86')), new PickledTuple(['a', 'a']));
  // The attributes of a state dict, as torch writes them.
  const attributes = pack('}', text('_metadata'), global('collections.OrderedDict'), ')Rs');
  t.same(parse(pack(global('collections.OrderedDict'), ')R', '(', text('w'), 'K\x01u', attributes, 'b')), new Map([['w', 1]]));
});

t.test('hostile pickles', async (t) => {
  const attempt = (...body: Uint8Array[]) => () => parsePickle('x.pt', pickle(...body));
  const one = { type: 'Float', key: '0', shape: [2, 2] };
  const storage = (...items: Uint8Array[]) => pack(tuple(...items), 'Q');
  const float = global('torch.FloatStorage');
  for (const [run, message] of [
    [attempt(pack(global('os.system'), tuple(text('echo oops')), 'R')), /x\.pt.*refers to 'os\.system', which is not among/],
    [attempt(global('builtins.eval')), /'builtins\.eval'/],
    [attempt(global('torch.storage._load_from_bytes')), /_load_from_bytes/],
    [attempt(global('torch._utils._rebuild_tensor')), /_rebuild_tensor'/],
    [attempt(global('torch.ComplexFloatStorage')), /'torch\.ComplexFloatStorage'/],
    [attempt(global('collections.__proto__')), /__proto__/],
    [attempt(pack('ccollections', 'x'.repeat(300))), /name of a global .* does not end/],
    [attempt(pack(text('os.system'), tuple(), 'R')), /calls something that is no known function/],
    [attempt(pack(float, tuple(), 'R')), /calls torch\.FloatStorage/],
    [attempt(pack(global('collections.OrderedDict'), tuple(text('a')), 'R')), /calls collections\.OrderedDict/],
    [attempt(pack(global('collections.OrderedDict'), 'K\x01R')), /calls collections\.OrderedDict/],
    [attempt(pack(text('os'), text('system'), '\x93')), /opcode 0x93/],
    [attempt(pack('(', text('a'), 'ios\nsystem\n')), /opcode 0x69/],
    [attempt(pack(text('a'), text('b'), '\x81')), /opcode 0x81/],
    [attempt(pack('P1\n')), /opcode 0x50/],
    [attempt(pack('K\x01}b')), /sets the state of something that is no dict/],
    [attempt(pack('K')), /leaves|cut/],
    [attempt(pack('X', [4, 2 ** 32 - 1], 'abc')), /is cut/],
    [attempt(pack('X', [4, 2], '\xff\xff')), /not UTF-8/],
    [attempt(pack('\x8a\xff')), /integer of 255 bytes/],
    [attempt(pack('\x8a\x08', [8, 2 ** 62])), /integer .* too large/],
    [attempt(pack('\x80\x04')), /protocol 2/],
    [attempt(pack('h\x05')), /recalls value 5/],
    [attempt(pack('j', [4, 2 ** 32 - 1])), /recalls value 4294967295/],
    [attempt(pack('q\x01')), /takes a value that is not there/],
    [attempt(pack('s')), /takes a value/],
    [attempt(pack('u')), /ends a list that it did not begin/],
    [attempt(pack('K\x01K\x02a')), /appends to something that is no list/],
    [attempt(pack('](K\x01u')), /fills something that is no dict/],
    [attempt(pack('}(K\x01u')), /fills something that is no dict/],
    [attempt(pack('})K\x01s')), /dict key that is no text/],
    [attempt(pack('}(', text('a'), 'K\x01', text('a'), 'K\x02u')), /dict key 'a' twice/],
    [attempt(pack('K\x01K\x02')), /leaves more than one value/],
    [attempt(), /leaves more than one value/],
    [attempt(pack('(K\x01')), /leaves more than one value/],
    [attempt(pack('('.repeat(2000))), /nests deeper than 1000/],
    [attempt(pack('N'.repeat(1_100_000))), /more than 1000000 values/],
    // A list in itself a million times over costs nothing, and doubling lists are references.
    [attempt(pack(']q\x00', '(' + 'h\x00'.repeat(999_999) + 'e(', 'h\x00'.repeat(1_000_000))), /more than 1000000 values/],
    [attempt(pack('N', Buffer.concat(Array.from({ length: 1_000_001 }, (_, i) => pack('r', [4, i]))))), /more than 1000000 values/],
    [attempt(storage(text('module'), float, text('0'), text('cpu'), integer(1))), /storage that is not described/],
    [attempt(storage(text('storage'), text('torch.FloatStorage'), text('0'), text('cpu'), integer(1))), /storage that is not described/],
    [attempt(storage(text('storage'), global('collections.OrderedDict'), text('0'), text('cpu'), integer(1))), /storage that is not described/],
    [attempt(storage(text('storage'), float, text('../../etc'), text('cpu'), integer(1))), /storage that is not described/],
    [attempt(storage(text('storage'), float, text('0'), text('cpu'), pack('J', [4, 2 ** 32 - 1]))), /storage that is not described/],
    [attempt(storage(text('storage'), float, text('0'), text('cpu'))), /storage that is not described/],
    [attempt(pack('NQ')), /storage that is not described/],
    [attempt(tensor({ ...one, stride: [1, 2] })), /tensor \[2, 2\] that is not contiguous/],
    [attempt(tensor({ ...one, stride: [0, 1] })), /not contiguous/],
    [attempt(tensor({ ...one, stride: [1] })), /tensor that is not described/],
    [attempt(tensor({ ...one, offset: 1 })), /tensor \[2, 2\] at element 1 of a storage of 4/],
    [attempt(tensor({ ...one, shape: [2, 3], elements: 4 })), /of a storage of 4 elements/],
    [attempt(tensor({ ...one, shape: [2 ** 31 - 1, 2 ** 31 - 1, 9], elements: 4 })), /too large/],
    [attempt(tensor({ ...one, shape: Array.from({ length: 9 }, () => 1), elements: 4 })), /no tuple of whole numbers/],
    [attempt(pack(global('torch._utils._rebuild_tensor_v2'), tuple(text('a'), integer(0), tuple(), tuple(), pack('\x89'), pack('N')), 'R')), /tensor that is not described/],
  ] as const) {
    t.throws(run, bad(message), String(message));
  }
  t.throws(() => parsePickle('x.pt', pack('\x80\x02N.N')), bad(/1 bytes behind its end/));
  t.throws(() => parsePickle('x.pt', pack()), bad(/is cut at byte 0/));

  // Every part of a good pickle, cut short or with a byte changed: a value or a typed error, nothing else.
  const good = pickle(dict({ a: tensor(one), b: pack('](K\x01e') }));
  t.ok((parsePickle('x.pt', good) as Map<unknown, unknown>).get('a') instanceof PickledTensor);
  const survives = (bytes: Uint8Array): boolean => {
    try {
      parsePickle('x.pt', bytes);
      return true;
    } catch (error) {
      return (error as { code?: string }).code === 'ERR_BAD_MODEL_FILE';
    }
  };
  let sound = true;
  for (let i = 0; i < good.length; i++) {
    sound &&= survives(good.subarray(0, i));
    for (const mask of [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff]) {
      const changed = Buffer.from(good);
      changed[i]! ^= mask;
      sound &&= survives(changed);
    }
  }
  t.ok(sound, 'no cut or changed byte leads to another error');
});

t.test('hostile archives', async (t) => {
  const file = await files(t);
  const data = Buffer.from('some data');
  const first: EntryToZip = { name: 'a/data.pkl', data };
  const second: EntryToZip = { name: 'a/data/0', data };
  const open = async (entries: EntryToZip[], options?: ZipOptions) => openZip(await file(zip(entries, options)));
  t.same([...(await open([first, second])).entries.keys()], ['a/data.pkl', 'a/data/0']);
  for (const [opening, message] of [
    [() => open([first, first]), /'a\/data\.pkl', which is there twice/],
    [() => open([{ ...first, flags: 1 }]), /which is encrypted/],
    [() => open([{ ...first, method: 8 }]), /which is compressed/],
    [() => open([{ ...first, size: 10, storedSize: 9 }]), /two sizes that differ/],
    [() => open([first, { ...second, localOffset: 0 }]), /overlaps the one before/],
    [() => open([{ ...first, size: 120 }, second]), /overlaps the one before/],
    [() => open([{ ...first, size: 2 ** 31 }]), /wants the bytes .* but the directory begins/],
    [() => open([{ ...first, size: 2 ** 52 }], { wide: true }), /wants the bytes/],
    [() => open([{ ...first, localOffset: 2 ** 52 }], { wide: true }), /lies outside the file/],
    [() => open([{ ...first, localOffset: 5 }]), /no header where the directory says/],
    [() => open([{ ...first, nameInHeader: 'b/data.pkl' }]), /no header where the directory says/],
    [() => open([first], { count: 2 }), /entry 2 of 2 is not there/],
    [() => open([first, second], { count: 1 }), /bytes behind its zip directory/],
    [() => open([first], { count: 2 ** 40, wide: true }), /claims 1099511627776 zip entries/],
    [() => open([first], { count: 50_000 }), /entry 2 of 50000 is not there/],
    [() => open([first], { directoryBytes: 2 ** 40, wide: true }), /directory of 1099511627776 bytes/],
    [() => open([first], { directoryBytes: 1000 }), /directory that lies outside/],
    [() => open([first], { wide: true, short: true }), /outside|limit/],
    [async () => openZip(await file(pack('PK'))), /not a zip archive/],
    [async () => openZip(await file(pack())), /not a zip archive/],
    [async () => openZip(await temporaryFolder(t)), /is not a file/],
  ] as const) {
    await t.rejects(opening(), bad(message), String(message));
  }
  await t.rejects(openZip('gone.pt'), { code: 'ERR_NOT_FOUND' });

  const archive = await open([{ ...first, crc: crc32(data) ^ 1 }]);
  await t.rejects(readEntry(archive, archive.entries.get('a/data.pkl')!), bad(/'a\/data\.pkl' has a wrong CRC/));
  const torch = async (entries: EntryToZip[]) => openTorchFile(await file(zip(entries)));
  const none = pickle(pack('N'));
  await t.rejects(torch([second]), bad(/has 0 entries data\.pkl/));
  await t.rejects(torch([{ name: 'a/data.pkl', data: none }, { name: 'b/data.pkl', data: none }]), bad(/has 2 entries data\.pkl/));
  await t.rejects(torch([{ name: 'a/data.pkl', data: none }, { name: 'a/byteorder', data: Buffer.from('big') }]), bad(/little-endian/));
  await t.rejects(torch([{ name: 'a/data.pkl', data: new Uint8Array(17_000_000) }]), bad(/data\.pkl of 17000000 bytes/));
  const two = pickle(dict({ w: tensor({ type: 'Float', key: '0', shape: [2] }) }));
  const short = await torch([{ name: 'data.pkl', data: two }, { name: 'data/0', data: new Uint8Array(4) }]);
  await t.rejects(readTensor(short, tensorOf(short, 'w', 'F32')), bad(/has 4 bytes for storage 0, which should hold 2 elements of 4/));
  const without = await torch([{ name: 'data.pkl', data: two }]);
  await t.rejects(readTensor(without, tensorOf(without, 'w', 'F32')), bad(/no data for storage 0/));
  t.throws(() => tensorOf({ ...without, value: null }, 'w', 'F32'), bad(/does not hold a dict/));

  // A good file cut anywhere, or with a byte changed in its directory, is refused or read; nothing else happens.
  const good = latFile({ module: '', rows: 32, columns: 8, planes: 1, groupRows: 32, bits: new Uint8Array(256), alpha: Float32Array.of(1) });
  const read = async (bytes: Uint8Array): Promise<string | undefined> => {
    try {
      const opened = await openTorchFile(await file(bytes));
      await readTensor(opened, tensorOf(opened, 'bWeight', 'I32'));
      return 'read';
    } catch (error) {
      return (error as { code?: string }).code;
    }
  };
  t.equal(await read(good), 'read');
  const outcomes = new Set<string | undefined>();
  for (let length = 0; length < good.length; length += 7) outcomes.add(await read(good.subarray(0, length)));
  t.same([...outcomes], ['ERR_BAD_MODEL_FILE'], 'every cut file is refused');
  for (let i = good.indexOf('PK\x01\x02'); i < good.length; i++)
    for (const mask of [0x01, 0x80, 0xff]) {
      const changed = Buffer.from(good);
      changed[i]! ^= mask;
      outcomes.add(await read(changed));
    }
  t.same([...outcomes].sort(), ['ERR_BAD_MODEL_FILE', 'read']);
});
