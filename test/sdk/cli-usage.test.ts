// Help, wrong usage and exit statuses of the command line. Nothing here loads a model.
import t from 'tap';
import { shiftadd } from './cli-process.js';

const commands = ['chat', 'quantize', 'import', 'eval', 'bench', 'serve', 'inspect', 'devices', 'doctor'];

t.test('help and version', async (t) => {
  const overview = await shiftadd(['--help']);
  t.equal(overview.status, 0);
  for (const command of commands) t.match(overview.output, new RegExp(`^  ${command} `, 'm'), `lists ${command}`);
  t.equal((await shiftadd([])).output, overview.output, 'no command shows the overview');
  t.match((await shiftadd(['--version'])).output, /^\d+\.\d+\.\d+\n$/);
  for (const command of commands) {
    const help = await shiftadd([command, '--help']);
    t.equal(help.status, 0);
    t.match(help.output, `Usage: shiftadd ${command}`);
    t.match(help.output, /\nExamples:\n  # .+\n  shiftadd /, `${command} shows examples`);
    t.equal((await shiftadd(['help', command])).output, help.output);
  }
});

t.test('wrong usage exits 2 and names what was wrong', async (t) => {
  const cases: [string[], string][] = [
    [['chta'], "unknown command 'chta'; did you mean chat?"],
    [['chat', '--treads', '3'], 'unknown option --treads; did you mean --threads?'],
    [['chat', '--threads', '0'], '--threads expects an integer from 1 to 64 but received 0'],
    [['chat', '--threads', '1.5'], '--threads expects an integer from 1 to 64 but received 1.5'],
    [['chat', '--threads'], '--threads expects an integer from 1 to 64 but received nothing'],
    [['chat', '--threads', '--quiet'], '--threads expects an integer from 1 to 64 but received nothing'],
    [['chat', '--max-tokens', 'many'], '--max-tokens expects an integer of at least 0 but received many'],
    [['chat', '--top-p', '1.5'], '--top-p expects a number from 0 to 1 but received 1.5'],
    [['chat', '--top-p='], "--top-p expects a number from 0 to 1 but received ''"],
    [['chat', '--seed=-1'], '--seed expects an integer of at least 0 but received -1'],
    [['chat', '--backend', 'gpu'], "--backend expects one of auto, cpu, cuda, wasm but received 'gpu'"],
    [['chat', '--json=yes'], "--json takes no value but received 'yes'"],
    [['serve', '--port', '65536'], '--port expects an integer from 0 to 65535 but received 65536'],
    [['chat', 'a', 'b'], "chat does not expect a further argument: 'b'"],
    [['chat', '-x'], 'unknown option -x'],
    [['chat'], 'chat needs --prompt or text on standard input'],
    [['eval', 'model'], 'eval needs --text FILE or --tasks FILE'],
    [['quantize', 'a'], 'quantize needs <out>'],
    [['import', 'a', 'b'], 'import needs --base CHECKPOINT'],
    [['quantize', 'a', 'b', '--calibration', 'c', '--override', 'k_proj=9'], "--override expects NAME=BITS with BITS from 1 to 8 but received 'k_proj=9'"],
    [['quantize', 'a', 'b', '--mode', 'big'], "--mode expects one of lat, acc, mixed but received 'big'"],
  ];
  for (const [words, message] of cases) {
    const { status, output, notes } = await shiftadd(words);
    t.equal(status, 2, words.join(' '));
    t.equal(notes.split('\n')[0], `shiftadd: ${message}`);
    t.match(notes, /\nTry: shiftadd .*--help\n$/);
    t.equal(output, '');
  }
});

t.test('--json reports errors as a document too', async (t) => {
  const usage = await shiftadd(['chat', '--threads', '0', '--json']);
  t.equal(usage.status, 2);
  t.strictSame(JSON.parse(usage.output), {
    version: 1,
    error: { code: 'ERR_USAGE', message: '--threads expects an integer from 1 to 64 but received 0' },
  });
  const missing = await shiftadd(['inspect', 'no-such-model', '--json']);
  t.equal(missing.status, 1);
  t.match(JSON.parse(missing.output), { version: 1, error: { code: 'ERR_NOT_FOUND', message: /no-such-model/ } });
});
