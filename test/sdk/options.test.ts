import t from 'tap';
import { nearest, readOptions, generateRules, loadRules } from '../../sdk/src/options.js';

t.test('defaults are filled in', async (t) => {
  const options: any = readOptions(loadRules, { threads: 2 } as any, 'loadModel');
  t.match(options, { backend: 'auto', precision: 'fast', verify: true, threads: 2 });
  t.equal(options.isa, undefined);
});

t.test('wrong values say what was expected', async (t) => {
  const read = (options: any) => () => readOptions(loadRules, options, 'loadModel');
  t.throws(read({ threads: 0 }), new RangeError('Expected an integer from 1 to 64 for threads but received 0'));
  t.throws(read({ threads: 1.5 }), RangeError);
  t.throws(read({ threads: '2' }), new TypeError("Expected an integer from 1 to 64 for threads but received '2'"));
  t.throws(read({ precision: 'half' }), /'fast', 'exact'/);
  t.throws(read({ verify: 1 }), TypeError);
  t.throws(read({ signal: {} }), /an AbortSignal for signal/);
  t.throws(read([]), /an object of options for loadModel but received a list/);
  t.throws(read({ thread: 1 }), /Unknown option 'thread' for loadModel. Did you mean 'threads'\?/);
  t.throws(read({ qqqqqqq: 1 }), new TypeError("Unknown option 'qqqqqqq' for loadModel."));
});

// Field report G4 and G5: bad numbers are typed errors, odd seeds are defined.
t.test('sampling options', async (t) => {
  const read = (options: any) => () => readOptions(generateRules, options, 'generate');
  for (const temperature of [-1, NaN, Infinity]) t.throws(read({ temperature }), RangeError);
  t.throws(read({ temperature: 'x' }), TypeError);
  for (const seed of [-1, 1.5, 2 ** 53]) t.throws(read({ seed }), RangeError);
  for (const seed of [0, 2 ** 32 - 1, 2 ** 53 - 1]) t.doesNotThrow(read({ seed }));
  t.throws(read({ maxTokens: -1 }), RangeError);
  t.throws(read({ stop: [''] }), TypeError);
});

t.test('nearest', async (t) => {
  t.equal(nearest('maxTokans', ['maxTokens', 'minP']), 'maxTokens');
  t.equal(nearest('zzz', ['maxTokens']), null);
});
