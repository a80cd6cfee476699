// `npm run docs`: the documentation site in build/site, from the documents and the types. Its tools have a lock file of their own in
// docs/site, so that nobody else installs them. Public names without a docstring and links that lead nowhere are errors.
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { dirname, join, relative } from 'node:path';
import { StepError } from './run-step.mjs';
import { root, runScript } from './setup.mjs';

const site = join(root, 'docs', 'site');
const source = join(root, 'build', 'site-source');
const output = join(root, 'build', 'site');

const entries = { index: 'shiftadd', server: 'shiftadd/server', 'ai-sdk': 'shiftadd/ai-sdk', browser: 'shiftadd in a browser' };
const kinds = { functions: 'Functions', classes: 'Classes', interfaces: 'Interfaces', 'type-aliases': 'Types', variables: 'Values' };

await runScript(async () => {
  if (!existsSync(join(site, 'node_modules', '.package-lock.json'))) run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund']);
  rmSync(source, { recursive: true, force: true });
  mkdirSync(source, { recursive: true });
  symlinkSync(join(site, 'node_modules'), join(source, 'node_modules'), 'junction'); // pages import what the tools bring
  for (const name of documents()) copyDocument(name);
  run(process.execPath, [join(site, 'node_modules', 'typedoc', 'bin', 'typedoc')]);
  const pages = apiPages();
  writeFileSync(join(source, 'api', 'sidebar.json'), JSON.stringify(pages));
  run(process.execPath, [join(site, 'node_modules', 'vitepress', 'bin', 'vitepress.js'), 'build', '.']);
  writeFileSync(join(output, 'llms.txt'), forModels());
  console.log(`${relative(root, output)} is the site`);
});

function run(program, args) {
  const result = spawnSync(program, args, { cwd: site, stdio: 'inherit', shell: process.platform === 'win32' });
  if (result.status !== 0) throw new StepError(`${args[0]} failed`, result.status ?? 1);
}

function documents() {
  const under = (folder) => readdirSync(join(root, folder), { recursive: true }).map((name) => join(folder, String(name))).filter((name) => name.endsWith('.md') && !name.includes('node_modules') && !name.includes(join('docs', 'site')));
  return ['README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', ...under('docs'), ...under('examples')];
}

/** README.md of a folder becomes its index; what is no page of the site is named instead of linked. */
function copyDocument(name) {
  const place = name.replace(/README\.md$/, 'index.md');
  const text = readFileSync(join(root, name), 'utf8').replace(/\[([^\]]+)\]\((?!https?:|#)([^)\s]+)\)/g, (whole, words, target) => {
    const [path, anchor = ''] = target.split(/(?=#)/);
    const file = join(dirname(join(root, name)), path);
    if (!existsSync(file)) throw new StepError(`${name} links to ${target}, which does not exist`, 1);
    const page = statSync(file).isDirectory() ? join(file, 'README.md') : file;
    const inSite = relative(root, page);
    if (documents().includes(inSite)) return `[${words}](/${inSite.replaceAll('\\', '/').replace(/README\.md$/, 'index.md')}${anchor})`;
    return relative(root, file) === join('docs', 'decisions') ? `[${words}](/docs/decisions/0001-exact-product-scale-blocks.md)` : words;
  });
  mkdirSync(dirname(join(source, place)), { recursive: true });
  writeFileSync(join(source, place), outsideCode(text, (part) => part.replace(/<(?!!--|\/?(?:br|sub|sup)\b|https?:)/g, '&lt;').replaceAll('{{', '&#123;&#123;')));
}

/** Vue would take `<name>` in a text for a component; code is left alone. */
function outsideCode(text, change) {
  return text
    .split(/(^```[\s\S]*?^```$|`[^`\n]*`)/m)
    .map((part, i) => (i % 2 === 0 ? change(part) : part))
    .join('');
}

function apiPages() {
  return Object.entries(entries).map(([folder, text]) => {
    const place = join(source, 'api', folder);
    const items = Object.entries(kinds).flatMap(([kind, title]) => {
      if (!existsSync(join(place, kind))) return [];
      const names = readdirSync(join(place, kind)).filter((name) => name.endsWith('.md')).map((name) => name.slice(0, -3)).sort();
      return [{ text: title, collapsed: true, items: names.map((name) => ({ text: name, link: `/api/${folder}/${kind}/${name}` })) }];
    });
    return { text, link: `/api/${folder}/index`, collapsed: true, items };
  });
}

/** llms.txt: every document with its first sentence, for programs that read rather than look. */
function forModels() {
  const lines = documents().map((name) => {
    const text = readFileSync(join(root, name), 'utf8');
    const title = /^# (.*)$/m.exec(text)?.[1] ?? name;
    const first = /^(?!#|```|\||- |!)\S.*(?:\n\S.*)*/m.exec(text.replace(/^#.*$/m, ''))?.[0].replaceAll('\n', ' ').split(/(?<=[.:]) /)[0] ?? '';
    return `- [${title}](/${name.replace(/README\.md$/, 'index.md').replace(/\.md$/, '.html')}): ${first}`;
  });
  return `# shiftadd\n\n> Language models whose weights need no multiplications, in Node.js and browsers.\n\n## Documents\n\n${lines.join('\n')}\n\n## API\n\n${Object.entries(entries).map(([folder, text]) => `- [${text}](/api/${folder}/index.html)`).join('\n')}\n`;
}
