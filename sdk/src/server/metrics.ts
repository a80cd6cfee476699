/** What the server has done so far, for Prometheus. */
import type { GenerationResult } from '../run.js';
import { metricText, type Metric } from '../devices/prometheus.js';
import type { Slots } from './slots.js';

export interface MetricsSource {
  slots: Slots;
  info: Readonly<Record<string, string>>;
  /** Joules since the start while requests ran; null without a meter. */
  joules(): number | null;
  memory(): { weightsBytes: number; gpuBytes: number | null };
}

export class Metrics {
  private readonly requests = new Map<string, { route: string; status: number; count: number }>();
  private readonly tokens = { prompt: 0, cached: 0, completion: 0 };
  private readonly seconds = { prompt: 0, decode: 0 };
  private cancelled = 0;

  constructor(private readonly source: MetricsSource) {}

  request(route: string, status: number): void {
    if (status === 499) this.cancelled++;
    const key = `${status} ${route}`;
    const entry = this.requests.get(key) ?? { route, status, count: 0 };
    entry.count++;
    this.requests.set(key, entry);
  }

  /** Of a finished answer. */
  answer(result: GenerationResult): void {
    const { promptTokens, cachedPromptTokens, completionTokens } = result.usage;
    this.tokens.prompt += promptTokens - cachedPromptTokens;
    this.tokens.cached += cachedPromptTokens;
    this.tokens.completion += completionTokens;
    this.seconds.prompt += result.timings.promptMs / 1000;
    this.seconds.decode += result.timings.decodeMs / 1000;
  }

  text(): string {
    const { slots, info, joules, memory } = this.source;
    const gauge = (name: string, help: string, value: number | null): Metric => ({ name: `shiftadd_${name}`, help, type: 'gauge', samples: [{ labels: {}, value }] });
    const counter = (name: string, help: string, samples: Metric['samples']): Metric => ({ name: `shiftadd_${name}_total`, help, type: 'counter', samples });
    const kinds = (counts: Readonly<Record<string, number>>, label: string): Metric['samples'] => Object.entries(counts).map(([kind, value]) => ({ labels: { [label]: kind }, value }));
    const { weightsBytes, gpuBytes } = memory();
    const metrics: Metric[] = [
      { name: 'shiftadd_build_info', help: 'Version, model and backend.', type: 'gauge', samples: [{ labels: info, value: 1 }] },
      counter('requests', 'Requests that were answered, by route and status; 499: the client left.', [...this.requests.values()].map(({ route, status, count }) => ({ labels: { route, status: String(status) }, value: count }))),
      counter('cancelled', 'Requests whose client left before the answer was whole.', [{ labels: {}, value: this.cancelled }]),
      counter('tokens', 'Tokens of finished answers: of prompts computed, of prompts found in a cache, generated.', kinds(this.tokens, 'kind')),
      counter('seconds', 'Time that finished answers took, those that ran beside each other all counted.', kinds(this.seconds, 'phase')),
      counter('joules', 'Energy within the scope of the meter while requests ran.', [{ labels: {}, value: joules() }]),
      gauge('running', 'Requests that run.', slots.running),
      gauge('queue_length', 'Requests that wait.', slots.waiting),
      gauge('parallel', 'Requests that may run at once.', slots.parallel),
      gauge('queue_limit', 'Requests that may wait.', slots.mostWaiting),
      gauge('weights_bytes', 'Weights in memory.', weightsBytes),
      gauge('gpu_bytes', 'Of the model on the GPU.', gpuBytes),
      gauge('resident_bytes', 'Memory that the process has now.', process.memoryUsage.rss()),
      gauge('resident_peak_bytes', 'The most that it has had.', process.resourceUsage().maxRSS * 1024),
    ];
    return metrics.map(metricText).join('');
  }
}
