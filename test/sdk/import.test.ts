// Import of Lat. checkpoints: synthetic ones by an independent writer, decoded again as docs/model-file.md says.
import { copyFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import t from 'tap';
import { exactScales } from '../../sdk/src/checkpoint/scale-codes.js';
import { writeSafetensors } from '../../sdk/src/checkpoint/safetensors-writer.js';
import { readSafetensors } from '../../sdk/src/checkpoint/safetensors.js';
import { importModel, inspectModel, loadModel } from '../../sdk/src/index.js';
import { shiftadd } from './cli-process.js';
import { byteTokenizer, copyOf, editJson, join, llamaOdd, patchTensor, temporaryFolder } from './fixtures.js';
import { bytesOf, latFile, latName, latWeights, writeLatFolder, type LatMatrix } from './torch-writer.js';

const hidden = 64;
const wide = 160;
const layers = 2;
/** [module, rows, columns, planes in layer 0 and 1, rows of a group]: whole words, parts of words, and groups across words. */
const modules = [
  ['self_attn.q_proj', hidden, hidden, [2, 3], 16],
  ['self_attn.k_proj', 32, hidden, [3, 2], 8],
  ['self_attn.v_proj', 32, hidden, [4, 1], 32],
  ['self_attn.o_proj', hidden, hidden, [3, 3], 64],
  ['mlp.gate_proj', wide, hidden, [2, 2], 20],
  ['mlp.up_proj', wide, hidden, [8, 3], 32],
  ['mlp.down_proj', hidden, wide, [3, 2], 8],
] as const;

let state = 1;
/** A whole number below `limit`; the same in every run. */
function random(limit: number): number {
  state = (Math.imul(state, 1103515245) + 12345) >>> 0;
  return Math.floor((state / 2 ** 32) * limit);
}

/** Three signed powers of two, as the published scales are; `gap` is the largest distance between two terms. */
function scale(plane: number, gap: number): number {
  if (random(50) === 0) return 0;
  let value = 0;
  for (let k = 0, exponent = -3 - plane - random(2); k < 3; k++, exponent -= 1 + random(gap))
    value += (k > 0 && random(2) ? -1 : 1) * 2 ** exponent;
  return value;
}

/** The scales of the second layer need floats. */
function makeMatrices(): LatMatrix[] {
  return Array.from({ length: layers }, (_, layer) =>
    modules.map(([module, rows, columns, planes, groupRows]): LatMatrix => {
      const count = (columns / 8) * (rows / groupRows) * planes[layer]!;
      return {
        module: `${layer}.${module}`,
        rows,
        columns,
        planes: planes[layer]!,
        groupRows,
        bits: Uint8Array.from({ length: rows * columns * planes[layer]! }, () => random(2)),
        alpha: Float32Array.from({ length: count }, (_, i) => scale(i % planes[layer]!, layer === 0 ? 4 : 10)),
      };
    }),
  ).flat();
}

/** A dense model folder; the matrices, where they are given, in the place of random weights. */
async function writeBase(folder: string, matrices: LatMatrix[] = []): Promise<string> {
  await mkdir(folder);
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(byteTokenizer()));
  await copyFile(join(llamaOdd, 'config.json'), join(folder, 'config.json'));
  await editJson(join(folder, 'config.json'), (config) =>
    Object.assign(config, {
      hidden_size: hidden,
      head_dim: 32,
      num_attention_heads: 2,
      num_key_value_heads: 1,
      intermediate_size: wide,
      num_hidden_layers: layers,
      tie_word_embeddings: false,
    }),
  );
  state = 7;
  const tensor = (name: string, shape: number[], values?: Float64Array) => {
    const data = Float32Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => values?.[i] ?? random(1000) / 1000 - (shape.length > 1 ? 0.5 : 0));
    return { name, dtype: 'F32', shape, bytes: data.byteLength, data: () => [bytesOf(data)] };
  };
  const tensors = [
    tensor('model.embed_tokens.weight', [256, hidden]),
    tensor('lm_head.weight', [256, hidden]),
    tensor('model.norm.weight', [hidden]),
  ];
  for (let layer = 0; layer < layers; layer++)
    for (const name of ['input_layernorm', 'post_attention_layernorm']) tensors.push(tensor(`model.layers.${layer}.${name}.weight`, [hidden]));
  for (let layer = 0; layer < layers; layer++)
    for (const [module, rows, columns] of modules) {
      const lat = matrices.find((matrix) => matrix.module === `${layer}.${module}`);
      tensors.push(tensor(`model.layers.${layer}.${module}.weight`, [rows, columns], lat && latWeights(lat)));
    }
  await writeSafetensors(join(folder, 'model.safetensors'), tensors);
  return folder;
}

