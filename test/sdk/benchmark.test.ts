// model.benchmark() and `shiftadd bench`: what they count, and misuse. Speeds themselves are not asserted.
import t from 'tap';
import { loadModel } from '../../sdk/src/index.js';
import { shiftadd } from './cli-process.js';
import { stories } from './fixtures.js';

t.test('figures belong together', async (t) => {
  await using model = await loadModel(stories);
  const phases = new Set<string>();
  const result = await model.benchmark({ steps: 4, rounds: 2, onProgress: ({ phase }) => phases.add(phase) });
  t.same([...phases], ['read', 'prompt']);
  t.same(result.cases.map(({ promptTokens }) => promptTokens), [16], 'the longer prompt does not fit 512 positions');
  const [first] = result.cases;
  t.equal(result.bytesPerToken, model.info.bytes.total, 'a tied head is read');
  t.ok(result.readBytesPerSecond > 0 && first!.prefillTokensPerSecond > 0 && first!.decodeTokensPerSecond > 0);
  t.equal(result.limitTokensPerSecond, result.readBytesPerSecond / result.bytesPerToken);
  t.equal(first!.shareOfReading, first!.decodeTokensPerSecond / result.limitTokensPerSecond);
  t.equal(result.limitedBy, first!.shareOfReading > 0.5 ? 'memory' : 'computation');
  t.match(result.backend, { name: /^(cpu|wasm)$/ });
});

t.test('misuse', async (t) => {
  const model = await loadModel(stories);
  await t.rejects(model.benchmark({ steps: 0 }), RangeError);
  await t.rejects(model.benchmark({ promptTokens: 500, steps: 64 }), { name: 'RangeError', message: /564/ });
  await t.rejects(model.benchmark({ prompt: 3 } as object), /Unknown option 'prompt'/);
  const controller = new AbortController();
  const running = model.benchmark({ signal: controller.signal, onProgress: () => controller.abort(new Error('enough')) });
  await t.rejects(running, { message: 'enough' });
  const open = model.benchmark({ rounds: 1000 });
  await Promise.all([t.rejects(open, { code: 'ERR_CLOSED' }), model.close()]);
});

t.test('shiftadd bench', async (t) => {
  const args = ['bench', stories, '--prompt', '8', '--steps', '2', '--rounds', '1'];
  const { status, output } = await shiftadd([...args, '--json']);
  t.equal(status, 0);
  t.match(JSON.parse(output), { version: 1, model: { name: 'stories-260k' }, steps: 2, rounds: 1, cases: [{ promptTokens: 8 }] });
  t.match((await shiftadd(args)).output, /8 tokens .*\n[\s\S]*limited by +(memory|computation)/);
});
