// Plans: their sums are the engine's, and a device's verdict follows from them.
import { readdirSync } from 'node:fs';
import t, { type Test } from 'tap';
import { openModelFolder } from '../../sdk/src/checkpoint/model-folder.js';
import { availableMemory } from '../../sdk/src/devices/available-memory.js';
import { describeFamily } from '../../sdk/src/families/index.js';
import { boardProfile, loadBoardProfiles, loadModel, planMemory, quantizeModel } from '../../sdk/src/index.js';
import { checkMemory } from '../../sdk/src/memory-check.js';
import { kvCacheBytes, loadedWeights, scratchBytes } from '../../sdk/src/model-bytes.js';
import { buildModelSpec } from '../../sdk/src/model-spec.js';
import { openEngineModel } from '../../sdk/src/model.js';
import { selectBackend, type BackendName } from '../../sdk/src/select-backend.js';
import { type Files, deviceTree, intel, memory, powerMode, release, writeTree } from './board-tree.js';
import { families, join, stories, temporaryFolder } from './fixtures.js';

async function describe(path: string) {
  const folder = await openModelFolder(path);
  const family = describeFamily(folder.config, folder.configPath);
  return { folder, family, spec: buildModelSpec(folder, family) };
}

/** Holds the sums against what the engine reports. */
async function sameAsEngine(t: Test, path: string, backend: BackendName): Promise<void> {
  const { folder, family, spec } = await describe(path);
  const { mapped, held } = loadedWeights(spec.tensors, backend);
  for (const kvCache of ['f32', 'f16'] as const) {
    const { engineModel, info } = await openEngineModel(selectBackend(backend), spec, { threads: 1, kvCache }, folder.path);
    try {
      // The engine counts a stored tensor once for every matrix that is a part of it.
      const parts = spec.tensors.filter(({ part }) => part !== null);
      if (parts.length === 0) t.equal(mapped + held, info.mappedBytes + info.heapBytes, `${kvCache}: weights`);
      else t.ok(mapped < info.mappedBytes && mapped > 0, 'parts of a tensor share its bytes');
      if (backend === 'cpu') t.equal(held, info.heapBytes, 'what is held');
      for (const contextSize of [1, 17, Math.min(family.contextLimit, 300)].filter((size) => size <= family.contextLimit)) {
        const session = await engineModel.openSession(contextSize);
        const described = session.describe();
        t.equal(kvCacheBytes(family, contextSize, kvCache, backend), described.kvCacheBytes, `${kvCache}, ${contextSize} tokens: KV cache`);
        t.equal(scratchBytes(family), described.scratchBytes, 'scratch');
        await session.close();
      }
    } finally {
      await engineModel.close();
    }
  }
}

for (const name of readdirSync(families)) t.test(`${name}: as the engine`, async (t) => sameAsEngine(t, join(families, name), 'cpu'));

t.test('packed models: as the engine', async (t) => {
  const embedded = join('models', 'smollm2-135m-instruct');
  await sameAsEngine(t, embedded, 'cpu');
  await sameAsEngine(t, embedded, 'wasm');
  const parent = await temporaryFolder(t);
  const quick = { samples: 2, window: 32, fitRounds: 1, refits: 0, sweeps: 0, calibration: 'README.md' };
  for (const [mode, bits] of [['lat', 3], ['acc', 5], ['lat', 6]] as const) {
    const path = join(parent, `${mode}-${bits}`);
    await quantizeModel(stories, path, { ...quick, mode, bits, rowScales: mode === 'lat' });
    await sameAsEngine(t, path, 'cpu');
  }
});

// stories-260k by hand: 5 layers, 8 heads of 8, 4 key/value heads, 64 hidden, 172 feed-forward, 512 words, tied head.
const kvPerToken = 2 * 5 * 4 * 8 * 2;
const scratch = 4 * (128 * (3 * 64 + 2 * (8 + 4) * 8 + 2 * 172 + 8) + 65 * 512);

