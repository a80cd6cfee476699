// Calibration texts as users have them: short, odd, in other encodings, broken, or none at all.
import { readFile, writeFile } from 'node:fs/promises';
import t from 'tap';
import { inspectModel, loadModel, quantizeModel, type QuantizeOptions } from '../../sdk/src/index.js';
import { randomIntegers } from '../../sdk/src/calibration.js';
import { shiftadd } from './cli-process.js';
import { copyOf, editJson, join, stories, temporaryFolder } from './fixtures.js';

const quick: QuantizeOptions = { samples: 4, window: 64, fitRounds: 1, refits: 0, sweeps: 0, overwrite: true };
const sentence = 'Once upon a time, there was a little girl named Lily. She loved to play outside in the park.\n';
const story = sentence.repeat(20);

const template =
  "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('No tools here.') }}{% endif %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";

async function chatModel(t: any): Promise<string> {
  const folder = await copyOf(t, stories);
  await editJson(join(folder, 'tokenizer_config.json'), (config) => (config.chat_template = template));
  return folder;
}

async function calibrationFile(t: any, content: string | Uint8Array, name = 'text.txt'): Promise<string> {
  const path = join(await temporaryFolder(t), name);
  await writeFile(path, content);
  return path;
}

const line = (content: string, role = 'user') => JSON.stringify({ messages: [{ role, content }] });
const bad = (message: RegExp) => ({ code: 'ERR_CALIBRATION', message });
const utf8 = (text: string) => new TextEncoder().encode(text);

t.test('Q4: too little or unusable calibration is an early error that names the file and the fix', async (t) => {
  const out = join(await temporaryFolder(t), 'packed');
  const model = await chatModel(t);
  const run = async (calibration: string, options: QuantizeOptions = {}) =>
    quantizeModel(model, out, { ...quick, ...options, calibration });
  const text = async (content: string | Uint8Array, name?: string) => run(await calibrationFile(t, content, name));

  await t.rejects(run('gone.txt'), bad(/gone\.txt does not exist\. Pass a text file/));
  await t.rejects(run(await temporaryFolder(t)), bad(/is a folder/));
  for (const name of ['x.txt', 'x.jsonl'])
    for (const content of ['', ' ', '\n\r\n \n'])
      await t.rejects(text(content, name), bad(/has \d tokens; one window of 64 is needed, 256 are better\. Use more text/));
  await t.rejects(text('Hi'), bad(/has \d tokens/));
  await t.rejects(text([1, 2, 3].map(() => line('One day, a big dog')).join('\n'), 'x.jsonl'), bad(/has \d\d tokens/));
  await t.rejects(run(await calibrationFile(t, story), { window: 513 }), RangeError);

  await t.rejects(text('{"messages": []', 'x.jsonl'), bad(/line 1, is not valid JSON/));
  await t.rejects(text('\n{"txt": "x"}', 'x.jsonl'), bad(/line 2, has neither a list of messages nor a text/));
  await t.rejects(text(`${line('x')}\r\n\r\n[1]`, 'x.JSONL'), bad(/line 3, has neither a list of messages nor a text/));
  await t.rejects(text('{"messages": []}', 'x.jsonl'), bad(/line 1, has neither a list of messages nor a text/));
  await t.rejects(text('{"messages": ["x"]}', 'x.jsonl'), bad(/has a message without a role/));
  await t.rejects(text('{"messages": [{"role": "user"}]}', 'x.jsonl'), bad(/has a message without content/));
  await t.rejects(text(`${line('x')}\n${line('x', 'tool')}`, 'x.jsonl'), {
    code: 'ERR_CHAT_TEMPLATE',
    message: /x\.jsonl, line 2, cannot be encoded.*No tools here/,
  });
  const binary = Uint8Array.from({ length: 4096 }, (_, i) => (i * 7919) % 256);
  await t.rejects(text(binary), bad(/is not UTF-8 text\. Save it as UTF-8/));
  await t.rejects(text(new Uint8Array(4096)), bad(/is not UTF-8 text/));

  const random = randomIntegers(1);
  const numbers = Array.from({ length: 1000 }, () => random(10));
  t.ok(numbers.every((n) => n >= 0 && n < 10) && new Set(numbers).size === 10);
});

