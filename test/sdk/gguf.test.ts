// GGUF files of every architecture against the expected logits, split files, field reports L4 and C5, and bad metadata.
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import t from 'tap';
import { openModelFolder } from '../../sdk/src/checkpoint/model-folder.js';
import { readGguf } from '../../sdk/src/checkpoint/gguf-header.js';
import { withDenseModel } from '../../sdk/src/dense-model.js';
import { describeFamily } from '../../sdk/src/families/index.js';
import { inspectModel, loadModel, quantizeModel } from '../../sdk/src/index.js';
import { copyOf, editJson, families, join, readNumbers, stories, temporaryFolder } from './fixtures.js';
import { architectureOf, bool, f32, ggufBytes, ggufMetadataOf, ggufTensorsOf, i32, list, string, u32, writeGguf, type GgufTensor, type MetadataEntry } from './gguf-writer.js';

async function logitsOf(path: string, tokens: Int32Array): Promise<Float32Array> {
  const folder = await openModelFolder(path);
  return withDenseModel(folder, describeFamily(folder.config, folder.configPath), {}, 'Testing', async (model) =>
    (await model.openSession(tokens.length)).prefillLogits(tokens),
  );
}

async function promptOf(fixture: string): Promise<{ tokens: Int32Array; logits: number[] }> {
  const expected = join(families, fixture, 'expected.safetensors');
  const tokens = Int32Array.from((await readNumbers(expected, 'input_ids')).slice(0, 48));
  const logits = await readNumbers(expected, 'logits');
  return { tokens, logits: logits.slice(0, logits.length / 2) };
}

const difference = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  let most = 0;
  for (let i = 0; i < a.length; i++) most = Math.max(most, Math.abs(a[i]! - b[i]!));
  return most;
};

// Mistral's window and OPT have no place in GGUF; Gemma 3's pattern of layers is fixed there.
for (const fixture of ['llama', 'llama-odd', 'llama-biases', 'qwen2', 'qwen3', 'phi3', 'smollm3', 'gemma', 'gemma2', 'gpt2', 'bloom', 'bloom-heads', 'gptneox'])
  t.test(`logits: ${fixture}`, async (t) => {
    const path = join(await temporaryFolder(t), 'model.gguf');
    await writeGguf(path, join(families, fixture));
    const { tokens, logits } = await promptOf(fixture);
    const got = await logitsOf(path, tokens);
    t.equal(got.length, logits.length);
    t.ok(difference(got, logits) < 2e-4, String(difference(got, logits)));
  });

t.test('Gemma 3: every sixth layer sees everything, so that none of four does', async (t) => {
  const path = join(await temporaryFolder(t), 'model.gguf');
  await writeGguf(path, join(families, 'gemma3'));
  const folder = await copyOf(t, join(families, 'gemma3'));
  await editJson(join(folder, 'config.json'), (config) => (config.layer_types = config.layer_types.map(() => 'sliding_attention')));
  const { tokens, logits } = await promptOf('gemma3');
  const wanted = await logitsOf(folder, tokens);
  const got = await logitsOf(path, tokens);
  t.ok(difference(got, wanted) < 1e-6, String(difference(got, wanted)));
  t.ok(difference(got, logits) > 1e-3, 'the windows matter');
});

t.test('rotary factors of Llama 3', async (t) => {
  const path = join(await temporaryFolder(t), 'model.gguf');
  const straight = describeFamily((await openModelFolder(join(families, 'llama3'))).config, '').rotarySets[0]!.frequencies;
  await writeGguf(path, join(families, 'llama3'), (_, tensors) => {
    const factors = Float32Array.from(straight, (frequency, i) => 500000 ** ((-2 * i) / (2 * straight.length)) / frequency);
    tensors.push({ name: 'rope_freqs.weight', shape: [factors.length], type: 0, data: new Uint8Array(factors.buffer) });
  });
  const { tokens, logits } = await promptOf('llama3');
  t.ok(difference(await logitsOf(path, tokens), logits) < 2e-4);
});

