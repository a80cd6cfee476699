// Field reports G2, G4, G5 and G6, and agreement with the expected greedy ids.
import t from 'tap';
import { loadModel, type GenerateOptions, type Model } from '../../sdk/src/index.js';
import { byteTokenizer, copyOf, editJson, join, llama, patchTensor, readNumbers, stories } from './fixtures.js';
import { writeFile } from 'node:fs/promises';

const prompt = 'Once upon a time, there was a little girl named Lily.';
const begin = ' She loved to play outside in the park. One day, ';
const expected = await (async () => ({
  greedy: await readNumbers(join(stories, 'expected.safetensors'), 'greedy'),
  prompt: await readNumbers(join(stories, 'expected.safetensors'), 'input_ids'),
}))();

async function load(t: any, folder = stories, options = {}): Promise<Model> {
  const model = await loadModel(folder, options);
  t.teardown(() => model.close());
  return model;
}

t.test('greedy ids and the result', async (t) => {
  const model = await load(t);
  t.same(model.tokenizer.encode(prompt), expected.prompt);
  const run = model.generate(prompt, { maxTokens: 48 });
  let streamed = '';
  const ids: number[] = [];
  for await (const chunk of run) {
    t.equal(chunk.type, 'text');
    streamed += chunk.text;
    ids.push(...chunk.tokens);
  }
  const result = await run.result();
  t.same(result.tokens, expected.greedy);
  t.same(ids, expected.greedy);
  t.equal(result.text, streamed);
  t.equal(await run.text(), streamed);
  t.ok(streamed.startsWith(begin));
  t.match(result, {
    finishReason: 'length',
    usage: { promptTokens: 16, completionTokens: 48 },
    backend: { name: /^(cpu|wasm)$/ },
  });
  t.ok(result.timings.firstTokenMs! > 0 && result.timings.tokensPerSecond! > 0 && result.timings.loadMs > 0);
  t.ok(result.memory.weightsBytes > 0 && result.memory.kvCacheBytes > 0 && result.memory.peakRssBytes! > 0);
  t.same(result.energy, { joules: null, joulesPerToken: null, meter: null, method: null, scope: null, uncertainty: null, problem: 'the model was loaded without measure: true' });
  t.equal(result.memory.growth, null);
  t.throws(() => run[Symbol.asyncIterator](), TypeError);
  t.same(
    (await model.generate(expected.prompt, { maxTokens: 4 }).result()).tokens,
    expected.greedy.slice(0, 4),
    'from ids',
  );
});

t.test('G2: stop strings', async (t) => {
  const model = await load(t);
  const generate = async (stop: string[]) => {
    const run = model.generate(prompt, { maxTokens: 14, stop });
    let shown = '';
    for await (const chunk of run) shown += chunk.text;
    const { text, finishReason } = await run.result();
    t.equal(shown, text, 'nothing leaks');
    return [text, finishReason];
  };
  const whole = await generate([]);
  t.same(await generate(['outside']), [' She loved to play ', 'stop']);
  t.same(
    await generate(['park. One']),
    whole[0]!.includes('park. One') ? [' She loved to play outside in the ', 'stop'] : whole,
  );
  t.same(await generate(['outsider']), whole, 'released when it does not come');
  t.same(await generate(['zz', 'side in']), [' She loved to play out', 'stop']);
  t.equal(
    (await model.generate(prompt, { maxTokens: 48, stop: ['park. One'] }).result()).text,
    ' She loved to play outside in the ',
  );
});

t.test('G2: end ids are the union of all files', async (t) => {
  const folder = await copyOf(t, stories);
  await writeFile(join(folder, 'generation_config.json'), JSON.stringify({ eos_token_id: [2, 426] }));
  const model = await load(t, folder);
  const result = await model.generate(prompt, { maxTokens: 48 }).result();
  t.equal(result.text, ' She loved to play outside in the park');
  t.equal(result.finishReason, 'stop');
  await editJson(join(folder, 'config.json'), (config) => (config.eos_token_id = 433));
  const other = await load(t, folder);
  t.ok(' She loved to play outside in the park'.startsWith(await other.generate(prompt, { maxTokens: 48 }).text()));
  t.ok(
    (await other.generate(prompt, { maxTokens: 48 }).result()).usage.completionTokens < result.usage.completionTokens,
  );
});

t.test('G4: greedy in all its spellings', async (t) => {
  const model = await load(t);
  const spellings: GenerateOptions[] = [
    { temperature: 0 },
    { temperature: 1e-9 },
    { temperature: 0, topP: 0 },
    { temperature: 1, topP: 0 },
    { temperature: 1, topK: 1 },
    { temperature: 1, minP: 1 },
    { temperature: 0, topK: 100_000 },
    { temperature: 0, topK: 0 },
  ];
  for (const options of spellings) {
    const { tokens } = await model.generate(prompt, { maxTokens: 48, ...options }).result();
    t.same(tokens, expected.greedy, JSON.stringify(options));
  }
  for (const temperature of [-1, NaN]) t.throws(() => model.generate(prompt, { temperature }), RangeError);
  t.throws(() => model.generate(prompt, { temperature: 'x' as any }), TypeError);
  t.throws(() => model.generate(5 as any), TypeError);
  await t.rejects(model.generate([512]).result(), RangeError);
  await t.rejects(model.generate([]).result(), RangeError);
});

