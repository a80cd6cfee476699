// The packages as npm installs them into an empty project without install scripts: what they hold, both module formats, the
// command, and what the loader says when no engine loads. `npm run packages:try` tries more: bundlers, Electron, offline.
import { execFile } from 'node:child_process';
import { cp, mkdir, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import t from 'tap';
import { enginePackages, packageRoot, platformName } from '../../sdk/src/native-path.js';
import { plainEnvironment } from './cli-process.js';
import { stories, temporaryFolder } from './fixtures.js';

interface Row {
  name: string;
  file: string;
  bytes: number;
}

const run = promisify(execFile);
const engine = `@shiftadd/${platformName()}`;
// Outside the checkout, so that nothing of it is found by looking upwards; with characters that addresses write differently.
const project = join(await temporaryFolder(t), 'a project #ü');
const installed = (name: string): string => join(project, 'node_modules', name);

/** npm without what the npm that runs these tests passes on to it. */
async function npm(...words: string[]): Promise<string> {
  const env = Object.fromEntries(Object.entries(plainEnvironment()).filter(([name]) => !/^npm_(package|lifecycle|command|execpath)/.test(name)));
  const { stdout } = await run('npm', words, { cwd: project, env, maxBuffer: 1e8 });
  return stdout;
}

async function node(format: 'module' | 'commonjs', code: string, folder = project): Promise<string> {
  const { stdout } = await run(process.execPath, [`--input-type=${format}`, '--eval', code], { cwd: folder, env: plainEnvironment() });
  return stdout.trim();
}

const scripts = (await import(pathToFileURL(join(packageRoot(), 'scripts', 'packages.mjs')).href)) as { packAll(choice: object): Promise<Row[]> };
let packed: Row[];

t.before(async () => {
  await mkdir(project);
  await writeFile(join(project, 'package.json'), JSON.stringify({ name: 'empty', private: true }));
  packed = await scripts.packAll({ only: ['shiftadd', platformName(), 'wasm'], into: join(project, 'packed') });
  await npm('install', ...packed.map(({ file }) => file), '--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund');
});

t.test('they carry what they need and nothing else', async (t) => {
  t.strictSame(packed.map(({ name }) => name), ['shiftadd', engine, '@shiftadd/wasm']);
  t.ok(packed[0]!.bytes < 1e6, `the main package has ${packed[0]!.bytes} bytes`);
  t.strictSame((await readdir(installed('shiftadd'))).sort(), ['CHANGELOG.md', 'LICENSE', 'README.md', 'devices', 'dist', 'package.json']);
  t.strictSame((await readdir(installed(engine))).sort(), ['LICENSE', 'README.md', 'package.json', 'shiftadd.node']);
  const modules = ['single', 'single-relaxed', 'threads', 'threads-relaxed'];
  t.strictSame((await readdir(installed('@shiftadd/wasm'))).sort(), ['LICENSE', 'package.json', ...modules.flatMap((name) => [`${name}.js`, `${name}_bg.wasm`])].sort());
  t.strictSame((await readdir(join(installed('shiftadd'), 'dist', 'browser'))).sort(), ['THIRD-PARTY.txt', 'index.js', ...modules.map((name) => `${name}_bg.wasm`), 'types', 'worker.js'].sort());
  for (const name of ['shiftadd', engine, '@shiftadd/wasm']) t.notOk('scripts' in JSON.parse(await readFile(join(installed(name), 'package.json'), 'utf8')), `${name} has no scripts`);
  const { dependencies, optionalDependencies, version } = JSON.parse(await readFile(join(installed('shiftadd'), 'package.json'), 'utf8'));
  t.strictSame(Object.keys(dependencies), ['@hono/node-server', '@huggingface/jinja', '@huggingface/tokenizers', 'hono']);
  t.strictSame(optionalDependencies, Object.fromEntries([...enginePackages, '@shiftadd/wasm'].map((name) => [name, version])), 'every package that the loader looks for, in the same version');
  const { os, cpu, libc, main } = JSON.parse(await readFile(join(installed(engine), 'package.json'), 'utf8'));
  t.strictSame({ os, cpu, main }, { os: [process.platform], cpu: [process.arch], main: 'shiftadd.node' });
  if (process.platform === 'linux') t.strictSame(libc, ['glibc']);
});

const generate = `
  const model = await loadModel(${JSON.stringify(stories)});
  const text = await model.generate('Once upon a time', { maxTokens: 12 }).text();
  await model.close();
  console.log(model.backend.name + text);`;
const wanted = ', there was a little girl named Lily. She';
const asModule = `import { loadModel } from 'shiftadd'; ${generate}`;
const asCommonJs = `const { loadModel } = require('shiftadd'); (async () => { ${generate} })();`;

t.test('in both formats, on both engines', async (t) => {
  const onWasm = (code: string): string => code.replace(/loadModel\((".*?")\)/, `loadModel($1, { backend: 'wasm', threads: 2 })`);
  t.match(await node('module', asModule), new RegExp(`^(cpu|cuda)${wanted}$`));
  t.match(await node('commonjs', asCommonJs), new RegExp(`^(cpu|cuda)${wanted}$`));
  t.equal(await node('module', onWasm(asModule)), `wasm${wanted}`);
  t.equal(await node('commonjs', onWasm(asCommonJs)), `wasm${wanted}`);
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
  const code = `import { loadModel, type Run } from 'shiftadd'; import { serve, type Server } from 'shiftadd/server';
    export const run: Promise<Run> = loadModel().then((model) => model.generate('a'));
    export const server: Promise<Server> = loadModel().then((model) => serve(model));`;
  for (const file of ['check.mts', 'check.cts']) await writeFile(join(project, file), code);
  await t.resolves(run(process.execPath, [compiler, '--noEmit', '--strict', '--target', 'es2023', '--module', 'nodenext', 'check.mts', 'check.cts'], { cwd: project }));
});

t.test('its command', async (t) => {
  const { backends } = JSON.parse(await npm('exec', '--offline', '--', 'shiftadd', 'devices', '--json'));
  t.match(backends, [{ name: 'cpu', available: true }]);
});

t.test('an engine that does not load: one message with what was looked for and the fix', async (t) => {
  const file = join(installed(engine), 'shiftadd.node');
  const whole = await readFile(file);
  const { version } = JSON.parse(await readFile(join(installed('shiftadd'), 'package.json'), 'utf8'));
  const failure = async (): Promise<string> => node('module', `import { loadModel } from 'shiftadd'; await loadModel(${JSON.stringify(stories)}, { backend: 'cpu' }).catch(({ code, message }) => console.log(code, message));`);
  const people = process.platform === 'linux' ? `${platformName()}-glibc` : platformName();

  await writeFile(file, 'not an engine');
  t.match(await failure(), new RegExp(`^ERR_NO_BACKEND .*${people}: .*the package ${engine}: .*shiftadd\\.node cannot be loaded \\(it is no binary\\)`));
  t.equal(await node('module', asModule), `wasm${wanted}`, 'chosen by itself, WebAssembly takes its place');

  const other = Buffer.from(whole);
  other.writeUInt16LE(process.arch === 'arm64' ? 62 : 183, 18); // the processor, in the head of an ELF file
  await writeFile(file, other);
  if (process.platform === 'linux') t.match(await failure(), /it is for (arm64|x64), and this Node\.js is for (x64|arm64)/);

  await rename(installed(engine), installed('@shiftadd/set-aside'));
  t.match(await failure(), new RegExp(`the package ${engine} is not installed.* "npm install ${engine}@${version.replaceAll('.', '\\.')}" \\(npm leaves it out with --omit=optional\\)`));
  // node_modules of another machine.
  const foreign = process.arch === 'arm64' ? '@shiftadd/linux-x64' : '@shiftadd/linux-arm64';
  await cp(installed('@shiftadd/set-aside'), installed(foreign), { recursive: true });
  t.match(await failure(), new RegExp(`Installed instead: ${foreign}, for another machine`));

  await rm(installed('@shiftadd/wasm'), { recursive: true });
  const nothing = await node('module', `import { loadModel } from 'shiftadd'; await loadModel(${JSON.stringify(stories)}).catch(({ code, message }) => console.log(code, message));`);
  t.match(nothing, /^ERR_NO_BACKEND No backend for 'auto'\. cuda: .*; cpu: the same; wasm: the package @shiftadd\/wasm is not installed.*"npm install @shiftadd\/wasm@/);
});
