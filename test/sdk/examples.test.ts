// Every folder of examples/: programs run in a project of their own that has the package, files of other tools are read and checked.
import { execFile } from 'node:child_process';
import { cp, mkdir, readFile, readdir, symlink, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { MessageChannel } from 'node:worker_threads';
import t from 'tap';
import { parseAllDocuments } from 'yaml';
import { loadModel } from '../../sdk/src/index.js';
import { Metrics } from '../../sdk/src/server/metrics.js';
import { serveRules } from '../../sdk/src/server/serve-options.js';
import { Slots } from '../../sdk/src/server/slots.js';
import { noBrowser, startBrowser } from '../web/browser.js';
import { plainEnvironment } from './cli-process.js';
import { copyOf, editJson, stories, temporaryFolder } from './fixtures.js';

const run = promisify(execFile);
const checkout = resolve('.');
const examples = join(checkout, 'examples');
t.setTimeout(240_000); // machines in use by others

// As `npm install` leaves it.
const project = await temporaryFolder(t);
await cp(examples, project, { recursive: true });
await mkdir(join(project, 'node_modules'));
for (const name of ['shiftadd', 'fastify']) await symlink(name === 'shiftadd' ? checkout : join(checkout, 'node_modules', name), join(project, 'node_modules', name), 'junction');
const chatModel = await copyOf(t, stories);
await editJson(join(chatModel, 'tokenizer_config.json'), (config: any) => {
  config.chat_template = "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}assistant:";
});
const lily = ', there was a little girl named Lily. She';

async function node(...words: string[]): Promise<string> {
  const { stdout } = await run(process.execPath, words, { cwd: project, env: plainEnvironment() });
  return stdout;
}

const read = (...path: string[]): Promise<string> => readFile(join(examples, ...path), 'utf8');

t.test('each has a README in the list, and a program its package.json', async (t) => {
  const folders = (await readdir(examples, { withFileTypes: true })).filter((entry) => entry.isDirectory()).map(({ name }) => name);
  const { version } = JSON.parse(await readFile('package.json', 'utf8'));
  const list = await read('README.md');
  for (const folder of folders) {
    t.ok(list.includes(`| [${folder}](${folder}) |`), folder);
    t.match(await read(folder, 'README.md'), /^# /);
    if (!existsSync(join(examples, folder, 'package.json'))) continue;
    t.match(JSON.parse(await read(folder, 'package.json')), { private: true, type: 'module', scripts: { start: String }, dependencies: { shiftadd: `^${version}` } }, folder);
  }
});

t.test('worker-thread', async (t) => {
  t.equal(await node('worker-thread/main.js', 'Once upon a time', '12', stories), `Once upon a time${lily}\n(12 tokens, length)\n`);
  await t.rejects(node('worker-thread/main.js', 'word '.repeat(600), '12', stories), { code: 1, stderr: /context holds 512/ });
});

t.test('electron, without Electron', async (t) => {
  const model = await loadModel(chatModel);
  t.teardown(() => model.close());
  const expected = await model.createChat().send('Hello', { maxTokens: 60 }).result();
  t.equal(await node('electron/plain.js', 'Hello', chatModel), `${expected.text}\n(${expected.usage.completionTokens} tokens, ${expected.finishReason})\n`);

  const { serveChat } = await import(pathToFileURL(join(project, 'electron', 'chat-port.js')).href);
  const { port1, port2 } = new MessageChannel();
  t.teardown(() => port1.close());
  serveChat(model, port2);
  const answer = (message: { id: number; send: string; maxTokens?: number }): Promise<any> =>
    new Promise((end) => {
      let text = '';
      const listen = (part: any): void => {
        if (part.id !== message.id) return;
        text += part.text ?? '';
        if (part.text !== undefined && part.id === 2) port1.postMessage({ id: 2, cancel: true });
        if (part.text === undefined) (port1.off('message', listen), end({ ...part, text }));
      };
      port1.on('message', listen);
      port1.postMessage(message);
    });
  const short = await answer({ id: 1, send: 'Hello', maxTokens: 5 });
  t.match(short, { done: { finishReason: 'length', tokens: 5 } });
  t.ok(short.text.length > 3 && expected.text.startsWith(short.text), short.text);
  t.match(await answer({ id: 2, send: 'More', maxTokens: 400 }), { error: { message: /abort/ } });
  port1.postMessage({ reset: true });
  t.match(await answer({ id: 3, send: 'word '.repeat(600) }), { error: { code: 'ERR_CONTEXT_OVERFLOW' } });
});

t.test('fastify', async (t) => {
  const model = await loadModel(chatModel);
  const { buildApp } = await import(pathToFileURL(join(project, 'fastify', 'app.js')).href);
  const app = buildApp(model);
  t.teardown(async () => {
    await app.close();
    await model.close();
  });
  const url = `${await app.listen({ host: '127.0.0.1', port: 0 })}/answer`;
  const post = (body: object, signal?: AbortSignal): Promise<Response> =>
    fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body), ...(signal === undefined ? {} : { signal }) });
  const answer = await post({ prompt: 'Hello', maxTokens: 20 });
  t.match(answer.headers.get('content-type'), 'text/plain');
  t.equal(await answer.text(), await model.createChat().send('Hello', { maxTokens: 20 }).text());
  for (const [body, status] of [[{}, 400], [{ prompt: 'x', maxTokens: 0 }, 400], [{ prompt: 'word '.repeat(600) }, 413]] as const) t.equal((await post(body)).status, status);
  const controller = new AbortController();
  const reader = (await post({ prompt: 'Hello', maxTokens: 400 }, controller.signal)).body!.getReader();
  t.ok((await reader.read()).value!.length > 0);
  controller.abort();
  await t.rejects(reader.read());
  t.equal((await post({ prompt: 'Hello', maxTokens: 3 })).status, 200, 'a client that left is nobody else\'s trouble');
});

