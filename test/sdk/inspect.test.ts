// What inspect tells: errors that the quantizer recorded, blocks, the audit against sums by hand and a counted product, the page.
import { readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import t from 'tap';
import { countDense, countInputTables, countKernel, countKernelInput, countRotation, countRow, countShiftAdd, scaleBlockQuads, type PackedProduct } from '../../sdk/src/audit-counts.js';
import { estimateEnergy } from '../../sdk/src/audit-energy.js';
import { reportEntry } from '../../sdk/src/checkpoint/packed-report.js';
import { termsOfScale } from '../../sdk/src/checkpoint/scale-terms.js';
import { roundUp } from '../../sdk/src/cli/inspect-charts.js';
import { inspectPage } from '../../sdk/src/cli/inspect-page.js';
import { auditModel, inspectModel, quantizeModel, type InspectResult } from '../../sdk/src/index.js';
import { shiftadd } from './cli-process.js';
import { copyOf, editJson, join, stories, temporaryFolder } from './fixtures.js';

const story = 'Once upon a time, there was a little girl named Lily. She loved to play outside in the park. '.repeat(40);

async function quantized(t: any, options: object = {}): Promise<string> {
  const folder = await temporaryFolder(t);
  await writeFile(join(folder, 'text.txt'), story);
  const quick = { samples: 4, window: 64, fitRounds: 2, refits: 1, sweeps: 1, calibration: join(folder, 'text.txt') };
  await quantizeModel(stories, join(folder, 'packed'), { ...quick, ...options });
  return join(folder, 'packed');
}

/** A scale as signed powers of two. */
type Scale = { sign: 1 | -1; exponent: number }[];

/** Runs the shift-add product in integers, counting every operation on the way. */
function countedProduct(x: number[], signs: number[][][], scales: Scale[][][], groupRows: number, groupColumns: number, rowScales: number[] | null) {
  const counts = { multiplications: 0, additions: 0, shifts: 0, lookups: 0 };
  const input = { multiplications: 0, additions: 0, shifts: 0, lookups: 0 };
  const [rows, planes, chunks] = [signs[0]!.length, signs.length, Math.ceil(x.length / 4)];
  const padded = [...x, 0, 0, 0].slice(0, chunks * 4);
  const add = (of: typeof counts, a: number, b: number) => (of.additions++, a + b);
  const table = (of: typeof counts, [a, b, c, d]: number[]): number[] => {
    const first = [add(of, a!, b!), add(of, a!, -b!)];
    const second = [add(of, c!, d!), add(of, c!, -d!)];
    // Bit i of an entry's index is the sign of value i, as in the file.
    return Array.from({ length: 16 }, (_, i) => {
      const left = [-first[0]!, first[1]!, -first[1]!, first[0]!][i & 3]!;
      const right = [-second[0]!, second[1]!, -second[1]!, second[0]!][i >> 2]!;
      return add(of, left, right);
    });
  };
  const apply = (value: number, scale: Scale): number =>
    scale.reduce((sum, { sign, exponent }, n) => {
      counts.shifts++;
      const term = sign * value * 2 ** exponent;
      return n === 0 ? term : add(counts, sum, term);
    }, 0);
  const sums = groupColumns === 1 ? null : Array.from({ length: chunks }, (_, c) => table(input, padded.slice(4 * c, 4 * c + 4)));
  const y = new Array<number>(rows).fill(0);
  for (let group = 0; group * groupRows < rows; group++) {
    const tables = Array.from({ length: planes }, (_, plane) =>
      Array.from({ length: chunks }, (_, chunk) => {
        if (sums !== null) return sums[chunk]!.map((entry) => apply(entry, scales[group]![Math.floor((4 * chunk) / groupColumns)]![plane]!));
        return table(counts, [0, 1, 2, 3].map((i) => (4 * chunk + i < x.length ? apply(padded[4 * chunk + i]!, scales[group]![4 * chunk + i]![plane]!) : 0)));
      }),
    );
    for (let row = group * groupRows; row < Math.min(rows, (group + 1) * groupRows); row++) {
      for (let plane = 0; plane < planes; plane++) {
        for (let chunk = 0; chunk < chunks; chunk++) {
          let index = 0;
          for (let i = 0; i < 4; i++) if ((signs[plane]![row]![4 * chunk + i] ?? 1) > 0) index |= 1 << i;
          counts.lookups++;
          y[row] = add(counts, y[row]!, tables[plane]![chunk]![index]!);
        }
      }
      if (rowScales === null) continue;
      counts.multiplications++;
      y[row]! *= rowScales[row]!;
    }
  }
  return { y, counts, input };
}

t.test('the shift-add counts are those of a product that counts', (t) => {
  let state = 1;
  const random = (below: number): number => (state = (state * 48271) % 2147483647) % below;
  for (const [rows, columns, planes, groupRows, groupColumns, hasRowScales] of [
    [6, 16, 2, 4, 8, true],
    [5, 12, 3, 5, 8, false], // the last column group is one chunk
    [7, 9, 1, 3, 8, true],
    [6, 10, 2, 4, 1, true],
    [33, 24, 4, 32, 8, false],
  ] as const) {
    const list = <T>(length: number, make: (i: number) => T): T[] => Array.from({ length }, (_, i) => make(i));
    const x = list(columns, () => random(41) - 20);
    const signs = list(planes, () => list(rows, () => list(columns, () => (random(2) ? 1 : -1))));
    const scales = list(Math.ceil(rows / groupRows), () =>
      list(Math.ceil(columns / groupColumns), () =>
        list(planes, () => list(random(5), (): Scale[number] => ({ sign: random(2) ? 1 : -1, exponent: random(6) }))),
      ),
    );
    const rowScales = hasRowScales ? list(rows, () => 1 + random(5)) : null;
    const { y, counts, input } = countedProduct(x, signs, scales, groupRows, groupColumns, rowScales);

    const value = (scale: Scale): number => scale.reduce((sum, { sign, exponent }) => sum + sign * 2 ** exponent, 0);
    const dense = { multiplications: 0, additions: 0 };
    const expected = list(rows, (row) => {
      let sum = 0;
      for (let column = 0; column < columns; column++) {
        const group = scales[Math.floor(row / groupRows)]![Math.floor(column / groupColumns)]!;
        const weight = group.reduce((whole, scale, plane) => whole + value(scale) * signs[plane]![row]![column]!, 0);
        sum += weight * x[column]!;
        dense.multiplications++;
        dense.additions++;
      }
      return sum * (rowScales?.[row] ?? 1);
    });
    t.same(y, expected, 'it is the product');

    const use = { applied: 0, terms: 0 };
    for (const group of scales) {
      group.forEach((columnGroup, n) => {
        const times = groupColumns === 1 ? 1 : Math.min(2, Math.ceil((columns - 8 * n) / 4));
        for (const scale of columnGroup) {
          use.applied += scale.length > 0 ? times : 0;
          use.terms += scale.length * times;
        }
      });
    }
    const product: PackedProduct = { rows, columns, planes, groupRows, groupColumns, hasRowScales, scales: use };
    t.same(countShiftAdd(product), counts, `${rows} x ${columns}, ${planes} planes, groups of ${groupRows} x ${groupColumns}`);
    if (groupColumns === 8) t.same(countInputTables(columns), input);
    t.match(countDense(product), dense);
  }
  t.end();
});

t.test('an example by hand', (t) => {
  // 64 x 32, 2 planes, two groups of 32 rows; 8 chunks; every one of the 2 * 4 * 2 scales has 3 powers of two.
  const product: PackedProduct = { rows: 64, columns: 32, planes: 2, groupRows: 32, groupColumns: 8, hasRowScales: true, scales: { applied: 32, terms: 96 } };
  t.same(countShiftAdd(product), { multiplications: 64, additions: 16 * 64 + 1024, shifts: 16 * 96, lookups: 64 * 2 * 8 });
  t.same(countInputTables(32), { multiplications: 0, additions: 160, shifts: 0, lookups: 0 });
  // In the kernel one scale block, one part per row group: 32 tables, 64 sums.
  t.same(countKernel(product), {
    multiplications: 16 * 32 + 64 + 2 * 2 + 64,
    additions: 16 * 32 + 2048 + 3 * 64,
    shifts: 16 * 32 + 64,
    lookups: 2 * 64 * 2 * 8,
  });
  t.same(countKernelInput(32), { multiplications: 128, additions: 51 * 8, shifts: 0, lookups: 0 });
  t.same(countRow(product, { applied: 8, terms: 24 }), { multiplications: 32, additions: 16 + 64, shifts: 24, lookups: 0 });
  // Rows are padded to 32, columns to 16; 600 rows are 19 tiles, which two parts of at most 16 build tables for.
  const odd = { rows: 600, columns: 20, planes: 5, groupRows: 600, groupColumns: 8, hasRowScales: false, scales: { applied: 0, terms: 0 } };
  t.equal(countKernel(odd).lookups, 2 * 608 * 5 * 8);
  t.equal(countKernel(odd).multiplications, 16 * 2 * 5 * 8 + 608 + 2 * 2);
  t.equal(countKernel({ ...odd, groupColumns: 1 }).multiplications, 8 * 2 * 5 * 8 + 608 * 2 + 2 * 2 * 2, 'blocks of 16 columns');
  t.same([[4, 8], [5, 8], [4, 1], [5, 1]].map(([planes, groupColumns]) => scaleBlockQuads({ planes: planes!, groupColumns: groupColumns! })), [8, 4, 8, 1]);
  t.same([0x0000, 0x1000, 0xf100, 0xf910, 0x2fff, 0x1010].map(termsOfScale), [0, 1, 2, 3, 4, 1]);
  t.end();
});

t.test('energy is in microjoules', (t) => {
  const million = 1e6;
  const none = { multiplications: 0, additions: 0, shifts: 0, lookups: 0 };
  const close = (actual: number, expected: number, what: string) => t.ok(Math.abs(actual - expected) < 1e-9 * expected, `${what}: ${actual}`);
  close(estimateEnergy({ ...none, multiplications: million }, 0).total, 1.1, 'a million multiplications of 1.1 pJ');
  close(estimateEnergy({ ...none, additions: million, shifts: million, lookups: million }, 0).total, 0.4 + 0.15 + 0.37, 'additions, shifts, look-ups');
  close(estimateEnergy({ ...none, multiplications: million, additions: million }, 0, true).arithmetic, 4.6, '32 bits');
  const traffic = estimateEnergy(none, 16 * million);
  close(traffic.weightTraffic, 200, 'a million words of 16 bits');
  close(traffic.total, 200, 'and in the total');
  t.end();
});

t.test('report of a quantized folder', async (t) => {
  const out = await quantized(t);
  const config = JSON.parse(await readFile(join(out, 'config.json'), 'utf8'));
  const { report } = config.quantization_config;
  t.same(Object.keys(report), Object.keys(config.quantization_config.tensors));
  const inspected = await inspectModel(out);
  for (const tensor of inspected.tensors) {
    const entry = report[tensor.name];
    t.same([tensor.weightError, tensor.outputError, tensor.kl], [entry?.weight_error ?? null, entry?.output_error ?? null, null], tensor.name);
    if (tensor.type === 'packed') t.ok(tensor.outputError! > 0 && tensor.outputError! < 0.5 && tensor.weightError! > 0);
  }
  t.equal(inspected.blocks.length, 5);
  const [first] = inspected.blocks;
  t.match(first, { index: 0, bits: { query: 4, key: 4, down: 4 }, kl: null });
  const members = inspected.tensors.filter(({ block, role }) => block === 0 && !role.endsWith('Norm'));
  t.equal(members.length, 7);
  t.ok(Math.abs(first!.outputError! - members.reduce((sum, { outputError }) => sum + outputError!, 0) / 7) < 1e-12);
  t.match(inspected.tensors.at(-1), { role: 'finalNorm', block: null });
  t.match(inspected.tensors.find(({ name }) => name === 'model.layers.3.input_layernorm.weight'), { role: 'attentionNorm', block: 3 });

  const edit = (change: (report: any, quantization: any) => void) =>
    editJson(join(out, 'config.json'), (value) => {
      value.quantization_config.report = structuredClone(report);
      change(value.quantization_config.report, value.quantization_config);
    });
  const name = 'model.layers.2.mlp.up_proj.weight';
  await edit((report) => {
    report[name].kl = 0.25;
    report['model.layers.2.mlp.gate_proj.weight'].kl = 0.5;
    report[name].later = 'fields of later versions are left alone';
  });
  const measured = await inspectModel(out);
  t.equal(measured.tensors.find((tensor) => tensor.name === name)!.kl, 0.25);
  t.same(measured.blocks.map(({ kl }) => kl), [null, null, 0.75, null, null]);
  const shown = await shiftadd(['inspect', out, '--layers']);
  t.match(shown.output, /^ +2 +4 .* \d\.\d\d % +0\.7500$/m);
  t.notMatch(shown.output, /up_proj/);
  t.match((await shiftadd(['inspect', out])).output, /^model\.layers\.\*\.mlp\.up_proj\.weight +5 .* \d\.\d\d % +\d\.\d\d % +0\.2500$/m);

  await edit((report) => delete report[name]);
  t.equal((await inspectModel(out)).tensors.find((tensor) => tensor.name === name)!.outputError, null, 'entries are optional');
  await edit((_, quantization) => delete quantization.report);
  const old = await inspectModel(out);
  t.ok(old.tensors.every(({ weightError, outputError, kl }) => weightError === null && outputError === null && kl === null), 'so is the report');
  t.ok(old.blocks.every(({ outputError }) => outputError === null));
  t.notMatch((await shiftadd(['inspect', out])).output, /output error/);

  for (const [change, message] of [
    [(report: any) => (report[name].weight_error = '0.1'), /report\['model\.layers\.2\.mlp\.up_proj\.weight'\]\.weight_error is '0\.1'; it must be a finite number/],
    [(report: any) => delete report[name].output_error, /output_error is undefined/],
    [(report: any) => (report[name].kl = []), /kl is a list/],
    [(report: any) => (report[name] = 3), /must be an object/],
    [(report: any) => (report[`${name}x`] = report[name]), /is about no packed tensor \(is model\.layers\.2\.mlp\.up_proj\.weight meant\?\)/],
    [(_: any, quantization: any) => (quantization.report = []), /quantization_config\.report must be an object/],
  ] as const) {
    await edit(change);
    await t.rejects(inspectModel(out), { code: 'ERR_BAD_MODEL_FILE', message }, String(message));
  }
  await edit((report) => (report[name].kl = 12345));
  const path = join(out, 'config.json');
  await writeFile(path, (await readFile(path, 'utf8')).replace('"kl":12345', '"kl":1e999'));
  await t.rejects(inspectModel(out), { code: 'ERR_BAD_MODEL_FILE', message: /kl is Infinity/ });
  const entry = (weightError: number, outputError: number, kl: number | null): unknown =>
    reportEntry({ weightError, outputError, kl });
  t.same([entry(NaN, 0, null), entry(0, 0.5, NaN), entry(0, 0.5, 2)], [null, { weight_error: 0, output_error: 0.5 }, { weight_error: 0, output_error: 0.5, kl: 2 }]);
});

t.test('audit of models', async (t) => {
  const dense = await auditModel(stories);
  t.equal(dense.packed, null);
  t.equal(dense.cpuKernel, null);
  const { tensors, bytes } = await inspectModel(stories);
  const linear = tensors.filter(({ role, block }) => block !== null && !role.endsWith('Norm')).reduce((sum, { rows, columns }) => sum + rows * columns, 0);
  t.match(dense.dense.linearLayers, { operations: { multiplications: linear, additions: linear, shifts: 0, lookups: 0 }, weightBits: bytes.linearLayers * 8 });
  t.equal(dense.dense.head.operations.multiplications, 512 * 64);

  for (const mode of ['lat', 'acc'] as const) {
    const out = await quantized(t, { mode, rowGroup: 32 });
    const audit = await auditModel(out);
    const inspected = await inspectModel(out);
    const { packed, cpuKernel } = audit;
    const matrices = inspected.tensors.filter(({ role, block }) => block !== null && !role.endsWith('Norm'));
    const lookups = matrices.reduce((sum, { rows, columns, planes }) => sum + rows * planes! * Math.ceil(columns / 4), 0);
    t.equal(packed!.linearLayers.operations.lookups, lookups, mode);
    t.equal(packed!.linearLayers.operations.multiplications, matrices.reduce((sum, { rows }) => sum + rows, 0), 'row scales only');
    t.equal(packed!.linearLayers.weightBits, inspected.bytes.linearLayers * 8, 'every stored bit');
    t.equal(packed!.embedding.operations.lookups, 0);
    t.equal(packed!.embedding.weightBits, (inspected.bytes.embedding * 8) / 512);
    t.ok(cpuKernel!.linearLayers.multiplications > packed!.linearLayers.operations.multiplications);
    t.ok(cpuKernel!.total.lookups >= 2 * packed!.total.operations.lookups);
    t.equal(audit.dense.linearLayers.weightBits, linear * 16);
    t.ok(packed!.total.energyEstimate.total < audit.dense.total.energyEstimate.total);
    for (const field of ['multiplications', 'additions', 'shifts', 'lookups'] as const) {
      const sum = (['linearLayers', 'head', 'embedding'] as const).reduce((whole, part) => whole + packed![part].operations[field], 0);
      t.equal(packed!.total.operations[field], sum);
      t.ok(Number.isSafeInteger(sum));
    }
    const shown = await shiftadd(['inspect', out, '--audit']);
    t.match(shown.output, /^linear layers +CPU kernel /m);
    t.match(shown.output, /estimate .*45 nm/);
    const document = JSON.parse((await shiftadd(['inspect', out, '--json'])).output);
    t.same(document.audit, audit);
    t.equal(document.blocks.length, 5);
  }
});

t.test('the rotation is counted with the head', async (t) => {
  const audited = async (rotation: 'on' | 'off') => {
    const folder = await quantized(t, { rotation });
    t.equal((await inspectModel(folder)).rotated, rotation === 'on');
    return auditModel(folder);
  };
  const [on, off] = [await audited('on'), await audited('off')];
  // 64 numbers, twice; the shift-add product has one multiplication per row scale whatever the scales are.
  t.equal(on.packed!.head.operations.multiplications - off.packed!.head.operations.multiplications, 2 * 64);
  t.equal(on.packed!.linearLayers.operations.multiplications, off.packed!.linearLayers.operations.multiplications);
  t.same(countRotation({ size: 36, signs: { length: 576 } }), { multiplications: 2 * 576, additions: 2 * 576 * (1 + 4 + 35), shifts: 0, lookups: 0 });
});

t.test('three matrices of one input share its tables', async (t) => {
  const out = await quantized(t, { overrides: { k_proj: 5 } });
  const { packed } = await auditModel(out);
  const inspected = await inspectModel(out);
  // Per block: attention, its output and feed-forward read 64 columns, down 172.
  const tables = 5 * (3 * 16 + 43) * 20;
  const { lookups, additions, shifts } = packed!.linearLayers.operations;
  t.ok(shifts > 0 && additions - lookups - tables >= 0);
  const scaled = additions - lookups - tables;
  t.equal(scaled % 16, 0, 'the rest are the further powers of two of 16 entries each');
  t.ok(scaled < shifts);
  t.ok(inspected.blocks.every(({ bits }) => bits.key === 5 && bits.query === 4));
});

t.test('page', async (t) => {
  const out = await quantized(t);
  const file = join(await temporaryFolder(t), 'report.html');
  const made = await shiftadd(['inspect', out, '--html', file]);
  t.equal(made.status, 0, made.notes);
  t.equal(made.output, `Page: ${file}\n`);
  const page = await readFile(file, 'utf8');
  for (const { name } of (await inspectModel(out)).tensors) t.ok(page.includes(`>${name}</th>`), name);
  for (const what of [/<html lang="en">/, /prefers-color-scheme: dark/, /Content-Security-Policy/, /<h2>What one token costs/, /id="error-title">Output error per block/]) t.match(page, what);
  t.equal(page.match(/<svg/g)!.length, page.match(/<svg role="img" aria-labelledby="(\w+)-title \1-description"/g)!.length);
  t.equal(page.match(/<svg/g)!.length, page.match(/<desc id/g)!.length);
  t.notMatch(page, /<script|<link|src=|href=|url\(|@import|NaN|undefined|Infinity/, 'nothing runs, nothing is fetched, nothing is missing');
  t.same(await readdir(join(file, '..')), ['report.html'], 'no other file is left');
  balanced(t, page);

  const before = (await stat(file)).ino;
  t.equal((await shiftadd(['inspect', stories, '--html', file, '--audit'])).status, 0, 'a page of inspect is written again');
  t.not((await stat(file)).ino, before);
  const dense = await readFile(file, 'utf8');
  t.match(dense, /A dense model has none/);
  balanced(t, dense);
  const document = JSON.parse((await shiftadd(['inspect', stories, '--html', file, '--json'])).output);
  t.equal(document.page, file);
});

/** Every element that opens closes, in order. */
function balanced(t: any, page: string): void {
  const open: string[] = [];
  for (const [, closing, name, empty] of page.matchAll(/<(\/?)([a-z][a-z0-9]*)(?:\s[^<>]*?)?(\/?)>/g)) {
    if (empty || name === 'meta') continue;
    if (!closing) open.push(name!);
    else if (open.pop() !== name) return t.fail(`</${name}> closes another element`);
  }
  t.same(open, []);
}

t.test('hostile names stay text', async (t) => {
  const hostile = `"><script>alert('1')</script><img src=x onerror=alert(2)>&amp;\u202e\u0000</title></style>${'`${1}`'}`;
  const out = await quantized(t);
  await editJson(join(out, 'config.json'), ({ quantization_config: quantization }) => {
    quantization.source = { name: hostile, [hostile]: hostile };
    quantization.calibration = { [hostile]: { deep: [hostile] } };
  });
  const folder = join(await temporaryFolder(t), `<script>alert("3")</script>'&`.replaceAll('/', '_'));
  await symlink(out, folder);
  const result = await inspectModel(folder);
  const audit = await auditModel(folder);
  const renamed: InspectResult = { ...result, architecture: hostile, tensors: result.tensors.map((tensor) => ({ ...tensor, name: hostile + tensor.name, type: hostile })) };
  const page = inspectPage(renamed, { ...audit, notes: [hostile] });
  t.notMatch(page, /<script|<img|\u202e|\u0000/);
  t.equal(page.match(/<\/style>/g)!.length, 1);
  t.equal(page.match(/<\/title>/g)!.length, inspectPage(result, audit).match(/<\/title>/g)!.length);
  for (const { name } of result.tensors) t.ok(page.includes(`&lt;img src=x onerror=alert(2)&gt;&amp;amp;\ufffd\ufffd&lt;/title&gt;&lt;/style&gt;\`\${1}\`${name}</th>`), name);
  t.match(page, '<h1>&lt;script&gt;alert(&quot;3&quot;)&lt;_script&gt;&#39;&amp;</h1>');
  balanced(t, page);
});

t.test('where the page goes', async (t) => {
  const folder = await copyOf(t, stories);
  const inspect = (...words: string[]) => shiftadd(['inspect', folder, ...words]);
  const notes = join(folder, 'notes.txt');
  await writeFile(notes, 'mine');
  const refused = await inspect('--html', notes, '--json');
  t.equal(refused.status, 1);
  t.match(JSON.parse(refused.output).error, { code: 'ERR_OUTPUT_EXISTS', message: /notes\.txt exists and is no page.*--overwrite/ });
  t.equal(await readFile(notes, 'utf8'), 'mine');
  t.equal((await inspect('--html', notes, '--overwrite')).status, 0);
  t.match(await readFile(notes, 'utf8'), /^<!doctype html>/);
  t.match(await inspect('--html', folder, '--overwrite'), { status: 1, notes: /is a folder/ });
  t.match(await inspect('--html', join(folder, 'none', 'page.html')), { status: 1, notes: /none does not exist\. Make the folder first/ });
  t.match(await inspect('--overwrite'), { status: 2, notes: /--overwrite needs --html FILE/ });
  t.match(await inspect('--html'), { status: 2, notes: /--html expects a text but received nothing/ });
  const missing = join(folder, 'missing.html');
  t.equal((await shiftadd(['inspect', 'no-such-model', '--html', missing])).status, 1);
  await t.rejects(stat(missing), 'nothing is written for a model that is not there');
  await t.rejects(auditModel('no-such-model'), { code: 'ERR_NOT_FOUND' });
  t.same([0, 0.3, 1, 1.1, 2.2, 3, 7, NaN].map(roundUp), [0, 0.5, 1, 2, 2.5, 5, 10, 0]);
});
