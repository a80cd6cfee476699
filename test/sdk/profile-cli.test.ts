// `shiftadd profile` as a user runs it, on a board of files.
import { existsSync } from 'node:fs';
import { readFile, readdir, writeFile } from 'node:fs/promises';
import t from 'tap';
import { memory, writeTree } from './board-tree.js';
import { shiftadd } from './cli-process.js';
import { join, stories, temporaryFolder } from './fixtures.js';
import { orin, prompt } from './known-power.js';

const folder = await temporaryFolder(t);
const board = await writeTree(t as never, orin);
const bare = await writeTree(t as never, memory(4000));
const at = (name: string): string => join(folder, name);
const quick = ['--prompt', prompt, '--tokens', '8', '--repetitions', '2', '--idle', '1.2', '--window', '1.2', '--rate', '10', '--threads', '1'];
const profile = (...words: string[]) => shiftadd(['profile', ...words]);

t.test('a run with everything', async (t) => {
  const { status, output, notes } = await profile(stories, ...quick, '--sys-root', board, '--json', '--csv', at('a.csv'), '--html', at('a.html'));
  t.equal(status, 0, notes);
  t.match(notes, /^Profiling +\d+ %/m, 'progress goes to standard error');
  const document = JSON.parse(output);
  t.match(document, { version: 1, kind: 'profile', valid: true, meter: { name: 'ina3221-hwmon', scope: 'module' }, method: { repetitions: 2, windowMs: 1200, idleMs: 1200 }, files: { csv: at('a.csv'), html: at('a.html') } });
  t.ok(Math.abs(document.decode.energy.joulesPerToken.value * document.decode.tokensPerSecond.value - 9.569) < 0.001);
  t.match(await readFile(at('a.csv'), 'utf8'), /^time_s,phase,.*,watts VDD_IN,watts VDD_CPU_GPU_CV,watts VDD_SOC\r\n/);
  t.match(await readFile(at('a.html'), 'utf8'), /^<!doctype html>[^]*Power over time/);
  t.same((await readdir(folder)).sort(), ['a.csv', 'a.html'], 'nothing else is left');
  await writeFile(at('a.json'), output);
});

t.test('in words', async (t) => {
  const words = [stories, ...quick, '--sys-root', board, '--quiet'];
  const { status, output, notes } = await profile(...words);
  t.equal(status, 0, notes);
  t.equal(notes, '');
  t.match(output, /^phase +tokens\/s +energy\/token +net of idle +tokens\/J +average +peak$/m);
  t.match(output, /^decode +[\d.]+ ± [\d.]+ +[\d.]+ ± [\d.]+ (mJ|µJ|J) +-?[\d.]+ ± [\d.]+ (mJ|µJ|J) .* 9\.57 W +9\.57 W$/m);
  t.match(output, /^VDD_CPU_GPU_CV +cpu, gpu, cv +no +2\.49 W/m);
  t.match(output, /^covers +module: VDD_IN$/m);
  t.match(output, /^power mode +15W +15W$/m);
  t.match(output, /^temperature, cpu-thermal +51\.0 °C +51\.0 °C$/m);
});

t.test('without a meter', async (t) => {
  const { status, output } = await profile(stories, '--tokens', '8', '--window', '0.1', '--sys-root', bare, '--json');
  t.equal(status, 0);
  const document = JSON.parse(output);
  t.match(document, { meter: null, meterProblem: /no energy meter/, decode: { energy: { joulesPerToken: null } } });
  t.ok(document.decode.tokensPerSecond.value > 0);
  await writeFile(at('blind.json'), output);
});

t.test('conversations', async (t) => {
  await writeFile(at('lines.txt'), 'Once upon a time\n\nThen\r\n');
  await writeFile(at('list.json'), JSON.stringify(['Once upon a time', 'Then']));
  const run = async (...words: string[]) => JSON.parse((await profile(stories, '--tokens', '4', '--repetitions', '1', '--window', '0.05', '--sys-root', bare, '--json', ...words)).output);
  const [lines, list] = [await run('--turns', at('lines.txt')), await run('--turns', at('list.json'))];
  t.equal(lines.workload.turns.length, 2);
  t.equal(lines.workload.digest, list.workload.digest);
  await writeFile(at('prompt.txt'), 'Once upon a time');
  t.equal((await run('--file', at('prompt.txt'))).workload.digest, (await run('--prompt', 'Once upon a time')).workload.digest);
});

