// `shiftadd devices` and `shiftadd doctor` on boards that are trees of files.
import { chmod, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { checkBackends, checkBoard, checkCache, checkMemory, checkMeters } from '../../sdk/src/cli/doctor.js';
import { boardOf } from '../../sdk/src/devices/board.js';
import { SystemFiles } from '../../sdk/src/devices/system-files.js';
import { boards, deviceTree, hwmonChip, memory, powerMode, writeTree, zone } from './board-tree.js';
import { shiftadd } from './cli-process.js';
import { temporaryFolder } from './fixtures.js';

const orin = boards.find(({ name }) => name === 'Orin Nano, r36, super')!;

t.test('devices shows the board and its meters', async (t) => {
  const root = await writeTree(t, orin.files, powerMode(1, { online: 4, present: 6 }), zone(0, 'tj-thermal', 47000), zone(1, 'cpu-thermal', 46000));
  const { status, output } = await shiftadd(['devices', '--sys-root', root]);
  t.equal(status, 0);
  t.match(output, /^cpu +ready /m);
  t.match(output, /^board +NVIDIA Jetson Orin Nano 8 GB \(orin-nano-8gb, by its part number\)$/m);
  t.match(output, /^module +p3767-0005, flashed as Super$/m);
  t.match(output, /^release +L4T 36\.4\.4, JetPack 6\.2\.1$/m);
  t.match(output, /^power mode +1: 25W, not verified$/m);
  t.match(output, /^processor +4 of 6 cores online, 730 MHz of 1498 MHz, governor schedutil$/m);
  t.match(output, /^temperature +47\.0 °C \(tj-thermal, the hottest of 2\)$/m);
  t.match(output, /^ina3221-hwmon +ready +module +sampled: VDD_IN$/m);
  const { board, energy, backends } = JSON.parse((await shiftadd(['devices', '--json', '--sys-root', root])).output);
  t.match(board, { profile: { id: 'orin-nano-8gb' }, powerMode: { name: '25W' }, release: { jetpack: '6.2.1' } });
  t.match(energy, { meters: [{ name: 'ina3221-hwmon', total: 'VDD_IN' }] });
  t.equal(backends.length, 3);
});

t.test('a meter that cannot be read comes with its cure, and none is not zero', async (t) => {
  const root = await writeTree(t, deviceTree('x', 'nvidia,p3737-0000+p3701-0005'), hwmonChip('1-0040', 1, [['VDD_GPU_SOC', 12008, 40]]));
  const { output } = await shiftadd(['devices', '--sys-root', root]);
  t.match(output, /^ina3221-hwmon +cannot be read +module +the total of .* needs VDD_CPU_CV, VIN_SYS_5V0/m);
  t.match(output, /^To read ina3221-hwmon: Add the rails/m);
  t.match((await shiftadd(['devices', '--sys-root', await writeTree(t, {})])).output, 'No energy meter was found; joules are then unknown, not zero.');
});

t.test('doctor', async (t) => {
  const root = await writeTree(t, orin.files);
  const { status, output } = await shiftadd(['doctor', '--sys-root', root]);
  t.equal(status, 0);
  t.match(output, /^ok +backend +cpu: /m);
  t.match(output, /^ok +board +NVIDIA Jetson Orin Nano 8 GB$/m);
  t.match(output, /^ok +energy meter +ina3221-hwmon: module, VDD_IN$/m);
  t.match(output, /^ok +memory +/m);
  t.match(output, /Text generation can work here\.\n$/);
  const document = JSON.parse((await shiftadd(['doctor', '--json', '--sys-root', root])).output);
  t.match(document, { version: 1, works: true });
  t.ok(document.items.every(({ item, verdict, found }: Record<string, string>) => item && verdict && found));
});

t.test('doctor without any backend', async (t) => {
  const env = { SHIFTADD_NATIVE: '/nowhere/shiftadd.node', SHIFTADD_ISA: 'avx2' };
  const { status, output } = await shiftadd(['doctor', '--json'], { env });
  const { works, items } = JSON.parse(output);
  t.equal(status, 1);
  t.equal(works, false);
  t.match(items[0], { item: 'backend', verdict: 'problem', fix: /nowhere/ });
});

t.test('verdicts', async (t) => {
  const lost = { name: 'cuda', available: false, reason: 'no GPU' } as const;
  t.same(checkBackends([{ name: 'cpu', available: true, reason: null, device: { isa: 'neon', cores: 4 } }, lost]).map(({ verdict }) => verdict), ['ok', 'warning']);
  t.match(checkBackends([lost]), [{ verdict: 'problem', fix: 'cuda: no GPU' }]);
  const hot = boardOf(new SystemFiles(await writeTree(t, orin.files, { '/sys/class/thermal/cooling_device3/type': 'gpu-throttle-alert\n', '/sys/class/thermal/cooling_device3/cur_state': '1\n' })));
  t.match(checkBoard(hot), { verdict: 'warning', found: /throttled/, fix: /gpu-throttle-alert: 1/ });
  t.match(checkMeters({ meters: [], unreadable: [], notes: [] }), [{ verdict: 'warning', found: 'none' }]);
  t.match(checkMemory({ memory: { totalBytes: 4e9, availableBytes: 3e8, largestFreeBlocks: 120 } }), { verdict: 'warning', found: '300.0 MB of 4.00 GB available' });
  t.match(checkMemory(boardOf(new SystemFiles(await writeTree(t, memory(7620))))), { verdict: 'ok' });
});

t.test('the model cache', async (t) => {
  const folder = await temporaryFolder(t);
  t.match(await checkCache(join(folder, 'a', 'b')), { verdict: 'ok', found: /made by the first pull/ });
  await mkdir(join(folder, 'hub', 'models--a--b'), { recursive: true });
  t.match(await checkCache(join(folder, 'hub')), { verdict: 'ok', found: /^1 model in / });
  await chmod(join(folder, 'hub'), 0o500);
  if (process.getuid?.() !== 0) t.match(await checkCache(join(folder, 'hub')), { verdict: 'warning', fix: /HF_HOME/ });
  t.match(await checkCache('/proc/version/hub'), { verdict: 'warning', fix: /HF_HOME/ });
});