t.test('the parts, computed by hand', async (t) => {
  const plan = await planMemory(stories, { freeBytes: 1e9, contextSize: 256, threads: 2 });
  t.equal(plan.bytes.kvCache, 256 * kvPerToken);
  t.equal(plan.bytes.scratch, scratch);
  t.equal(plan.bytes.reserve, 0);
  t.equal(plan.bytes.weights - plan.mappedBytes, 11 * 64 * 4, 'eleven norms are held as floats');
  t.equal(plan.neededBytes, plan.bytes.weights + plan.bytes.kvCache + plan.bytes.scratch + plan.bytes.program);
  t.match(plan, { device: null, backend: 'cpu', fits: true, speed: null, memory: { availableBytes: 1e9, source: 'given' }, largestContext: 512 });
  t.same(plan.advice, []);
  const odd = await planMemory(stories, { freeBytes: 1e9, contextSize: 17, kvCache: 'f32' });
  t.equal(odd.bytes.kvCache, 32 * kvPerToken * 2, 'whole panels of 16 positions');
  const cuda = await planMemory(stories, { freeBytes: 1e9, contextSize: 17, backend: 'cuda' });
  t.equal(cuda.bytes.kvCache, 17 * kvPerToken);
  t.equal(cuda.mappedBytes, 0, 'all weights are on the GPU');
  // A byte per number and a scale of 2 bytes per head of 8, keys and values of every layer from a multiple of 16 bytes on.
  const int8 = await planMemory(stories, { freeBytes: 1e9, contextSize: 17, backend: 'cuda', kvCache: 'int8' });
  t.equal(int8.bytes.kvCache, 2 * 5 * (17 * 4 * 8 + 144), '136 bytes of scales, to 144');
  const smol = await planMemory(undefined, { freeBytes: 1e9, contextSize: 1000, backend: 'cuda', kvCache: 'int8' });
  t.equal(smol.bytes.kvCache, 2 * 30 * 3 * 1000 * 68, 'heads of 64: 8.5 bits per number');
});

t.test('the reserve and the bandwidth of boards', async (t) => {
  for (const [device, available, bandwidth] of [
    ['orin-nano-8gb', 8589934592 - Math.round(0.07 * 8589934592 + 2.2e9), 102],
    ['jetson-nano', 4294967296 - Math.round(0.37 * 4294967296), 25.6],
    ['agx-orin-64gb', 68719476736 - Math.round(0.07 * 68719476736 + 2.2e9), 204.8],
  ] as const) {
    const plan = await planMemory(undefined, { device, contextSize: 1024 });
    t.equal(plan.memory.availableBytes, available, device);
    t.equal(plan.backend, boardProfile(device).recommended.backend);
    const { bytesPerToken, bound, typicalShare } = plan.speed!;
    t.equal(bytesPerToken.full - bytesPerToken.empty, 1024 * 2 * 30 * 3 * 64 * 2);
    t.equal(bound.full, (bandwidth * 1e9) / bytesPerToken.full);
    t.match(typicalShare!.source, /benchmarks\/results/);
    t.ok(typicalShare!.most < 1);
  }
  const { availableBytes } = (await planMemory(stories, { device: 'orin-nano-8gb' })).memory;
  t.ok(availableBytes! > 5.2e9 && availableBytes! < 6.3e9, 'as public reports of this board have it');
  for (const { id } of loadBoardProfiles()) t.equal((await planMemory(stories, { device: id })).device!.id, id);
  t.match(await planMemory(stories, { device: 'raspberry-pi-5' }), { fits: null, largestContext: null, memory: { availableBytes: null } });
});

t.test('power modes of a named board', async (t) => {
  const at = async (powerMode?: string) => planMemory(stories, { device: 'orin-nano-8gb', ...(powerMode === undefined ? {} : { powerMode }) });
  t.match(await at(), { powerMode: null, speed: { bandwidthGBs: 102 } });
  for (const name of ['15W', '15w', '0']) t.match(await at(name), { powerMode: '15W', speed: { bandwidthGBs: 68 } }, name);
  const unknown = await at('7W');
  t.match(unknown, { powerMode: '7W', speed: { bandwidthGBs: 102 } });
  t.match(unknown.notes.join(), /that of 7W is not in the profile/);
  t.match((await at('25W')).notes.join(), /bandwidth is that of the power mode 25W/);
  await t.rejects(at('50W'), { name: 'TypeError', message: /one of '15W', '25W', 'MAXN_SUPER', '7W', for powerMode/ });
  await t.rejects(planMemory(stories, { device: 'rk3588', powerMode: '15W' }), { name: 'TypeError', message: /which has none/ });
});

