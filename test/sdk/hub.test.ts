// Pulling from the Hub, against a local server. Field reports H2 to H6.
import { createHash } from 'node:crypto';
import { chmod, lstat, mkdir, readdir, readFile, readlink, rm, writeFile } from 'node:fs/promises';
import t from 'tap';
import { defaultCache, RepositoryCache } from '../../sdk/src/hub/cache.js';
import { parseRepository, pullModel, type PullProgress } from '../../sdk/src/hub/pull.js';
import { loadModel } from '../../sdk/src/index.js';
import { join, stories, temporaryFolder } from './fixtures.js';
import { commit, HubServer, sendFile } from './hub-server.js';

const repository = 'tiny/stories';
const folderOf = (cache: string): string => join(cache, 'models--tiny--stories');
const sha256 = (content: Buffer | string): string => createHash('sha256').update(content).digest('hex');

async function storiesServer(t: any): Promise<{ server: HubServer; cache: string; pull: (options?: object) => ReturnType<typeof pullModel> }> {
  const server = await new HubServer(repository).start(t);
  for (const name of ['config.json', 'tokenizer.json', 'tokenizer_config.json']) server.add(name, await readFile(join(stories, name)));
  server.add('model.safetensors', await readFile(join(stories, 'model.safetensors')), true);
  server.add('README.md', 'not needed');
  const cache = join(await temporaryFolder(t), 'hub');
  return { server, cache, pull: (options = {}) => pullModel(repository, { cache, endpoint: server.origin, ...options }) };
}

t.test('names', async (t) => {
  t.same(parseRepository('a/b'), { repository: 'a/b', revision: null });
  t.same(parseRepository('a-1/b.c_d@v1/x'), { repository: 'a-1/b.c_d', revision: 'v1/x' });
  for (const text of ['a', 'a/b/c', './a/b', '../a', '/a/b', 'a/..', 'a/b.gguf', 'a/b@../x', '']) t.equal(parseRepository(text), null, text);
  await t.rejects(pullModel('nope'), TypeError);
  await t.rejects(pullModel('a/b', { revision: '../../x' }), TypeError);
  await t.rejects(pullModel('a/b', { odd: 1 } as any), TypeError);
});

t.test('a folder', async (t) => {
  const { server, cache, pull } = await storiesServer(t);
  const steps: PullProgress[] = [];
  const result = await pull({ onProgress: (progress: PullProgress) => steps.push(progress) });
  t.equal(result.path, join(folderOf(cache), 'snapshots', commit));
  t.same(result.files.map(({ name }) => name).sort(), ['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json']);
  t.equal(steps.at(-1)!.doneBytes, steps.at(-1)!.totalBytes);
  t.ok(steps.every(({ doneBytes }, i) => i === 0 || doneBytes >= steps[i - 1]!.doneBytes));
  // The layout of other tools.
  t.equal(await readFile(join(folderOf(cache), 'refs', 'main'), 'utf8'), commit);
  const weights = sha256(server.files.get('model.safetensors')!.content);
  t.equal(await readlink(join(result.path, 'model.safetensors')), join('..', '..', 'blobs', weights));
  t.same((await readdir(join(folderOf(cache), 'blobs'))).filter((name) => name.includes('incomplete')), []);
  await using model = await loadModel(result.path);
  t.equal((await model.generate('Once', { maxTokens: 3 }).result()).tokens.length, 3);

  const before = server.requests.length;
  t.equal((await pull()).path, result.path);
  t.equal(server.requests.length, before + 1, 'only the list is fetched again');
  t.equal((await pullModel(repository, { cache, offline: true })).path, result.path);
  await t.rejects(pullModel('tiny/other', { cache, offline: true }), { code: 'ERR_NOT_FOUND', message: /no server is asked/ });
  // H6
  for (const name of await readdir(cache, { recursive: true })) {
    t.ok(name.length <= 140, name); // 31 of them the name of the repository
    t.ok(name.split('/').every((part) => Buffer.byteLength(part) < 255));
  }
});

