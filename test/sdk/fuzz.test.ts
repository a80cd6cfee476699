// Damaged model files, from opening to a first token: each is refused with a typed error or runs; nothing crashes, hangs or
// takes much memory. SHIFTADD_FUZZ_SECONDS (default 3) for each kind of file, or for SHIFTADD_FUZZ_FILE (such as model.gguf)
// alone; SHIFTADD_FUZZ_SEED for other damage.
import { copyFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import t from 'tap';
import { openModelFolder } from '../../sdk/src/checkpoint/model-folder.js';
import { readSafetensors } from '../../sdk/src/checkpoint/safetensors.js';
import { withDenseModel } from '../../sdk/src/dense-model.js';
import { ShiftAddError } from '../../sdk/src/errors.js';
import { describeFamily } from '../../sdk/src/families/index.js';
import { families, join, root, temporaryFolder } from './fixtures.js';
import { ggufBytes, ggufMetadataOf, ggufTensorsOf } from './gguf-writer.js';
import { dict, pickle, tensor, torchFile } from './torch-writer.js';

const seconds = Number(process.env['SHIFTADD_FUZZ_SECONDS'] ?? 3);
const seed = Number(process.env['SHIFTADD_FUZZ_SEED'] ?? 1);
const slowest = 5000;
const mostGrowth = 500e6;
const fixture = join(families, 'llama-yarn');

/** xorshift32 */
function randomNumbers(start: number): (below: number) => number {
  let state = (start * 2654435761) >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state % below;
  };
}

const odd = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff];

/** Some changes to a file, more of them near its header, where they matter. */
function damage(bytes: Uint8Array, headerBytes: number, next: (below: number) => number): Uint8Array {
  let out = Uint8Array.from(bytes);
  for (let change = next(4); change >= 0; change--) {
    const at = next(next(4) === 0 ? out.length : Math.min(headerBytes, out.length)) || 0;
    switch (next(7)) {
      case 0:
        out[at] = next(256);
        break;
      case 1:
        out[at] = out[at]! ^ (1 << next(8));
        break;
      case 2:
        if (at + 4 <= out.length) new DataView(out.buffer).setUint32(at, odd[next(odd.length)]!, true);
        break;
      case 3:
        if (at + 8 <= out.length) new DataView(out.buffer).setBigUint64(at, BigInt(odd[next(odd.length)]!) << BigInt(8 * next(5)), true);
        break;
      case 4:
        out = out.slice(0, at);
        break;
      case 5: // a part twice
        out = Uint8Array.from([...out.subarray(0, at), ...out.subarray(Math.max(0, at - next(64)), at), ...out.subarray(at)]);
        break;
      default: // a part left out
        out = Uint8Array.from([...out.subarray(0, at), ...out.subarray(Math.min(out.length, at + next(16)))]);
    }
    if (out.length === 0) break;
  }
  return out;
}

async function run(path: string): Promise<void> {
  const folder = await openModelFolder(path);
  const family = describeFamily(folder.config, folder.configPath);
  await withDenseModel(folder, family, { threads: 1 }, 'Fuzzing', async (model) => {
    const session = await model.openSession(4);
    await session.prefill(Int32Array.of(1, 2, 3)).catch((error: unknown) => {
      if (!/not finite/.test(String(error))) throw error;
    });
  });
}

async function torchBytes(path: string): Promise<Uint8Array> {
  const file = await readFile(path);
  const entries = [...(await readSafetensors(path)).tensors.values()];
  const data = dict(Object.fromEntries(entries.map(({ name, shape }, i) => [name, tensor({ type: 'Half', key: String(i), shape })])));
  return torchFile(pickle(data), entries.map(({ offset, bytes }) => file.subarray(offset, offset + bytes)));
}

const weights = join(fixture, 'model.safetensors');
const kinds: [name: string, bytes: () => Promise<Uint8Array>, headerBytes: (bytes: Uint8Array) => number][] = [
  ['model.safetensors', async () => readFile(weights), (bytes) => Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true)) + 8],
  ['pytorch_model.bin', async () => torchBytes(weights), (bytes) => Math.min(4000, bytes.length)],
  ['model.gguf', async () => ggufBytes(ggufMetadataOf(fixture), await ggufTensorsOf(fixture)), (bytes) => Math.min(3500, bytes.length)],
];

for (const [name, make, headerOf] of kinds) {
  if ((process.env['SHIFTADD_FUZZ_FILE'] ?? name) !== name) continue;
  t.test(name, { timeout: (seconds + 60) * 1000 }, async (t) => {
    const folder = await temporaryFolder(t);
    await mkdir(folder, { recursive: true });
    if (!name.endsWith('.gguf')) await copyFile(join(fixture, 'config.json'), join(folder, 'config.json'));
    const path = join(folder, name);
    const target = name.endsWith('.gguf') ? path : folder;
    const whole = Uint8Array.from(await make());
    await writeFile(path, whole);
    await run(target); // undamaged
    // Files that were trouble once.
    const kept = join(root, 'fuzz');
    const known = (await readdir(kept).catch((): string[] => [])).filter((file) => file.endsWith(name.slice(name.lastIndexOf('.'))));
    const next = randomNumbers(seed);
    const memory = process.memoryUsage().rss;
    const end = performance.now() + seconds * 1000;
    const codes = new Map<string, number>();
    let [count, slow] = [0, 0];
    while (performance.now() < end) {
      const bytes = count < known.length ? await readFile(join(kept, known[count]!)) : damage(whole, headerOf(whole), next);
      await writeFile(path, bytes);
      const started = performance.now();
      const outcome = await run(target).then(
        () => 'runs',
        (error: unknown) => (error instanceof ShiftAddError ? error.code : `untyped: ${(error as Error).stack}`),
      );
      slow = Math.max(slow, performance.now() - started);
      codes.set(outcome, (codes.get(outcome) ?? 0) + 1);
      count++;
      if (outcome.startsWith('untyped') || slow > slowest) {
        await writeFile(join(folder, '..', `shiftadd-fuzz-${Date.now()}-${name}`), bytes); // to look at
        break;
      }
    }
    t.comment(`${count} files: ${[...codes].map(([code, times]) => `${code} ${times}`).join(', ')}; slowest ${slow.toFixed(0)} ms`);
    t.ok(count > 10);
    t.same([...codes.keys()].filter((code) => code.startsWith('untyped')), []);
    t.ok(slow < slowest, `no file takes longer than ${slow} ms`);
    t.ok(process.memoryUsage().rss - memory < mostGrowth, 'memory');
    await rm(path);
  });
}
