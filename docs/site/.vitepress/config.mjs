// The site of the documentation. scripts/docs.mjs gathers the pages into build/site-source first.
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const source = fileURLToPath(new URL('../../../build/site-source', import.meta.url));
const api = JSON.parse((await import('node:fs')).readFileSync(`${source}/api/sidebar.json`, 'utf8'));
const decisions = readdirSync(`${source}/docs/decisions`)
  .sort()
  .map((name) => ({ text: name.replace(/\.md$/, '').replace(/^0*(\d+)-/, '$1. ').replaceAll('-', ' '), link: `/docs/decisions/${name.replace(/\.md$/, '')}` }));
const page = (text, name) => ({ text, link: `/docs/${name}` });

export default {
  title: 'shiftadd',
  description: 'Language models whose weights need no multiplications, in Node.js and browsers',
  lang: 'en',
  srcDir: source,
  outDir: fileURLToPath(new URL('../../../build/site', import.meta.url)),
  cacheDir: fileURLToPath(new URL('../../../build/site-cache', import.meta.url)),
  cleanUrls: false,
  ignoreDeadLinks: false,
  lastUpdated: false,
  themeConfig: {
    search: { provider: 'local' },
    outline: [2, 3],
    nav: [
      { text: 'Start', link: '/' },
      { text: 'API', link: '/api/index' },
      { text: 'Changelog', link: '/CHANGELOG' },
    ],
    sidebar: [
      { text: 'Start', link: '/' },
      {
        text: 'Use it',
        items: [page('Structured answers and tools', 'structured'), page('Server', 'serve'), page('Sessions', 'sessions'), page('AI SDK', 'ai-sdk'), page('In a browser', 'browser'), { text: 'Examples', link: '/examples/' }, page('Models', 'families'), page('Memory', 'memory')].filter(
          ({ link }) => link === '/examples/' || readdirSync(`${source}/docs`).includes(`${link.slice(6)}.md`),
        ),
      },
      { text: 'Measure it', items: [page('What a token costs', 'profile'), page('Energy and boards', 'energy')] },
      { text: 'Hardware', items: [page('NVIDIA GPUs', 'cuda'), page('Jetson boards', 'jetson')] },
      { text: 'API', collapsed: true, items: api },
      { text: 'Inside', collapsed: true, items: [page('Architecture', 'architecture'), page('The model file', 'model-file'), { text: 'Contributing', link: '/CONTRIBUTING' }, { text: 'Decisions', collapsed: true, items: decisions }] },
    ],
  },
};
