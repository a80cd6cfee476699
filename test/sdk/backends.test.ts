// Choosing a backend: what is missing is named with its reason, and an explicit choice is never replaced.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { listBackends, loadModel } from '../../sdk/src/index.js';
import { shiftadd } from './cli-process.js';
import { stories, temporaryFolder } from './fixtures.js';

t.test('the list of backends', async (t) => {
  const backends = await listBackends();
  t.same(backends.map(({ name }) => name), ['cpu', 'cuda', 'wasm']);
  t.match(backends[0], { available: true, reason: null, device: { isa: /^(portable|avx2|avx512(vnni)?|neon(dot)?)$/ } });
  if (backends[1]!.available) t.ok(backends[1]!.gpus!.length > 0);
  else t.match(backends[1]!.reason, /CUDA|GPU|libcuda/, 'says what is missing');
  t.match(backends[2], { available: true, reason: null, device: { isa: /^(simd128|relaxedsimd)$/ } });
});

t.test('explicit choices', async (t) => {
  const model = await loadModel(stories, { isa: 'portable', threads: 1, backend: 'cpu' });
  t.match(model.backend, { name: 'cpu', isa: 'portable', threads: 1, precision: 'fast', kvCache: 'f16' });
  await model.close();
  if (!(await listBackends())[1]!.available) await t.rejects(loadModel(stories, { backend: 'cuda' }), { code: 'ERR_NO_BACKEND', message: /^No backend for 'cuda'. cuda: .*Use backend 'auto' or 'cpu'/ });
  await t.rejects(loadModel(stories, { backend: 'cuda', device: 40 }), { code: 'ERR_NO_BACKEND' });
  await t.rejects(loadModel(stories, { isa: 'sse9' as 'avx2' }), /isa/);
});

t.test('SHIFTADD_BACKEND chooses where nothing else does', async (t) => {
  const chat = ['chat', stories, '--raw', '--prompt', 'One day', '--max-tokens', '4', '--json'];
  for (const [more, name] of [[[], 'wasm'], [['--backend', 'cpu'], 'cpu']] as const) {
    const { status, output } = await shiftadd([...chat, ...more], { env: { SHIFTADD_BACKEND: 'wasm' } });
    t.equal(status, 0);
    t.equal(JSON.parse(output).backend.name, name);
  }
  const { status, notes } = await shiftadd(chat, { env: { SHIFTADD_BACKEND: 'gpu' } });
  t.not(status, 0);
  t.match(notes, /Expected one of auto, cpu, cuda, wasm for SHIFTADD_BACKEND/);
});

t.test('an instruction set that is asked for keeps a GPU from being chosen', async (t) => {
  const asked = await loadModel(stories, { isa: 'portable' });
  t.same(asked.backend.attempts.map(({ name }) => name), ['cpu']);
  await asked.close();
  const free = await loadModel(stories);
  t.equal(free.backend.attempts[0]!.name, 'cuda');
  await free.close();
});

t.test('every instruction set of this machine gives the same text', async (t) => {
  const texts = new Set<string>();
  for (const isa of ['portable', 'avx2', 'avx512'] as const) {
    const model = await loadModel(stories, { isa }).catch(() => null);
    if (model === null) {
      t.comment(`${isa} is not available here`);
      continue;
    }
    texts.add(await model.generate('One day', { maxTokens: 40, temperature: 0.8, seed: 7 }).text());
    await model.close();
  }
  t.equal(texts.size, 1);
});

t.test('a native file that is missing or no addon', async (t) => {
  const text = join(await temporaryFolder(t), 'shiftadd.node');
  await writeFile(text, 'this is no addon\n');
  for (const [path, why] of [[text, /cannot be loaded/], ['/nowhere/shiftadd.node', /does not exist/]] as const) {
    const { status, notes } = await shiftadd(['chat', stories, '--raw', '--prompt', 'hi'], { env: { SHIFTADD_NATIVE: path } });
    t.equal(status, 1);
    t.match(notes, /the environment variable SHIFTADD_NATIVE/);
    t.match(notes, why);
    t.match(notes, /npm run build/);
  }
});
