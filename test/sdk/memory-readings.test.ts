// Readings from fixture trees of /proc, as kernels of several boards write them, and recordings over them.
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { timeline } from '../../sdk/src/devices/memory-recorder.js';
import { memoryNumbers, nvMapClientBytes, type MemoryReading } from '../../sdk/src/devices/memory-reading.js';
import { monotonicMs, openMemoryRecorder, readMemory } from '../../sdk/src/index.js';
import { addFiles, writeTree, type Files } from './board-tree.js';

const kB = 1024;

// Of a Jetson Nano with JetPack 4 (kernel 4.9): no smaps_rollup. The program's name is a trap for those who split at spaces.
const nano: Files = {
  '/proc/self/status':
    'Name:\tnode (4) x\nVmPeak:\t  912345 kB\nVmHWM:\t   98765 kB\nVmRSS:\t   87654 kB\nRssAnon:\t   54321 kB\nRssFile:\t   33333 kB\nRssShmem:\t       0 kB\nVmSwap:\t     128 kB\nThreads:\t11\n',
  '/proc/self/stat': '4242 (node (4) x) S 1 4242 4242 0 -1 4194304 25005 7 31 5 120 30 0 0 20 0 11 0 12345 934241280 21913 18446744073709551615\n',
  // Pages of 4 KiB here; a reader that multiplied these would be wrong on a Raspberry Pi 5.
  '/proc/self/statm': '228086 21913 8333 9152 0 51234 0\n',
  '/proc/self/smaps':
    '00400000-01200000 r-xp 00000000 b3:01 1234 /usr/bin/node\nSize:              14336 kB\nRss:                9000 kB\nPss:                8000 kB\nSwapPss:               0 kB\n7f00000000-7f00100000 rw-p 00000000 00:00 0 \nRss:               60000 kB\nPss:               60000 kB\nSwapPss:             128 kB\n',
  '/proc/meminfo':
    'MemTotal:        4059172 kB\nMemFree:          123456 kB\nMemAvailable:    2345678 kB\nBuffers:           50000 kB\nSwapTotal:       2029584 kB\nSwapFree:        2028560 kB\nNvMapMemFree:      94784 kB\nNvMapMemUsed:     805068 kB\n',
};

// Of a Raspberry Pi 5: pages of 16 KiB, a kernel with smaps_rollup, no NvMap, swap off.
const pi: Files = {
  '/proc/self/status': 'Name:\tnode\nVmHWM:\t   65536 kB\nVmRSS:\t   49152 kB\nRssAnon:\t   32768 kB\nRssFile:\t   16384 kB\nVmSwap:\t       0 kB\n',
  '/proc/self/stat': '77 (node) R 1 77 77 0 -1 4194304 900 0 2 0 1 1 0 0 20 0 1 0 1 1 1\n',
  '/proc/self/statm': '4096 3072 1024 0 0 0 0\n',
  '/proc/self/smaps_rollup': '5555d000-7ffe1000 ---p 00000000 00:00 0                          [rollup]\nRss:               49152 kB\nPss:               40960 kB\nPss_Anon:          32768 kB\nPss_File:           8192 kB\nSwapPss:               0 kB\n',
  '/proc/meminfo': 'MemTotal:        8255280 kB\nMemFree:         4000000 kB\nMemAvailable:    7000000 kB   \nSwapTotal:             0 kB\nSwapFree:              0 kB\n',
};

t.test('a Jetson with an old kernel: NvMap is there, PSS is told by mapping', async (t) => {
  const sysRoot = await writeTree(t, nano);
  t.match(readMemory({ sysRoot }), {
    rssBytes: 87654 * kB,
    anonymousBytes: 54321 * kB,
    fileBytes: 33333 * kB,
    peakRssBytes: 98765 * kB,
    pssBytes: 68000 * kB,
    swappedBytes: 128 * kB,
    majorFaults: 31,
    availableBytes: 2345678 * kB,
    totalBytes: 4059172 * kB,
    swapUsedBytes: 1024 * kB,
    nvMapBytes: 805068 * kB,
    gpuProcessBytes: null,
  });
});

t.test('a Raspberry Pi 5: pages of 16 KiB change nothing, PSS is there', async (t) => {
  const sysRoot = await writeTree(t, pi);
  t.match(readMemory({ sysRoot }), {
    rssBytes: 49152 * kB,
    pssBytes: 40960 * kB,
    majorFaults: 2,
    availableBytes: 7000000 * kB,
    swapUsedBytes: 0,
    nvMapBytes: null,
    gpuProcessBytes: null,
  });
});

t.test('where no file is, no number is made up', async (t) => {
  const reading = readMemory({ sysRoot: await writeTree(t) });
  const known = memoryNumbers.filter((name) => reading[name] !== null);
  t.same(known, ['javaScriptHeapBytes', 'externalBytes'], 'only what Node itself knows');
});

t.test('this machine', async (t) => {
  const before = readMemory();
  const block = Buffer.alloc(64 << 20, 1);
  const after = readMemory();
  t.ok(after.rssBytes! - before.rssBytes! > block.length * 0.9, 'touched memory is resident');
  t.ok(after.externalBytes - before.externalBytes > block.length / 2, 'what is collected meanwhile aside');
  t.ok(after.peakRssBytes! >= after.rssBytes! - (1 << 20));
  t.ok(after.atMs >= before.atMs);
});

