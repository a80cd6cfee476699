// What the ledger reports is what the process grows by: weights, KV cache and scratch against RSS, each case in a process of its own.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import t from 'tap';
import { quantizeModel } from '../../sdk/src/index.js';
import { plainEnvironment } from './cli-process.js';
import { join, stories, temporaryFolder } from './fixtures.js';

/** Of the growth. The rest: what the threads work in, stacks, the slack of allocators, and what V8 needs more or less than before. */
const tolerance = 0.05;

const cases = [
  ['cpu', 256, 2, 'f16'],
  ['cpu', 1024, 1, 'f32'],
  ['wasm', 256, 1, 'f16'],
] as const;

interface Growth {
  ledger: { weights: number; kvCache: number; scratch: number };
  described: { position: number; contextSize: number; kvCacheBytes: number; scratchBytes: number };
  file: number;
  anonymous: number;
  javaScript: number;
  wasmMemory: number;
}

t.setTimeout(300_000);

t.test('the ledger and RSS', { skip: process.platform !== 'linux' && 'RSS by kind is known on Linux alone' }, async (t) => {
  const tiny = join(await temporaryFolder(t), 'tiny');
  await quantizeModel(stories, tiny, { samples: 2, window: 32, fitRounds: 1, refits: 0, sweeps: 0, calibration: 'README.md', bits: 3 });
  // glibc gives freed memory back at once, so that what V8's compiler threads used is not in the baseline.
  const env = { ...plainEnvironment(), MALLOC_ARENA_MAX: '1', MALLOC_TRIM_THRESHOLD_: '65536' };
  for (const [backend, context, threads, kvCache] of cases) {
    // New objects in a small space of their own, so that V8's heap stays as it was. WebAssembly is compiled once, before the
    // baseline: what a compiler that still works in the background holds would be missing from the growth.
    const flags = ['--expose-gc', '--max-semi-space-size=1', '--no-liftoff', join('test', 'sdk', 'memory-growth.mjs')];
    const words = [...flags, backend, String(context), String(threads), kvCache, tiny];
    const { stdout } = await promisify(execFile)(process.execPath, words, { env });
    const { ledger, described, file, anonymous, javaScript, wasmMemory } = JSON.parse(stdout) as Growth;
    const reported = ledger.weights + ledger.kvCache + ledger.scratch;
    const grown = file + anonymous;
    const name = `${backend}, ${context} tokens, ${kvCache}`;
    t.comment(`${name}: reported ${reported}, grown ${grown} (files ${file}, the rest ${anonymous}, of it the JavaScript heap ${javaScript}): ${((100 * reported) / grown - 100).toFixed(1)} %`);
    t.same([described.kvCacheBytes, described.scratchBytes], [ledger.kvCache, ledger.scratch], 'the engine reports the same');
    t.equal(described.position, context, 'the whole context was used');
    t.ok(Math.abs(reported - grown) <= tolerance * grown, `${name}: ${reported} reported, ${grown} grown`);
    if (backend === 'cpu') t.ok(Math.abs(file - ledger.weights) <= tolerance * ledger.weights, 'the weights are mapped files');
    else t.ok(Math.abs(wasmMemory - reported) <= tolerance * reported, `the memory of WebAssembly grew by ${wasmMemory}`);
  }
});
