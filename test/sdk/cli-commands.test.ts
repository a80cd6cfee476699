// Every command on a real model, small enough to run in a moment.
import { existsSync } from 'node:fs';
import { spawn } from 'node:child_process';
import { access, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { stories as model } from './fixtures.js';
import { commandLine, plainEnvironment, shiftadd } from './cli-process.js';

const story = 'Once upon a time, there was a little girl named Lily. She loved to play outside in the park. ';
const greedy = ['--temperature', '0', '--repetition-penalty', '1'];

t.test('devices', async (t) => {
  const shown = await shiftadd(['devices']);
  t.equal(shown.status, 0);
  t.match(shown.output, /^cpu +ready +(portable|avx2|avx512(vnni)?|neon(dot)?), \d+ cores$/m);
  const { version, backends, machine } = JSON.parse((await shiftadd(['devices', '--json'])).output);
  t.equal(version, 1);
  t.match(backends, [{ name: 'cpu', available: true, reason: null }]);
  t.ok(machine.cores >= 1 && machine.memoryBytes > 0);
});

t.test('inspect', async (t) => {
  const shown = await shiftadd(['inspect', model]);
  t.equal(shown.status, 0);
  t.match(shown.output, /^parameters +260,032$/m);
  t.match(shown.output, /^model\.layers\.\*\.mlp\.up_proj\.weight +5 +172 x 64/m, 'alike layers share a row');
  const all = await shiftadd(['inspect', model, '--all']);
  t.match(all.output, /^model\.layers\.4\.mlp\.up_proj\.weight +1 /m);
  const result = JSON.parse((await shiftadd(['inspect', model, '--json'])).output);
  t.match(result, { version: 1, architecture: 'llama', packed: false, bitsPerWeight: null, bytes: { linearLayers: 453120 } });
});

t.test('inspect --plan', async (t) => {
  const shown = await shiftadd(['inspect', model, '--plan', '--device', 'orin-nano-8gb', '--context', '256']);
  t.equal(shown.status, 0);
  t.match(shown.output, /^Fits: [\d.]+ MB with a context of 256 tokens, of 5\.79 GB on NVIDIA Jetson Orin Nano 8 GB\.$/m);
  for (const part of ['weights', 'KV cache', 'scratch', 'program and runtime', 'reserve for the system']) t.match(shown.output, new RegExp(`^${part} +[\\d.]+ [kMG]?B`, 'm'));
  t.match(shown.output, /^Estimate: .* tokens per second \(benchmarks\/results\/2026-11-27-cuda-node\.md/m);
  const all = await shiftadd(['inspect', model, '--plan', '--device', 'all']);
  t.match(all.output, /^orin-nano-8gb +cuda .* yes +512 /m);
  t.match(all.output, /^raspberry-pi-5 +cpu .* unknown +\? /m);
  const document = JSON.parse((await shiftadd(['inspect', model, '--plan', '--free', '1000', '--json'])).output);
  t.match(document, { version: 1, device: null, fits: false, largestContext: 0, bytes: { kvCache: 512 * 640 }, memory: { availableBytes: 1000 } });
  t.match(await shiftadd(['inspect', model, '--plan', '--device', 'orin-nano-9gb']), { status: 1, notes: /Did you mean 'orin-nano-4gb'\?/ });
  t.match(await shiftadd(['inspect', model, '--plan', '--context', '513']), { status: 2, notes: /the model's limit/ });
  t.match(await shiftadd(['inspect', model, '--device', 'orin-nano-8gb']), { status: 2, notes: /--device needs --plan/ });
});

t.test('chat answers once', async (t) => {
  const words = ['chat', model, '--raw', '--prompt', 'Once upon a time', '--max-tokens', '12', ...greedy];
  const shown = await shiftadd(words);
  t.equal(shown.status, 0);
  t.equal(shown.output, ', there was a little girl named Lily. She\n');
  t.match(shown.notes, /^\(12 tokens, [\d.]+ tokens per second, cut at the limit\)\n$/);
  t.equal((await shiftadd([...words, '--quiet'])).notes, '');

  const piped = await shiftadd(['chat', model, '--raw', '--max-tokens', '12', ...greedy], { input: 'Once upon a time\n' });
  t.equal(piped.output, shown.output, 'the prompt may come on standard input');

  const document = JSON.parse((await shiftadd([...words, '--json', '--stop', 'little'])).output);
  t.match(document, {
    version: 1,
    text: ', there was a ',
    finishReason: 'stop',
    backend: { name: 'cpu' },
    energy: { joules: null },
    memory: { weightsBytes: Number },
    model: { path: model },
  });
});

t.test('chat says what a model without a template needs', async (t) => {
  const { status, notes } = await shiftadd(['chat', model, '--prompt', 'Hello']);
  t.equal(status, 1);
  t.match(notes, 'chat template');
});

t.test('limits of the model are told in the names of the command line', async (t) => {
  const { status, notes } = await shiftadd(['chat', model, '--context', '99999', '--prompt', 'Hello']);
  t.equal(status, 2);
  t.match(notes, /from 1 to 512 for --context .* but received 99999/);
});

t.test('eval', async (t) => {
  const text = join(t.testdir(), 'text.txt');
  await writeFile(text, story.repeat(60));
  const words = ['eval', model, '--text', text, '--window', '64', '--max-tokens', '640'];
  const shown = await shiftadd(words);
  t.equal(shown.status, 0);
  t.match(shown.output, /^perplexity +\d+\.\d{4}$/m);
  t.match(shown.output, /^text +640 tokens, 10 windows of 64$/m);
  const document = JSON.parse((await shiftadd([...words, '--json'])).output);
  t.match(document, { version: 1, windows: 10, predictedTokens: 630, text });
  t.ok(document.perplexity > 1 && document.perplexity < 10);

  const missing = await shiftadd(['eval', model, '--text', 'no-such-file.txt', '--json']);
  t.equal(missing.status, 1);
  t.match(JSON.parse(missing.output), { error: { code: 'ERR_NOT_FOUND', message: /no-such-file\.txt/ } });
});

t.test('quantize, then run what it made', async (t) => {
  const folder = t.testdir({ 'text.txt': story.repeat(200) });
  const out = join(folder, 'packed');
  const words = ['quantize', model, out, '--calibration', join(folder, 'text.txt'), '--samples', '4', '--window', '64', '--row-group', '32'];
  const made = await shiftadd([...words, '--override', 'k_proj=5', '--json']);
  t.equal(made.status, 0, made.notes);
  t.match(JSON.parse(made.output), { version: 1, path: out });

  const { tensors, bitsPerWeight } = JSON.parse((await shiftadd(['inspect', out, '--json'])).output);
  t.ok(bitsPerWeight > 4 && bitsPerWeight < 6);
  const planesOf = (part: string) => tensors.find(({ name }: { name: string }) => name.includes(part)).planes;
  t.equal(planesOf('q_proj'), 4);
  t.equal(planesOf('k_proj'), 5);

  const answer = await shiftadd(['chat', out, '--raw', '--prompt', 'Once upon a time', '--max-tokens', '6', ...greedy]);
  t.match(answer.output, /^, there was/);

  const again = await shiftadd([...words, '--json']);
  t.equal(again.status, 1);
  t.match(JSON.parse(again.output), { error: { code: 'ERR_OUTPUT_EXISTS', message: /overwrite/ } });
  t.equal((await shiftadd([...words, '--overwrite', '--quiet'])).status, 0);
});

t.test('an interrupt ends a quantization with 130 and leaves the finished layers for --resume', async (t) => {
  const folder = t.testdir({ 'text.txt': story.repeat(4000) });
  const out = join(folder, 'packed');
  const finished = join(`${out}.partial`, 'step-00000.safetensors');
  let started = false;
  const ended = await shiftadd(
    ['quantize', model, out, '--calibration', join(folder, 'text.txt'), '--samples', '128', '--window', '256'],
    {
      onNotes(_notes, kill) {
        if (started) return;
        started = true;
        const wait = setInterval(() => {
          if (!existsSync(finished)) return;
          clearInterval(wait);
          kill('SIGINT');
        }, 1);
      },
    },
  );
  t.ok(started, 'progress was shown');
  t.equal(ended.status, 130);
  t.match(ended.notes, /shiftadd: interrupted\n$/);
  await t.rejects(access(out));
  t.same((await readdir(folder)).sort(), ['packed.partial', 'text.txt']);
  t.ok(existsSync(finished));
});

t.test('a reader that goes away ends the program quietly', async (t) => {
  const child = spawn(process.execPath, [commandLine, 'inspect', model, '--all'], { stdio: ['ignore', 'pipe', 'pipe'], env: plainEnvironment() });
  child.stdout.destroy();
  let notes = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (notes += text));
  const status = await new Promise((resolve) => child.on('close', resolve));
  t.equal(status, 0);
  t.equal(notes, '');
});
