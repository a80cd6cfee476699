// Energy of windows from simulated sensors with a known truth: right within 1 %, and the stated uncertainty covers it.
import t from 'tap';
import { energyOfPower } from '../../sdk/src/devices/energy-window.js';
import { Recording } from '../../sdk/src/devices/recording.js';
import { type Curve, type Sensor, energyOf, normal, orinNano, planFor, randomNumbers, recordCounter, recordPower } from './sensor.js';

const flat = (watts: number): Curve => [{ ms: 0, watts }, { ms: 7000, watts }];
const bursts: Curve = [
  { ms: 0, watts: 4.6 }, { ms: 1000, watts: 4.6 }, { ms: 1000, watts: 16.9 }, { ms: 2500, watts: 16.9 }, { ms: 2500, watts: 9 },
  { ms: 4000, watts: 14 }, { ms: 6000, watts: 14 }, { ms: 6000, watts: 4.6 }, { ms: 7000, watts: 4.6 },
];

t.test('within 1 % of the truth over 5 s', async (t) => {
  const cases: [string, Curve, Sensor][] = [
    ['constant without noise', flat(6.123), { ...orinNano, noiseWatts: 0 }],
    ['constant with noise', flat(6.123), orinNano],
    ['steps and a ramp', bursts, orinNano],
    ['missed readings', bursts, { ...orinNano, missed: 0.2 }],
    ['19 V and a 2 mOhm shunt', flat(25), { ...orinNano, volts: 18.792, ampereStep: 0.02 }],
  ];
  for (const [name, curve, sensor] of cases) {
    const window = recordPower(curve, sensor, randomNumbers(7)).between(1003.7, 6003.7);
    const truth = energyOf(curve, 1003.7, 6003.7);
    t.equal(window.problem, null, name);
    t.ok(Math.abs(window.joules! - truth) < 0.01 * truth, `${name}: ${window.joules} of ${truth} J`);
    t.ok(window.uncertainty! < 0.05 * truth, `${name}: ${window.uncertainty} J says something`);
    t.equal(window.averageWatts, window.joules! / 5);
  }
});

/** A curve, a sensor and a window that no two trials share. */
function trial(seed: number): { curve: Curve; sensor: Sensor; start: number; end: number; random: () => number } {
  const random = randomNumbers(seed);
  const corners: { ms: number; watts: number }[] = [{ ms: 0, watts: 3 + 12 * random() }];
  while (corners.at(-1)!.ms < 12_000) {
    const { ms, watts } = corners.at(-1)!;
    const next = ms + 200 + 2000 * random();
    const kind = random();
    if (kind < 0.4) corners.push({ ms: next, watts }, { ms: next, watts: 3 + 12 * random() });
    else corners.push({ ms: next, watts: kind < 0.7 ? watts : 3 + 12 * random() });
  }
  const big = random() < 0.3;
  const sensor = {
    volts: big ? 12 + 7 * random() : 5,
    ampereStep: big ? 0.02 : 0.008,
    noiseWatts: random() < 0.3 ? 0 : 0.3 * random(),
    jitter: 0.2,
    missed: random() < 0.5 ? 0 : 0.2 * random(),
    gain: 0.005 * normal(random),
  };
  const start = 500 + 3000 * random();
  return { curve: corners, sensor, start, end: start + 200 + 6000 * random(), random };
}

t.test('the stated uncertainty covers the truth in at least 95 % of 1,000 trials', async (t) => {
  for (const [name, gain] of [['with the gain of the meter', 0.01], ['of a perfect gain', 0]] as const) {
    let covered = 0;
    const shares: number[] = [];
    for (let seed = 1; seed <= 1000; seed++) {
      const { curve, sensor, start, end, random } = trial(seed);
      const window = recordPower(curve, gain === 0 ? { ...sensor, gain: 0 } : sensor, random, gain).between(start, end);
      const truth = energyOf(curve, start, end);
      if (window.joules === null) t.fail(`${seed}: ${window.problem}`);
      else if (Math.abs(window.joules - truth) <= window.uncertainty!) covered++;
      shares.push(window.uncertainty! / truth);
    }
    const median = shares.sort((a, b) => a - b)[500]!;
    t.ok(covered >= 950, `${name}: ${covered} of 1000`);
    t.ok(median < 0.04, `${name}: half of them claim less than ${(median * 100).toFixed(1)} %`);
  }
});

