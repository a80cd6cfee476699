// Downloads and what is kept of them: broken off, resumed, changed, damaged, without room.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import t from 'tap';
import type * as browserSdk from '../../sdk/src/browser/index.js';
import { families, stories, temporaryFolder } from '../sdk/fixtures.js';
import { writeGguf } from '../sdk/gguf-writer.js';
import { root } from './browser.js';
import { ModelServer, isolated, type Asked, type Fault } from './model-server.js';
import { checkedConfig, putPage, putSdk, skip, startPages, type SdkPages } from './sdk-page.js';

// In the page.
declare const sdk: typeof browserSdk;
declare const told: (promise: Promise<unknown>) => Promise<any>;

const weightsBytes = 524912;
const weights = 'model.safetensors';

let pages: SdkPages;
let server: ModelServer;
let checked: string;
t.before(async () => {
  checked = await checkedConfig();
  if (skip === false) ({ server } = pages = await startPages(t));
});

let folders = 0;
/** A model folder of its own on the server, with the checksums of a packed model unless told otherwise. */
function folder(replaced: Record<string, Buffer | string> = { 'config.json': checked }): { path: string; url: string } {
  const path = `/models/cache-${++folders}`;
  return { path, url: server.putFolder(path, stories, replaced) };
}

interface Loaded {
  value?: { tokens: number[]; cache: browserSdk.CacheState; events: browserSdk.LoadProgress[] };
  code?: string;
  message?: string;
}

/** Loads, generates and closes. */
async function load(page: Page, url: string, options: object = {}): Promise<Loaded> {
  return page.evaluate(
    ([url, options]) =>
      told(
        (async () => {
          const events: browserSdk.LoadProgress[] = [];
          const model = await sdk.loadModel(url as string, { threads: 1, ...(options as object), onProgress: (progress) => void events.push(progress) });
          const { tokens } = await model.generate('Once upon a time', { maxTokens: 8 }).result();
          const { cache } = model;
          await model.close();
          return { tokens, cache, events };
        })(),
      ),
    [url, options] as const,
  );
}

const listed = (page: Page): Promise<browserSdk.CachedModel[]> => page.evaluate(() => sdk.listCachedModels());
const isKept = { value: { cache: { isKept: true, reason: null } } };
const named = (asked: Asked[], name: string): Asked[] => asked.filter(({ path }) => path.endsWith(`/${name}`));
const isConfigOnly = (asked: Asked[]): boolean => asked.length > 0 && named(asked, 'config.json').length === asked.length;

t.test('the second load needs config.json alone, the third no network', { skip }, async (t) => {
  const { url } = folder();
  const page = await pages.visit(t);
  server.takeAsked();
  const first = await load(page, url);
  t.match(first, isKept);
  t.equal(first.value!.tokens.length, 8);
  const asked = server.takeAsked();
  t.equal(named(asked, weights).filter(({ method }) => method === 'GET').length, 1, 'weights come once');
  const second = await load(page, `${url}/`);
  t.same(second.value!.tokens, first.value!.tokens);
  t.ok(isConfigOnly(server.takeAsked()));
  await page.context().setOffline(true);
  const third = await load(page, url);
  t.match(third, isKept);
  t.same(third.value!.tokens, first.value!.tokens, 'offline');
  t.same(third.value!.events.filter(({ phase }) => phase === 'download').at(-1), { phase: 'download', done: weightsBytes, total: weightsBytes });
  await page.context().setOffline(false);
  t.match(await listed(page), [{ url, isComplete: true }]);
  t.ok((await listed(page))[0]!.bytes > weightsBytes);
  t.same(await page.evaluate(async (url) => [await sdk.removeCachedModel(url), await sdk.removeCachedModel(url)], `${url}/`), [true, false]);
  t.same(await listed(page), []);
  server.takeAsked();
  t.match(await load(page, url, { cache: false }), { value: { cache: { isKept: false, reason: 'caching is off' } } });
  t.same(await listed(page), []);
});

t.test('weights without checksums are compared with those of the server', { skip }, async (t) => {
  const { path, url } = folder({});
  const page = await pages.visit(t);
  const first = await load(page, url);
  server.takeAsked();
  t.match(await load(page, url), isKept);
  const asked = server.takeAsked();
  t.ok(asked.every(({ path, method }) => path.endsWith('/config.json') || (path.endsWith(`/${weights}`) && method === 'HEAD')), 'nothing is downloaded again');
  const other = readFileSync(join(stories, weights));
  other.fill(0, other.length - 20_000);
  server.put(`${path}/${weights}`, other);
  const second = await load(page, url);
  t.match(second, isKept);
  t.notSame(second.value!.tokens, first.value!.tokens, 'other weights of the same config.json');
  await server.stop();
  const third = await load(page, url);
  await server.restart();
  t.same(third.value?.tokens, second.value!.tokens, 'without a server');
  server.put(`${path}/${weights}`, readFileSync(join(stories, weights)));
  server.faults.set(`${path}/${weights}`, { noVersion: true });
  await page.evaluate((url) => sdk.removeCachedModel(url), url);
  await load(page, url);
  server.takeAsked();
  t.match(await load(page, url), isKept);
  t.equal(named(server.takeAsked(), weights).filter(({ method }) => method === 'GET').length, 0, 'a server without versions');
});