t.test('this machine is its board, in the mode that is in effect', async (t) => {
  const orin = { ...deviceTree('x', 'nvidia,p3768-0000+p3767-0005-super', 'nvidia,tegra234'), ...release(36), ...memory(7620) };
  const here = async (...files: Files[]) => planMemory(stories, { sysRoot: await writeTree(t, orin, ...files) });
  const plain = await here();
  t.match(plain, { device: { id: 'orin-nano-8gb' }, backend: 'cuda', powerMode: null, memory: { availableBytes: 7620 * 512 * 1024, source: 'MemAvailable' }, speed: { bandwidthGBs: 102 } });
  t.equal(plain.bytes.reserve, 0, 'what is free was read');
  t.match(await here(powerMode(0, { online: 6, present: 6 })), { powerMode: '15W', speed: { bandwidthGBs: 68 } });
  const table = '< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\nCPU_ONLINE CORE_1 0\n< PM_CONFIG DEFAULT=0 >\n';
  t.match(await here(powerMode(0, { online: 6, present: 6, table })), { powerMode: null, speed: { bandwidthGBs: 102 } }, 'a mode that waits for a reboot does not count');
  t.match(await planMemory(stories, { sysRoot: await writeTree(t, intel, memory(16000)) }), { device: null, backend: 'cpu', speed: null });
});

t.test('the largest context, and what would fit', async (t) => {
  const at = (freeBytes: number, more = {}) => planMemory(undefined, { freeBytes, contextSize: 4096, threads: 1, ...more });
  const { neededBytes } = await at(1e9);
  const tight = await at(neededBytes);
  t.same([tight.fits, tight.largestContext! >= 4096, tight.largestContext! < 4200], [true, true, true]);
  const short = await at(neededBytes - 1);
  t.equal(short.fits, false);
  t.ok(short.largestContext! > 4000 && short.largestContext! < 4096);
  t.match(short.advice[0]!, `${short.largestContext} tokens`);
  t.ok((await planMemory(undefined, { freeBytes: neededBytes - 1, contextSize: short.largestContext!, threads: 1 })).fits, 'that context does fit');
  t.notOk((await planMemory(undefined, { freeBytes: neededBytes - 1, contextSize: short.largestContext! + 1, threads: 1 })).fits, 'one more does not');
  t.match((await at(neededBytes, { kvCache: 'f32' })).advice.join(), /16-bit numbers/);
  t.match((await at(neededBytes - 20e6)).advice.join(), /--bits [234]/);
  const cuda = { backend: 'cuda', kvCache: 'f32' } as const;
  const onGpu = await at(1e9, cuda);
  t.match((await at(onGpu.neededBytes - 1, cuda)).advice.join(), /16-bit numbers.*8-bit integers \(int8\)/);
  t.notMatch((await at(neededBytes, { kvCache: 'f32' })).advice.join(), /int8/, 'of cuda alone');
  t.match(await at(1000), { fits: false, largestContext: 0, advice: [/smaller model/] });
});

