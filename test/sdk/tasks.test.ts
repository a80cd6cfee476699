// Task items and comparisons of models, on a model whose greedy continuation is known.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { loadModel, taskPresets, type TaskItem } from '../../sdk/src/index.js';
import { shiftadd } from './cli-process.js';
import { byteTokenizer, copyOf, llama, stories } from './fixtures.js';

const begin = 'Once upon a time, there was a little girl named Lily. She loved to play outside in the';
const exact = { precision: 'exact' } as const;

t.test('choices', async (t) => {
  await using model = await loadModel(stories, exact);
  const likely = (await model.generate(begin, { maxTokens: 4 }).text()).trim();
  const choices = ['zebra xylophone', likely];
  const template = '{query}';
  const right = await model.evaluateTask([{ query: begin, choices, gold: 1 }], { template });
  t.match(right, { kind: 'choices', items: 1, accuracy: 1, normalizedAccuracy: 1, perplexity: null, standardError: 0 });
  const items = [0, 1, 1, 1].map((gold) => ({ query: begin, choices, gold }));
  const seen: number[] = [];
  const mixed = await model.evaluateTask(items, { template, onProgress: ({ accuracy }) => seen.push(accuracy) });
  t.same(seen, [0, 1 / 2, 2 / 3, 3 / 4]);
  t.equal(mixed.standardError, Math.sqrt((0.75 * 0.25) / 3));
  t.equal((await model.evaluateTask(items, { template, limit: 1 })).accuracy, 0);
});

t.test('normalized accuracy divides by the length', async (t) => {
  await using model = await loadModel(stories, exact);
  // The short choice has the larger sum; per character the long one, which the model expects, is ahead.
  const long = (await model.generate(begin, { maxTokens: 30 }).text()).trim();
  const result = await model.evaluateTask([{ query: begin, choices: ['a', long], gold: 1 }], { template: '{query}' });
  t.equal(result.accuracy, 0);
  t.equal(result.normalizedAccuracy, 1);
});

t.test('pairs', async (t) => {
  await using model = await loadModel(stories, exact);
  const good = 'Once upon a time, there was a little girl.';
  const bad = 'Once upon a time, there was girl a little.';
  t.match(await model.evaluateTask([{ good, bad }]), { kind: 'pairs', accuracy: 1, normalizedAccuracy: null });
  t.equal((await model.evaluateTask([{ good: bad, bad: good }])).accuracy, 0);
});

t.test('last words', async (t) => {
  await using model = await loadModel(stories, exact);
  const [word] = /^\s*\S+/.exec(await model.generate(begin, { maxTokens: 8 }).text())!;
  const found = await model.evaluateTask([{ text: `${begin} ${word!.trim()}\n` }]);
  t.match(found, { kind: 'lastWord', accuracy: 1 });
  const missed = await model.evaluateTask([{ text: `${begin} zebra` }]);
  t.equal(missed.accuracy, 0);
  t.ok(missed.perplexity! > found.perplexity!);
});

t.test('misuse of tasks', async (t) => {
  const model = await loadModel(stories);
  const bad = async (items: unknown, expected: any): Promise<void> => void (await t.rejects(model.evaluateTask(items as TaskItem[]), expected));
  await bad([], TypeError);
  await bad('items', TypeError);
  await bad([{ query: 'a', choices: ['b'], gold: 0 }], { name: 'TypeError', message: /item 0/ });
  await bad([{ query: 'a', choices: ['b', 'c'], gold: 2 }], { name: 'RangeError', message: /item 0/ });
  await bad([{ text: 'one two' }, { text: 'one' }], { message: /item 1/ });
  await bad([{ text: 'one two' }, { good: 'a', bad: 'b' }], { message: /one kind.*item 1, pairs/ });
  await bad([{ text: `${'word '.repeat(600)}end` }], { code: 'ERR_CONTEXT_OVERFLOW' });
  await t.rejects(model.evaluateTask([{ text: 'one two' }], { template: 'no place' }), RangeError);
  const reason = new Error('enough');
  await t.rejects(model.evaluateTask([{ text: 'one two' }], { signal: AbortSignal.abort(reason) }), reason);
  await model.close();
  await bad([{ text: 'one two' }], { code: 'ERR_CLOSED' });
});