t.test('a GGUF file', { skip }, async (t) => {
  const local = await temporaryFolder(t);
  await writeGguf(join(local, 'small.gguf'), join(families, 'llama'));
  const url = `${server.putFolder('/models/gguf', local)}/small.gguf`;
  const page = await pages.visit(t);
  const short = (): Promise<any> =>
    page.evaluate(
      (url) =>
        told(
          (async () => {
            const model = await sdk.loadModel(url, { threads: 1 });
            const { tokens } = await model.generate([5, 6, 7], { maxTokens: 8 }).result();
            await model.close();
            return { tokens, cache: model.cache };
          })(),
        ),
      url,
    );
  const first = await short();
  t.match(first, isKept);
  server.takeAsked();
  t.same(await short(), first);
  const asked = server.takeAsked();
  t.ok(asked.length > 0 && asked.every(({ method }) => method === 'HEAD'), 'the file is asked after, not downloaded');
  await server.stop();
  t.same(await short(), first, 'without a server');
  await server.restart();
  t.match(await listed(page), [{ url, isComplete: true }]);
});

t.test('a download that broke off goes on where it stopped', { skip }, async (t) => {
  for (const [said, fault, resumed] of [
    ['ranges', {}, true],
    ['no ranges', { noRanges: true }, false],
    ['no version', { noVersion: true }, false],
  ] as const) {
    const { path, url } = folder();
    const page = await pages.visit(t);
    server.faults.set(`${path}/${weights}`, { ...fault, breakAfter: 300_000 });
    const broken = await load(page, url);
    t.match(broken, { code: 'ERR_DOWNLOAD', message: /model\.safetensors broke off after \d+ of 524912 bytes/ }, said);
    t.match(await listed(page), [{ url, isComplete: false }]);
    server.faults.set(`${path}/${weights}`, fault);
    server.takeAsked();
    const whole = await load(page, url);
    t.match(whole, isKept);
    const [get] = named(server.takeAsked(), weights).filter(({ method }) => method === 'GET');
    t.equal(get!.range !== null, said !== 'no version');
    t.equal(get!.bytes < weightsBytes, resumed, `${get!.bytes} bytes the second time`);
    const downloads = whole.value!.events.filter(({ phase }) => phase === 'download');
    t.same(downloads.at(-1), { phase: 'download', done: weightsBytes, total: weightsBytes });
    t.match(await listed(page), [{ url, isComplete: true }]);
  }
});

t.test('a load that was aborted goes on where it stopped', { skip }, async (t) => {
  const { path, url } = folder();
  const page = await pages.visit(t);
  server.faults.set(`${path}/${weights}`, { slowMs: 40 });
  const { aborted, removing } = await page.evaluate(async (url) => {
    const abort = new AbortController();
    let removing: Promise<unknown> | null = null;
    const onProgress = ({ phase, done }: browserSdk.LoadProgress): void => {
      if (phase !== 'download' || done < 200_000 || removing !== null) return;
      removing = told(sdk.removeCachedModel(url)).finally(() => abort.abort(new RangeError('mine')));
    };
    const aborted = await told(sdk.loadModel(url, { signal: abort.signal, onProgress }));
    return { aborted, removing: await removing };
  }, url);
  t.match(aborted, { name: 'RangeError', message: 'mine' });
  t.match(removing, { code: 'ERR_BUSY', message: /cannot be removed while it is being downloaded/ });
  server.faults.clear();
  server.takeAsked();
  t.match(await load(page, url), isKept);
  const [get] = named(server.takeAsked(), weights).filter(({ method }) => method === 'GET');
  t.ok(get!.bytes < weightsBytes, get!.range ?? '');
});