t.test('Q4: from one window on a text is enough, and short ones give a warning', async (t) => {
  const out = join(await temporaryFolder(t), 'packed');
  const loaded = await loadModel(stories);
  const count = (text: string) => loaded.tokenizer.encode(text, { addSpecialTokens: false }).length;
  const text = story.slice(0, 300);
  const window = count(text);
  const run = async (content: string, options: QuantizeOptions) =>
    quantizeModel(stories, out, { ...quick, ...options, calibration: await calibrationFile(t, content) });
  await t.rejects(run(text, { window: window + 1 }), bad(new RegExp(`has ${window} tokens; one window of ${window + 1}`)));
  for (const [content, length] of [[text, window], [text, window - 1], [`${text} 🙂`, window]] as const) {
    const result = await run(content, { window: length });
    t.match(result.calibration, { window: length, tokens: count(content), samples: 4 });
    t.match(result.warnings, [new RegExp(`has ${count(content)} tokens for 4 windows of ${length}: they overlap`)]);
  }
  t.same((await run(story, { samples: 1 })).warnings, []);
  await loaded.close();

  const path = await calibrationFile(t, text);
  const words = ['quantize', stories, out, '--calibration', path, '--samples', '4', '--window', '64', '--overwrite'];
  const shown = await shiftadd(words);
  t.equal(shown.status, 0);
  t.match(shown.notes, /tokens for 4 windows of 64: they overlap/);
  t.match(JSON.parse((await shiftadd([...words, '--json'])).output).warnings, [/overlap/]);
});

t.test('byte order marks, line ends and empty lines do not change what is read', async (t) => {
  const out = join(await temporaryFolder(t), 'packed');
  const model = await chatModel(t);
  const packed = async (content: string | Uint8Array, name: string) => {
    const result = await quantizeModel(model, out, { ...quick, calibration: await calibrationFile(t, content, name) });
    t.same(result.warnings, []);
    return { tokens: result.calibration.tokens, weights: (await readFile(join(out, 'model.safetensors'))).toString('base64') };
  };
  const plain = await packed(story, 'text.txt');
  t.same(await packed(`\uFEFF${story}`, 'text.txt'), plain, 'byte order mark');
  t.same(await packed(story.replaceAll('\n', '\r\n'), 'text.txt'), plain, 'CRLF');
  const utf16 = Buffer.from(`\uFEFF${story}`, 'utf16le');
  t.same(await packed(utf16, 'text.txt'), plain, 'UTF-16, little end first');
  t.same(await packed(Buffer.from(utf16).swap16(), 'text.txt'), plain, 'UTF-16, big end first');

  const inLines = story.replace(/^\s+|\s+$/g, '');
  const asText = await packed(inLines, 'text.txt');
  t.same(await packed(JSON.stringify({ text: inLines }), 'x.jsonl'), asText, 'a text in JSON Lines');
  t.equal((await packed(`${line('Hi')}\n${JSON.stringify({ text: inLines })}`, 'x.jsonl')).tokens > asText.tokens, true, 'chats and texts');

  const lines = Array.from({ length: 20 }, () => line(sentence.trim()));
  const chats = await packed(lines.join('\n'), 'x.jsonl');
  t.same(await packed(`\uFEFF${lines.join('\n')}\n`, 'x.jsonl'), chats, 'byte order mark');
  t.same(await packed(`\r\n${lines.join('\r\n \t\r\n')}\r\n\r\n`, 'X.JSONL'), chats, 'CRLF and empty lines');
});

t.test('broken bytes and lone surrogates are replaced, and bytes are reported', async (t) => {
  const out = join(await temporaryFolder(t), 'packed');
  const model = await chatModel(t);
  const run = async (content: string | Uint8Array, name?: string) =>
    quantizeModel(model, out, { ...quick, samples: 1, calibration: await calibrationFile(t, content, name) });
  const broken = Buffer.concat([utf8(story), Uint8Array.of(0xff, 0x20, 0xc3), utf8(`\uFFFD ${story}`)]);
  t.match((await run(broken)).warnings, [/has 2 places that are not UTF-8; they were replaced/]);
  t.same((await run(`${story}\uFFFD`)).warnings, [], 'the character itself is text');
  const lone = `{"messages": [{"role": "user", "content": "\\ud83d ${'a big dog '.repeat(40)}"}]}`;
  t.same((await run(lone, 'x.jsonl')).warnings, []);
});

t.test('Q4: 5 MB in one line', async (t) => {
  const out = join(await temporaryFolder(t), 'packed');
  const calibration = await calibrationFile(t, sentence.trim().concat(' ').repeat(54_000));
  const started = performance.now();
  const { calibration: record } = await quantizeModel(stories, out, { ...quick, calibration });
  t.ok(record.tokens > 1_000_000, `${record.tokens} tokens in ${Math.round(performance.now() - started)} ms`);
  t.ok(performance.now() - started < 60_000);
});

t.test('an aborted signal ends the reading of many chats', async (t) => {
  const out = join(await temporaryFolder(t), 'packed');
  const calibration = await calibrationFile(t, Array.from({ length: 30_000 }, () => line(sentence)).join('\n'), 'x.jsonl');
  const controller = new AbortController();
  const job = quantizeModel(await chatModel(t), out, { ...quick, calibration, signal: controller.signal });
  setTimeout(() => controller.abort('enough'), 100);
  t.equal(await job.catch((reason: unknown) => reason), 'enough');
  await t.rejects(inspectModel(out), { code: 'ERR_NOT_FOUND' });
});
