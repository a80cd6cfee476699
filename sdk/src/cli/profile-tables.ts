/** A profile as tables, for the terminal and for the page. */
import type { ClockState, ComparedFigure, Figure, ProfileComparison, ProfilePhase, ProfileResult, ProfileWindow } from '../index.js';
import type { Cells } from './inspect-tables.js';
import { bytes, count, counted, duration } from './quantities.js';

const unknown = '-';

/** A figure with its interval, no more digits than it has: `12.3 ± 0.4`; three digits where the interval is not known. */
export function figureText(figure: Figure | null): string {
  if (figure === null) return unknown;
  const { value, uncertainty } = figure;
  if (uncertainty === null || uncertainty === 0) return plainNumber(value);
  const decimals = Math.min(9, Math.max(0, 1 - Math.floor(Math.log10(uncertainty))));
  return `${value.toFixed(decimals)} ± ${uncertainty.toFixed(decimals)}`;
}

/** Three significant digits, without an exponent for what a person meets. */
export function plainNumber(value: number | null): string {
  if (value === null) return unknown;
  const text = value.toPrecision(3);
  return text.includes('e') ? String(Number(text)) : text;
}

/** Joules in a unit that leaves few zeros: `12.3 ± 0.4 mJ`. */
export function jouleText(figure: Figure | null): string {
  if (figure === null) return unknown;
  const size = Math.max(Math.abs(figure.value), figure.uncertainty ?? 0);
  const [unit, factor] = size >= 1 || size === 0 ? ['J', 1] : size >= 1e-3 ? ['mJ', 1e3] : ['µJ', 1e6];
  return `${figureText(scaled(figure, factor as number))} ${unit}`;
}

function scaled({ value, uncertainty }: Figure, factor: number): Figure {
  return { value: value * factor, uncertainty: uncertainty === null ? null : uncertainty * factor };
}

export function watts(value: number | null): string {
  return value === null ? unknown : `${plainNumber(value)} W`;
}

function byteText(value: number | null): string {
  return value === null ? unknown : bytes(value);
}

export function phaseRows({ prefill, decode }: ProfileResult): Cells {
  const row = ({ name, tokensPerSecond, energy }: ProfilePhase): string[] => [
    name,
    figureText(tokensPerSecond),
    jouleText(energy.joulesPerToken),
    jouleText(energy.netJoulesPerToken),
    figureText(energy.tokensPerJoule),
    watts(energy.averageWatts),
    watts(energy.peakWatts),
  ];
  return { header: ['phase', 'tokens/s', 'energy/token', 'net of idle', 'tokens/J', 'average', 'peak'], rows: [row(prefill), row(decode)], right: [1, 2, 3, 4, 5, 6] };
}

/** Null without a meter. */
export function railRows({ meter, prefill, decode }: ProfileResult): Cells | null {
  if (meter === null) return null;
  const rows = meter.rails.map(({ name, feeds, inTotal }, rail) => {
    const of = (phase: ProfilePhase): string[] => [watts(phase.energy.rails[rail]?.averageWatts ?? null), watts(phase.energy.rails[rail]?.peakWatts ?? null)];
    return [name, feeds.join(', '), inTotal ? 'yes' : 'no', ...of(prefill), ...of(decode)];
  });
  return { header: ['rail', 'feeds', 'in the total', 'prefill, average', 'prefill, peak', 'decode, average', 'decode, peak'], rows, right: [3, 4, 5, 6] };
}

export function memoryRows({ memory }: ProfileResult): Cells {
  const rows = [
    ['weights', byteText(memory.weightsBytes)],
    ['KV cache', byteText(memory.kvCacheBytes)],
    ['scratch', byteText(memory.scratchBytes)],
    ['process, resident at most', byteText(memory.residentPeakBytes)],
    ['machine, available before', byteText(memory.availableBeforeBytes)],
    ['machine, available at the least', byteText(memory.availableLeastBytes)],
    ...(memory.gpuProcessBytes === null ? [] : [['process, on the GPU', byteText(memory.gpuProcessBytes)]]),
    ...(memory.nvMapGrowthBytes === null ? [] : [['GPU memory of all processes, growth', byteText(memory.nvMapGrowthBytes)]]),
  ];
  return { header: ['memory', 'bytes'], rows, right: [1] };
}