async function setUp(t: any): Promise<{ parent: string; base: string; lat: string; matrices: LatMatrix[] }> {
  const parent = await temporaryFolder(t);
  state = 1;
  const matrices = makeMatrices();
  const lat = join(parent, 'Tiny-lat');
  await writeLatFolder(lat, matrices);
  return { parent, matrices, lat, base: await writeBase(join(parent, 'base')) };
}

/** The value of a packed matrix, from the stored bytes and docs/model-file.md alone. */
async function decode(folder: string, name: string): Promise<{ weights: Float64Array; scaleType: string }> {
  const config = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')).quantization_config;
  const { rows, columns, planes, group_rows: groupRows, group_columns: groupColumns, scale_exponent: scaleExponent } = config.tensors[name];
  const path = join(folder, 'model.safetensors');
  const { tensors } = await readSafetensors(path);
  const file = await readFile(path);
  const bits = tensors.get(`${name}.planes`)!;
  const stored = tensors.get(`${name}.scales`)!;
  const scaleAt = (i: number): number => {
    if (stored.dtype === 'F32') return file.readFloatLE(stored.offset + 4 * i);
    const code = file.readUInt16LE(stored.offset + 2 * i);
    if (code === 0) return 0;
    let term = 2 ** (scaleExponent + (code >> 12) - 15);
    let sum = term;
    for (const field of [(code >> 8) & 15, (code >> 4) & 15, code & 15]) {
      if ((field & 7) === 0) break;
      term *= 2 ** -(field & 7);
      sum += field & 8 ? -term : term;
    }
    return sum;
  };
  const weights = new Float64Array(rows * columns);
  let block = bits.offset;
  for (let group = 0; group * groupRows < rows; group++)
    for (let kBlock = 0; kBlock < columns; kBlock += 128)
      for (let tile = 0; tile < groupRows; tile += 32)
        for (let quad = kBlock; quad < Math.min(kBlock + 128, columns); quad += 16)
          for (let plane = 0; plane < planes; plane++, block += 64)
            for (let r = 0; r < 32 && tile + r < groupRows; r++)
              for (let c = 0; c < 16 && quad + c < columns; c++) {
                const byte = file[block + 16 * (c >> 2) + (r & 15)]!;
                const sign = (byte >> ((r < 16 ? 0 : 4) + (c & 3))) & 1;
                const column = quad + c;
                const scaleIndex = (group * Math.ceil(columns / groupColumns) + Math.floor(column / groupColumns)) * planes + plane;
                weights[(group * groupRows + tile + r) * columns + column]! += scaleAt(scaleIndex) * (2 * sign - 1);
              }
  return { weights, scaleType: stored.dtype };
}

