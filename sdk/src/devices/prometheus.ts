/** Figures in the text format that Prometheus reads (version 0.0.4). */
import type { ProfileResult } from './profile-result.js';
import type { Measurement } from './profiler.js';

type Labels = Readonly<Record<string, string>>;

export interface Metric {
  name: string;
  help: string;
  type: 'gauge' | 'counter';
  samples: { labels: Labels; value: number | null }[];
}

/**
 * Of a profile, or of what a profiler has measured so far: joules, seconds and runs summed by name. What is unknown has no
 * sample. TypeError for anything else.
 */
export function toPrometheus(source: ProfileResult | readonly Measurement[]): string {
  const metrics = isProfile(source) ? profileMetrics(source) : Array.isArray(source) ? totals(source as readonly Measurement[]) : null;
  if (metrics === null) throw new TypeError('Expected a profile or the measurements of a profiler for source');
  return metrics.map(metricText).join('');
}

function isProfile(source: unknown): source is ProfileResult {
  return (source as { kind?: unknown } | null)?.kind === 'profile';
}

function profileMetrics({ model, backend, meter, prefill, decode, idle, memory, valid }: ProfileResult): Metric[] {
  const labels: Labels = { model: model.name, backend: backend.name, ...(meter === null ? {} : { meter: meter.name, scope: meter.scope }) };
  const gauge = (name: string, help: string, samples: Metric['samples']): Metric => ({ name: `shiftadd_${name}`, help, type: 'gauge', samples });
  const phases = (of: (phase: typeof decode) => number | null): Metric['samples'] => [prefill, decode].map((phase) => ({ labels: { ...labels, phase: phase.name }, value: of(phase) }));
  return [
    gauge('joules_per_token', 'Energy per token within the scope of the meter, idle power included.', phases(({ energy }) => energy.joulesPerToken?.value ?? null)),
    gauge('joules_per_token_uncertainty', 'Half of the 95 % interval of joules_per_token.', phases(({ energy }) => energy.joulesPerToken?.uncertainty ?? null)),
    gauge('net_joules_per_token', 'Energy per token less that of the idle machine.', phases(({ energy }) => energy.netJoulesPerToken?.value ?? null)),
    gauge('net_joules_per_token_uncertainty', 'Half of the 95 % interval of net_joules_per_token.', phases(({ energy }) => energy.netJoulesPerToken?.uncertainty ?? null)),
    gauge('tokens_per_second', 'Rate.', phases(({ tokensPerSecond }) => tokensPerSecond.value)),
    gauge('average_watts', 'Power of the total over the windows.', phases(({ energy }) => energy.averageWatts)),
    gauge('peak_watts', 'Highest reading of the total.', phases(({ energy }) => energy.peakWatts)),
    gauge('idle_watts', 'Power of the total with the model in memory and nothing running.', [{ labels, value: idle.watts?.value ?? null }]),
    gauge('resident_peak_bytes', 'The most that the process held in memory.', [{ labels, value: memory.residentPeakBytes }]),
    gauge('weights_bytes', 'Weights in memory.', [{ labels, value: memory.weightsBytes }]),
    gauge('kv_cache_bytes', 'Key-value cache in memory.', [{ labels, value: memory.kvCacheBytes }]),
    gauge('profile_valid', '1, or 0 when the board throttled, swapped or changed its power mode.', [{ labels, value: valid ? 1 : 0 }]),
  ];
}

function totals(measurements: readonly Measurement[]): Metric[] {
  const names = [...new Set(measurements.map(({ name }) => name))];
  // What was never measured has no sample: it is not zero.
  const measured = new Set(measurements.filter(({ energy }) => energy !== null).map(({ name }) => name));
  const sum = (of: (measurement: Measurement) => number): Metric['samples'] =>
    names.map((name) => ({ labels: { name }, value: measurements.filter((entry) => entry.name === name).reduce((total, entry) => total + of(entry), 0) }));
  const counter = (name: string, help: string, samples: Metric['samples']): Metric => ({ name: `shiftadd_measured_${name}_total`, help, type: 'counter', samples });
  return [
    counter('runs', 'Pieces of work that were measured.', sum(() => 1)),
    counter('unresolved_runs', 'Those whose energy is unknown and not in the joules.', sum(({ energy }) => (energy === null ? 1 : 0))),
    counter('seconds', 'Time that they took.', sum(({ seconds }) => seconds)),
    counter('joules', 'Energy within the scope of the meter meanwhile.', sum(({ energy }) => energy?.joules ?? 0).filter(({ labels }) => measured.has(labels['name']!))),
  ];
}

/** One metric; nothing when none of its samples is known. */
export function metricText({ name, help, type, samples }: Metric): string {
  const known = samples.filter(({ value }) => value !== null);
  if (known.length === 0) return '';
  const lines = known.map(({ labels, value }) => `${name}${labelText(labels)} ${value}`);
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join('\n')}\n`;
}

function labelText(labels: Labels): string {
  const entries = Object.entries(labels);
  return entries.length === 0 ? '' : `{${entries.map(([key, text]) => `${key}="${escaped(text)}"`).join(',')}}`;
}

function escaped(text: string): string {
  return text.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n');
}