export function runRows(result: ProfileResult): Cells {
  const { meter, backend, workload, method, idle, stable } = result;
  const turns = workload.turns.map(({ promptTokens, reusedTokens, decodeTokens }) => `${count(promptTokens)}${reusedTokens === 0 ? '' : ` after ${count(reusedTokens)} in the cache`} + ${count(decodeTokens)}`);
  const rows = [
    ['model', `${result.model.name}, ${result.model.bitsPerWeight === null ? 'dense' : `${result.model.bitsPerWeight.toFixed(3)} bits per weight`}`],
    ['backend', `${backend.name} (${backend.isa}, ${counted(backend.threads, 'thread')}, ${backend.precision}, ${backend.kvCache} cache)`],
    ['tokens, prompt + answer', `${turns.join('; ')}${workload.template ? '' : ' (no chat template)'}`],
    ['repetitions', `${method.repetitions}, windows of at least ${duration(method.windowMs)}`],
    ['meter', meter === null ? `none: ${result.meterProblem}` : `${meter.name}, ${meter.method}`],
    ...(meter === null
      ? []
      : [
          ['covers', `${meter.scope}: ${meter.total}`],
          ['idle power', idle.watts === null ? `unknown: ${idle.problem}` : `${figureText(idle.watts)} W (before ${watts(idle.before!.watts)}, after ${watts(idle.after!.watts)})`],
        ]),
    ...(stable === null ? [] : [['levelled off', stable.reached ? `after ${duration(stable.afterMs)}` : `not within ${duration(stable.afterMs)}`]]),
  ];
  return { header: ['run', 'value'], rows, right: [] };
}

/** Null where nothing is known of the board. */
export function boardRows({ board }: ProfileResult): Cells | null {
  if (board === null) return null;
  const { start, end } = board;
  const both = (of: (state: typeof start) => string): string[] => [of(start), of(end)];
  const megahertz = (now: number | null, limit: number | null): string => `${now === null ? unknown : `${Math.round(now)} MHz`}${limit === null ? '' : ` of ${Math.round(limit)}`}`;
  const clock = (state: typeof start, name: ClockState['name']): string => {
    const found = state.clocks.find((entry) => entry.name === name);
    return found === undefined ? unknown : megahertz(found.megahertz, found.limitMegahertz);
  };
  const zones = [...new Set([...start.temperatures, ...end.temperatures].map(({ zone }) => zone))];
  const rows = [
    ['power mode', ...both(({ powerMode }) => (powerMode === null ? unknown : `${powerMode.name ?? powerMode.id}${powerMode.inEffect === false ? ' (not in effect)' : ''}`))],
    ['power supply', ...both(({ onBattery }) => (onBattery === null ? unknown : onBattery ? 'battery' : 'mains'))],
    ['cores online', ...both(({ processor }) => `${processor.onlineCores ?? unknown}`)],
    ['processor clock', ...both(({ processor }) => megahertz(processor.megahertz, processor.limitMegahertz))],
    ['governor', ...both(({ processor }) => processor.governor ?? unknown)],
    ['GPU clock', ...both((state) => clock(state, 'gpu'))],
    ['memory clock', ...both((state) => clock(state, 'memory'))],
    ['throttling', ...both(({ throttling }) => (throttling.now === null ? 'not known' : throttling.now ? throttling.evidence.join(', ') : 'no'))],
    ...zones.map((zone) => [`temperature, ${zone}`, ...both(({ temperatures }) => {
      const found = temperatures.find((entry) => entry.zone === zone);
      return found === undefined ? unknown : `${found.celsius.toFixed(1)} °C`;
    })]),
  ];
  return { header: [board.name, 'at the start', 'at the end'], rows: rows.filter((row) => row.slice(1).some((cell) => cell !== unknown)), right: [] };
}

export function windowRows({ windows }: ProfileResult): Cells {
  const row = (window: ProfileWindow): string[] => {
    const seconds = (window.endMs - window.startMs) / 1000;
    const energy: Figure | null = window.energy === null ? null : { value: window.energy.joules / window.tokens, uncertainty: window.energy.uncertainty / window.tokens };
    return [
      `${window.repetition + 1}`,
      window.phase,
      `${window.turn + 1}`,
      `${seconds.toFixed(2)} s`,
      count(window.tokens),
      plainNumber(window.tokens / seconds),
      jouleText(energy),
      watts(window.energy?.averageWatts ?? null),
      window.celsius === null ? unknown : `${window.celsius.toFixed(1)} °C`,
      [...window.problems, ...(window.energyProblem === null ? [] : [window.energyProblem])].join('; ') || 'good',
    ];
  };
  return { header: ['repetition', 'phase', 'turn', 'time', 'tokens', 'tokens/s', 'energy/token', 'average', 'hottest', 'state'], rows: windows.map(row), right: [0, 2, 3, 4, 5, 6, 7, 8] };
}

export function comparisonRows({ figures }: ProfileComparison): Cells {
  const value = ({ unit }: ComparedFigure, figure: Figure | null): string => {
    if (figure === null) return unknown;
    if (unit === 'J/token') return jouleText(figure);
    return unit === 'bytes' ? bytes(figure.value) : `${figureText(figure)}${unit === 'W' ? ' W' : ''}`;
  };
  const verdict = ({ differs, a, b }: ComparedFigure): string => {
    if (a === null || b === null) return 'not measured in both';
    return differs === null ? '' : differs ? 'differs' : 'within the intervals';
  };
  return {
    header: ['figure', 'first', 'second', 'second / first', 'difference'],
    rows: figures.map((figure) => [`${figure.name}${figure.unit === 'tokens/s' ? ', tokens/s' : ''}`, value(figure, figure.a), value(figure, figure.b), figureText(figure.ratio), verdict(figure)]),
    right: [1, 2, 3],
  };
}