t.test('an imported model has exactly the published weights, and runs', async (t) => {
  const { parent, base, lat, matrices } = await setUp(t);
  const out = join(parent, 'packed');
  let done = 0;
  const phases = new Set<string>();
  const result = await importModel(lat, out, {
    base,
    onProgress: (progress) => {
      phases.add(progress.phase);
      t.ok(progress.done >= done && progress.done <= 1);
      done = progress.done;
    },
  });
  t.same([...phases], ['check', 'write']);
  t.equal(done, 1);
  t.same((await readdir(parent)).sort(), ['Tiny-lat', 'base', 'packed']);
  for (const matrix of matrices) {
    const name = `model.layers.${matrix.module}.weight`;
    const { weights, scaleType } = await decode(out, name);
    t.ok(Buffer.from(weights.buffer).equals(Buffer.from(latWeights(matrix).buffer)), `${name} is exact`);
    t.equal(result.tensors.find((tensor) => tensor.name === name)!.scaleType, scaleType);
    t.equal(scaleType, matrix.module.startsWith('0') ? 'U16' : 'F32', name);
  }

  const inspected = await inspectModel(out);
  t.equal(inspected.bitsPerWeight, result.bitsPerWeight);
  t.match(inspected.bytes, result.bytes);
  t.match(inspected, { mode: 'lat', packed: true, source: { name: 'base' } });
  const dense = async (folder: string, name: string) => {
    const path = join(folder, 'model.safetensors');
    const { dtype, offset, bytes } = (await readSafetensors(path)).tensors.get(name)!;
    return dtype + (await readFile(path)).toString('hex', offset, offset + bytes);
  };
  for (const name of ['model.embed_tokens.weight', 'lm_head.weight', 'model.norm.weight', 'model.layers.1.input_layernorm.weight'])
    t.equal(await dense(out, name), await dense(base, name), `${name} is the base's`);

  // A dense model with the same weights tells the same.
  const twin = await writeBase(join(parent, 'twin'), matrices);
  const text = 'Once upon a time, there was a model without multiplications.';
  const perplexity = async (folder: string, precision: 'exact' | 'fast', isa?: 'portable') => {
    const model = await loadModel(folder, { precision, kvCache: 'f32', ...(isa === undefined ? {} : { isa }) });
    t.teardown(() => model.close());
    t.equal((await model.generate('Once', { maxTokens: 3 }).result()).usage.promptTokens, 4);
    return (await model.evaluate(text)).perplexity;
  };
  const wanted = await perplexity(twin, 'exact');
  const exact = await perplexity(out, 'exact');
  t.ok(Math.abs(exact / wanted - 1) < 1e-3, `exact: ${exact} against ${wanted}`);
  const portable = await perplexity(out, 'exact', 'portable'); // the dense head rounds in another order
  t.ok(Math.abs(portable / exact - 1) < 1e-6, `portable: ${portable} against ${exact}`);
  const fast = await perplexity(out, 'fast');
  t.ok(Math.abs(fast / wanted - 1) < 0.05, `fast: ${fast} against ${wanted}`);
  t.not(await perplexity(base, 'exact'), wanted);

  // In several files, and over the old folder.
  await t.rejects(importModel(lat, out, { base }), { code: 'ERR_OUTPUT_EXISTS' });
  const again = await importModel(lat, out, { base, overwrite: true, maxShardBytes: 30_000 });
  t.ok((await readdir(out)).filter((name) => name.endsWith('.safetensors')).length > 3);
  t.same({ ...again, seconds: 0 }, { ...result, seconds: 0 });
  t.equal(await perplexity(out, 'exact'), exact);
});

t.test('scales that are exact as codes', async (t) => {
  const codes = (...values: number[]) => exactScales(Float32Array.from(values));
  t.same(codes(0, -0), { scaleExponent: -100, codes: new Uint16Array(2) });
  t.same(codes(1, 0.5, 0), { scaleExponent: 0, codes: Uint16Array.of(0xf000, 0xe000, 0) });
  t.equal(codes(1 + 2 ** -8)!.scaleExponent, 0, 'one gap of 8 takes a third term');
  t.ok(codes(1 + 2 ** -9) && codes(1, 2 ** -14), '2^-9 = 2^-7 - 2^-8 - 2^-9; 15 octaves');
  t.ok(codes(1, 2 ** -17), '2^-14 less seven eighths of it');
  for (const values of [[1 + 2 ** -22], [1 + 2 ** -10 + 2 ** -20], [1, 2 ** -18], [1, 2 ** -16 + 2 ** -20 + 2 ** -21], [1e-40], [2 ** 110], [Math.PI]])
    t.equal(codes(...values), null, String(values));
  t.equal(codes(1.75)!.scaleExponent, 0, '1 + 1/2 + 1/4 fits below 2');
  t.equal(codes(1.9375)!.scaleExponent, 1, '2 - 1/16 needs the larger first term');
});