t.test('long rope of Phi 3, whose type is not in the file', async (t) => {
  const path = join(await temporaryFolder(t), 'model.gguf');
  const { rope_parameters: rope, original_max_position_embeddings: original, max_position_embeddings: limit } = JSON.parse(await readFile(join(families, 'phi3-long', 'config.json'), 'utf8'));
  await writeGguf(path, join(families, 'phi3-long'), (metadata, tensors) => {
    metadata.push(['phi3.rope.dimension_count', u32, 6], ['phi3.rope.scaling.original_context_length', u32, original]);
    metadata.push(['phi3.rope.scaling.attn_factor', f32, Math.sqrt(1 + Math.log(limit / original) / Math.log(original))]);
    for (const kind of ['short', 'long'])
      tensors.push({ name: `rope_factors_${kind}.weight`, shape: [3], type: 0, data: new Uint8Array(Float32Array.from(rope[`${kind}_factor`]).buffer) });
  });
  const { tokens, logits } = await promptOf('phi3-long');
  t.ok(difference(await logitsOf(path, tokens), logits) < 2e-4);
  const { config } = await openModelFolder(path);
  t.equal(describeFamily(config, '').rotarySwitch, original);
});

t.test('end tokens, and the begin token of Llama 3', async (t) => {
  const path = join(await temporaryFolder(t), 'model.gguf');
  await writeGguf(path, join(families, 'llama'), (metadata) => {
    const [tokens, types] = ['tokens', 'token_type'].map((key) => metadata.find(([name]) => name === `tokenizer.ggml.${key}`)![2]);
    tokens[250] = '<|eot_id|>';
    types[250] = 3;
    tokens[251] = '<end_of_turn>'; // an ordinary token
    metadata.find(([name]) => name === 'tokenizer.ggml.pre')![2] = 'llama-bpe';
    metadata.push(['tokenizer.ggml.bos_token_id', u32, 7], ['tokenizer.ggml.eom_token_id', u32, 249]);
  });
  const folder = await openModelFolder(path);
  t.same(folder.generationConfig['eos_token_id'], [1, 249, 250]);
  await using model = await loadModel(path);
  t.same(model.tokenizer.encode('a')[0], 7, 'without add_bos_token in the file');
});

t.test('rotary scaling in metadata', async (t) => {
  const path = join(await temporaryFolder(t), 'model.gguf');
  const ropeOf = async (...entries: MetadataEntry[]): Promise<any> => {
    await writeGguf(path, join(families, 'llama'), (metadata) => metadata.push(...entries));
    return (await openModelFolder(path)).config['rope_scaling'];
  };
  t.equal(await ropeOf(), undefined);
  t.same(await ropeOf(['llama.rope.scale_linear', f32, 4]), { rope_type: 'linear', factor: 4 });
  t.same(await ropeOf(['llama.rope.scaling.factor', f32, 4]), { rope_type: 'linear', factor: 4 });
  t.same(await ropeOf(['llama.rope.scaling.type', string, 'yarn'], ['llama.rope.scaling.factor', f32, 4], ['llama.rope.scaling.yarn_beta_fast', f32, 16], ['llama.rope.scaling.original_context_length', u32, 64]), {
    rope_type: 'yarn',
    factor: 4,
    original_max_position_embeddings: 64,
    beta_fast: 16,
  });
  await t.rejects(ropeOf(['llama.rope.scaling.type', string, 'yarn'], ['llama.rope.scaling.factor', f32, 4], ['llama.rope.scaling.yarn_log_multiplier', f32, 0.1]), { code: 'ERR_BAD_MODEL_FILE', message: /yarn_log_multiplier/ });
});

t.test('C5: Gemma with its own epsilon', async (t) => {
  const folder = await temporaryFolder(t);
  const { tokens, logits } = await promptOf('gemma');
  const epsilon = (value: number | null) => (metadata: MetadataEntry[]) => {
    const at = metadata.findIndex(([key]) => key.endsWith('layer_norm_rms_epsilon'));
    if (value === null) metadata.splice(at, 1);
    else metadata[at]![2] = value;
  };
  await writeGguf(join(folder, 'wide.gguf'), join(families, 'gemma'), epsilon(1e-2));
  t.ok(difference(await logitsOf(join(folder, 'wide.gguf'), tokens), logits) > 1e-2);
  await writeGguf(join(folder, 'none.gguf'), join(families, 'gemma'), epsilon(null));
  await t.rejects(openModelFolder(join(folder, 'none.gguf')), { code: 'ERR_BAD_MODEL_FILE', message: /gemma\.attention\.layer_norm_rms_epsilon is missing/ });
});

