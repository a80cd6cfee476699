// The arithmetic of profiles: intervals, phases, level runs, comparisons, and the texts for other programs. No model runs.
import t from 'tap';
import { compareFigures, inverse, repeated } from '../../sdk/src/devices/interval.js';
import { parseProfile } from '../../sdk/src/devices/profile-compare.js';
import { profileCsv } from '../../sdk/src/devices/profile-csv.js';
import { idlePower, isLevel, phaseFigures } from '../../sdk/src/devices/profile-energy.js';
import { thinned } from '../../sdk/src/cli/profile-charts.js';
import { figureText, jouleText } from '../../sdk/src/cli/profile-tables.js';
import { compareProfiles, toPrometheus, type Measurement, type ProfileResult, type ProfileWindow } from '../../sdk/src/index.js';
import { withPower } from './known-power.js';

const near = (t: any, value: number, wanted: number, what = ''): void => void t.ok(Math.abs(value - wanted) <= 1e-9 * Math.max(1, Math.abs(wanted)), `${what} ${value}, ${wanted}`);

/** A window of a meter with one rail. */
function windowOf(fields: { phase?: 'prefill' | 'decode'; turn?: number; repetition: number; seconds: number; passes?: number; tokens: number; watts: number | null; uncertainty?: number }): ProfileWindow {
  const { phase = 'decode', turn = 0, repetition, seconds, passes = 1, tokens, watts, uncertainty = 0 } = fields;
  const energy = watts === null ? null : { joules: watts * seconds, uncertainty, averageWatts: watts, peakWatts: watts + 1, rails: [{ name: 'IN', inTotal: true, averageWatts: watts, peakWatts: watts + 1 }], samples: 50, coverage: 1 };
  return { phase, turn, repetition, startMs: 0, endMs: seconds * 1000, passes, tokens, energy, energyProblem: watts === null ? 'too short' : null, celsius: null, otherCores: null, problems: [] };
}

t.test('the interval of a mean', (t) => {
  // Mean 10, standard deviation 1, three values: 4.303 / sqrt(3).
  near(t, repeated([9, 10, 11]).uncertainty!, 4.303 / Math.sqrt(3));
  near(t, repeated([9, 10, 11], [2, 2, 2]).uncertainty!, Math.hypot(4.303 / Math.sqrt(3), 2), 'what the meter says of itself is not averaged away');
  t.same(repeated([7]), { value: 7, uncertainty: null });
  t.same(repeated([7], [0.5]), { value: 7, uncertainty: 0.5 });
  near(t, repeated(Array.from({ length: 100 }, (_, i) => i % 2)).uncertainty!, (1.96 * Math.sqrt(25 / 99)) / 10, 'many repeats');
  near(t, inverse({ value: 4, uncertainty: 0.4 })!.uncertainty!, 0.025);
  t.equal(inverse({ value: 0, uncertainty: 1 }), null);
  t.end();
});

t.test('net and gross of known windows', (t) => {
  const windows = [0, 1, 2].map((repetition) => windowOf({ repetition, seconds: 5, tokens: 100, watts: 8 + repetition, uncertainty: 0.5 }));
  const idle = idlePower({ watts: 4, uncertainty: 0.1 }, { watts: 5, uncertainty: 0.2 }, null);
  near(t, idle.watts!.value, 4.5);
  near(t, idle.watts!.uncertainty!, Math.hypot(0.5, 0.2), 'half of the drift, and the meter');
  const { tokens, tokensPerSecond, energy } = phaseFigures('decode', windows, idle, null);
  t.equal(tokens, 100);
  near(t, tokensPerSecond.value, 20);
  near(t, energy.joulesPerToken!.value, 0.45);
  near(t, energy.joulesPerToken!.uncertainty!, Math.hypot((4.303 * 0.05) / Math.sqrt(3), 0.005));
  near(t, energy.netJoulesPerToken!.value, 0.45 - 4.5 * 0.05);
  near(t, energy.netJoulesPerToken!.uncertainty!, Math.hypot(energy.joulesPerToken!.uncertainty!, idle.watts!.uncertainty! * 0.05));
  near(t, energy.tokensPerJoule!.value, 1 / 0.45);
  near(t, energy.averageWatts!, 9);
  t.equal(energy.peakWatts, 11);
  t.end();
});

t.test('turns that ran a different number of times are brought to one', (t) => {
  // 10 passes of 10 tokens in 5 s at 4 W, and one of 40 tokens in 10 s at 10 W: 2 J and 100 J for 50 tokens.
  const windows = [windowOf({ repetition: 0, seconds: 5, passes: 10, tokens: 100, watts: 4 }), windowOf({ turn: 1, repetition: 0, seconds: 10, tokens: 40, watts: 10 })];
  const { tokens, tokensPerSecond, energy } = phaseFigures('decode', windows, idlePower(null, null, 'left out'), null);
  t.equal(tokens, 50);
  near(t, energy.joulesPerToken!.value, 102 / 50);
  near(t, tokensPerSecond.value, 50 / 10.5);
  t.match(energy, { netJoulesPerToken: null, netProblem: 'left out' });
  t.end();
});

