// `shiftadd serve` as a process: the line that tells its address, the key, a signal while a request runs.
import { spawn } from 'node:child_process';
import t from 'tap';
import { commandLine, plainEnvironment } from './cli-process.js';
import { stories } from './fixtures.js';

t.test('it serves until it is told to stop, and finishes what runs', async (t) => {
  const child = spawn(process.execPath, [commandLine, 'serve', stories, '--port', '0', '--json', '--quiet', '--name', 'tale'], { stdio: ['ignore', 'pipe', 'inherit'], env: { ...plainEnvironment(), SHIFTADD_API_KEY: 'secret' } });
  const ended = new Promise((resolve) => child.on('exit', (code, signal) => resolve(code ?? signal)));
  t.teardown(() => child.kill('SIGKILL'));
  const line = await new Promise<string>((resolve) => {
    let text = '';
    child.stdout.setEncoding('utf8').on('data', (part: string) => (text += part).endsWith('\n') && resolve(text));
  });
  const { url, model, version } = JSON.parse(line);
  t.match(url, /^http:\/\/127\.0\.0\.1:\d+$/);
  t.match({ model, version }, { model: { name: 'tale', path: stories }, version: 1 });
  const ask = (key: string): Promise<Response> =>
    fetch(`${url}/v1/completions`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${key}` },
      body: JSON.stringify({ model: 'tale', prompt: 'Once upon a time', temperature: 0, max_tokens: 60, stream: true }),
    });
  t.equal((await ask('wrong')).status, 401);
  const response = await ask('secret');
  child.kill('SIGTERM');
  t.match(await response.text(), /"finish_reason":"length"[^\n]*\n\ndata: \[DONE\]\n\n$/);
  t.equal(await ended, 0);
});