t.test('through loadModel, with variables', async (t) => {
  const { server, cache } = await storiesServer(t);
  const names = ['HF_HUB_CACHE', 'HF_ENDPOINT', 'HF_HUB_OFFLINE', 'HF_TOKEN'];
  const saved = names.map((name) => process.env[name]);
  t.teardown(() => names.forEach((name, i) => (saved[i] === undefined ? delete process.env[name] : (process.env[name] = saved[i]))));
  server.token = 'hf_secret';
  Object.assign(process.env, { HF_HUB_CACHE: cache, HF_ENDPOINT: `${server.origin}/`, HF_TOKEN: 'hf_secret' });
  await using model = await loadModel(repository);
  t.equal(model.info.layers, 5);
  const before = server.requests.length;
  await using again = await loadModel(`${repository}@main`);
  t.equal(server.requests.length, before, 'what is in the cache needs no server');
  t.equal(again.info.layers, 5);
  process.env['HF_HUB_OFFLINE'] = '1';
  await t.rejects(loadModel('tiny/absent'), { code: 'ERR_NOT_FOUND', message: /could not be pulled/ });
  t.equal(defaultCache({ HF_HOME: '/x' }), join('/x', 'hub'));
  t.equal(defaultCache({ XDG_CACHE_HOME: '/y' }), join('/y', 'huggingface', 'hub'));
});

t.test('GGUF files and shards', async (t) => {
  const { server, cache, pull } = await storiesServer(t);
  server.files.clear();
  server.add('a-Q4_0.gguf', 'GGUF one', true);
  server.add('a-Q8_0.gguf', 'GGUF two', true);
  server.add('b-00001-of-00002.gguf', 'GGUF', true);
  server.add('b-00002-of-00002.gguf', 'GGUF', true);
  await t.rejects(pull(), { code: 'ERR_NOT_FOUND', message: /several GGUF files; choose one.*a-Q4_0\.gguf/ });
  await t.rejects(pull({ file: 'c.gguf' }), { code: 'ERR_NOT_FOUND', message: /no file c\.gguf.*a-Q8_0/ });
  const one = await pull({ file: 'a-Q8_0.gguf' });
  t.equal(await readFile(one.path, 'utf8'), 'GGUF two');
  t.same(one.files.map(({ name }) => name), ['a-Q8_0.gguf']);
  t.equal((await pull({ file: 'b-00001-of-00002.gguf' })).files.length, 2);
  t.equal((await pullModel(repository, { cache, offline: true, file: 'a-Q8_0.gguf' })).path, one.path);
  server.files.clear();
  for (const name of ['config.json', 'model.safetensors.index.json']) server.add(name, '{}');
  for (const part of [1, 2]) server.add(`model-0000${part}-of-00002.safetensors`, 'x', true);
  t.same((await pull()).files.map(({ name }) => name), ['model.safetensors.index.json', 'model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors', 'config.json']);
  server.files.clear();
  server.add('README.md', 'x');
  await t.rejects(pull(), { code: 'ERR_NOT_FOUND', message: /no weights that this version reads/ });
});

t.test('broken connections and aborts', async (t) => {
  const { server, cache, pull } = await storiesServer(t);
  const { content } = server.files.get('model.safetensors')!;
  server.override('/content/model.safetensors', ...[1000, 5000].map((stop) => (request: any, response: any) => sendFile(request, response, content, stop)), (request: any, response: any) => sendFile(request, response, content));
  await pull();
  const ranges = server.requests.filter(({ url }) => url.startsWith('/content/model')).map(({ range }) => range);
  t.match(ranges, [undefined, /^bytes=\d+-$/, /^bytes=\d+-$/]);
  t.equal(sha256(await readFile(join(folderOf(cache), 'snapshots', commit, 'model.safetensors'))), sha256(content));

  await rm(cache, { recursive: true });
  const controller = new AbortController();
  server.override('/content/model.safetensors', (_: any, response: any) => {
    response.writeHead(200, { 'content-length': content.length });
    response.write(content.subarray(0, 3000));
    setTimeout(() => controller.abort('enough'), 50);
  });
  t.equal(await pull({ signal: controller.signal }).catch((reason: unknown) => reason), 'enough');
  t.notOk((await readdir(join(folderOf(cache), 'snapshots', commit)).catch((): string[] => [])).includes('config.json'), 'it does not look complete');
  server.overrides.clear();
  await pull();
  t.ok(server.requests.some(({ range }) => range === 'bytes=3000-'), 'goes on where it stopped');

  await rm(cache, { recursive: true });
  server.override('/content/model.safetensors', (_: any, response: any) => response.destroy());
  await t.rejects(pull(), { code: 'ERR_HUB', message: /could not be reached for model\.safetensors/ });
});

