// One model in a process of its own: what the ledger says beside what the process grew by, as one line of JSON.
// Arguments: backend, context, threads, type of the KV cache, a tiny packed model. Run with --expose-gc.
import { openModelFolder } from '../../build/modules/checkpoint/model-folder.js';
import { describeFamily } from '../../build/modules/families/index.js';
import { readMemory } from '../../build/modules/index.js';
import { kvCacheBytes, loadedWeights, scratchBytes } from '../../build/modules/model-bytes.js';
import { openEngineModel } from '../../build/modules/model.js';
import { buildModelSpec } from '../../build/modules/model-spec.js';
import { selectBackend } from '../../build/modules/select-backend.js';

const [backend, contextText, threadsText, kvCache, tiny] = process.argv.slice(2);
const [wanted, threads] = [Number(contextText), Number(threadsText)];
const greedy = { temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, repetitionWindow: 64 };
const selected = selectBackend(backend);

/** Fills a context and touches all that the engine holds. The caller closes the model. */
async function use(path, contextSize) {
  const folder = await openModelFolder(path);
  const family = describeFamily(folder.config, folder.configPath);
  const spec = buildModelSpec(folder, family);
  const { engineModel } = await openEngineModel(selected, spec, { threads, kvCache }, folder.path);
  await engineModel.measureRead(); // every page of the mapped weights
  const session = await engineModel.openSession(contextSize);
  const tokens = Int32Array.from({ length: contextSize }, (_, i) => 3 + ((i * 7919) % (family.vocabularySize - 3)));
  if (backend === 'wasm') {
    await session.evaluate(tokens.subarray(0, 64)); // logits of many rows, which the module keeps to itself
    session.rewind(0);
    await session.prefill(tokens.subarray(0, contextSize - 1));
  } else {
    const rows = 64; // of logits: as many as the engine has scratch for
    await session.prefill(tokens.subarray(0, contextSize - rows - 1));
    await session.prefillLogits(tokens.subarray(0, rows));
  }
  await session.decode(5, greedy);
  const { mapped, held } = loadedWeights(spec.tensors, backend);
  const ledger = { weights: mapped + held, kvCache: kvCacheBytes(family, contextSize, kvCache, backend), scratch: scratchBytes(family) };
  return { engineModel, session, ledger, described: session.describe(), wasmMemory: engineModel.describe().wasmMemoryBytes ?? 0 };
}

/** Once collecting garbage gives nothing back any more. */
async function settled() {
  let last = readMemory();
  for (let same = 0, round = 0; same < 4 && round < 60; round++) {
    globalThis.gc();
    await new Promise((resolve) => setTimeout(resolve, 50));
    const now = readMemory();
    same = now.javaScriptHeapBytes === last.javaScriptHeapBytes && Math.abs(now.anonymousBytes - last.anonymousBytes) < 1e5 ? same + 1 : 0;
    last = now;
  }
  return last;
}

// First a tiny model: program code, compiled WebAssembly, threads and what the SDK itself holds are there before the baseline.
const first = await use(tiny, 192);
await first.engineModel.close();
const before = await settled();
const used = await use('models/smollm2-135m-instruct', wanted); // kept: the engine frees what nobody holds
const after = await settled();
const grown = (name) => after[name] - before[name];
const { ledger, described } = used;
console.log(
  JSON.stringify({
    ledger,
    described,
    file: grown('fileBytes'),
    anonymous: grown('anonymousBytes'),
    javaScript: grown('javaScriptHeapBytes'),
    wasmMemory: used.wasmMemory - first.wasmMemory,
  }),
);
process.exit(0);