t.test('the clients of nvmap', async (t) => {
  const clients = [
    'CLIENT                        PROCESS      PID        SIZE',
    'user                  VLLM::EngineCor  1792595  14617792K',
    'user                          my node     4242       512M',
    'user                             node     4242      1024K',
    'user                             node       42         2G',
    'total                                          524688K',
  ].join('\n');
  t.equal(nvMapClientBytes(clients, 4242), 513 * 1024 ** 2, 'rows of one process add up, in their units');
  t.equal(nvMapClientBytes(clients, 42), 2 * 1024 ** 3);
  t.equal(nvMapClientBytes(clients, 524688), null, 'the total is no process');
  t.equal(nvMapClientBytes('user  node  77  0K\n', 77), null, 'Thor lists processes with nothing');
  const sysRoot = await writeTree(t, nano, { '/sys/kernel/debug/nvmap/iovmm/clients': `user node ${process.pid} 20K\n` });
  t.equal(readMemory({ sysRoot }).gpuProcessBytes, 20 * kB);
});

const base: MemoryReading = {
  atMs: 0, rssBytes: 100, anonymousBytes: 60, fileBytes: 40, peakRssBytes: 150, pssBytes: null, swappedBytes: 0, majorFaults: 5,
  javaScriptHeapBytes: 10, externalBytes: 1, availableBytes: 1000, totalBytes: 2000, swapUsedBytes: 0, nvMapBytes: null, gpuProcessBytes: null,
};
const at = (atMs: number, changed: Partial<MemoryReading> = {}): MemoryReading => ({ ...base, atMs, ...changed });

t.test('growth and peak of a window', async (t) => {
  const samples = [
    at(0, { rssBytes: 900 }),
    at(10),
    at(20, { rssBytes: 140, availableBytes: 900 }),
    at(30, { rssBytes: 120, availableBytes: 950 }),
    at(40, { rssBytes: 999, availableBytes: 1 }),
  ];
  const { numbers, invalid, samples: held } = timeline(samples, 12, 30);
  t.same(numbers.rssBytes, { start: 100, end: 120, peak: 140, least: 100, growth: 40 });
  t.same(numbers.availableBytes, { start: 1000, end: 950, peak: 1000, least: 900, growth: 100 }, 'what was taken from the machine');
  t.same(numbers.nvMapBytes, { start: null, end: null, peak: null, least: null, growth: null });
  t.equal(held.length, 3, 'from the last sample before to the first one after');
  t.equal(invalid, null);
  const between = timeline([at(0), at(10, { peakRssBytes: 175 })], 1, 9).numbers.rssBytes;
  t.same([between.peak, between.growth], [175, 75], 'a peak between two readings is the one the kernel kept');
});

t.test('paging makes a window invalid', async (t) => {
  t.match(timeline([at(0), at(10, { majorFaults: 8 })], 0, 10).invalid, /waited 3 times for a page/);
  t.match(timeline([at(0), at(10, { swappedBytes: 4096 })], 0, 10).invalid, /pages of the process moved to or from swap/);
  t.match(timeline([at(0, { swapUsedBytes: 8192 }), at(10)], 0, 10).invalid, /the machine moved pages/);
  t.equal(timeline([at(0), at(10, { majorFaults: 8 }), at(20, { majorFaults: 8 })], 10, 20).invalid, null, 'earlier paging does not count');
});

t.test('a recorder', async (t) => {
  const sysRoot = await writeTree(t, pi);
  const recorder = openMemoryRecorder({ rateHz: 100, sysRoot });
  const before = recorder.read();
  await addFiles(sysRoot, { '/proc/self/status': pi['/proc/self/status']!.replace('49152', '59392') });
  const { numbers, samples } = await recorder.between(before.atMs, monotonicMs() + 30);
  t.same([numbers.rssBytes.start, numbers.rssBytes.growth], [49152 * kB, 10240 * kB]);
  t.ok(samples.length >= 2);
  for (let i = 0; i < 20; i++) {
    const endMs = monotonicMs() + 1.5 + i / 20; // timers count whole milliseconds
    t.ok((await recorder.between(before.atMs, endMs)).samples.at(-1)!.atMs >= endMs, 'readings reach the end');
  }
  t.equal(numbers.pssBytes.peak, null, 'PSS costs too much to record');
  await t.rejects(recorder.between(before.atMs - 1e6, before.atMs), RangeError);
  await t.rejects(recorder.between(2, 1), RangeError);
  await rm(join(sysRoot, 'proc'), { recursive: true });
  recorder.close();
  recorder.close();
  t.throws(() => recorder.read(), { code: 'ERR_CLOSED' });
});

t.test('wrong options', async (t) => {
  t.throws(() => readMemory({ sysroot: '/' } as object), /Did you mean 'sysRoot'/);
  t.throws(() => openMemoryRecorder({ rateHz: 0 }), RangeError);
  t.throws(() => openMemoryRecorder({ rateHz: '20' } as object), TypeError);
});