t.test('quantize and run', async (t) => {
  const folder = await temporaryFolder(t);
  for (const fixture of ['gemma', 'llama', 'gpt2', 'llama-biases']) {
    await mkdir(join(folder, fixture));
    const path = join(folder, fixture, 'only.gguf');
    await writeGguf(path, join(families, fixture));
    const calibration = join(folder, 'text.txt');
    await writeFile(calibration, 'The quick brown fox jumps over the lazy dog. '.repeat(20));
    const out = join(folder, `${fixture}-packed`);
    const options = { calibration, samples: 2, window: 32, bits: 6, fitRounds: 4, rowGroup: 32 };
    await quantizeModel(path, out, options);
    const { tokens, logits } = await promptOf(fixture);
    const got = await logitsOf(out, tokens);
    const energy = Math.sqrt(logits.reduce((sum, value) => sum + value ** 2, 0) / logits.length);
    t.ok(difference(got, logits) < 2 * energy, `${fixture}: ${difference(got, logits)} of ${energy}`);
    t.equal((await inspectModel(out)).architecture, (await inspectModel(path)).architecture);
    await using model = await loadModel(out);
    t.equal(model.tokenizer.decode(model.tokenizer.encode('abc')), 'abc');
  }
  await using whole = await loadModel(join(folder, 'llama')); // a folder with one file
  t.equal(whole.info.packed, false);
  await writeGguf(join(folder, 'llama', 'another.gguf'), join(families, 'llama'));
  await t.rejects(openModelFolder(join(folder, 'llama')), { code: 'ERR_NOT_FOUND', message: /several models: another\.gguf, only\.gguf/ });
});

t.test('split files', async (t) => {
  const folder = await temporaryFolder(t);
  const metadata = ggufMetadataOf(join(families, 'llama'));
  const tensors = await ggufTensorsOf(join(families, 'llama'));
  const split = (no: number, count = 2): MetadataEntry[] => [
    ['split.no', 2, no],
    ['split.count', 2, count],
    ['split.tensors.count', i32, tensors.length],
  ].map(([key, , value]) => [key, u32, value] as MetadataEntry);
  const [first, second] = ['model-00001-of-00002.gguf', 'model-00002-of-00002.gguf'].map((name) => join(folder, name));
  await writeFile(first!, ggufBytes([...metadata, ...split(0)], tensors.slice(0, 7)));
  await writeFile(second!, ggufBytes(split(1), tensors.slice(7)));
  const { tokens, logits } = await promptOf('llama');
  t.ok(difference(await logitsOf(first!, tokens), logits) < 2e-4);
  t.ok(difference(await logitsOf(folder, tokens), logits) < 2e-4, 'the folder of the parts');
  await writeFile(second!, ggufBytes(split(1), tensors.slice(6)));
  await t.rejects(openModelFolder(first!), { code: 'ERR_BAD_MODEL_FILE', message: /is twice/ });
  await writeFile(second!, ggufBytes(split(1, 3), tensors.slice(7)));
  await t.rejects(openModelFolder(first!), { code: 'ERR_BAD_MODEL_FILE', message: /not parts of one model/ });
  await rename(second!, join(folder, 'x.gguf'));
  await t.rejects(openModelFolder(first!), { code: 'ERR_NOT_FOUND', message: /model-00002-of-00002\.gguf/ });
  await t.rejects(openModelFolder(join(folder, 'x.gguf')), { code: 'ERR_BAD_MODEL_FILE', message: /must end in -00002-of-00003\.gguf/ });
});

