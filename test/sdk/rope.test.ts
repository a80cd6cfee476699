// Rotary frequencies of every kind against numbers that transformers 5.24 gave, and long rope by its formula.
import t from 'tap';
import { ConfigReader } from '../../sdk/src/families/config-reader.js';
import { readRope, type Rope } from '../../sdk/src/families/rope.js';

const theta = 10000;

function rope(config: object, headSize = 16): Rope {
  return readRope(new ConfigReader({ max_position_embeddings: 4096, ...config } as any, 'config.json'), headSize);
}

function near(t: any, got: number[], wanted: number[], name: string): void {
  t.equal(got.length, wanted.length, name);
  got.forEach((value, i) => t.ok(Math.abs(value / wanted[i]! - 1) < 1e-6, `${name} ${i}: ${value} and ${wanted[i]}`));
}

t.test('kinds', async (t) => {
  const cases: [name: string, parameters: object, frequencies: number[], factor: number][] = [
    ['default', { rope_type: 'default', rope_theta: theta }, [1, 0.316227766, 0.1, 0.0316227766, 0.01, 0.00316227766, 0.001, 0.000316227766], 1],
    ['linear', { rope_type: 'linear', rope_theta: theta, factor: 4 }, [0.25, 0.0790569415, 0.025, 0.00790569415, 0.0025, 0.000790569415, 0.00025, 0.0000790569415], 1],
    [
      'dynamic: within the context as the default kind',
      { rope_type: 'dynamic', rope_theta: theta, factor: 4 },
      [1, 0.316227766, 0.1, 0.0316227766, 0.01, 0.00316227766, 0.001, 0.000316227766],
      1,
    ],
    [
      'llama3',
      { rope_type: 'llama3', rope_theta: 500000, factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 1024 },
      [1, 0.193922758102417, 0.03760603070259094, 0.0013125694822520018, 0.00017677668074611574, 3.428102354519069e-5, 6.647869668086059e-6, 1.289173155782919e-6],
      1,
    ],
    [
      'yarn',
      { rope_type: 'yarn', rope_theta: theta, factor: 4, original_max_position_embeddings: 1024 },
      [1, 0.3162277638912201, 0.08125000447034836, 0.019764237105846405, 0.0043750000186264515, 0.0007905694656074047, 0.0002500000118743628, 7.905694656074047e-5],
      1.138629436111989,
    ],
    [
      'yarn with its own attention scale',
      { rope_type: 'yarn', rope_theta: theta, factor: 4, original_max_position_embeddings: 1024, mscale: 0.7, mscale_all_dim: 0.4, beta_fast: 16, beta_slow: 2 },
      [1, 0.3162277638912201, 0.10000000149011612, 0.019764237105846405, 0.0024999999441206455, 0.0007905694656074047, 0.0002500000118743628, 7.905694656074047e-5],
      1.0394038191422568,
    ],
    [
      'yarn, not truncated',
      { rope_type: 'yarn', rope_theta: theta, factor: 4, original_max_position_embeddings: 1024, truncate: false },
      [1, 0.3162277638912201, 0.08539863675832748, 0.019126776605844498, 0.003556971438229084, 0.0007905694656074047, 0.0002500000118743628, 7.905694656074047e-5],
      1.138629436111989,
    ],
  ];
  for (const [name, parameters, frequencies, factor] of cases) {
    const { size, sets, switchAt } = rope({ rope_parameters: parameters });
    t.same([size, sets.length, switchAt], [16, 1, 0], name);
    near(t, sets[0]!.frequencies, frequencies, name);
    near(t, [sets[0]!.factor], [factor], name);
  }
});

t.test('longrope', async (t) => {
  const short = [1, 1.5, 2, 3];
  const long = [2, 4, 8, 16];
  const block = { rope_type: 'longrope', rope_theta: theta, short_factor: short, long_factor: long };
  for (const type of ['longrope', 'su']) {
    const { sets, switchAt } = rope({ rope_scaling: { ...block, rope_type: undefined, type }, original_max_position_embeddings: 1024 }, 8);
    t.equal(switchAt, 1024);
    const plain = [1, 0.1, 0.01, 0.001];
    near(t, sets[0]!.frequencies, plain.map((value, i) => value / short[i]!), 'short');
    near(t, sets[1]!.frequencies, plain.map((value, i) => value / long[i]!), 'long');
    near(t, sets.map(({ factor }) => factor), [1, 1].map(() => Math.sqrt(1 + Math.log(4) / Math.log(1024))), 'factor');
  }
  near(t, [rope({ rope_parameters: { ...block, attention_factor: 1.25 } }, 8).sets[0]!.factor], [1.25], 'a given factor');
});

t.test('a part of each head', async (t) => {
  const { size, sets } = rope({ partial_rotary_factor: 0.25 }, 32);
  t.equal(size, 8);
  near(t, sets[0]!.frequencies, [1, 0.1, 0.01, 0.001], 'frequencies of that part');
});

t.test('what is wrong is named', async (t) => {
  const cases: [object, RegExp][] = [
    [{ rope_scaling: { type: 'wizard', factor: 2 } }, /rope_scaling\.rope_type is 'wizard'/],
    [{ rope_scaling: { rope_type: 'llama3' } }, /rope_scaling\.factor/],
    [{ rope_scaling: { rope_type: 'linear', factor: 0 } }, /rope_scaling\.factor is 0/],
    [{ rope_scaling: { rope_type: 'linear', factor: 2, odd: 1 } }, /rope_scaling\.odd/],
    [{ rope_parameters: { rope_type: 'longrope', short_factor: [1], long_factor: [1] } }, /short_factor.*list of 8/],
    [{ rope_parameters: { rope_type: 'longrope', short_factor: Array(8).fill(1), long_factor: Array(8).fill(-1) } }, /long_factor/],
    [{ rope_parameters: { rope_theta: '1' } }, /rope_theta/],
    [{ partial_rotary_factor: 0.05 }, /0 of the 16 numbers/],
    [{ partial_rotary_factor: 2 }, /32 of the 16 numbers/],
  ];
  for (const [config, message] of cases) t.throws(() => rope(config), { message, code: /ERR_(UNSUPPORTED_MODEL|BAD_MODEL_FILE)/ }, String(message));
});
