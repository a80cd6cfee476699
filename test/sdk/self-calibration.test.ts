// Calibration without a file: what the model writes for itself.
import { readFile, readdir, writeFile } from 'node:fs/promises';
import t from 'tap';
import { inspectModel, loadModel, quantizeModel, type QuantizeOptions } from '../../sdk/src/index.js';
import type { Calibration } from '../../sdk/src/calibration.js';
import { openModelFolder } from '../../sdk/src/checkpoint/model-folder.js';
import { readTokenizerFiles } from '../../sdk/src/checkpoint/tokenizer-files.js';
import { describeFamily } from '../../sdk/src/families/index.js';
import { calibrateItself } from '../../sdk/src/self-calibration.js';
import { Tokenizer } from '../../sdk/src/tokenizer.js';
import { shiftadd } from './cli-process.js';
import { copyOf, editJson, join, stories, temporaryFolder } from './fixtures.js';
import { tinyLlama } from './tiny-llama.js';

const quick: QuantizeOptions = { samples: 3, window: 64, fitRounds: 1, refits: 0, sweeps: 0 };
const template =
  "{% for m in messages %}{{ m.role + ': ' + m.content + '</s>\n' }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";

async function withTemplate(t: any, chat_template = template): Promise<string> {
  const folder = await copyOf(t, stories);
  await editJson(join(folder, 'tokenizer_config.json'), (config) => (config.chat_template = chat_template));
  return folder;
}

/** The tokens themselves, which `quantizeModel` does not show. */
async function written(path: string, threads = 1, seed = 1, samples = 4): Promise<Calibration> {
  const source = await openModelFolder(path);
  const family = describeFamily(source.config, source.configPath);
  const files = await readTokenizerFiles(path);
  const plan = { samples, window: 64, seed, threads, signal: undefined, onProgress: () => undefined };
  return calibrateItself(source, family, files, new Tokenizer(files), plan);
}

t.test('a model without a chat template writes plain text; the record says so', async (t) => {
  const parent = await temporaryFolder(t);
  const out = join(parent, 'packed');
  const done: number[] = [];
  let remaining = 0;
  const result = await quantizeModel(stories, out, {
    ...quick,
    onProgress: (progress) => {
      done.push(progress.done);
      if (progress.phase === 'calibrate' && progress.remainingMs !== null) remaining++;
    },
  });
  t.match(result.calibration, { generated: true, kind: 'text', samples: 3, window: 64, seed: 1 });
  t.ok(result.calibration.tokens >= 192);
  t.same(result.warnings, []);
  t.match((await inspectModel(out)).calibration, { generated: true, seed: 1, tokens: result.calibration.tokens });
  t.same(done, [...done].sort((a, b) => a - b), 'progress only grows');
  t.ok(remaining > 10, 'the remaining time is known while it writes');
  t.same(await readdir(parent), ['packed'], 'the text is not kept');

  const dense = await loadModel(stories);
  const packed = await loadModel(out);
  const text = 'Once upon a time, there was a little girl named Lily. She loved to play outside in the park.';
  const [ours, theirs] = [await packed.evaluate(text), await dense.evaluate(text)];
  t.ok(ours.perplexity < theirs.perplexity * 1.5, `${ours.perplexity} against ${theirs.perplexity}`);
  await Promise.all([dense.close(), packed.close()]);
});

t.test('a model with a chat template writes chats', async (t) => {
  const folder = await withTemplate(t);
  const { tokens, record, warnings } = await written(folder, 1, 1, 12);
  t.match(record, { generated: true, kind: 'chats', samples: 12 });
  t.same(warnings, []);
  t.equal(tokens.length, 12 * 64);
  const model = await loadModel(folder);
  const text = model.tokenizer.decode(tokens, { skipSpecialTokens: false });
  await model.close();
  t.match(text, /^<s> ?user: /, 'the first window begins with the first chat');
  t.match(text, /<\/s>\s+assistant:/, 'a turn is closed as the template closes it');
  t.ok(text.split('user:').length > 2, 'windows hold several chats');
});