t.test('a counter that ticks slower than it is read', async (t) => {
  for (const periodMs of [20, 40]) {
    let [covered, long, near] = [0, 0, 0];
    for (let seed = 1; seed <= 1000; seed++) {
      const { curve, start, end, random } = trial(seed);
      const window = recordCounter(curve, { updateMs: 100, step: 0.001, range: null, periodMs }, random).between(start, end);
      const truth = energyOf(curve, start, end);
      if (window.joules !== null && Math.abs(window.joules - truth) <= window.uncertainty!) covered++;
      if (end - start < 5000) continue;
      long++;
      if (Math.abs(window.joules! / truth - 1) < 0.01) near++;
    }
    t.ok(covered >= 950, `read every ${periodMs} ms: ${covered} of 1000`);
    t.ok(near >= 0.99 * long, `${near} of ${long} windows of 5 s and more within 1 %`);
  }
});

t.test('a counter that turns over within the window, twice', async (t) => {
  const curve = flat(20);
  const window = recordCounter(curve, { updateMs: 1, step: 2 ** -14, range: 50, startJoules: 49 }, randomNumbers(3)).between(1000, 6000);
  t.ok(Math.abs(window.joules! - 100) < 0.05, `${window.joules} of 100 J`);
  t.equal(window.coverage, 1);
});

t.test('a counter without range that starts again', async (t) => {
  const recording = new Recording(planFor('counter', { step: 0.001, updateMs: 1 }), 20);
  for (let ms = 0; ms <= 4000; ms += 20) recording.add(ms, [ms < 2000 ? 900 + ms / 100 : (ms - 2000) / 100]);
  t.match(recording.between(1000, 3000), { joules: null, uncertainty: null, problem: /started its counter again/ });
  t.ok(Math.abs(recording.between(2200, 3200).joules! - 10) < 0.1);
});

t.test('edges are interpolated, and rectangles would be wrong by a known amount', async (t) => {
  // A ramp from 0 to 10 W in 1 s, read every 100 ms; from 250 to 750 ms it is 2.5 J. Rectangles to the right give 2.75 J.
  const times = Array.from({ length: 13 }, (_, i) => i * 100);
  const energy = energyOfPower({ times, values: times.map((ms) => ms / 100) }, 250, 750, { periodMs: 100, updateMs: 7, step: 0.04, gain: 0 });
  t.ok(Math.abs(energy!.joules - 2.5) < 1e-9);
  t.equal(energy!.peakWatts, 7.5);
  t.equal(energy!.samples, 5);
});

t.test('negative idle readings are kept', async (t) => {
  const recording = new Recording(planFor('sampled', { step: 0.392, updateMs: 7 }), 20);
  for (let i = 0; i <= 200; i++) recording.add(i * 20, [i % 2 === 0 ? 0.392 : -0.392]);
  const window = recording.between(1000, 3000);
  t.ok(Math.abs(window.joules!) < 1e-9, 'their mean is zero; clamped ones would give 0.39 J');
  t.ok(window.uncertainty! > 0);
});

t.test('what cannot be resolved is null with a problem', async (t) => {
  const random = randomNumbers(5);
  const slow = recordCounter(flat(10), { updateMs: 100, step: 0.001, range: null }, random);
  const short = slow.between(1000, 1020);
  t.match(short, { joules: null, uncertainty: null, averageWatts: null, problem: /cannot resolve 20 ms; the shortest window is 100 ms/ });
  t.match(recordPower(flat(5), { ...orinNano, missed: 0.97 }, random).between(1000, 1500), { joules: null, problem: /too few|missed/ });
  const still = new Recording(planFor('counter', { step: 0.001, updateMs: 100 }), 20);
  for (let i = 0; i < 200; i++) still.add(i * 20, [5]);
  t.match(still.between(1000, 2000), { joules: null, problem: /did not move/ });
  const off = new Recording(planFor('sampled', { step: 0.04, updateMs: 7 }), 20);
  for (let i = 0; i < 200; i++) off.add(i * 20, [0]);
  t.match(off.between(1000, 2000), { joules: null, problem: /showed 0 W throughout/ });
});