t.test('comparing models', async (t) => {
  await using model = await loadModel(stories, exact);
  await using twin = await loadModel(stories, exact);
  const text = `${begin} park with her mom. They saw a big dog and a small cat. `.repeat(3);
  const same = await model.compare(twin, text, { window: 32 });
  t.equal(same.divergence, 0);
  t.equal(same.topAgreement, 1);
  t.equal(same.perplexity, same.referencePerplexity);
  t.equal(same.positions, same.windows * 31);
  const alone = await model.evaluate(text, { window: 32 });
  t.ok(Math.abs(alone.perplexity / same.perplexity - 1) < 1e-5, 'the perplexity of evaluate');
  const self = await model.compare(model, text, { window: 32, maxTokens: 64 });
  t.match(self, { divergence: 0, windows: 2 });

  const folder = await copyOf(t, llama);
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(byteTokenizer()));
  await using other = await loadModel(folder);
  await t.rejects(model.compare(other, text), { name: 'RangeError', message: /vocabulary/ });
  await t.rejects(model.compare({} as typeof model, text), TypeError);
  await t.rejects(model.compare(twin, ''), RangeError);
  await twin.close();
  await t.rejects(model.compare(twin, text), { code: 'ERR_CLOSED' });
});

t.test('shiftadd eval --tasks with the presets', async (t) => {
  const item = (choices: string[]): string => JSON.stringify({ query: 'The girl was happy', choices, gold: 0 });
  const folder = t.testdir({ two: item(['a b', 'c d']), four: item(['A', 'B', 'C', 'D']) });
  const run = (...words: string[]) => shiftadd(['eval', stories, ...words, '--json']);
  for (const { template, expects } of Object.values(taskPresets)) t.ok(template.includes('{query}') && expects.includes('query:'));
  // One of each number of choices.
  for (const name of ['arc-easy', 'boolq', 'mmlu']) {
    const { template, choices, expects } = taskPresets[name]!;
    const missing = await run('--tasks', name);
    t.equal(missing.status, 2);
    t.ok(missing.notes.includes(`--tasks ${name}=FILE needs a file`) && missing.notes.includes(expects), missing.notes);
    const file = join(folder, choices === 4 ? 'four' : 'two');
    const [preset, same] = [await run('--tasks', `${name}=${file}`), await run('--tasks', file, '--template', template)];
    t.equal(preset.status, 0, preset.notes);
    const { tasks: _a, ...scored } = JSON.parse(preset.output);
    const { tasks: _b, ...wanted } = JSON.parse(same.output);
    t.same(scored, wanted, name);
    if (choices === null) continue;
    const other = await run('--tasks', `${name}=${join(folder, choices === 4 ? 'two' : 'four')}`);
    t.match(JSON.parse(other.output), { error: { code: 'ERR_TASK_FILE', message: /item 1 should have/ } });
  }
});

t.test('shiftadd eval --tasks and --compare', async (t) => {
  const folder = await copyOf(t, stories);
  const tasks = join(folder, 'tasks.jsonl');
  await writeFile(tasks, '{"text": "Once upon a time"}\n\n{"text": "The end"}\n');
  const scored = await shiftadd(['eval', stories, '--tasks', tasks, '--json']);
  t.equal(scored.status, 0);
  t.match(JSON.parse(scored.output), { version: 1, kind: 'lastWord', items: 2 });
  await writeFile(tasks, '{"text": "Once upon a time"}\n{"text"\n');
  const broken = await shiftadd(['eval', stories, '--tasks', tasks]);
  t.equal(broken.status, 1);
  t.match(broken.notes, /tasks\.jsonl, line 2 is not valid JSON/);

  const text = join(folder, 'text.txt');
  await writeFile(text, `${begin} park. `.repeat(4));
  const compared = await shiftadd(['eval', stories, '--compare', folder, '--text', text, '--window', '16', '--json']);
  t.match(JSON.parse(compared.output), { divergence: 0, topAgreement: 1, window: 16 });
  t.match((await shiftadd(['eval', stories, '--compare', folder, '--text', text, '--window', '16'])).output, /same most likely token +100\.00 %/);
  for (const words of [['eval', stories], ['eval', stories, '--text', text, '--tasks', tasks], ['eval', stories, '--tasks', tasks, '--compare', folder]])
    t.equal((await shiftadd(words)).status, 2);
});