t.test('what changed on the server between two parts is not glued together', { skip }, async (t) => {
  const { path, url } = folder({});
  const page = await pages.visit(t);
  server.faults.set(`${path}/${weights}`, { breakAfter: 300_000 });
  t.match(await load(page, url), { code: 'ERR_DOWNLOAD' });
  const other = readFileSync(join(stories, weights));
  other.fill(0, other.length - 20_000);
  server.put(`${path}/${weights}`, other);
  server.faults.clear();
  server.takeAsked();
  const second = await load(page, url);
  t.match(second, isKept);
  t.equal(named(server.takeAsked(), weights).find(({ method }) => method === 'GET')!.bytes, weightsBytes);
  t.same((await load(page, url)).value!.tokens, second.value!.tokens);
});

t.test('another config.json replaces what is kept', { skip }, async (t) => {
  const { path, url } = folder();
  const page = await pages.visit(t);
  await load(page, url);
  server.put(`${path}/config.json`, checked.replace('"max_position_embeddings":512', '"max_position_embeddings":256'));
  server.takeAsked();
  t.match(await load(page, url), isKept);
  t.equal(named(server.takeAsked(), weights).filter(({ method }) => method === 'GET').length, 1);
  t.equal(await page.evaluate(async (url) => (await sdk.loadModel(url)).contextSize, url), 256);
  t.equal((await listed(page)).length, 1);
});

t.test('a damaged download is found, named, and made again', { skip }, async (t) => {
  const { path, url } = folder();
  const page = await pages.visit(t);
  // The browser would keep this one for an hour.
  const keep = { headers: { 'Cache-Control': 'max-age=3600' } };
  server.faults.set(`${path}/${weights}`, { ...keep, flip: 400_000 });
  t.match(await load(page, url), { code: 'ERR_CHECKSUM', message: /model\.safetensors: tensor model\.\S+ does not match its checksum/ });
  t.match(await load(page, url), { code: 'ERR_CHECKSUM' });
  server.faults.set(`${path}/${weights}`, keep);
  t.match(await load(page, url), isKept);
  // In its header, where no checksum is.
  const second = folder();
  server.faults.set(`${second.path}/${weights}`, { flip: 100 });
  t.match(await load(page, second.url), { code: 'ERR_BAD_MODEL_FILE' });
  server.faults.clear();
  t.match(await load(page, second.url), isKept);
});

t.test('what was wrong with the folder may be cured', { skip }, async (t) => {
  const tokenizer = readFileSync(join(stories, 'tokenizer.json'));
  const page = await pages.visit(t);
  for (const [said, fault, code] of [
    ['missing', { status: 404 }, 'ERR_NOT_FOUND'],
    ['a page', { html: true }, 'ERR_NOT_FOUND'],
    ['a failure of the server', { status: 500 }, 'ERR_DOWNLOAD'],
  ] as [string, Fault, string][]) {
    for (const name of ['config.json', weights, 'tokenizer.json']) {
      const { path, url } = folder();
      server.faults.set(`${path}/${name}`, fault);
      const failed = await load(page, url);
      t.equal(failed.code, code, `${name}: ${said}: ${failed.message}`);
      if (code === 'ERR_DOWNLOAD') t.match(failed.message, `${name} cannot be downloaded: the server answered 500`);
      server.faults.clear();
      t.match(await load(page, url), isKept, `${name} is there now`);
    }
  }
  const { path, url } = folder({ 'config.json': checked, 'tokenizer.json': tokenizer.subarray(0, 1000) });
  t.equal((await load(page, url)).code, 'ERR_TOKENIZER');
  server.put(`${path}/tokenizer.json`, tokenizer);
  t.match(await load(page, url), isKept);
});

t.test('a folder that lost a file is filled again', { skip }, async (t) => {
  const { url } = folder();
  const page = await pages.visit(t);
  await load(page, url);
  const removed = await page.evaluate(async () => {
    const models = await (await navigator.storage.getDirectory()).getDirectoryHandle('shiftadd-models');
    const removed: string[] = [];
    for await (const handle of (models as any).values()) {
      for (const name of ['model.safetensors', 'tokenizer.json']) {
        await handle.removeEntry(name);
        removed.push(name);
      }
    }
    return removed;
  });
  t.equal(removed.length, 2);
  t.match(await load(page, url), isKept);
});