t.test('G4: numbers that are not finite', async (t) => {
  const withBytes = async (edit: (weights: string) => Promise<void>) => {
    const folder = await copyOf(t, llama);
    await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(byteTokenizer()));
    await edit(join(folder, 'model.safetensors'));
    const model = await load(t, folder);
    return model.generate([5, 6, 7], { maxTokens: 4 }).result();
  };
  const nan = Uint8Array.of(0x00, 0x7e);
  const infinity = Uint8Array.of(0x00, 0x7c);
  await t.rejects(
    withBytes(async (weights) => {
      await patchTensor(weights, 'lm_head.weight', 5 * 128, nan);
      await patchTensor(weights, 'lm_head.weight', 0, infinity);
    }),
    { code: 'ERR_NON_FINITE' },
  );
  await t.rejects(
    withBytes((weights) => patchTensor(weights, 'model.embed_tokens.weight', 6 * 128, nan)),
    { code: 'ERR_NON_FINITE' },
  );
  t.equal((await withBytes(async () => undefined)).usage.completionTokens, 4);
});

t.test('G5: the same request, the same ids', async (t) => {
  for (const threads of [1, 8]) {
    const model = await load(t, stories, { threads });
    t.equal(model.backend.threads, threads);
    const run = () => model.generate(prompt, { maxTokens: 48 }).result();
    for (let i = 0; i < 3; i++) t.same((await run()).tokens, expected.greedy);
    await model.generate('Another prompt', { maxTokens: 5 }).result();
    const parallel = await Promise.all(Array.from({ length: 7 }, run));
    for (const { tokens } of parallel) t.same(tokens, expected.greedy);
  }
});

t.test('G5: seeds', async (t) => {
  const model = await load(t);
  const run = async (seed?: number) =>
    (
      await model
        .generate(prompt, { maxTokens: 24, temperature: 0.8, ...(seed === undefined ? {} : { seed }) })
        .result()
    ).text;
  const first = await run(42);
  t.equal(await run(42), first);
  t.not(await run(43), first);
  t.not(await run(), await run());
  for (const seed of [0, 2 ** 32 - 1, 2 ** 53 - 1]) t.equal(await run(seed), await run(seed));
});

t.test('G6: the window', async (t) => {
  const model = await load(t);
  const tokens = (count: number) => Array.from({ length: count }, (_, i) => (i === 0 ? 1 : 300 + (i % 100)));
  for (const [count, maxTokens, most] of [
    [510, 1, 1],
    [510, 4, 3],
    [510, undefined, 3],
    [511, 1, 1],
    [511, 4, 2],
    [511, undefined, 2],
    [512, 1, 1],
    [512, 4, 1],
    [512, undefined, 1],
  ] as const) {
    const result = await model.generate(tokens(count), { ...(maxTokens === undefined ? {} : { maxTokens }) }).result();
    if (result.finishReason === 'stop') continue;
    t.match(
      result,
      { finishReason: 'length', usage: { promptTokens: count, completionTokens: most } },
      `${count}, ${maxTokens}`,
    );
  }
  for (const count of [513, 5000]) {
    await t.rejects(model.generate(tokens(count), { maxTokens: 1 }).result(), {
      code: 'ERR_CONTEXT_OVERFLOW',
      message: new RegExp(`${count} tokens.*512`),
    });
  }
  t.match(await model.generate(prompt, { maxTokens: 0 }).result(), {
    text: '',
    finishReason: 'length',
    usage: { completionTokens: 0 },
  });
  t.throws(() => model.generate(prompt, { maxTokens: -1 }), RangeError);
  const small = await load(t, stories, { contextSize: 20 });
  t.match(await small.generate(prompt).result(), { finishReason: 'length', usage: { completionTokens: 5 } });
  await t.rejects(loadModel(stories, { contextSize: 513 }), RangeError);
});

t.test('prompt lookup gives the same tokens and leaves the same session', async (t) => {
  await using model = await loadModel(stories);
  const text = 'Once upon a time, there was a little girl named Lily. She loved to play outside. Once upon a time, there was';
  for (const options of [{ maxTokens: 120 }, { maxTokens: 7 }, { maxTokens: 120, stop: ['the'] }]) {
    const plain = await model.generate(text, options).result();
    const guessed = await model.generate(text, { ...options, promptLookup: true }).result();
    t.same([guessed.tokens, guessed.text, guessed.finishReason], [plain.tokens, plain.text, plain.finishReason]);
  }
  const ids = expected.prompt.slice(0, 40);
  await using small = await loadModel(stories, { contextSize: ids.length + 5 });
  const full = await small.generate(ids, { promptLookup: true }).result();
  t.same(full.tokens, (await small.generate(ids).result()).tokens, 'up to the last place of the context');
  const random = { maxTokens: 20, temperature: 0.8, seed: 3 };
  t.same((await model.generate(text, { ...random, promptLookup: true }).result()).tokens, (await model.generate(text, random).result()).tokens);
});
