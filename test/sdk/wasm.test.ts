// The WebAssembly backend in Node: the same tokens and numbers as the native one, and what is its own.
import { readFile, readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import t from 'tap';
import { loadModel, listBackends, type Model } from '../../sdk/src/index.js';
import { openModelFolder } from '../../sdk/src/checkpoint/model-folder.js';
import { describeFamily } from '../../sdk/src/families/index.js';
import { buildModelSpec } from '../../sdk/src/model-spec.js';
import { loadNativeEngine } from '../../sdk/src/engine-native.js';
import { loadWasmEngine } from '../../sdk/src/wasm/node-platform.js';
import { flavours, hasRelaxedSimd } from '../../sdk/src/wasm/glue.js';
import type { Engine, Precision } from '../../sdk/src/engine.js';
import { families, stories } from './fixtures.js';

const modules = 'backends/wasm/modules';
const { WebAssembly } = globalThis as any; // its types are those of a page

async function logitsOf(engine: Engine, folder: string, precision: Precision, threads: number, isa?: string): Promise<Float32Array> {
  const opened = await openModelFolder(folder);
  const spec = buildModelSpec(opened, describeFamily(opened.config, opened.configPath));
  const model = await engine.openModel(spec.numbers, spec.paths, { threads, precision, kvCache: 'f16', ...(isa === undefined ? {} : { isa }) });
  const session = await model.openSession(200);
  // More than one panel of keys, and more tokens than one product takes at once.
  const tokens = Int32Array.from({ length: 150 }, (_, i) => 5 + ((i * 37) % 200));
  const all = await session.prefillLogits(tokens);
  await session.rewind(0);
  for (const token of tokens.subarray(0, 3)) await session.prefill(Int32Array.of(token));
  const single = session.logits();
  await model.close();
  const both = new Float32Array(all.length + single.length);
  both.set(all);
  both.set(single, all.length);
  return both;
}

const statusAnd = (status: string, message: RegExp): any => ({ status, message });
const sameBits = (a: Float32Array, b: Float32Array): boolean => Buffer.from(a.buffer, a.byteOffset, a.byteLength).equals(Buffer.from(b.buffer, b.byteOffset, b.byteLength));

t.test('the modules are made from these sources and import nothing that a page does not have', async (t) => {
  const { sources } = JSON.parse(await readFile(join(modules, 'BUILD.json'), 'utf8'));
  const { sourceKey } = await import(pathToFileURL(resolve('scripts', 'build-wasm.mjs')).href);
  t.equal(sources, sourceKey(), 'npm run build:wasm makes them again');
  let bytes = 0;
  for (const name of flavours) {
    const file = await readFile(join(modules, `${name}_bg.wasm`));
    bytes = Math.max(bytes, file.length);
    if (name.endsWith('relaxed') && !hasRelaxedSimd()) continue; // this engine cannot read it
    const imports = WebAssembly.Module.imports(await WebAssembly.compile(file));
    const own = imports.filter(({ name }: { name: string }) => !/^__wbg_|^__wbindgen_/.test(name));
    t.same(own, name.startsWith('threads') ? [{ module: `./${name}_bg.js`, name: 'memory', kind: 'memory' }] : [], name);
  }
  t.ok(bytes < 400_000, `${bytes} bytes, before compression`);
});

t.test('packed and dense models give the bits of the portable native kernels', async (t) => {
  const native = loadNativeEngine();
  const wasm = loadWasmEngine();
  const isas = ['simd128', 'portable', ...(hasRelaxedSimd() ? ['relaxedsimd'] : [])];
  for (const precision of ['exact', 'fast'] as const) {
    const wanted = await logitsOf(native, stories, precision, 1, 'portable');
    for (const isa of isas) t.ok(sameBits(await logitsOf(wasm, stories, precision, 1, isa), wanted), `${precision}, ${isa}`);
    t.ok(sameBits(await logitsOf(wasm, stories, precision, 2), wanted), `${precision}, 2 threads`);
  }
});

t.test('every family: the same greedy tokens', async (t) => {
  for (const name of await readdir(families)) {
    const wanted = await greedy(loadNativeEngine(), join(families, name));
    t.same(await greedy(loadWasmEngine(), join(families, name)), wanted, name);
    t.equal(wanted.length, 12);
  }
});

async function greedy(engine: Engine, folder: string): Promise<number[]> {
  const opened = await openModelFolder(folder);
  const spec = buildModelSpec(opened, describeFamily(opened.config, opened.configPath));
  const model = await engine.openModel(spec.numbers, spec.paths, { threads: 1, precision: 'exact', kvCache: 'f32' });
  const session = await model.openSession(40);
  await session.prefill(Int32Array.of(3, 7, 11));
  const sampling = { temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, repetitionWindow: 64 };
  const tokens = [await session.sample(sampling)];
  while (tokens.length < 12) tokens.push(await session.decode(tokens.at(-1)!, sampling));
  await model.close();
  return tokens;
}

t.test('the embedded model: greedy and sampled with a seed', async (t) => {
  const models: Model[] = [];
  for (const backend of ['cpu', 'wasm'] as const) models.push(await loadModel('smollm2-135m-instruct', { backend, precision: 'exact' }));
  for (const options of [{}, { temperature: 0.8, topP: 0.9, seed: 5, repetitionPenalty: 1.1 }]) {
    const texts = await Promise.all(models.map((model) => model.createChat().send('Name three colours.', { maxTokens: 24, ...options }).text()));
    t.equal(texts[1], texts[0]);
    t.ok(texts[0]!.length > 10);
  }
  for (const model of models) await model.close();
});

t.test('choosing it, and what it does not do', async (t) => {
  const report = (await listBackends()).find(({ name }) => name === 'wasm');
  t.match(report, { available: true, reason: null, device: { isa: /^(simd128|relaxedsimd)$/ } });
  const model = await loadModel(stories, { backend: 'wasm', threads: 2 });
  t.match(model.backend, { name: 'wasm', isa: /^(simd128|relaxedsimd)$/, threads: 2 });
  await model.close();
  await t.rejects(loadModel(stories, { backend: 'wasm', isa: 'avx2' }), { code: 'ERR_NO_BACKEND', message: /instruction set 'avx2'/ });
  const opened = await openModelFolder(stories);
  const spec = buildModelSpec(opened, describeFamily(opened.config, opened.configPath));
  const engineModel = await loadWasmEngine().openModel(spec.numbers, spec.paths, { threads: 1, precision: 'fast', kvCache: 'f16' });
  await t.rejects(engineModel.openQuantizer(new Int32Array(4), 1, 4), statusAnd('unsupported', /backend cpu/));
  await engineModel.close();
  await t.rejects(engineModel.openSession(8), statusAnd('invalid_argument', /closed/));
});

t.test('a model larger than the memory is refused before it is read', async (t) => {
  const engine = loadWasmEngine();
  const opened = await openModelFolder(stories);
  const spec = buildModelSpec(opened, describeFamily(opened.config, opened.configPath));
  const { truncate, mkdtemp, rm, writeFile } = await import('node:fs/promises');
  const folder = await mkdtemp(join((await import('node:os')).tmpdir(), 'shiftadd-'));
  t.teardown(() => rm(folder, { recursive: true }));
  const large = join(folder, 'large');
  await writeFile(large, '');
  await truncate(large, 5e9); // takes no room
  await t.rejects(engine.openModel(spec.numbers, [large], { threads: 1, precision: 'fast', kvCache: 'f16' }), statusAnd('out_of_memory', /5000000000 bytes/));
  await t.rejects(engine.openModel(spec.numbers, [join(folder, 'none')], { threads: 1, precision: 'fast', kvCache: 'f16' }), statusAnd('not_found', /none/));
});