t.test('H2: parts that are whole already, or too long', async (t) => {
  const { server, cache, pull } = await storiesServer(t);
  const { content } = server.files.get('model.safetensors')!;
  const part = join(folderOf(cache), 'blobs', `${sha256(content)}.incomplete`);
  for (const [bytes, what] of [
    [content, 'whole'],
    [Buffer.alloc(content.length), 'whole and wrong'],
    [Buffer.concat([content, Buffer.of(1)]), 'too long'],
    [Buffer.alloc(0), 'empty'],
    [content.subarray(0, 777), 'a part'],
    [Buffer.alloc(777), 'a wrong part'],
  ] as const) {
    await rm(cache, { recursive: true, force: true });
    await mkdir(join(part, '..'), { recursive: true });
    await writeFile(part, bytes);
    const before = server.requests.length;
    const { path } = await pull();
    t.equal(sha256(await readFile(join(path, 'model.safetensors'))), sha256(content), what);
    const asked = server.requests.slice(before).filter(({ url }) => url.includes('model.safetensors'));
    if (what === 'whole') t.equal(asked.length, 0, 'no request for what is there');
  }
  await rm(cache, { recursive: true, force: true });
  await mkdir(join(part, '..'), { recursive: true });
  await writeFile(part, content.subarray(0, 10));
  server.override('/content/model.safetensors', (_: any, response: any) => response.writeHead(416, { 'content-range': `bytes */${content.length}` }).end());
  await t.rejects(pull(), { code: 'ERR_HUB', message: /no bytes where it should/ });
  if (process.getuid?.() !== 0) {
    await rm(cache, { recursive: true, force: true });
    await mkdir(cache);
    await chmod(cache, 0o500);
    await t.rejects(pull(), { code: 'ERR_WRITE', message: /Permission is denied/ });
    await chmod(cache, 0o700);
  }
});

t.test('two pulls at once, and a lock that was left behind', async (t) => {
  const { server, cache, pull } = await storiesServer(t);
  const { content } = server.files.get('model.safetensors')!;
  await mkdir(join(folderOf(cache), 'blobs'), { recursive: true });
  await writeFile(join(folderOf(cache), 'blobs', `${sha256(content)}.incomplete.lock`), '999999999');
  const results = await Promise.all([pull(), pull(), pull()]);
  t.equal(new Set(results.map(({ path }) => path)).size, 1);
  t.equal(server.requests.filter(({ url }) => url === '/content/model.safetensors').length, 1);
  t.equal(sha256(await readFile(join(results[0].path, 'model.safetensors'))), sha256(content));
  t.same((await readdir(join(folderOf(cache), 'blobs'))).filter((name) => /lock|incomplete/.test(name)), []);
});

t.test('names that lead out of the cache', async (t) => {
  const { server, pull } = await storiesServer(t);
  server.files.clear();
  for (const name of ['../../../../x.gguf', '/x.gguf', 'a\\..\\x.gguf', 'a/./x.gguf']) server.add(name, 'GGUF', true);
  await t.rejects(pull(), { code: 'ERR_NOT_FOUND', message: /no weights that this version reads/ });
});

