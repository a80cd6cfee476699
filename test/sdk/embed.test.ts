// Embeddings against the logits that transformers gave for the fixtures, and against themselves.
import { readdirSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import t from 'tap';
import { openModelFolder, type StoredTensor } from '../../sdk/src/checkpoint/model-folder.js';
import { withDenseModel } from '../../sdk/src/dense-model.js';
import { enginePooling } from '../../sdk/src/engine.js';
import { describeFamily } from '../../sdk/src/families/index.js';
import { Role } from '../../sdk/src/families/family.js';
import { loadModel, quantizeModel, type LoadOptions, type Model } from '../../sdk/src/index.js';
import { buildModelSpec } from '../../sdk/src/model-spec.js';
import { families, join, patchTensor, copyOf, readNumbers, stories, temporaryFolder } from './fixtures.js';

const tolerance = 2e-4;

for (const name of readdirSync(families)) {
  t.test(`${name}: the head makes the expected logits of the last state`, async (t) => {
    const path = join(families, name);
    const folder = await openModelFolder(path);
    const family = describeFamily(folder.config, folder.configPath);
    const [ids, logits] = await Promise.all(['input_ids', 'logits'].map((tensor) => readNumbers(join(path, 'expected.safetensors'), tensor)));
    const tokens = Int32Array.from(ids!.slice(0, ids!.length / 2));
    const { vocabularySize, embeddingSize, logitCap } = family;
    const { tensors } = buildModelSpec(folder, family);
    const head = tensors.find(({ wanted }) => wanted.role === Role.head) ?? tensors.find(({ wanted }) => wanted.role === Role.embedding)!;
    const weights = await readMatrix(head.dense!);
    await withDenseModel(folder, family, {}, 'Testing', async (engineModel) => {
      const session = await engineModel.openSession(tokens.length);
      const state = await session.embed(tokens, enginePooling.last);
      t.equal(state.length, embeddingSize);
      let worst = 0;
      for (let row = 0; row < vocabularySize; row++) {
        let sum = 0;
        for (let c = 0; c < embeddingSize; c++) sum += weights[row * embeddingSize + c]! * state[c]!;
        const logit = logitCap > 0 ? logitCap * Math.tanh(sum / logitCap) : sum;
        worst = Math.max(worst, Math.abs(logit - logits![(tokens.length - 1) * vocabularySize + row]!));
      }
      t.ok(worst < tolerance, `worst of ${vocabularySize} logits: ${worst}`);

      // A causal model holds of a prefix what it holds of the whole. Long rope has two kinds of positions.
      if (family.rotarySwitch > 0) return;
      const mean = new Float64Array(embeddingSize);
      for (let end = 1; end <= tokens.length; end++) (await session.embed(tokens.subarray(0, end), enginePooling.last)).forEach((value, c) => (mean[c]! += value / tokens.length));
      const pooled = await session.embed(tokens, enginePooling.mean);
      t.ok(pooled.every((value, c) => Math.abs(value - mean[c]!) < tolerance), 'the mean is that of the last states of all prefixes');
      const first = await session.embed(tokens.subarray(0, 1), enginePooling.last);
      t.ok((await session.embed(tokens, enginePooling.first)).every((value, c) => Math.abs(value - first[c]!) < tolerance));
      await t.rejects(session.embed(Int32Array.of(), enginePooling.last));
      await t.rejects(session.embed(tokens, 3), /pooling/);
    });
  });
}

/** The numbers of a dense tensor. */
async function readMatrix({ path, offset, bytes, dtype }: StoredTensor): Promise<Float64Array> {
  const stored = (await readFile(path)).subarray(offset, offset + bytes);
  const view = new DataView(stored.buffer, stored.byteOffset, bytes);
  const word = new DataView(new ArrayBuffer(4));
  const decode = { F32: (i: number) => view.getFloat32(4 * i, true), F16: (i: number) => half(view.getUint16(2 * i, true)), BF16: (i: number) => (word.setUint32(0, view.getUint16(2 * i, true) << 16), word.getFloat32(0)) }[dtype];
  if (decode === undefined) throw new Error(`${dtype} is not known to this test`);
  return Float64Array.from({ length: bytes / (dtype === 'F32' ? 4 : 2) }, (_, i) => decode(i));
}

function half(bits: number): number {
  const exponent = (bits >> 10) & 31;
  const mantissa = bits & 1023;
  const value = exponent === 0 ? mantissa * 2 ** -24 : (1 + mantissa / 1024) * 2 ** (exponent - 15);
  return bits & 0x8000 ? -value : value;
}

const load = async (t: any, options: LoadOptions = {}, path = stories): Promise<Model> => {
  const model = await loadModel(path, { threads: 1, ...options });
  t.teardown(() => model.close());
  return model;
};
const texts = ['Once upon a time there was a dog.', 'The sun', 'Lily and Tom went to the park to play with the big red ball, and they were happy. '.repeat(6)];

t.test('options, usage and what is refused', async (t) => {
  const model = await load(t);
  const counts = texts.map((text) => model.tokenizer.encode(text).length);
  t.ok(counts[2]! > 128, 'more than one step');
  for (const pooling of ['mean', 'last', 'cls'] as const) {
    const { vectors, dimensions, usage } = await model.embed(texts, { pooling });
    t.equal(vectors.length, 3);
    t.same(usage, { promptTokens: counts.reduce((a, b) => a + b), truncatedTexts: 0 });
    for (const vector of vectors) {
      t.equal(vector.length, dimensions);
      t.ok(Math.abs(Math.hypot(...vector) - 1) < 1e-5, 'of length 1');
    }
    const plain = await model.embed(texts, { pooling, normalize: false });
    t.ok(plain.vectors.every((vector, i) => vector.every((value, c) => Math.abs(value / Math.hypot(...vector) - vectors[i]![c]!) < 1e-5)));
    t.same((await model.embed([model.tokenizer.encode(texts[1]!)], { pooling })).vectors[0], vectors[1], 'token ids, alone or among others');
  }
  const last = await model.embed(texts, { pooling: 'last' });
  t.ok(Math.abs(last.vectors[0]!.reduce((sum, value, c) => sum + value * last.vectors[1]![c]!, 0)) < 0.999, 'texts differ');
  t.same(await model.embed([]), { vectors: [], dimensions: last.dimensions, usage: { promptTokens: 0, truncatedTexts: 0 } });

  const long = 'word '.repeat(600);
  const length = model.tokenizer.encode(long).length;
  await t.rejects(model.embed(['x', long]), { code: 'ERR_CONTEXT_OVERFLOW', message: new RegExp(`Text 1 has ${length} tokens but the context holds 512`) });
  const cut = await model.embed([long], { truncate: true });
  t.same(cut.usage, { promptTokens: 512, truncatedTexts: 1 });
  t.same(cut.vectors[0], (await model.embed([model.tokenizer.encode(long).slice(0, 512)])).vectors[0]);
  await t.rejects(model.embed('text' as any), TypeError);
  await t.rejects(model.embed([5 as any]), TypeError);
  await t.rejects(model.embed([[]]), RangeError);
  await t.rejects(model.embed([[512]]), RangeError);
  await t.rejects(model.embed([''], { addSpecialTokens: false }), RangeError);
  await t.rejects(model.embed(['x'], { pooling: 'max' as any }), TypeError);
  await t.rejects(model.embed(['x'], { normalise: true } as any), /Did you mean 'normalize'/);
  const controller = new AbortController();
  const aborted = model.embed(Array(50).fill(texts[2]), { signal: controller.signal });
  controller.abort(new Error('enough'));
  await t.rejects(aborted, { message: 'enough' });
  const closing = model.embed(Array(50).fill(texts[2]));
  closing.catch(() => undefined);
  await model.close();
  await t.rejects(closing, { code: 'ERR_CLOSED' });
  await t.rejects(model.embed(['x']), { code: 'ERR_CLOSED' });
});

t.test('a packed model embeds in the basis of its checkpoint, native and in WebAssembly', async (t) => {
  const out = join(await temporaryFolder(t), 'packed');
  const calibration = join(out, '..', 'text.txt');
  await writeFile(calibration, texts.join(' ').repeat(8));
  await quantizeModel(stories, out, { bits: 6, samples: 4, window: 64, fitRounds: 2, refits: 1, sweeps: 1, calibration });
  t.ok((await openModelFolder(out)).rotation !== null, 'its residual stream is rotated');
  const dense = await (await load(t)).embed(texts);
  const packed = await (await load(t, { precision: 'exact' }, out)).embed(texts);
  const wasm = await (await load(t, { precision: 'exact', backend: 'wasm' }, out)).embed(texts);
  for (let i = 0; i < texts.length; i++) {
    const cosine = packed.vectors[i]!.reduce((sum, value, c) => sum + value * dense.vectors[i]![c]!, 0);
    t.ok(cosine > 0.98, `text ${i} is where it was: ${cosine}`);
  }
  t.same(wasm.vectors, packed.vectors, 'the same bits');
});

t.test('weights that are not finite', async (t) => {
  const folder = await copyOf(t, stories);
  await patchTensor(join(folder, 'model.safetensors'), 'model.norm.weight', 0, Uint8Array.of(0, 0, 0xc0, 0x7f));
  await t.rejects((await load(t, { verify: false }, folder)).embed(['x']), { code: 'ERR_NON_FINITE' });
});
