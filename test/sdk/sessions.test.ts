// Chats that are saved and go on, sessions that are shared between prompts, and histories that outgrow the context.
import { mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import t from 'tap';
import { loadModel, quantizeModel, type ChatOptions, type LoadOptions, type Model } from '../../sdk/src/index.js';
import { coreOf } from '../../sdk/src/model-core.js';
import { writeStateFile } from '../../sdk/src/state-file.js';
import { copyOf, editJson, join, patchTensor, stories, temporaryFolder } from './fixtures.js';

const template =
  "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";

let folder: string;
/** The same model packed: its exact products have the same bits however many tokens come together. */
let packed: string;
t.before(async () => {
  folder = await copyOf(t, stories);
  await editJson(join(folder, 'tokenizer_config.json'), (config) => (config.chat_template = template));
  packed = join(folder, 'packed');
  const calibration = join(folder, 'text.txt');
  await writeFile(calibration, 'Once upon a time, there was a little girl named Lily. She loved to play outside in the park.\n'.repeat(20));
  await quantizeModel(folder, packed, { samples: 4, window: 64, fitRounds: 2, refits: 1, sweeps: 1, calibration });
});

async function load(t: any, options: LoadOptions = {}, path = folder): Promise<Model> {
  const model = await loadModel(path, { threads: 1, ...options });
  t.teardown(() => model.close());
  return model;
}

const turns = ['Once upon a time', 'There was a dog', 'The sun was hot'];
const greedy: ChatOptions = { system: 'Tell a story.', maxTokens: 24, temperature: 0 };
const seeded: ChatOptions = { ...greedy, temperature: 0.8, topP: 0.9, repetitionPenalty: 1.1 };
const turnOptions = (options: ChatOptions, turn: number) => (options === seeded ? { seed: 40 + turn } : {});

t.test('a restored chat goes on as the one that was not interrupted', async (t) => {
  const files = await temporaryFolder(t);
  const native = await load(t);
  const exact = await load(t, { precision: 'exact' });
  const wasm = await load(t, { backend: 'wasm' });
  for (const options of [greedy, seeded]) {
    const name = options === greedy ? 'greedy' : 'seeded';
    for (const [from, to, what] of [[native, native, 'native'], [exact, exact, 'exact'], [wasm, wasm, 'wasm'], [native, wasm, 'native to wasm'], [wasm, native, 'wasm to native']] as const) {
      const chat = from.createChat(options);
      for (const turn of [0, 1]) await chat.send(turns[turn]!, turnOptions(options, turn)).result();
      const path = await chat.saveState(join(files, 'chat.state'));
      const whole = await chat.send(turns[2]!, turnOptions(options, 2)).result();
      const restored = await to.restoreChat(path);
      t.same(restored.history, chat.history.slice(0, -2), `${name}, ${what}: the history`);
      const rest = await restored.send(turns[2]!, turnOptions(options, 2)).result();
      t.same(rest.tokens, whole.tokens, `${name}, ${what}: the same tokens`);
      t.equal(rest.usage.cachedPromptTokens, whole.usage.cachedPromptTokens, `${name}, ${what}: nothing is read again`);
      t.ok(rest.usage.cachedPromptTokens > 60);
      restored.reset();
      t.same(restored.history, [{ role: 'system', content: 'Tell a story.' }]);
      await Promise.all([chat.close(), restored.close()]);
    }
  }
  t.same(await readdir(files), ['chat.state'], 'nothing else is left behind');
});

t.test('options, tools and empty chats are saved too', async (t) => {
  const model = await load(t);
  const path = join(await temporaryFolder(t), 'chat.state');
  const tools = [{ name: 'weather', description: 'of a town', parameters: { type: 'object' } }];
  const chat = model.createChat({ maxTokens: 3, contextSize: 400, tools });
  await chat.saveState(path);
  const empty = await model.restoreChat(path);
  t.same(empty.history, []);
  t.equal((await empty.send('Hello', { toolChoice: 'none' }).result()).usage.completionTokens, 3, 'maxTokens is the saved one');
  await empty.saveState(path);
  const other = await model.restoreChat(path, { maxTokens: 5, tools: [] });
  t.equal((await other.send('Hello').result()).usage.completionTokens, 5, 'a given option takes its place');
  await t.rejects(model.restoreChat(path, { contextSize: 10 }), { code: 'ERR_CONTEXT_OVERFLOW', message: /holds \d+ tokens but the context holds 10/ });
  await t.rejects(model.restoreChat(path, { contextSize: 513 }), RangeError);
  await t.rejects(model.restoreChat(path, { maxToken: 5 } as any), /Did you mean 'maxTokens'/);
  await t.rejects(model.restoreChat(path, { system: 'x' } as any), TypeError);
  await t.rejects(model.restoreChat(5 as any), TypeError);
  await t.rejects(chat.saveState(undefined as any), TypeError);

  const running = other.send('More', { maxTokens: 50 });
  await t.rejects(other.saveState(path), { code: 'ERR_BUSY' });
  await running.result();
  const saving = other.saveState(path);
  await t.rejects(other.send('x').result(), { code: 'ERR_BUSY' });
  t.throws(() => other.reset(), { code: 'ERR_BUSY' });
  await saving;
  await other.close();
  await t.rejects(other.saveState(path), { code: 'ERR_CLOSED' });
});

t.test('a file of another model or of other options is refused', async (t) => {
  const path = join(await temporaryFolder(t), 'chat.state');
  const model = await load(t);
  const chat = model.createChat(greedy);
  await chat.send('Hello').result();
  await chat.saveState(path);
  const other = await copyOf(t, folder);
  await patchTensor(join(other, 'model.safetensors'), 'model.norm.weight', 0, Uint8Array.of(1, 2));
  await t.rejects((await load(t, {}, other)).restoreChat(path), { code: 'ERR_STATE_MISMATCH', message: /another model/ });
  await t.rejects((await load(t, { kvCache: 'f32' })).restoreChat(path), { code: 'ERR_STATE_MISMATCH', message: /kvCache 'f16'.*'f32'/ });
  await t.rejects((await load(t, { precision: 'exact', kvCache: 'f16' })).restoreChat(path), { code: 'ERR_STATE_MISMATCH', message: /precision 'fast'.*'exact'/ });
  const moved = await load(t, {}, await copyOf(t, folder));
  t.same((await moved.restoreChat(path)).history, chat.history, 'the path of the model does not matter');
});

t.test('damaged files are refused, and nothing of them is used', async (t) => {
  const files = await temporaryFolder(t);
  const path = join(files, 'chat.state');
  const model = await load(t);
  const chat = model.createChat(greedy);
  for (const text of turns) await chat.send(text).result();
  await chat.saveState(path);
  const whole = await readFile(path);
  const refused = async (bytes: Uint8Array, what: string, message: RegExp) => {
    await writeFile(join(files, 'other'), bytes);
    await t.rejects(model.restoreChat(join(files, 'other')), { code: 'ERR_STATE_FILE', message }, what);
  };
  for (const size of [0, 7, 8, 31, 32, 500, whole.length - 33, whole.length - 1])
    await refused(whole.subarray(0, size), `${size} bytes`, size < 8 ? /no saved session|not a saved session/ : /ends within|ask for/);
  await refused(Buffer.concat([whole, Buffer.alloc(1)]), 'a byte more', /ask for/);
  const flipped = (at: number): Uint8Array => {
    const bytes = Uint8Array.from(whole);
    bytes[at]! ^= 1;
    return bytes;
  };
  for (let at = 0; at < whole.length; at += Math.ceil(whole.length / 37)) await refused(flipped(at), `bit ${at}`, /not a saved session|version|sizes|damaged|ask for/);
  await refused(flipped(whole.length - 1), 'the last bit', /damaged/);

  const hostile = (field: number, value: number): Uint8Array => {
    const bytes = Uint8Array.from(whole);
    new DataView(bytes.buffer).setUint32(field, value, true);
    return bytes;
  };
  await refused(hostile(8, 2), 'another version', /version 2/);
  for (const field of [12, 16, 20, 24, 28]) for (const value of [0, 2 ** 31, 2 ** 32 - 1]) {
    if (new DataView(whole.buffer, whole.byteOffset).getUint32(field, true) !== value) await refused(hostile(field, value), `${field}: ${value}`, /sizes|ask for|damaged/);
  }

  // Whole files with contents that no chat has.
  const core = coreOf(model)!;
  const fingerprint = { model: await core.identify(), precision: 'fast', kvCache: 'f16', arithmetic: 'cpu' };
  const saved = { contextSize: 512, messages: [], systemMessages: 0, tools: [], calls: 0, options: {} };
  const write = (chat: object, tokens: number[] = [], positionBytes = 0) =>
    writeStateFile(path, { header: { kind: 'chat', fingerprint, chat: chat as never }, tokens: Int32Array.from(tokens), positionBytes }, async (_, count) => new Uint8Array(count * positionBytes));
  for (const wrong of [{ contextSize: -1 }, { messages: [5] }, { messages: [{ role: 'user' }] }, { systemMessages: 1 }, { tools: ['x'] }, { options: { temperature: 'hot' } }, { options: { nothing: 1 } }]) {
    await write({ ...saved, ...wrong });
    await t.rejects(model.restoreChat(path), { code: 'ERR_STATE_FILE' }, JSON.stringify(wrong));
  }
  const { positionBytes } = (await core.openSession(8)).describe();
  await write(saved, [1, 2], positionBytes / 2);
  await t.rejects(model.restoreChat(path), { code: 'ERR_STATE_FILE' }, 'positions of another size');
  await write(saved, [1, 512], positionBytes);
  await t.rejects(model.restoreChat(path), { code: 'ERR_ENGINE', message: /token 512/ }, 'a token that there is not');
  await write(saved, [1, 2], positionBytes);
  t.same((await model.restoreChat(path)).history, [], 'the form itself is right');

  await t.rejects(model.restoreChat(join(files, 'none')), { code: 'ERR_NOT_FOUND' });
  await t.rejects(model.restoreChat(files), { code: 'ERR_NOT_FOUND', message: /folder/ });
});

t.test('a file that cannot be written leaves the last one alone', async (t) => {
  const files = await temporaryFolder(t);
  const path = join(files, 'chat.state');
  const model = await load(t);
  const chat = model.createChat(greedy);
  await chat.send('Hello').result();
  await chat.saveState(path);
  const before = await readFile(path);
  const full = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC', syscall: 'write' });
  const content = { header: {}, tokens: Int32Array.of(1), positionBytes: 4 };
  await t.rejects(writeStateFile(path, content, () => Promise.reject(full)), { code: 'ERR_WRITE', message: /no space left/ });
  t.ok(before.equals(await readFile(path)));
  await t.rejects(chat.saveState(join(files, 'none', 'chat.state')), { code: 'ERR_NOT_FOUND', message: /none does not exist/ });
  await mkdir(join(files, 'folder'));
  await t.rejects(chat.saveState(join(files, 'folder')), { code: 'ERR_OUTPUT_EXISTS', message: /is a folder/ });
  await writeFile(join(files, 'letter.txt'), 'Dear reader,');
  await t.rejects(chat.saveState(join(files, 'letter.txt')), { code: 'ERR_OUTPUT_EXISTS', message: /no saved session/ });
  t.equal(await readFile(join(files, 'letter.txt'), 'utf8'), 'Dear reader,');
  t.same((await readdir(files)).sort(), ['chat.state', 'folder', 'letter.txt'], 'no partial files are left');
  t.equal((await chat.send('More').result()).finishReason, 'length', 'the chat goes on');
});

t.test('sessions: positions saved in parts and in any order of calls', async (t) => {
  for (const options of [{ kvCache: 'f32' }, { kvCache: 'f16' }, { kvCache: 'f32', backend: 'wasm' }] as LoadOptions[]) {
    const core = coreOf(await load(t, options))!;
    const tokens = Int32Array.from({ length: 150 }, (_, i) => (i * 37) % 512);
    const [from, to] = [await core.openSession(200), await core.openSession(180)];
    await from.prefill(tokens);
    const { positionBytes } = from.describe();
    const whole = await from.save(0, 150);
    t.equal(whole.length, 150 * positionBytes);
    t.same(await from.save(37, 50), whole.slice(37 * positionBytes, 87 * positionBytes), 'a part is a part of the whole');
    for (const [first, count] of [[0, 37], [37, 50], [87, 62]] as const) await to.restore(tokens.slice(first, first + count), await from.save(first, count), false);
    await to.prefill(tokens.slice(149));
    from.rewind(149);
    await from.prefill(tokens.slice(149));
    t.same(to.logits(), from.logits(), 'the same bits');
    await t.rejects(from.save(100, 51), /not all taken/);
    await t.rejects(from.save(-1, 1));
    await t.rejects(to.restore(tokens.slice(0, 1), whole, false), /bytes/);
    await t.rejects(to.restore(tokens, whole, false), /do not fit/);
    await t.rejects(to.restore(tokens.slice(0, 1), whole.slice(0, positionBytes), true), /one kind/);
    await to.copy(from, tokens.slice(0, 100));
    t.equal(to.describe().position, 100);
    await to.prefill(tokens.slice(100));
    from.rewind(100);
    await from.prefill(tokens.slice(100));
    t.same(to.logits(), from.logits(), 'a copy has the same bits');
    await t.rejects(to.copy(from, Int32Array.of(1, 2)), /does not begin/, 'content of another text never comes along');
    await t.rejects(to.copy(to, tokens), /another one/);
  }
});

t.test('prompts that begin alike share a session, with the results of fresh runs', async (t) => {
  const plain = await load(t, { precision: 'exact' }, packed);
  for (const backend of ['cpu', 'wasm'] as const) {
    const model = await load(t, { precision: 'exact', backend, prefixCache: { sessions: 2 } }, packed);
    const prompt = plain.tokenizer.encode('Once upon a time there was a little girl named Lily. She had a red ball and a big dog.');
    const runs: [string, number[], number][] = [
      ['the first', prompt, 0],
      ['the same', prompt, prompt.length - 1],
      ['longer', [...prompt, 400, 410], prompt.length],
      ['only the beginning', prompt.slice(0, 20), 19],
      ['copied, because most would be lost', [...prompt.slice(0, 18), 300, 301], 0],
      ['another', [5, 6, 7, 8, 9], 0],
    ];
    for (const [what, ids, least] of runs) {
      for (const options of [{ maxTokens: 24 }, { maxTokens: 24, temperature: 0.8, seed: 3 }]) {
        const fresh = await plain.generate(ids, options).result();
        const shared = await model.generate(ids, options).result();
        t.same(shared.tokens, fresh.tokens, `${backend}, ${what}: the tokens of a fresh run`);
        t.equal(shared.usage.promptTokens, ids.length);
        t.equal(fresh.usage.cachedPromptTokens, 0, 'nothing is kept unless asked for');
        t.ok(shared.usage.cachedPromptTokens >= least && shared.usage.cachedPromptTokens < ids.length, `${shared.usage.cachedPromptTokens} of ${ids.length} were not read again`);
      }
    }
    const { memory } = await model.generate(prompt, { maxTokens: 1 }).result();
    t.ok(memory.prefixCacheBytes > 0);
    t.equal((await plain.generate(prompt, { maxTokens: 1 }).result()).memory.prefixCacheBytes, 0);
  }
});

t.test('chats share the prefix of others, open or closed', async (t) => {
  const plain = await load(t, { precision: 'exact' }, packed);
  const model = await load(t, { precision: 'exact', prefixCache: {} }, packed);
  const expected = plain.createChat(greedy);
  const first = model.createChat(greedy);
  const question = 'Lily and Tom went to the park to play with a ball';
  t.same((await first.send(question).result()).tokens, (await expected.send(question).result()).tokens);
  // The first is open, and its session must stay its own.
  const second = model.createChat(greedy);
  const answer = await second.send(question).result();
  t.same(answer.text, expected.history.at(-1)!.content);
  t.ok(answer.usage.cachedPromptTokens > 16, 'copied from the open chat');
  const third = model.createChat(greedy);
  const both = await Promise.all([first.send('And then?').result(), third.send(question).result()]);
  t.same(both[0].tokens, (await expected.send('And then?').result()).tokens, 'a turn and a copy at the same time');
  t.same(both[1].tokens, answer.tokens);
  const fourth = model.createChat(greedy);
  const path = join(await temporaryFolder(t), 'chat.state');
  const [, again] = await Promise.all([second.saveState(path), fourth.send(question).result(), third.saveState(join(path, '..', 'third'))]);
  t.same(again.tokens, answer.tokens, 'saved and copied at the same time');
  t.same((await model.restoreChat(path)).history, second.history);
  await Promise.all([first.close(), second.close(), third.close(), fourth.close()]);
  const last = await model.createChat(greedy).send(question).result();
  t.same(last.tokens, answer.tokens);
  t.equal(last.usage.cachedPromptTokens, last.usage.promptTokens - 1, 'of a closed chat');
});

t.test('S7: many runs at once never see the text of others', async (t) => {
  const plain = await load(t, { precision: 'exact' }, packed);
  const names = ['Tom', 'Lily', 'Sam', 'Ben', 'Mia', 'Max', 'Ann', 'Bob'];
  const start = 'Once upon a time there was a big dog who liked to play in the park with all the kids. ';
  // Prompts share 0, about 50 and about 99 % of their beginning.
  const prompts = names.flatMap((name) => [`${name} went home.`, `Once upon a time there was a big dog. Its best friend ${name} was not at home and it was sad.`, `${start}His name was ${name}`]);
  const lone = new Map<string, number[]>();
  for (const prompt of prompts) lone.set(prompt, (await plain.generate(prompt, { maxTokens: 8 }).result()).tokens);
  for (const limits of [{ sessions: 3 }, { sessions: 8, bytes: 1 }]) {
    const model = await load(t, { precision: 'exact', prefixCache: limits }, packed);
    let cached = 0;
    let wrong = 0;
    let random = 1;
    const client = async (id: number): Promise<void> => {
      for (let round = 0; round < 12; round++) {
        random = (random * 48271) % 2147483647;
        const prompt = prompts[random % prompts.length]!;
        if (id === 7) {
          await model.generate('x '.repeat(600), { maxTokens: 1 }).result().then(() => wrong++, (error) => error.code === 'ERR_CONTEXT_OVERFLOW' || wrong++);
          continue;
        }
        const run = model.generate(prompt, { maxTokens: random % 5 === 0 ? 60 : 8 });
        if (random % 5 === 0) {
          for await (const _ of run) break; // left early
          continue;
        }
        const { tokens, usage } = await run.result();
        cached += usage.cachedPromptTokens;
        if (tokens.join() !== lone.get(prompt)!.join()) wrong++;
      }
    };
    await Promise.all(names.map((_, id) => client(id)));
    t.equal(wrong, 0, JSON.stringify(limits));
    const kept = coreOf(model)!.prefixes.bytes;
    if (limits.bytes === 1) t.equal(kept, 0, 'smaller than one session: nothing is kept');
    else t.ok(cached > 200 && kept > 0, `${cached} prompt tokens were not read again`);
  }
});

t.test('fast precision: only what has the same bits is shared', async (t) => {
  const text = 'Once upon a time there was a little girl named Lily. She had a red ball and a big dog. '.repeat(10);
  for (const path of [packed, undefined]) {
    const [plain, model] = [await loadModel(path, { verify: false }), await loadModel(path, { verify: false, prefixCache: { sessions: 1 } })];
    const prompt = plain.tokenizer.encode(text).slice(0, 150);
    t.equal(prompt.length, 150);
    const cases: [number[], number][] = [[prompt, 0], [[...prompt, 10], 128], [prompt.slice(0, 140), 128], [prompt.slice(0, 100), 0]];
    for (const [ids, cached] of path === undefined ? cases.slice(0, 2) : cases) {
      const [fresh, shared] = [await plain.generate(ids, { maxTokens: 4 }).result(), await model.generate(ids, { maxTokens: 4 }).result()];
      t.same(shared.tokens, fresh.tokens);
      t.equal(shared.usage.cachedPromptTokens, cached);
    }
    await Promise.all([plain.close(), model.close()]);
  }
});

t.test('G6: histories that outgrow the context', async (t) => {
  const model = await load(t);
  const settings: ChatOptions = { system: 'Be kind.', contextSize: 160, maxTokens: 20 };
  const strict = model.createChat(settings);
  let turn = 0;
  await t.rejects(
    (async () => {
      for (; turn < 20; turn++) await strict.send(`Question ${turn}`).result();
    })(),
    { code: 'ERR_CONTEXT_OVERFLOW', message: /\d+ tokens but the context holds 160/ },
  );
  t.ok(turn > 1);

  const chat = model.createChat({ ...settings, overflow: 'drop-oldest-turns' });
  let dropped = 0;
  for (let i = 0; i < 12; i++) {
    const result = await chat.send(`Question ${i}`).result();
    dropped += result.droppedTurns!;
    t.ok(result.usage.promptTokens + 20 <= 161, 'prompt and answer fit');
    t.ok(result.usage.completionTokens <= 20);
    t.same(chat.history[0], { role: 'system', content: 'Be kind.' });
    t.equal(chat.history.length, 1 + 2 * (i + 1 - dropped), 'whole turns are gone');
    t.equal(chat.history[1]!.content, `Question ${dropped}`, 'the oldest ones');
    const fresh = await model.generate(model.encodeChat(chat.history.slice(0, -1)), { maxTokens: 20 }).result();
    t.same(result.tokens, fresh.tokens);
  }
  t.ok(dropped > 3);
  const before = chat.history;
  await t.rejects(chat.send('x '.repeat(200)).result(), { code: 'ERR_CONTEXT_OVERFLOW', message: /context holds 160/ }, 'one turn that never fits');
  t.same(chat.history, before, 'a turn that fails drops nothing');
  const all = await chat.send('Hello', { maxTokens: 1000 }).result();
  t.equal(chat.history.length, 3, 'an answer that never fits gets all the room there is');
  t.equal(all.usage.promptTokens + all.usage.completionTokens <= 161, true);
  t.throws(() => model.createChat({ overflow: 'shift' as any }), TypeError);
  t.equal((await model.createChat({ maxTokens: 1 }).send('x').result()).droppedTurns, undefined);
});

t.test('results of tools stay with their calls', async (t) => {
  const { dropOldestTurns } = await import('../../sdk/src/chat-overflow.js');
  const messages = [
    { role: 'system', content: 's' },
    { role: 'user', content: 'a' },
    { role: 'user', content: 'b' },
    { role: 'assistant', content: '', tool_calls: [{ id: '1' }] },
    { role: 'tool', content: 'r' },
    { role: 'assistant', content: 'c' },
    { role: 'user', content: 'd' },
    { role: 'assistant', content: '', tool_calls: [{ id: '2' }] },
    { role: 'tool', content: 'q' },
  ];
  const fit = (contextSize: number, maxTokens?: number) => dropOldestTurns(messages, (list) => Array(list.length * 10).fill(1), contextSize, maxTokens);
  t.equal(fit(99, 10).droppedTurns, 0);
  t.same(fit(98, 10).messages, [messages[0], ...messages.slice(6)], 'a whole turn, with the two questions and the call');
  t.equal(fit(98, 10).droppedTurns, 1);
  t.equal(fit(10, 10).droppedTurns, 1, 'the last turn stays');
  t.equal(fit(118).droppedTurns, 0, 'without maxTokens a quarter is left for the answer');
  t.equal(fit(117).droppedTurns, 1);
});