t.test('one unresolved window leaves no energy, never zero', (t) => {
  const windows = [windowOf({ repetition: 0, seconds: 5, tokens: 10, watts: 4 }), windowOf({ repetition: 1, seconds: 5, tokens: 10, watts: null })];
  const { energy, tokensPerSecond } = phaseFigures('decode', windows, idlePower(null, null, null), null);
  t.match(energy, { joulesPerToken: null, netJoulesPerToken: null, tokensPerJoule: null, averageWatts: null, peakWatts: null, problem: 'too short' });
  near(t, tokensPerSecond.value, 2);
  t.end();
});

t.test('when a run has levelled off', (t) => {
  const at = (rate: number, watts: number | null = 10, celsius: number | null = 60) => ({ tokensPerSecond: rate, averageWatts: watts, celsius });
  t.notOk(isLevel([at(10), at(10), at(10)]), 'too few');
  t.ok(isLevel([at(20), at(10), at(10.1), at(10), at(9.9)]), 'what was before does not count');
  t.notOk(isLevel([at(12), at(11.5), at(11), at(10.5)]), 'the rate falls');
  t.notOk(isLevel([at(10, 10), at(10, 11), at(10, 12), at(10, 13)]), 'the power rises');
  t.notOk(isLevel([at(10, 10, 50), at(10, 10, 53), at(10, 10, 56), at(10, 10, 59)]), 'it gets warmer');
  t.ok(isLevel([at(10, null, null), at(10, null, null), at(10, null, null), at(10, null, null)]), 'without meter and zones');
  t.end();
});

t.test('two figures', (t) => {
  const { ratio, differs } = compareFigures({ value: 10, uncertainty: 3 }, { value: 14, uncertainty: 4 });
  near(t, ratio!.value, 1.4);
  near(t, ratio!.uncertainty!, Math.hypot(0.4, 0.42));
  t.equal(differs, false);
  t.equal(compareFigures({ value: 10, uncertainty: 1 }, { value: 14, uncertainty: 1 }).differs, true);
  t.equal(compareFigures({ value: 10, uncertainty: null }, { value: 14, uncertainty: 1 }).differs, null);
  t.equal(compareFigures({ value: 0, uncertainty: 1 }, { value: 14, uncertainty: 1 }).ratio, null);
  t.end();
});

t.test('no more digits than the interval has', (t) => {
  t.equal(figureText({ value: 12.34567, uncertainty: 0.4321 }), '12.35 ± 0.43');
  t.equal(figureText({ value: 1234.5, uncertainty: 87 }), '1235 ± 87');
  t.equal(figureText({ value: 12.34567, uncertainty: null }), '12.3');
  t.equal(jouleText({ value: 0.01234, uncertainty: 0.0004 }), '12.34 ± 0.40 mJ');
  t.equal(jouleText({ value: 2.5, uncertainty: 0.1 }), '2.50 ± 0.10 J');
  t.equal(jouleText(null), '-');
  t.end();
});

t.test('thinning keeps gaps and peaks', (t) => {
  const values = Array.from({ length: 10_000 }, (_, i) => (i === 5003 ? 99 : i > 2000 && i < 2200 ? null : 1));
  const points = thinned(values.map((_, i) => i), values);
  t.ok(points.length < 1000);
  t.ok(points.some(({ value }) => value === 99) && points.some(({ value }) => value === null));
  t.ok(points.every(({ ms }, i) => i === 0 || ms > points[i - 1]!.ms), 'in their order');
  t.end();
});

const small = { idle: 0.1, window: 0.1, repetitions: 2, tokens: 8 };
const first = await withPower({ idle: [3, 3], prefill: 12, decode: 7 }, small);