t.test('no room, and no private file system', { skip }, async (t) => {
  const { url } = folder();
  const page = await pages.visit(t);
  const protocol = await page.context().newCDPSession(page);
  // Browsers reserve space by the megabyte: room for the first part of the weights takes a model of some size.
  const large = server.putFolder('/models/large', join(root, 'models', 'smollm2-135m-instruct'));
  for (const [quotaSize, address] of [[20_000_000, large], [300_000, url], [1, url]] as const) {
    await protocol.send('Storage.overrideQuotaForOrigin', { origin: server.url, quotaSize });
    const loaded = await load(page, address);
    t.match(loaded.value?.cache, { isKept: false, reason: /no more space; remove other models/ }, `${quotaSize} bytes: ${JSON.stringify(loaded.value?.cache ?? loaded)}`);
    t.equal(loaded.value?.tokens.length, 8);
    t.same(await listed(page), [], 'nothing is left of it');
  }
  await protocol.send('Storage.overrideQuotaForOrigin', { origin: server.url });
  t.match(await load(page, url), isKept, 'and with room it is kept');

  // As private windows of some browsers do.
  putSdk(server, '/refusing', "navigator.storage.getDirectory = () => Promise.reject(new DOMException('no storage here', 'SecurityError'));");
  const refused = await page.evaluate(async ([url, assets]) => {
    const model = await sdk.loadModel(url, { assets });
    return model.cache;
  }, [folder().url, '/refusing'] as const);
  t.match(refused, { isKept: false, reason: /refused \(no storage here\)/ });
  const lists = await page.evaluate(async () => {
    navigator.storage.getDirectory = () => Promise.reject(new DOMException('no storage here', 'SecurityError'));
    return [await sdk.listCachedModels(), await sdk.removeCachedModel('https://example.org/')];
  });
  t.same(lists, [[], false]);
});

t.test('two loads of one model at once download it once', { skip }, async (t) => {
  const { path, url } = folder();
  const page = await pages.visit(t);
  const other = await page.context().newPage();
  await other.goto(server.url);
  await other.waitForFunction('globalThis.sdk !== undefined');
  server.faults.set(`${path}/${weights}`, { slowMs: 30 });
  server.takeAsked();
  const [first, second, third] = await Promise.all([load(page, url), load(page, url), load(other, url)]);
  server.faults.clear();
  for (const loaded of [first, second, third]) t.match(loaded, isKept);
  t.equal(named(server.takeAsked(), weights).reduce((sum, { bytes }) => sum + bytes, 0), weightsBytes);
});

t.test('a model that is larger than the memory is refused before its weights are downloaded', { skip }, async (t) => {
  const page = await pages.visit(t);
  const whole = folder();
  server.faults.set(`${whole.path}/${weights}`, { announce: 5e9 });
  server.takeAsked();
  t.match(await load(page, whole.url), { code: 'ERR_OUT_OF_MEMORY', message: /model\.safetensors.*5000000000 bytes/ });
  t.equal(named(server.takeAsked(), weights).filter(({ method }) => method === 'GET').length, 0);
  const sharded = folder();
  server.remove(`${sharded.path}/${weights}`);
  const index = { metadata: { total_size: 6e9 }, weight_map: { a: 'model-1.safetensors', b: 'model-2.safetensors' } };
  server.put(`${sharded.path}/${weights}.index.json`, JSON.stringify(index));
  server.put(`${sharded.path}/model-1.safetensors`, 'x');
  server.faults.set(`${sharded.path}/model-1.safetensors`, { announce: 3e9 });
  t.match(await load(page, sharded.url), { code: 'ERR_OUT_OF_MEMORY', message: /6000000000 bytes/ });
  t.equal(server.takeAsked().filter(({ path }) => path.includes('model-1')).length, 0);
});

t.test('a model of another origin', { skip }, async (t) => {
  const elsewhere = await ModelServer.start(t);
  const allowed = { 'Access-Control-Allow-Origin': '*' };
  const url = elsewhere.putFolder('/models/far', stories, { 'config.json': checked });
  putPage(server, '/open.html', isolated);
  const page = await pages.visit(t, '/open.html');
  t.match(await load(page, url), { code: 'ERR_DOWNLOAD', message: /allows requests from this page \(CORS\)/ });
  for (const name of ['config.json', 'generation_config.json', weights, `${weights}.index.json`, 'tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja', 'special_tokens_map.json']) {
    elsewhere.faults.set(`/models/far/${name}`, { headers: { ...allowed, 'Last-Modified': 'Mon, 02 Jun 2025 10:00:00 GMT' } });
  }
  const fault = elsewhere.faults.get(`/models/far/${weights}`)!;
  elsewhere.faults.set(`/models/far/${weights}`, { ...fault, breakAfter: 300_000 });
  t.match(await load(page, url), { code: 'ERR_DOWNLOAD', message: /broke off/ });
  elsewhere.faults.set(`/models/far/${weights}`, fault);
  elsewhere.takeAsked();
  t.match(await load(page, url), isKept);
  const asked = elsewhere.takeAsked();
  t.notOk(asked.some(({ method }) => method === 'OPTIONS'), 'no request that a server has to allow first');
  t.ok(named(asked, weights).find(({ method }) => method === 'GET')!.bytes < weightsBytes, 'resumed');
});