t.test('the same for any number of threads, another for another seed', async (t) => {
  for (const folder of [stories, await withTemplate(t)]) {
    const one = await written(folder, 1);
    for (const threads of [2, 3]) t.same((await written(folder, threads)).tokens, one.tokens, `${threads} threads`);
    t.notSame((await written(folder, 1, 2)).tokens, one.tokens, 'seed 2');
  }
  const files = await Promise.all(
    [1, 2, 3].map(async (threads) => {
      const out = join(await temporaryFolder(t), 'packed');
      await quantizeModel(stories, out, { ...quick, calibration: 'self', threads });
      return (await readFile(join(out, 'model.safetensors'))).toString('base64');
    }),
  );
  t.equal(files[1], files[0]);
  t.equal(files[2], files[0]);
});

t.test('special tokens are not written, except by the template', async (t) => {
  const folder = await withTemplate(t);
  const plain = await written(folder);
  const counts = new Map<number, number>();
  for (const id of plain.tokens) counts.set(id, (counts.get(id) ?? 0) + 1);
  const tokenizer = JSON.parse(await readFile(join(folder, 'tokenizer.json'), 'utf8'));
  const specials = new Set<number>(tokenizer.added_tokens.filter((token: any) => token.special).map((token: any) => token.id));
  // The most frequent whole words become special too, except those of the template.
  const words = Object.entries<number>(tokenizer.model.vocab)
    .filter(([piece, id]) => /^▁[a-z]{2,}$/.test(piece) && !'user: assistant:'.includes(piece.slice(1)) && !specials.has(id))
    .sort((a, b) => (counts.get(b[1]) ?? 0) - (counts.get(a[1]) ?? 0))
    .slice(0, 20);
  t.ok(words.some(([, id]) => counts.has(id)), 'they are written while they are ordinary');
  await editJson(join(folder, 'tokenizer.json'), (json) => {
    for (const [piece, id] of words) json.added_tokens.push({ id, content: piece, special: true, normalized: false, lstrip: false, rstrip: false, single_word: false });
  });
  const banned = new Set(words.map(([, id]) => id));
  const { tokens } = await written(folder);
  t.same([...tokens].filter((id) => banned.has(id)), []);
});

t.test('a template that cannot be used gives plain text and a warning', async (t) => {
  for (const [source, why] of [
    ["{{ raise_exception('Only for experts.') }}", /Only for experts/],
    ['{% if %}', /cannot be parsed/],
    ['user assistant', /changes what is written/],
    [`${'many words '.repeat(400)}{% for m in messages %}{{ m.content }}{% endfor %}`, /leaves 0 tokens of the context/],
  ] as const) {
    const { record, warnings } = await written(await withTemplate(t, source), 1, 1, 2);
    t.match(record, { kind: 'text' });
    t.match(warnings, [/plain text instead of chats/]);
    t.match(warnings[0], why);
  }
});

t.test('a model that writes nothing usable is an error that names the fix', async (t) => {
  for (const folder of [await copyOf(t, stories), await withTemplate(t)]) {
    const all = Array.from({ length: 512 }, (_, id) => id);
    await writeFile(join(folder, 'generation_config.json'), JSON.stringify({ eos_token_id: all }));
    await t.rejects(written(folder), { code: 'ERR_CALIBRATION', message: /too short or repetitive; one window of 64 is needed\. Pass calibration/ });
  }
  // Weights of zero: every token is as likely, and there is no begin or end token.
  const zeros = await tinyLlama(t, { edit: (_name, values) => values.fill(0) });
  const { record, tokens } = await written(zeros);
  t.match(record, { kind: 'text' });
  t.ok([...tokens].every((id) => id < 256), 'ids that the tokenizer does not know are not written');
});

t.test('cancelling while it writes leaves nothing behind', async (t) => {
  const parent = await temporaryFolder(t);
  const controller = new AbortController();
  const job = quantizeModel(stories, join(parent, 'packed'), {
    samples: 1000,
    signal: controller.signal,
    onProgress: ({ done }) => done > 0 && controller.abort('enough'),
  });
  t.equal(await job.catch((reason: unknown) => reason), 'enough');
  t.same(await readdir(parent), []);
});

t.test('the command line', async (t) => {
  const out = join(await temporaryFolder(t), 'packed');
  const words = ['quantize', stories, out, '--samples', '2', '--window', '64', '--overwrite', '--json'];
  for (const more of [[], ['--calibration', 'self']]) {
    const made = await shiftadd([...words, ...more]);
    t.equal(made.status, 0, made.notes);
    t.match(JSON.parse(made.output).calibration, { generated: true, samples: 2, seed: 1 });
  }
  t.match((await shiftadd(['quantize', '--help'])).output, /self:\s+the\s+model\s+writes\s+it/);
});