t.test('power over time from a counter that is read more often than it moves', async (t) => {
  const recording = new Recording(planFor('counter', { step: 0.001, updateMs: 100 }), 20);
  const joules = (ms: number): number => (ms < 2000 ? ms * 0.1 : 200 + (ms - 2000) * 0.3); // 100 W, then 300 W
  for (let ms = 0; ms <= 4000; ms += 20) recording.add(ms, [ms % 500 === 440 ? null : joules(Math.floor(ms / 100) * 100)]);
  const samples = recording.samples(500, 3500);
  t.ok(samples.length >= 10 && samples.length <= 16, `${samples.length} spans of ten readings`);
  for (const { atMs, watts, rails } of samples) {
    const right = atMs < 1950 ? 100 : atMs > 2250 ? 300 : watts!;
    // A tick is known to a reading.
    t.ok(Math.abs(watts! / right - 1) <= 0.11 && rails[0] === watts, `${atMs} ms: ${watts} W`);
  }
  t.ok(Math.abs(samples.reduce((sum, { watts }) => sum + watts!, 0) / samples.length - 200) < 35);
  const { peakWatts } = recording.between(500, 3500);
  t.ok(peakWatts! >= 300 && peakWatts! <= 330, `at most ${peakWatts} W`);
});

t.test('missed readings lower the coverage and widen the interval', async (t) => {
  const record = (lost: (ms: number) => boolean): Recording => {
    const recording = new Recording(planFor('sampled', { step: 0.04, updateMs: 7 }), 20);
    for (let ms = 0; ms <= 6000; ms += 20) recording.add(ms, [lost(ms) ? null : ms % 1000 < 500 ? 10 : 5]);
    return recording;
  };
  const whole = record(() => false).between(500, 5500);
  const holed = record((ms) => ms > 2000 && ms < 3000).between(500, 5500);
  t.equal(whole.coverage, 1);
  t.equal(holed.coverage, 0.8);
  t.ok(holed.uncertainty! > 2 * whole.uncertainty!);
  t.equal(record((ms) => ms > 1000 && ms < 5000).between(500, 5500).joules, null, 'four fifths are missing');
});

t.test('a window outside of the recording', async (t) => {
  const recording = recordPower(flat(5), orinNano, randomNumbers(1));
  t.throws(() => recording.between(-100, 1000), RangeError);
  t.throws(() => recording.between(1000, 1000), RangeError);
  t.throws(() => new Recording(planFor('sampled', { step: 1, updateMs: 7 }), 20).between(0, 1000), RangeError);
});

t.test('E5: a counter from 1,000 to 961,000 mJ is 960 J, and 250 W for 4 s are 1,000 J', async (t) => {
  const counter = new Recording(planFor('counter', { step: 0.001, updateMs: 100 }), 20);
  for (let ms = 0; ms <= 6000; ms += 20) counter.add(ms, [1 + (Math.floor(ms / 100) * 100 - 1000) * 0.24]);
  const window = counter.between(1000, 5000);
  t.ok(Math.abs(window.joules! - 960) <= window.uncertainty!, `${window.joules}`);
  t.ok(window.uncertainty! < 10, `${window.uncertainty}`);
  const power = new Recording(planFor('sampled', { step: 0.001, updateMs: 100 }), 20);
  for (let ms = 0; ms <= 5000; ms += 20) power.add(ms, [250]);
  t.ok(Math.abs(power.between(500, 4500).joules! - 1000) < 1e-6);
});