t.test('what is only half in the cache is pulled', async (t) => {
  const { server, cache, pull } = await storiesServer(t);
  const folder = join(folderOf(cache), 'snapshots', commit);
  await mkdir(folder, { recursive: true });
  await mkdir(join(folderOf(cache), 'refs'));
  await writeFile(join(folderOf(cache), 'refs', 'main'), commit);
  await writeFile(join(folder, 'config.json'), server.files.get('config.json')!.content);
  await t.rejects(pull({ offline: true }), { code: 'ERR_NOT_FOUND', message: /no complete model/ });
  await writeFile(join(folder, 'model.safetensors.index.json'), JSON.stringify({ weight_map: { a: 'model-00001-of-00001.safetensors' } }));
  await t.rejects(pull({ offline: true }), { code: 'ERR_NOT_FOUND' });
  for (const name of ['a.gguf', 'b.gguf']) await writeFile(join(folder, name), 'GGUF');
  await t.rejects(pull({ offline: true }), { code: 'ERR_NOT_FOUND', message: /several GGUF files.*a\.gguf, b\.gguf/ });
});

t.test('H3: the token stays with the Hub', async (t) => {
  const { server, cache, pull } = await storiesServer(t);
  const other = await new HubServer(repository).start(t);
  other.files = server.files;
  server.token = 'hf_secret';
  server.contentHost = other.origin;
  await pull({ token: 'hf_secret' });
  t.ok(server.requests.every(({ authorization }) => authorization === 'Bearer hf_secret'));
  t.ok(other.requests.length >= 4 && other.requests.every(({ authorization }) => authorization === undefined), 'not to another host');

  await rm(cache, { recursive: true });
  server.contentHost = null; // relative, within the Hub
  await pull({ token: 'hf_secret' });
  t.equal(server.requests.at(-1)!.authorization, 'Bearer hf_secret');

  await rm(cache, { recursive: true });
  server.requests.length = 0;
  server.override(`/${repository}/resolve/${commit}/model.safetensors`, (_: any, response: any) => response.writeHead(302, { location: `${other.origin}/back` }).end());
  other.override('/back', (_: any, response: any) => response.writeHead(302, { location: `${server.origin}/content/model.safetensors` }).end());
  await pull({ token: 'hf_secret' });
  t.equal(server.requests.find(({ url }) => url === '/content/model.safetensors')!.authorization, undefined, 'not after another host was asked');

  await rm(cache, { recursive: true });
  server.override(`/${repository}/resolve/${commit}/model.safetensors`, (request: any, response: any) => response.writeHead(302, { location: request.url }).end());
  await t.rejects(pull({ token: 'hf_secret' }), { code: 'ERR_HUB', message: /more than 5 times/ });
  const error: any = await pull({ token: 'hf_wrong' }).catch((reason: unknown) => reason);
  t.match(error, { code: 'ERR_HUB_ACCESS', message: /401.*token in HF_TOKEN may not read it/ });
  t.notMatch(error.message + error.stack + JSON.stringify(error), /hf_wrong/);
  t.match(await pull({ token: '' }).catch((reason: unknown) => reason), { code: 'ERR_HUB_ACCESS', message: /set HF_TOKEN/ });
  const all = (await readdir(cache, { recursive: true }).catch(() => [])).join();
  t.notMatch(all, /hf_/);
});

