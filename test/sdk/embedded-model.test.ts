// The embedded chat model as a user meets it: its answer, its size, its memory.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { inspectModel, loadModel } from '../../sdk/src/index.js';
import { packageRoot } from '../../sdk/src/native-path.js';
import { shiftadd } from './cli-process.js';

const folder = join(packageRoot(), 'models', 'smollm2-135m-instruct');
const missing = existsSync(join(folder, 'model.safetensors.index.json')) ? false : 'this checkout leaves the embedded model out';
const question = 'What is the capital of France?';

t.test('it is packed throughout', { skip: missing }, async (t) => {
  const report = await inspectModel(folder);
  const dense = report.tensors.filter((tensor) => tensor.type !== 'packed' && tensor.rows > 1);
  t.same(dense, [], 'no matrix is dense');
  const bits = report.bitsPerWeight!;
  t.ok(bits > 3.5 && bits < 3.6, `${bits} bits per weight`);
  const folderBytes = report.bytes.weightFiles + report.bytes.tokenizer;
  t.ok(folderBytes < 66e6, `${folderBytes} bytes`);
});

t.test('it answers, the same in prefill and with a reused cache', { skip: missing }, async (t) => {
  const model = await loadModel('smollm2-135m-instruct');
  const chat = model.createChat();
  const first = await chat.send(question, { maxTokens: 48 }).result();
  t.match(first.text, /Paris/);
  t.equal(first.finishReason, 'stop');
  const followUp = await chat.send('And of Italy?', { maxTokens: 32 }).text();
  const again = model.createChat();
  await again.send(question, { maxTokens: 48 }).text();
  t.equal(await again.send('And of Italy?', { maxTokens: 32 }).text(), followUp);

  // The weights are mapped, and nothing besides them holds an unpacked matrix: the smallest takes 442 kB, all 538 MB.
  t.ok(first.memory.weightsBytes < 66e6, `${first.memory.weightsBytes} bytes of weights`);
  await model.close();
});

t.test('both precisions agree on the answer', { skip: missing }, async (t) => {
  for (const precision of ['exact', 'fast']) {
    const { status, output } = await shiftadd(['chat', '--prompt', question, '--max-tokens', '48', '--precision', precision, '--json']);
    t.equal(status, 0);
    const result = JSON.parse(output);
    t.match(result.text, /Paris/);
    t.equal(result.backend.precision, precision);
    const { weightsBytes, kvCacheBytes, peakRssBytes } = result.memory;
    t.ok(peakRssBytes < weightsBytes + kvCacheBytes + 110e6, `peak memory ${peakRssBytes}`);
  }
});