t.test('L4: hostile headers', async (t) => {
  const folder = await temporaryFolder(t);
  const path = join(folder, 'x.gguf');
  const refused = async (bytes: Uint8Array, message: RegExp, code = 'ERR_BAD_MODEL_FILE') => {
    await writeFile(path, bytes);
    await t.rejects(readGguf(path), { code, message }, String(message));
  };
  const one = (shape: number[], type = 0, data = new Uint8Array(64)): GgufTensor => ({ name: 't', shape, type, data });
  await writeFile(path, ggufBytes([], [one([1, 0], 0, new Uint8Array(0))]));
  t.equal((await readGguf(path)).tensors.get('t')!.bytes, 0, 'a tensor without elements');
  await refused(ggufBytes([['general.alignment', i32, -32]], []), /general\.alignment -32/);
  for (const value of [0, 3, 2 ** 31]) await refused(ggufBytes([['general.alignment', u32, value]], []), /general\.alignment/);
  await refused(ggufBytes([['general.alignment', string, 'x']], []), /general\.alignment x/);
  await refused(ggufBytes([], [one([2 ** 30 + 1, 2 ** 30 - 1, 4])]), /more than the file holds/);
  await refused(ggufBytes([], [one([1, 2, 2, 2, 2])]), /5 dimensions/);
  await refused(ggufBytes([], [one([4, 4]), one([4, 4])]), /two tensors named t/);
  await refused(ggufBytes([], [one([2, 40], 8)]), /rows of 40 elements, no multiple of the 32/);
  await refused(ggufBytes([], [one([4, 4], 99)]), /type number 99/, 'ERR_UNSUPPORTED_MODEL');
  await refused(ggufBytes([], [one([4, 4])]).subarray(0, 60), /inside its header|needs bytes|more than it holds/);
  await refused(ggufBytes([['', u32, 1]], []), /empty key/);
  await refused(ggufBytes([['a', u32, 1], ['a', u32, 2]], []), /the key a twice/);
  await refused(ggufBytes([['a', 77, 1]], []), /unknown type 77/);
  await refused(ggufBytes([['a', list(9), [1]]], []), /array of the unknown type 9/);
  await refused(ggufBytes([], [], { version: 1 }), /version 1/, 'ERR_UNSUPPORTED_MODEL');
  await refused(ggufBytes([], [], { version: 0x03000000 }), /big-endian/, 'ERR_UNSUPPORTED_MODEL');
  await refused(new Uint8Array(0), /is no GGUF file/);
  await refused(new Uint8Array(100), /is no GGUF file/);
  const long = (at: number, value: bigint) => (bytes: Uint8Array): Uint8Array => {
    new DataView(bytes.buffer).setBigUint64(at, value, true);
    return bytes;
  };
  const listed = (): Uint8Array => ggufBytes([['k', list(u32), [1, 2]]], []);
  await refused(long(8, 2n ** 60n)(listed()), /1152921504606846976 tensors/);
  await refused(long(16, 2n ** 60n)(listed()), /keys, more than it holds/);
  await refused(long(24, 2n ** 63n)(listed()), /bytes of a key/);
  await refused(long(24 + 9 + 8, 2n ** 60n)(listed()), /elements of k/);
  const misplaced = ggufBytes([], [one([4, 4])]);
  await refused(long(24 + 9 + 4 + 16 + 4, 8n)(misplaced), /no multiple of 32/);
  await refused(long(24 + 9 + 4 + 16 + 4, 2n ** 40n)(ggufBytes([], [one([4, 4])])), /needs bytes up to/);
  const overlapping = ggufBytes([], [one([4, 4]), { ...one([4, 4]), name: 'u' }]);
  await refused(long(24 + 41 + 41 - 8, 32n)(overlapping), /overlapping tensors t and u/);
});