const sdk = join(checkout, 'dist', 'browser', 'index.js');
t.test('browser', { skip: noBrowser !== false ? noBrowser : existsSync(sdk) ? false : 'dist/browser is missing; npm run build makes it' }, async (t) => {
  const server = execFile(process.execPath, ['browser/serve.js', stories], { cwd: project, env: { ...plainEnvironment(), PORT: '0' } });
  t.teardown(() => server.kill());
  const url = await new Promise<string>((started) => server.stdout!.once('data', (text) => started(String(text).trim())));
  t.equal((await fetch(`${url}..%2fworker-thread/main.js`)).status, 404);
  const browser = await startBrowser(t);
  const page = await browser.newPage();
  await page.goto(url);
  await page.getByRole('button', { name: 'Continue it', disabled: false }).click({ timeout: 60_000 });
  await page.locator('#story', { hasText: lily }).waitFor();
  t.match(await page.getByRole('status').textContent(), /^\S+ on \d+ threads$/);
});

t.test('jetson', async (t) => {
  const unit = await read('jetson', 'shiftadd.service');
  const [, command] = /^ExecStart=(.*)$/m.exec(unit)!;
  t.match(command!, `--port ${serveRules.port.initial} `);
  await checkServe(t, command!.split(' ').slice(2));
  const seconds = Number(/^TimeoutStopSec=(\d+)$/m.exec(unit)![1]);
  t.ok(seconds * 1000 > serveRules.stopTimeoutMs.initial, 'systemd waits longer than the server');
  if (!existsSync('/usr/bin/systemd-analyze')) return void t.pass('systemd-analyze is not here', { skip: true });
  // Programs and files of the board are not here.
  const file = join(project, 'shiftadd.service');
  await writeFile(file, unit.replace(/^ExecStart=\S+/m, `ExecStart=${process.execPath}`).replace('EnvironmentFile=', 'EnvironmentFile=-'));
  const { stdout, stderr } = await run('systemd-analyze', ['verify', '--man=no', file]);
  t.equal(stdout + stderr, '');
});

t.test('k3s', async (t) => {
  const documents: any[] = [];
  for (const name of (await readdir(join(examples, 'k3s'))).filter((name) => name.endsWith('.yaml')))
    for (const document of parseAllDocuments(await read('k3s', name))) {
      t.same([...document.errors, ...document.warnings], [], name);
      documents.push(document.toJS());
    }
  const of = (kind: string): any => documents.find((document) => document.kind === kind);
  t.same(documents.map(({ kind }) => kind).sort(), ['DaemonSet', 'Kustomization', 'PodMonitor', 'PrometheusRule', 'Service']);
  const [container] = of('DaemonSet').spec.template.spec.containers;
  const labels = of('DaemonSet').spec.template.metadata.labels;
  for (const selector of [of('DaemonSet').spec.selector.matchLabels, of('Service').spec.selector, of('PodMonitor').spec.selector.matchLabels]) t.same(selector, labels);
  t.same(container.ports, [{ name: 'http', containerPort: serveRules.port.initial }]);
  t.equal(container.args[container.args.indexOf('--port') + 1], String(serveRules.port.initial));
  t.match(of('Service').spec.ports, [{ port: serveRules.port.initial, targetPort: 'http' }]);
  t.match(of('PodMonitor').spec.podMetricsEndpoints, [{ port: 'http', path: '/metrics' }]);
  const { secretKeyRef } = container.env[0].valueFrom;
  t.same(of('PodMonitor').spec.podMetricsEndpoints[0].authorization.credentials, secretKeyRef);
  for (const name of of('Kustomization').resources) t.ok(existsSync(join(examples, 'k3s', name)), name);
  await checkServe(t, container.args.slice(1));
  const dashboard = JSON.parse(await read('k3s', 'dashboard.json'));
  const panels: any[] = dashboard.panels;
  t.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
  const expressions = [...panels.flatMap(({ targets }) => targets.map(({ expr }: any) => expr)), ...dashboard.templating.list.map(({ query }: any) => query), ...of('PrometheusRule').spec.groups[0].rules.map(({ expr }: any) => expr)];
  const named = new Set(expressions.flatMap((text: string) => text.match(/\bshiftadd_\w+/g) ?? []));
  t.ok(named.size > 8);
  const metrics = new Metrics({ slots: new Slots(1, 1), info: {}, joules: () => 1, memory: () => ({ weightsBytes: 1, gpuBytes: 1 }) });
  metrics.request('/v1/models', 200);
  const text = metrics.text();
  for (const name of named) t.match(text, new RegExp(`^# TYPE ${name} `, 'm'), name);
});

/** The command line knows these options of `serve`. */
async function checkServe(t: any, words: string[]): Promise<void> {
  const help = await node(join(checkout, 'dist', 'esm', 'cli', 'main.js'), 'serve', '--help');
  for (const word of words.filter((word) => word.startsWith('--'))) t.ok(help.includes(`${word} `), word);
}