t.test('two runs', async (t) => {
  const twice: ProfileResult = JSON.parse(JSON.stringify(first));
  twice.decode.energy.joulesPerToken = { value: first.decode.energy.joulesPerToken!.value * 2, uncertainty: 0 };
  twice.backend.threads += 1;
  const { figures, differences, warnings } = compareProfiles(first, twice);
  const of = (name: string) => figures.find((figure) => figure.name === name)!;
  near(t, of('decode energy, gross').ratio!.value, 2);
  near(t, of('prefill energy, gross').ratio!.value, 1);
  t.equal(of('prefill energy, gross').differs, false);
  t.equal(of('decode average power').differs, null, 'without an interval nothing is claimed');
  t.match(differences.join(), /^backend: cpu .* threads/);
  t.same(warnings, []);

  const other: ProfileResult = { ...twice, meter: { ...first.meter!, scope: 'package' } };
  t.throws(() => compareProfiles(first, other), { code: 'ERR_PROFILE', message: /covers the board, the second the package/ });
  const blind: ProfileResult = { ...twice, meter: null, meterProblem: 'none', decode: { ...first.decode, energy: { ...first.decode.energy, joulesPerToken: null } } };
  const half = compareProfiles(first, blind);
  t.match(half.figures.find(({ name }) => name === 'decode energy, gross'), { b: null, ratio: null, differs: null });
  t.match(half.warnings.join(), /second run has no energy: none/);
  t.match(compareProfiles({ ...first, valid: false, problems: ['it throttled'] }, first).warnings.join(), /first run is not valid: it throttled/);
  const longer: ProfileResult = { ...twice, workload: { ...first.workload, digest: 'x', turns: [{ promptTokens: 99, reusedTokens: 0, decodeTokens: 8 }] } };
  t.match(compareProfiles(first, longer).warnings.join(), /not the same: prompts and answers of 16 \+ 8 and of 99 \+ 8/);
});

t.test('a saved profile', (t) => {
  t.same(parseProfile(JSON.stringify(first), 'a.json'), JSON.parse(JSON.stringify(first)));
  for (const text of ['', 'no', '{}', '[]', 'null', JSON.stringify({ ...first, kind: 'other' }), JSON.stringify({ ...first, decode: {} }), JSON.stringify({ ...first, workload: null })]) {
    t.throws(() => parseProfile(text, 'a.json'), { code: 'ERR_PROFILE', message: /a\.json/ });
  }
  t.end();
});

t.test('CSV', (t) => {
  const lines = profileCsv(first).split('\r\n');
  t.equal(lines[0], 'time_s,phase,turn,repetition,tokens_prefill,tokens_decode,resident_bytes,available_bytes,watts,watts IN,watts GPU');
  t.equal(lines.length, first.timeline.power.atMs.length + 2);
  const rows = lines.slice(1, -1).map((line) => line.split(','));
  t.ok(rows.every((row) => row.length === 11));
  const decode = rows.filter((row) => row[1] === 'decode');
  t.ok(decode.length > 0 && decode.some((row) => row[8] === '7' && row[10] === '3.5'));
  t.ok(rows.every((row, i) => i === 0 || Number(row[0]) > Number(rows[i - 1]![0])));
  const blind = profileCsv({ ...first, timeline: { ...first.timeline, power: { atMs: [], watts: [], rails: [] } } }).split('\r\n');
  t.equal(blind.length, first.timeline.memory.atMs.length + 2, 'without a meter a row per reading of memory');
  const odd = { ...first.timeline, power: { atMs: [1], watts: [null], rails: [{ name: 'a "b", c', watts: [null] }] } };
  t.match(profileCsv({ ...first, timeline: odd }).split('\r\n').slice(0, 2), [/,"watts a ""b"", c"$/, /,,$/]);
  t.end();
});

t.test('Prometheus', (t) => {
  const text = toPrometheus(first);
  t.match(text, /^# TYPE shiftadd_joules_per_token gauge\nshiftadd_joules_per_token\{model="stories-260k",backend="(cpu|wasm)",meter="known",scope="board",phase="prefill"\} \d/m);
  t.ok(text.split('\n').every((line) => line === '' || /^(# (HELP|TYPE) \w+ .+|\w+\{(\w+="[^"]*",?)+\} -?\d[\d.e+-]*)$/.test(line)), text);
  const blind: ProfileResult = { ...first, decode: { ...first.decode, energy: { ...first.decode.energy, joulesPerToken: null } }, prefill: { ...first.prefill, energy: { ...first.prefill.energy, joulesPerToken: null } } };
  t.notMatch(toPrometheus(blind), 'shiftadd_joules_per_token{', 'what is unknown is not zero');
  const change = { start: 1, end: 1, peak: 1, least: 1, growth: 0 };
  const measured = (name: string, joules: number | null): Measurement => ({ name, seconds: 2, energy: joules === null ? null : { joules, uncertainty: 0, averageWatts: 1, peakWatts: 1, rails: [], samples: 9, coverage: 1 }, energyProblem: null, net: null, memory: { resident: change, available: change }, memoryProblem: null });
  const totals = toPrometheus([measured('a "1"', 3), measured('a "1"', 4), measured('a "1"', null), measured('b', null)]);
  t.match(totals, /^shiftadd_measured_joules_total\{name="a \\"1\\""\} 7$/m);
  t.match(totals, /^shiftadd_measured_unresolved_runs_total\{name="b"\} 1$/m);
  t.notMatch(totals, /joules_total\{name="b"/);
  t.throws(() => toPrometheus({} as never), TypeError);
  t.end();
});
