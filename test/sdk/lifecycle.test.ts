// How processes and worker threads end: without dispose, inside callbacks, by signals, mid-generation.
import { spawn } from 'node:child_process';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import t from 'tap';
import { stories } from './fixtures.js';

const sdk = pathToFileURL(resolve('dist/esm/index.js')).href;
const prelude = `import { loadModel } from ${JSON.stringify(sdk)};
const folder = ${JSON.stringify(stories)};
const prompt = 'Once upon a time, there was a little girl named Lily.';
`;

interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

function run(script: string, onOutput?: (child: ReturnType<typeof spawn>) => void): Promise<Ended> {
  const child = spawn(process.execPath, ['--input-type=module', '-e', prelude + script], { env: { PATH: process.env['PATH'] }, timeout: 60_000, killSignal: 'SIGKILL' });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (data) => {
    stdout += String(data);
    onOutput?.(child);
  });
  child.stderr.on('data', (data) => (stderr += String(data)));
  return new Promise((done) => child.on('close', (code, signal) => done({ code, signal, stdout, stderr })));
}

t.test('a script that forgets to close ends by itself', async (t) => {
  t.match(await run(`const model = await loadModel(folder); console.log((await model.generate(prompt, { maxTokens: 8 }).text()).length > 0);`), { code: 0, stdout: 'true\n', stderr: '' });
  t.match(await run(`await loadModel(folder);`), { code: 0, stderr: '' });
  t.match(await run(`await loadModel(folder); await loadModel(folder); await loadModel(folder);`), { code: 0, stderr: '' });
});

t.test('process.exit and a throw inside the loop', async (t) => {
  const loop = (body: string) => `const model = await loadModel(folder); for await (const chunk of model.generate(prompt, { maxTokens: 200 })) { ${body} }`;
  for (let i = 0; i < 5; i++) t.match(await run(loop('process.exit(3);')), { code: 3, stderr: '' });
  const thrown = await run(loop(`throw new Error('from the loop');`));
  t.equal(thrown.code, 1);
  t.match(thrown.stderr, /from the loop/);
  t.match(await run(`const model = await loadModel(folder); model.generate(prompt, { maxTokens: 400 }); setTimeout(() => process.exit(4), 20);`), { code: 4, stderr: '' });
});

t.test('SIGTERM in mid-stream ends the process', async (t) => {
  const ended = await run(
    `const model = await loadModel(folder); for (;;) for await (const chunk of model.generate(prompt, { maxTokens: 200 })) process.stdout.write('.');`,
    (child) => child.kill('SIGTERM'),
  );
  t.match(ended, { signal: 'SIGTERM', stderr: '' });
});

t.test('worker threads terminated in mid-generation leave the others alive', async (t) => {
  const worker = `
import { parentPort, workerData } from 'node:worker_threads';
const { loadModel } = await import(workerData.sdk);
const model = await loadModel(workerData.folder, { threads: 1 });
parentPort.postMessage('started');
for (;;) for await (const chunk of model.generate(workerData.prompt, { maxTokens: 400 })) if (workerData.exit) setTimeout(() => process.exit(0), 5);
`;
  const ended = await run(`
import { Worker } from 'node:worker_threads';
const url = new URL('data:text/javascript,' + encodeURIComponent(${JSON.stringify(worker)}));
const once = (exit, delay) => new Promise((done, fail) => {
  const worker = new Worker(url, { workerData: { sdk: ${JSON.stringify(sdk)}, folder, prompt, exit } });
  worker.on('error', fail);
  worker.on('exit', done);
  worker.on('message', () => { if (!exit) setTimeout(() => worker.terminate(), delay); });
});
for (let i = 0; i < 40; i++) await once(false, i % 10 * 5);
for (let i = 0; i < 10; i++) await once(true, 0);
const model = await loadModel(folder);
console.log(await model.generate(prompt, { maxTokens: 48 }).text());
`);
  t.match(ended, { code: 0, signal: null, stderr: '' });
  t.match(ended.stdout, /She loved to play outside in the park/);
});