t.test('files that do not belong', async (t) => {
  const { parent, base, lat, matrices } = await setUp(t);
  const first = matrices[0]!;
  const name = latName(first);
  const attempt = async (edit: (folder: string) => Promise<void>) => {
    const folder = await copyOf(t, lat);
    await edit(folder);
    return importModel(folder, join(parent, 'packed'), { base });
  };
  const bad = (message: RegExp) => ({ code: 'ERR_BAD_MODEL_FILE', message });
  const replace = (matrix: LatMatrix, as = latName(matrix)) => (folder: string) => writeFile(join(folder, as), latFile(matrix));
  const resized = (change: Partial<LatMatrix>): LatMatrix => {
    const { rows, columns, planes, groupRows } = { ...first, ...change };
    return {
      ...first,
      ...change,
      bits: new Uint8Array(rows * columns * planes),
      alpha: new Float32Array((columns / 8) * (rows / groupRows) * planes).fill(1),
    };
  };
  const withScale = (value: number): LatMatrix => ({ ...first, alpha: first.alpha.map((alpha, i) => (i === 5 ? value : alpha)) });
  for (const [edit, message] of [
    [(folder: string) => rm(join(folder, name)), /has no file for 0\.self_attn\.q_proj\./],
    [async (folder: string) => Promise.all(matrices.slice(0, 3).map((matrix) => rm(join(folder, latName(matrix))))).then(() => undefined), /0\.self_attn\.q_proj and 2 more of the base's 14/],
    [replace(resized({ planes: 3 })), /has two files for 0\.self_attn\.q_proj: .*_2bit\.pt and .*_3bit\.pt/],
    [replace(resized({ module: '2.self_attn.q_proj' })), /no linear layer 2\.self_attn\.q_proj \(is .* meant\?\)/],
    [replace(resized({ module: '0.self_attn.out_proj' })), /no linear layer 0\.self_attn\.out_proj/],
    [(folder: string) => writeFile(join(folder, 'odd.pt'), ''), /has the file odd\.pt, but Lat\. checkpoints name theirs/],
    [replace(first, latName(first).replace('2bit', '2bit_128groupsize_lat')), /128groupsize_lat\.pt, but/],
    [replace(resized({ planes: 3 }), name), /bWeight of shape \[64, 2, 3\] where the base and the file name want \[64, 2, 2\]/],
    [replace(resized({ rows: 32 })), /bWeight of shape \[64, 1, 2\]/],
    [replace(resized({ columns: 72 })), /bWeight of shape \[72, 2, 2\]/],
    [replace(resized({ groupRows: 64 / 3 })), /has scales for 3 row groups, which do not divide 64 rows/],
    [replace(withScale(NaN)), /has the value NaN at alpha\[0, 2, 1\]/],
    [replace(withScale(Infinity)), /has the value Infinity/],
    [replace(withScale(-0.5)), /has the value -0\.5/],
    [(folder: string) => writeFile(join(folder, 'Other_1.mlp.up_proj_3bit.pt'), ''), /files of two models/],
    [(folder: string) => writeFile(join(folder, name), 'not a zip'), /is not a zip archive/],
  ] as const) {
    await t.rejects(attempt(edit), bad(message), String(message));
  }
  t.same((await readdir(parent)).sort(), ['Tiny-lat', 'base'], 'nothing is left behind');

  await t.rejects(importModel(join(parent, 'gone'), join(parent, 'packed'), { base }), { code: 'ERR_NOT_FOUND', message: /gone does not exist/ });
  await t.rejects(importModel(base, join(parent, 'packed'), { base }), { code: 'ERR_UNSUPPORTED_MODEL', message: /Acc\. checkpoints do.*quantize/ });
  await t.rejects(importModel(await temporaryFolder(t), join(parent, 'packed'), { base }), { code: 'ERR_NOT_FOUND', message: /has no \.pt files/ });
  await t.rejects(importModel(lat, base, { base, overwrite: true }), { code: 'ERR_OUTPUT_EXISTS', message: /checkpoint itself/ });
  await writeFile(join(lat, 'config.json'), '{}');
  await t.rejects(importModel(lat, lat, { base, overwrite: true }), { code: 'ERR_OUTPUT_EXISTS', message: /checkpoint itself/ });
  await t.rejects(importModel(lat, join(parent, 'packed'), { base: llamaOdd }), bad(/matrix of 72 x 72 by the base; .* multiples of 32 x 8/));
  await t.rejects(importModel(lat, parent, { base, overwrite: true }), { code: 'ERR_OUTPUT_EXISTS', message: /not a model folder/ });
  await t.rejects(importModel(lat, join(parent, 'packed')), TypeError);
  await t.rejects(importModel(lat, join(parent, 'packed'), { base: 5 as any }), TypeError);
  await t.rejects(importModel(lat, join(parent, 'packed'), { bsae: base } as any), /Did you mean 'base'/);
});

t.test('damage found while it is written, and aborts', async (t) => {
  const { parent, base, lat, matrices } = await setUp(t);
  const out = join(parent, 'packed');
  const path = join(lat, latName(matrices[3]!));
  const good = await readFile(path);
  const damaged = Buffer.from(good);
  damaged[good.indexOf('archive/data/0') + 200]! ^= 1; // signs, which are read last
  await writeFile(path, damaged);
  await t.rejects(importModel(lat, out, { base }), { code: 'ERR_BAD_MODEL_FILE', message: /o_proj.*data\/0' has a wrong CRC/ });
  t.same((await readdir(parent)).sort(), ['Tiny-lat', 'base']);
  await writeFile(path, good);

  t.equal(await importModel(lat, out, { base, signal: AbortSignal.abort('no') }).catch((reason: unknown) => reason), 'no');
  const controller = new AbortController();
  const stopped = importModel(lat, out, {
    base,
    signal: controller.signal,
    onProgress: ({ phase, done }) => phase === 'write' && done > 0.3 && controller.abort('enough'),
  });
  t.equal(await stopped.catch((reason: unknown) => reason), 'enough');
  t.same((await readdir(parent)).sort(), ['Tiny-lat', 'base']);
});

t.test('the engine refuses float scales that are none', async (t) => {
  const { parent, base, lat } = await setUp(t);
  const out = join(parent, 'packed');
  await importModel(lat, out, { base });
  const name = 'model.layers.1.mlp.up_proj.weight.scales';
  for (const value of [NaN, Infinity, -1, 2 ** 102]) {
    await patchTensor(join(out, 'model.safetensors'), name, 8, bytesOf(Float32Array.of(value)));
    await t.rejects(loadModel(out, { verify: false }), { code: 'ERR_BAD_MODEL_FILE', message: /the up of layer 1 has an invalid scale/ }, String(value));
  }
  await t.rejects(importModel(lat, `${out}2`, { base: out }), { code: 'ERR_UNSUPPORTED_MODEL', message: /is packed\. Pass the dense/ });
  await editJson(join(out, 'config.json'), (config) => (config.quantization_config.tensors['model.layers.1.mlp.up_proj.weight'].group_rows = 64));
  await t.rejects(loadModel(out, { verify: false }), { code: 'ERR_BAD_MODEL_FILE', message: /up_proj/ });
});

t.test('command line', async (t) => {
  const { parent, base, lat } = await setUp(t);
  const out = join(parent, 'packed');
  const told = await shiftadd(['import', lat, out, '--base', base]);
  t.equal(told.status, 0, told.notes);
  t.match(told.output, /bits per weight +\d+\.\d+ over the linear layers/);
  t.match(told.output, /float scales +7 of 14 matrices/);
  const exists = await shiftadd(['import', lat, out, '--base', base, '--json']);
  t.equal(exists.status, 1);
  t.match(JSON.parse(exists.output), { version: 1, error: { code: 'ERR_OUTPUT_EXISTS', message: /pass overwrite/ } });
  const again = await shiftadd(['import', lat, out, '--base', base, '--json', '--overwrite']);
  t.equal(again.status, 0, again.notes);
  t.match(JSON.parse(again.output), { version: 1, path: out, tensors: [{ planes: 2, groupRows: 16, scaleType: 'U16' }] });
});