t.test('metadata that does not fit', async (t) => {
  const path = join(await temporaryFolder(t), 'x.gguf');
  const cases: [edit: (metadata: MetadataEntry[], tensors: GgufTensor[]) => void, code: string, message: RegExp][] = [
    [(metadata) => (metadata[0]![2] = 'mamba'), 'ERR_UNSUPPORTED_MODEL', /general\.architecture is 'mamba'/],
    [(metadata) => metadata.shift(), 'ERR_BAD_MODEL_FILE', /general\.architecture is missing/],
    [(metadata) => metadata.splice(1, 1), 'ERR_BAD_MODEL_FILE', /llama\.block_count is missing/],
    [(metadata) => (metadata[1] = ['llama.block_count', string, '2']), 'ERR_BAD_MODEL_FILE', /llama\.block_count is '2'/],
    [(metadata) => (metadata[5] = ['llama.attention.head_count', list(u32), [4, 2]]), 'ERR_BAD_MODEL_FILE', /same number for every layer/],
    [(metadata) => metadata.push(['llama.rope.scaling.type', string, 'odd']), 'ERR_BAD_MODEL_FILE', /rope\.scaling\.type/],
    [(_, tensors) => (tensors[3]!.name = 'blk.0.odd.weight'), 'ERR_UNSUPPORTED_MODEL', /blk\.0\.odd\.weight has no place/],
    [(_, tensors) => tensors.splice(tensors.findIndex(({ name }) => name === 'token_embd.weight'), 1), 'ERR_BAD_MODEL_FILE', /token_embd/],
    [(metadata) => (metadata.find(([key]) => key === 'tokenizer.ggml.model')![2] = 'rwkv'), 'ERR_UNSUPPORTED_MODEL', /tokenizer\.ggml\.model is 'rwkv'/],
    [(metadata) => (metadata.find(([key]) => key === 'tokenizer.ggml.pre')![2] = 'odd'), 'ERR_UNSUPPORTED_MODEL', /tokenizer\.ggml\.pre is 'odd'/],
    [(metadata) => (metadata.find(([key]) => key === 'tokenizer.ggml.token_type')![2] = [1]), 'ERR_TOKENIZER', /token_type is no list of 256/],
    [(metadata) => (metadata.find(([key]) => key === 'tokenizer.ggml.merges')![2] = ['ab']), 'ERR_TOKENIZER', /merges has 'ab'/],
    [(metadata) => (metadata.find(([key]) => key === 'tokenizer.ggml.eos_token_id')![2] = 999), 'ERR_TOKENIZER', /eos_token_id is 999/],
  ];
  for (const [edit, code, message] of cases) {
    await writeGguf(path, join(families, 'llama'), edit);
    await t.rejects(openModelFolder(path), { code, message }, String(message));
  }
});

t.test('a vocabulary of SentencePiece', async (t) => {
  const tokenizer = JSON.parse(await readFile(join(stories, 'tokenizer.json'), 'utf8'));
  const tokens = Object.keys(tokenizer.model.vocab).sort((a, b) => tokenizer.model.vocab[a] - tokenizer.model.vocab[b]);
  const config = JSON.parse(await readFile(join(stories, 'config.json'), 'utf8'));
  const path = join(await temporaryFolder(t), 'stories.gguf');
  const rank = new Map(tokenizer.model.merges.map((merge: string[], i: number) => [merge.join(''), -i - 1]));
  const metadata = ggufMetadataOf(stories).filter(([key]) => !key.startsWith('tokenizer.'));
  const types = tokens.map((token) => (token === '<unk>' ? 2 : token === '<s>' || token === '</s>' ? 3 : /^<0x..>$/.test(token) ? 6 : 1));
  metadata.push(
    ['tokenizer.ggml.model', string, 'llama'],
    ['tokenizer.ggml.tokens', list(string), tokens],
    ['tokenizer.ggml.scores', list(f32), tokens.map((token) => rank.get(token) ?? -1e6)],
    ['tokenizer.ggml.token_type', list(i32), types],
    ['tokenizer.ggml.bos_token_id', u32, 1],
    ['tokenizer.ggml.eos_token_id', u32, 2],
    ['tokenizer.ggml.add_bos_token', bool, true],
  );
  await writeFile(path, ggufBytes(metadata, await ggufTensorsOf(stories)));
  t.equal(architectureOf(config), 'llama');
  await using folder = await loadModel(stories);
  await using model = await loadModel(path);
  for (const text of ['Once upon a time, there was', ' ...', 'a😊b  c', '<s>', 'x\n\ny é 中', ''])
    for (const parseSpecial of [true, false]) {
      const ids = folder.tokenizer.encode(text, { parseSpecial });
      t.same(model.tokenizer.encode(text, { parseSpecial }), ids, JSON.stringify(text));
      t.equal(model.tokenizer.decode(ids), folder.tokenizer.decode(ids));
    }
  const prompt = 'Once upon a time, there was a little girl named Lily.';
  const options = { maxTokens: 24, temperature: 0 };
  t.equal(await model.generate(prompt, options).text(), await folder.generate(prompt, options).text());
});