t.test('two runs side by side', async (t) => {
  const first = JSON.parse(await readFile(at('a.json'), 'utf8'));
  const { joulesPerToken } = first.decode.energy;
  first.decode.energy.joulesPerToken = { value: joulesPerToken.value * 3, uncertainty: 0 };
  first.backend.threads = 4;
  await writeFile(at('b.json'), JSON.stringify(first));
  const { status, output } = await profile('--compare', at('a.json'), at('b.json'));
  t.equal(status, 0);
  t.match(output, /^backend: cpu \(.*1 threads.*\) and cpu \(.*4 threads/m);
  t.match(output, /^decode energy, gross .* 3(\.0\d*)? ± [\d.]+ +(differs|within the intervals)$/m);
  t.match(output, /^prefill energy, gross .* 1(\.0\d*)? ± [\d.]+ +within the intervals$/m);
  const document = JSON.parse((await profile('--compare', at('a.json'), at('b.json'), '--json')).output);
  t.match(document, { version: 1, kind: 'comparison' });
  t.same(document.warnings, []);
  t.ok(Math.abs(document.figures[0].ratio.value - 3) < 1e-9);
  t.match((await profile('--compare', at('a.json'), at('blind.json'))).output, /^decode energy, gross .* - .* not measured in both$/m);
  first.meter.scope = 'package';
  await writeFile(at('c.json'), JSON.stringify(first));
  const refused = await profile('--compare', at('a.json'), at('c.json'), '--json');
  t.equal(refused.status, 1);
  t.match(JSON.parse(refused.output), { error: { code: 'ERR_PROFILE', message: /covers the module, the second the package/ } });
});

t.test('an interrupt ends it with 130 and leaves no file', async (t) => {
  let sent = false;
  const ended = await shiftadd(['profile', stories, '--idle', '60', '--sys-root', board, '--html', at('never.html'), '--csv', at('never.csv')], {
    onNotes(_notes, kill) {
      if (!sent) kill('SIGINT');
      sent = true;
    },
  });
  t.equal(ended.status, 130);
  t.match(ended.notes, /shiftadd: interrupted\n$/);
  t.same((await readdir(folder)).filter((name) => name.startsWith('never')), []);
});

t.test('wrong usage', async (t) => {
  await writeFile(at('mine.txt'), 'do not lose this');
  await writeFile(at('empty.txt'), ' \n');
  await writeFile(at('bad.json'), '[1]');
  const usage: [string[], RegExp][] = [
    [['--prompt', 'a', '--file', 'b'], /--prompt and --file cannot be given together/],
    [['--file', 'a', '--turns', 'b'], /--file and --turns cannot be given together/],
    [['--tokens', '0'], /--tokens expects an integer from 1 to 1048576 but received 0/],
    [['--repetitions', 'x'], /--repetitions expects an integer/],
    [['--idle', '-1'], /--idle expects a number from 0 to 3600/],
    [['--window', '0'], /--window expects a number/],
    [['--rate', '500'], /--rate expects a number from 1 to 50/],
    [['--limit', '0'], /--limit expects a number/],
    [['--until-stable=yes'], /--until-stable takes no value/],
    [['--meter'], /--meter expects a text/],
    [['--overwrite'], /--overwrite needs --csv FILE or --html FILE/],
    [['--compare', 'a.json'], /--compare needs two saved runs/],
    [['--compare', 'a.json', 'b.json', '--html', 'x.html'], /--compare measures nothing, so --html/],
    [['--repetition', '3'], /did you mean --repetitions/],
  ];
  for (const [words, message] of usage) {
    const { status, notes } = await profile(...words);
    t.equal(status, 2, words.join(' '));
    t.match(notes, message);
  }
  const failures: [string[], string, RegExp][] = [
    [['--file', at('none.txt')], 'ERR_NOT_FOUND', /none\.txt/],
    [['--turns', at('empty.txt')], 'ERR_PROFILE', /no text to say/],
    [['--turns', at('bad.json')], 'ERR_PROFILE', /list of texts/],
    [['--html', at('mine.txt')], 'ERR_OUTPUT_EXISTS', /no report of shiftadd profile/],
    [['--csv', at('mine.txt')], 'ERR_OUTPUT_EXISTS', /no table of shiftadd profile/],
    [['--html', folder], 'ERR_OUTPUT_EXISTS', /is a folder/],
    [['--compare', at('mine.txt'), at('a.json')], 'ERR_PROFILE', /mine\.txt is no JSON document/],
    [['--compare', at('a.json'), at('none.json')], 'ERR_NOT_FOUND', /none\.json/],
    [[stories, '--meter', 'rapl', '--sys-root', board], 'ERR_NOT_FOUND', /no energy meter 'rapl' here; readable: ina3221-hwmon/],
  ];
  for (const [words, code, message] of failures) {
    const { status, output } = await profile(...words, '--json');
    t.equal(status, 1, words.join(' '));
    t.match(JSON.parse(output), { error: { code, message } });
  }
  t.equal(await readFile(at('mine.txt'), 'utf8'), 'do not lose this');
  const long = await profile(stories, '--tokens', '600', '--sys-root', bare);
  t.equal(long.status, 2);
  t.match(long.notes, /fit 512 tokens but received \d+/);
  t.notOk(existsSync(at('x.html')));
});