t.test('free memory: machine and control groups', async (t) => {
  const meminfo = { '/proc/meminfo': 'MemTotal: 8000 kB\nMemFree: 1000 kB\nMemAvailable: 4000 kB\nCached: 2000 kB\nSwapFree: 500 kB\n' };
  const kB = 1024;
  t.same(availableMemory(await writeTree(t, meminfo)), { bytes: 4000 * kB, mostBytes: 4500 * kB, limitedBy: 'MemAvailable' });
  const group = (path: string, max: string, current: number) => ({
    [`${path}/memory.max`]: `${max}\n`,
    [`${path}/memory.current`]: `${current * kB}\n`,
    [`${path}/memory.stat`]: `anon 5\ninactive_file ${100 * kB}\nactive_file ${50 * kB}\n`,
    [`${path}/memory.swap.max`]: '0\n',
  });
  const unified = { '/proc/self/cgroup': '0::/a/b\n' };
  t.same(
    availableMemory(await writeTree(t, meminfo, unified, group('/sys/fs/cgroup/a/b', 'max', 900), group('/sys/fs/cgroup/a', `${2000 * kB}`, 900))),
    { bytes: (2000 - 750) * kB, mostBytes: 2000 * kB, limitedBy: '/sys/fs/cgroup/a/memory.max' },
    'a group above counts; files that can be dropped are not used memory',
  );
  t.equal(availableMemory(await writeTree(t, meminfo, unified, group('/sys/fs/cgroup', `${1000 * kB}`, 200)))!.bytes, 950 * kB, 'a container, whose group is the root');
  const old = {
    '/proc/self/cgroup': '4:memory:/x\n1:cpu:/\n',
    '/sys/fs/cgroup/memory/x/memory.limit_in_bytes': `${600 * kB}\n`,
    '/sys/fs/cgroup/memory/x/memory.usage_in_bytes': `${300 * kB}\n`,
    '/sys/fs/cgroup/memory/memory.limit_in_bytes': '9223372036854771712\n',
    '/sys/fs/cgroup/memory/memory.usage_in_bytes': '100\n',
  };
  t.match(availableMemory(await writeTree(t, meminfo, old)), { bytes: 300 * kB, mostBytes: 1100 * kB, limitedBy: '/sys/fs/cgroup/memory/x/memory.limit_in_bytes' });
  t.equal(availableMemory(await writeTree(t)), null);
});

t.test('what certainly cannot be loaded is refused', async (t) => {
  const { folder, family, spec } = await describe(join('models', 'smollm2-135m-instruct'));
  const { mapped, held } = loadedWeights(spec.tensors, 'cpu');
  const check = (name: BackendName, mostBytes: number | null): void =>
    checkMemory(folder.path, family, spec.tensors, 'f16', {
      name,
      memory: () => (mostBytes === null ? null : { bytes: 0, mostBytes, limitedBy: 'MemAvailable' }),
    });
  const cache = 16 * 2 * 30 * 3 * 64 * 2;
  check('cpu', held + cache); // mapped weights may stay in their files
  t.throws(() => check('cpu', held + cache - 1), { code: 'ERR_OUT_OF_MEMORY', message: /weights .* MB, KV cache .* for one token.*stay in the files.*MemAvailable/ });
  check('wasm', mapped + held + cache);
  t.throws(() => check('wasm', mapped + held), { code: 'ERR_OUT_OF_MEMORY' }, 'WebAssembly maps nothing');
  t.throws(() => check('cuda', mapped), { code: 'ERR_OUT_OF_MEMORY', message: /scratch/ });
  check('cpu', null);
  checkMemory(folder.path, family, spec.tensors, 'f16', { name: 'cuda' });
  // A GPU that shares the machine's memory: what it holds counts once, the files that were read not at all.
  const onGpu = loadedWeights(spec.tensors, 'cuda').held + (16 * 2 * 30 * 3 * 64 * 2) / 16 + scratchBytes(family);
  check('cuda', onGpu);
  t.throws(() => check('cuda', onGpu - 1), { code: 'ERR_OUT_OF_MEMORY' });
});

t.test('a KV cache of integers is of cuda', async (t) => {
  for (const backend of ['cpu', 'wasm'] as const) {
    const refused = { code: 'ERR_NO_BACKEND', message: /int8 KV cache.*needs the backend cuda.*f16/ };
    await t.rejects(loadModel(stories, { backend, kvCache: 'int8' }), refused, backend);
    await t.rejects(planMemory(stories, { backend, kvCache: 'int8' }), refused, `plan, ${backend}`);
  }
  await t.rejects(loadModel(stories, { kvCache: 'int4' as never }), TypeError);
});

t.test('wrong options', async (t) => {
  await t.rejects(planMemory(stories, { device: 'orin-nano-9gb' }), { code: 'ERR_NOT_FOUND', message: /orin-nano-8gb/ });
  await t.rejects(planMemory(stories, { contextSize: 513 }), RangeError);
  await t.rejects(planMemory(stories, { freeBytes: 0 }), RangeError);
  await t.rejects(planMemory(stories, { contextsize: 5 } as object), /Did you mean 'contextSize'/);
  await t.rejects(planMemory('no-such-model'), { code: 'ERR_NOT_FOUND' });
});