t.test('H4: without links, odd cache paths', async (t) => {
  const { server, cache } = await storiesServer(t);
  const parent = join(cache, '..');
  const here = process.cwd();
  process.chdir(parent);
  t.teardown(() => process.chdir(here));
  for (const path of ['tmp/x', './x', 'a b/../ü', 'c']) {
    const { path: folder } = await pullModel(repository, { cache: path, endpoint: server.origin });
    await using model = await loadModel(folder);
    t.equal(model.info.layers, 5, path);
  }
  // A reference to a commit that is gone: named anew when online, an error offline.
  const refs = join(parent, 'c', 'models--tiny--stories', 'refs', 'main');
  await writeFile(refs, 'b'.repeat(40));
  await t.rejects(pullModel(repository, { cache: 'c', offline: true }), { code: 'ERR_NOT_FOUND' });
  await pullModel(repository, { cache: 'c', endpoint: server.origin });
  t.equal(await readFile(refs, 'utf8'), commit);
  const placed = new RepositoryCache(join(parent, 'd'), repository);
  await mkdir(join(placed.blob('x'), '..'), { recursive: true });
  await writeFile(placed.blob('x'), 'content');
  await placed.place(commit, 'sub/file', 'x', async () => Promise.reject(Object.assign(new Error('no'), { code: 'EPERM' })));
  t.equal(await readFile(join(placed.snapshot(commit), 'sub', 'file'), 'utf8'), 'content');
  t.notOk((await lstat(join(placed.snapshot(commit), 'sub', 'file'))).isSymbolicLink());
});

t.test('H5: what is not the file', async (t) => {
  const { server, cache, pull } = await storiesServer(t);
  const refused = async (answer: (request: any, response: any) => void, message: RegExp): Promise<void> => {
    await rm(cache, { recursive: true, force: true });
    server.override('/content/model.safetensors', answer);
    await t.rejects(pull(), { code: 'ERR_HUB', message }, String(message));
    const blobs = await readdir(join(folderOf(cache), 'blobs')).catch(() => []);
    t.notOk(blobs.some((name) => name.startsWith(sha256(server.files.get('model.safetensors')!.content))), 'nothing was kept');
  };
  const send = (status: number, type: string, body: string) => (_: any, response: any) => response.writeHead(status, { 'content-type': type }).end(body);
  await refused(send(200, 'text/html; charset=utf-8', '<html>Sign in</html>'), /200 text\/html.*<html>Sign in.*proxy or mirror/s);
  await refused(send(200, 'application/json', '{"error":"busy"}'), /16 bytes came.*\{"error":"busy"\}/s);
  await refused(send(200, 'text/plain', 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n'), /Git LFS pointer/);
  const { content } = server.files.get('model.safetensors')!;
  await refused((_, response) => response.writeHead(200).end(Buffer.alloc(content.length)), /its hash is/);
});

t.test('servers that fail, wait, or say little', async (t) => {
  const { server, cache, pull } = await storiesServer(t);
  const list = `/api/models/${repository}/revision/main`;
  const status = (code: number, headers: object = {}) => (_: any, response: any) => response.writeHead(code, headers).end();
  server.override('/content/tokenizer.json', status(503), status(429, { 'retry-after': '0.01' }), (request: any, response: any) => sendFile(request, response, server.files.get('tokenizer.json')!.content));
  await pull();
  server.override(list, status(404));
  await t.rejects(pull(), { code: 'ERR_NOT_FOUND', message: /has no tiny\/stories@main/ });
  server.override(list, status(403, { 'x-error-code': 'GatedRepo' }));
  await t.rejects(pull(), { code: 'ERR_HUB_ACCESS', message: /access on request/ });
  server.override(list, (_: any, response: any) => response.writeHead(200, { 'content-type': 'text/html' }).end('<html>'));
  await t.rejects(pull(), { code: 'ERR_HUB', message: /did not describe.*no JSON came.*text\/html.*<html>/ });
  server.override(list, (_: any, response: any) => response.writeHead(200).end('{"sha": 1}'));
  await t.rejects(pull(), { code: 'ERR_HUB', message: /commit or the list of files is missing/ });
  await t.rejects(pull({ endpoint: 'nowhere' }), { code: 'ERR_HUB', message: /is no URL/ });

  server.overrides.clear();
  await rm(cache, { recursive: true });
  server.bare = true; // a mirror without sizes and hashes
  const { path } = await pull();
  await using model = await loadModel(path);
  t.equal(model.info.layers, 5);
  await rm(cache, { recursive: true });
  server.add('model.safetensors', 'oops, no weights');
  await t.rejects(pull(), { code: 'ERR_HUB', message: /does not begin like one.*oops/ });
});
