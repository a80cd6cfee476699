// The code of README.md and docs/: JavaScript and TypeScript is type-checked, and run on a tiny model; commands have the options that
// they are given; links lead somewhere.
import { execFile } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import t from 'tap';
import ts from 'typescript';
import type { Command } from '../../sdk/src/cli/command.js';
import { plainEnvironment } from './cli-process.js';
import { copyOf, editJson, stories, temporaryFolder } from './fixtures.js';

interface Block {
  document: string;
  language: string;
  code: string;
  /** Of its first line. */
  line: number;
}

const checkout = resolve('.');
const documents = ['README.md', 'CONTRIBUTING.md', ...markdown('docs'), ...markdown('examples')];
const blocks = documents.flatMap(blocksOf);
const programs = blocks.filter(({ language }) => language === 'ts' || language === 'js');
t.setTimeout(240_000); // machines in use by others

function markdown(folder: string): string[] {
  return readdirSync(folder, { recursive: true }).map((name) => join(folder, String(name))).filter((name) => name.endsWith('.md') && !name.includes('node_modules'));
}

function blocksOf(document: string): Block[] {
  const text = readFileSync(document, 'utf8');
  return [...text.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].map((match) => ({ document, language: match[1]!, code: match[2]!, line: text.slice(0, match.index).split('\n').length + 1 }));
}

/** What a reader has already where a block uses it without saying so. */
const readers: Record<string, string> = {
  model: "declare const model: import('shiftadd').Model;",
  local: "declare const local: ReturnType<typeof import('shiftadd/ai-sdk').languageModel>;",
  prompt: 'declare const prompt: string;',
  work: 'declare const work: () => Promise<void>;',
  search: 'declare const search: () => Promise<number>;',
  loadModel: "import { loadModel } from 'shiftadd';",
  openMemoryRecorder: "import { openMemoryRecorder } from 'shiftadd';",
  monotonicMs: "import { monotonicMs } from 'shiftadd';",
  build: "import { build } from 'esbuild';",
  join: "import { join } from 'node:path';",
  readdir: "import { copyFile, readdir } from 'node:fs/promises';",
};

function completed({ code }: Block): string {
  const isDeclared = (name: string): boolean => new RegExp(`(const|let|using) (${name}\\b|[{[][^=]*\\b${name}\\b)|import \\{[^}]*\\b${name}\\b`).test(code);
  const missing = Object.keys(readers).filter((name) => new RegExp(`\\b${name}\\b`).test(code) && !isDeclared(name));
  return `${missing.map((name) => readers[name]).join(' ')}\n${code}\nexport {};\n`;
}

const isForPages = ({ document, code }: Block): boolean => document.endsWith('browser.md') || code.includes('an address, files or a folder');

function problems(files: Map<string, string>, options: ts.CompilerOptions): string[] {
  const all: ts.CompilerOptions = { target: ts.ScriptTarget.ES2023, module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext, noEmit: true, skipLibCheck: true, allowJs: true, checkJs: true, strict: true, types: ['node'], ...options };
  const host = ts.createCompilerHost(all);
  const { readFile, fileExists, getSourceFile } = host;
  host.readFile = (name) => files.get(name) ?? readFile(name);
  host.fileExists = (name) => files.has(name) || fileExists(name);
  host.getSourceFile = (name, version, ...rest) => (files.has(name) ? ts.createSourceFile(name, files.get(name)!, version, true) : getSourceFile(name, version, ...rest));
  const program = ts.createProgram([...files.keys()], all, host);
  return ts.getPreEmitDiagnostics(program).map(({ file, start, messageText }) => {
    const line = file === undefined ? '' : `${file.fileName.slice(checkout.length + 1)}, line ${file.getLineAndCharacterOfPosition(start ?? 0).line}: `;
    return line + ts.flattenDiagnosticMessageText(messageText, ' ');
  });
}

// Beside the package's own files, so that `shiftadd` is this package.
const virtual = (list: Block[]): Map<string, string> => new Map(list.map((block) => [join(checkout, `${block.document.replace(/\W/g, '-')}-${block.line}.mts`), completed(block)]));

t.test('programs have the types of the package', (t) => {
  t.ok(programs.length > 10);
  const sources = readdirSync('examples', { recursive: true }).map(String).filter((name) => /(^|\/)\w[\w-]*\.js$/.test(name) && !/node_modules|electron\/(main|renderer)|browser\/page/.test(name));
  t.ok(sources.length >= 8);
  const examples = new Map(sources.map((name) => [join(checkout, 'examples', name), readFileSync(join('examples', name), 'utf8')]));
  const lib = ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts'];
  const paths = { shiftadd: [join(checkout, 'dist/esm/index.d.ts')], 'shiftadd/ai-sdk': [join(checkout, 'dist/esm/ai-sdk/index.d.ts')] };
  t.same(problems(new Map([...virtual(programs.filter((block) => !isForPages(block))), ...examples]), { lib, paths }), []);
  t.end();
});

