// The tarball of `npm pack`, installed into an empty project without install scripts: both module formats and the
// command run there.
import { execFile } from 'node:child_process';
import { readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { packageRoot, platformName } from '../../sdk/src/native-path.js';
import { plainEnvironment } from './cli-process.js';
import { stories, temporaryFolder } from './fixtures.js';

const run = promisify(execFile);
// Outside the checkout, so that nothing of it is found by looking upwards.
const project = await temporaryFolder(t);
await writeFile(join(project, 'package.json'), JSON.stringify({ name: 'empty', private: true }));

/** npm without what the npm that runs these tests passes on to it. */
async function npm(...words: string[]): Promise<string> {
  const env = Object.fromEntries(Object.entries(plainEnvironment()).filter(([name]) => !/^npm_(package|lifecycle|command|execpath)/.test(name)));
  const { stdout } = await run('npm', words, { cwd: project, env, maxBuffer: 1e8 });
  return stdout;
}

async function node(format: 'module' | 'commonjs', code: string): Promise<string> {
  const { stdout } = await run(process.execPath, [`--input-type=${format}`, '--eval', code], { cwd: project, env: plainEnvironment() });
  return stdout.trim();
}

t.before(async () => {
  const packed = JSON.parse(await npm('pack', packageRoot(), '--json', '--silent')) as { filename: string }[];
  await npm('install', `./${packed[0]!.filename}`, '--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund');
});

t.test('it carries what it needs and nothing else', async (t) => {
  const installed = join(project, 'node_modules', 'shiftadd');
  t.strictSame((await readdir(installed)).sort(), ['CHANGELOG.md', 'LICENSE', 'README.md', 'backends', 'devices', 'dist', 'package.json', 'prebuilds']);
  t.strictSame(await readdir(join(installed, 'prebuilds', platformName())), ['shiftadd.node']);
  const modules = ['single', 'single-relaxed', 'threads', 'threads-relaxed'];
  t.strictSame(await readdir(join(installed, 'backends', 'wasm', 'modules')), modules.flatMap((name) => [`${name}.js`, `${name}_bg.wasm`]).sort());
  t.strictSame((await readdir(join(installed, 'dist', 'browser'))).filter((name) => !name.startsWith('.')).sort(), ['THIRD-PARTY.txt', 'index.js', ...modules.map((name) => `${name}_bg.wasm`), 'types', 'worker.js'].sort());
  const { scripts = {}, dependencies } = JSON.parse(await readFile(join(installed, 'package.json'), 'utf8'));
  for (const name of ['preinstall', 'install', 'postinstall', 'prepare']) t.notOk(name in scripts, `no ${name} script`);
  t.strictSame(Object.keys(dependencies), ['@hono/node-server', '@huggingface/jinja', '@huggingface/tokenizers', 'hono']);
});

const generate = `
  const model = await loadModel(${JSON.stringify(stories)});
  const text = await model.generate('Once upon a time', { maxTokens: 12 }).text();
  await model.close();
  console.log(text);`;

t.test('as an ES module', async (t) => {
  t.equal(await node('module', `import { loadModel } from 'shiftadd'; ${generate}`), ', there was a little girl named Lily. She');
});

t.test('on WebAssembly, in both formats', async (t) => {
  const generateThere = generate.replace(/loadModel\((".*?")\)/, `loadModel($1, { backend: 'wasm', threads: 2 })`);
  t.match(generateThere, /wasm/);
  t.equal(await node('module', `import { loadModel } from 'shiftadd'; ${generateThere}`), ', there was a little girl named Lily. She');
  t.equal(await node('commonjs', `const { loadModel } = require('shiftadd'); (async () => { ${generateThere} })();`), ', there was a little girl named Lily. She');
});

t.test('as CommonJS', async (t) => {
  const code = `const { loadModel } = require('shiftadd'); (async () => { ${generate} })();`;
  t.equal(await node('commonjs', code), ', there was a little girl named Lily. She');
});

t.test('its server, in both formats', async (t) => {
  const health = `
    const model = await loadModel(${JSON.stringify(stories)});
    const server = await serve(model, { port: 0 });
    console.log((await (await fetch(server.url + '/health')).json()).status);
    await server.close();
    await model.close();`;
  t.equal(await node('module', `import { loadModel } from 'shiftadd'; import { serve } from 'shiftadd/server'; ${health}`), 'ok');
  t.equal(await node('commonjs', `const { loadModel } = require('shiftadd'); const { serve } = require('shiftadd/server'); (async () => { ${health} })();`), 'ok');
});

t.test('its boards, in both formats', async (t) => {
  t.equal(await node('module', `import { boardProfile } from 'shiftadd'; console.log(boardProfile('raspberry-pi-5').name);`), 'Raspberry Pi 5');
  t.equal(await node('commonjs', `const { boardProfile } = require('shiftadd'); console.log(boardProfile('raspberry-pi-5').name);`), 'Raspberry Pi 5');
});

t.test('its types', async (t) => {
  const compiler = join(packageRoot(), 'node_modules', 'typescript', 'bin', 'tsc');
  const compile = (file: string) =>
    run(process.execPath, [compiler, '--noEmit', '--strict', '--target', 'es2023', '--module', 'nodenext', file], { cwd: project });
  const code = `import { loadModel, type Run } from 'shiftadd'; import { serve, type Server } from 'shiftadd/server';
    export const run: Promise<Run> = loadModel().then((model) => model.generate('a'));
    export const server: Promise<Server> = loadModel().then((model) => serve(model));`;
  for (const file of ['check.mts', 'check.cts']) {
    await writeFile(join(project, file), code);
    await t.resolves(compile(file), file);
  }
});

t.test('its command', async (t) => {
  const { backends } = JSON.parse(await npm('exec', '--offline', '--', 'shiftadd', 'devices', '--json'));
  t.match(backends, [{ name: 'cpu', available: true }]);
});