const forPages = join(checkout, 'dist', 'browser', 'types', 'browser', 'index.d.ts');
t.test('programs for pages', { skip: existsSync(forPages) ? false : 'dist/browser is missing; npm run build makes it' }, (t) => {
  const files = virtual(programs.filter(isForPages));
  t.ok(files.size >= 4);
  const page = join(checkout, 'examples', 'browser', 'page.js');
  files.set(page, readFileSync(page, 'utf8').replace('./shiftadd/index.js', 'shiftadd'));
  t.same(problems(files, { lib: ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts', 'lib.dom.d.ts', 'lib.dom.iterable.d.ts'], paths: { shiftadd: [forPages] } }), []);
  t.end();
});

t.test('programs run', async (t) => {
  const project = await temporaryFolder(t);
  await mkdir(join(project, 'node_modules'));
  for (const name of ['shiftadd', 'ai', 'esbuild', 'openai']) await symlink(name === 'shiftadd' ? checkout : join(checkout, 'node_modules', name), join(project, 'node_modules', name), 'junction');
  const folder = await copyOf(t, stories);
  await editJson(join(folder, 'tokenizer_config.json'), (config: any) => {
    config.chat_template = "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}assistant:";
  });
  await writeFile(join(project, 'main.js'), "import 'shiftadd';\n"); // for bundlers
  // Not those of pages, which tests of the browser build cover, not a profile, which idles for ten seconds, not clients of a server.
  const chosen = programs.filter((block) => !isForPages(block) && !/profileModel|baseURL/.test(block.code));
  t.ok(chosen.length >= 7);
  const names: string[] = [];
  for (const block of chosen) {
    const code = completed(block).replaceAll('await loadModel()', `await loadModel(${JSON.stringify(folder)})`).replaceAll('port: 8080', 'port: 0');
    const name = `${block.document.replace(/\W/g, '-')}-${block.line}.mjs`;
    await writeFile(join(project, name), ts.transpileModule(code, { compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext } }).outputText);
    names.push(name);
  }
  await writeFile(
    join(project, 'all.mjs'),
    `import { loadModel } from 'shiftadd';
import { languageModel } from 'shiftadd/ai-sdk';
const model = await loadModel(${JSON.stringify(folder)});
Object.assign(globalThis, { model, local: languageModel(model), prompt: 'Once', work: async () => undefined });
for (const name of ${JSON.stringify(names)}) {
  try {
    await import('./' + name);
    console.log('\\nran ' + name);
  } catch (error) {
    console.log('\\n' + name + ' failed:', error);
  }
}
await model.close();`,
  );
  const { stdout } = await promisify(execFile)(process.execPath, ['all.mjs'], { cwd: project, env: plainEnvironment() });
  t.same([...stdout.matchAll(/^(?:ran (.*)|.* failed:[\s\S]*?)$/gm)].map(([whole, name]) => name ?? whole), names, stdout);
});

t.test('commands have these options', async (t) => {
  const text = [...documents.map((name) => readFileSync(name, 'utf8')), readFileSync('examples/jetson/shiftadd.service', 'utf8')].join('\n').replaceAll('npm start -- ', 'shiftadd chat ');
  const uses = [...text.matchAll(/\bshiftadd (chat|pull|quantize|import|eval|bench|profile|inspect|devices|doctor|serve)\b([^\n`|]*)/g)];
  t.ok(uses.length > 20);
  const known = new Map<string, Set<string>>();
  for (const [whole, name, words] of uses) {
    if (!known.has(name!)) {
      const module = (await import(pathToFileURL(resolve('sdk/src/cli', `${name}.ts`)).href)) as Record<string, Command>;
      const command = Object.values(module).find((entry) => entry?.name === name)!;
      known.set(name!, new Set([...Object.keys(command.options), 'help', 'json', 'quiet']));
    }
    for (const [, option] of words!.matchAll(/ --([a-z][a-z-]*)/g)) t.ok(known.get(name!)!.has(option!), whole);
  }
});

t.test('links lead somewhere', (t) => {
  for (const document of documents) {
    const text = readFileSync(document, 'utf8').replace(/^```[\s\S]*?^```$/gm, '');
    for (const [, target] of text.matchAll(/\]\((?!https?:|#)([^)#\s]+)/g)) t.ok(existsSync(join(dirname(document), target!)), `${document}: ${target}`);
  }
  t.end();
});
