/** The panel of facts: the model, how fast it answers, what memory it takes and what runs it. */
import { bytes, count, duration } from '../sdk/src/cli/quantities.js';
import type { GenerationResult } from '../sdk/src/run.js';
import { element, make } from './element.js';
import type { BrowserModel } from './sdk-contract.js';

/** An answer while it grows, by the page's own clock. */
export interface LiveSpeed {
  tokens: number;
  /** Null until there are two tokens. */
  tokensPerSecond: number | null;
  firstTokenMs: number | null;
}

type Facts = [term: string, value: string][];

export class StatusPanel {
  private readonly speed = element('speed', HTMLSpanElement);

  showModel({ info, backend, contextSize }: BrowserModel): void {
    element('model-name', HTMLParagraphElement).textContent = info.name;
    fill('model-facts', [
      ['Architecture', info.architecture],
      ['Parameters', `${count(Math.round(info.parameters / 1e6))} million`],
      ['Layers', count(info.layers)],
      ['Weights', info.packed && info.bitsPerWeight !== null ? `${info.bitsPerWeight.toFixed(2)} bits each` : 'not packed'],
      ['Files', bytes(info.bytes.total)],
      ['Context', `${count(contextSize)} tokens`],
    ]);
    fill('backend-facts', [
      ['Name', backend.name],
      ['Instruction set', backend.isa],
      ['Threads', count(backend.threads)],
      ['Shared memory', crossOriginIsolated ? 'allowed' : 'not allowed: the page is not cross-origin isolated'],
      ['Precision', backend.precision],
      ['Key-value cache', backend.kvCache],
    ]);
    element('attempts', HTMLUListElement).replaceChildren(
      ...backend.attempts.map(({ name, ok, reason }) => {
        const entry = make('li', ok ? 'used' : 'unused');
        entry.append(make('strong', '', name), ok ? ' is used' : ' is not used', reason === null ? '' : `: ${reason}`);
        return entry;
      }),
    );
    this.speed.textContent = '–';
    fill('speed-facts', []);
    fill('memory-facts', []);
  }

  showLive({ tokens, tokensPerSecond, firstTokenMs }: LiveSpeed): void {
    if (tokensPerSecond !== null) this.speed.textContent = tokensPerSecond.toFixed(1);
    fill('speed-facts', [
      ['Time to first token', firstTokenMs === null ? '…' : duration(firstTokenMs)],
      ['Answer', `${count(tokens)} tokens`],
    ]);
  }

  showResult({ timings, usage }: GenerationResult): void {
    this.speed.textContent = timings.tokensPerSecond?.toFixed(1) ?? '–';
    fill('speed-facts', [
      ['Time to first token', timings.firstTokenMs === null ? '–' : duration(timings.firstTokenMs)],
      ['Prompt', `${count(usage.promptTokens)} tokens`],
      ['Answer', `${count(usage.completionTokens)} tokens`],
    ]);
  }

  async showMemory(model: BrowserModel): Promise<void> {
    const memory = await model.memory();
    fill('memory-facts', [
      ['Weights', bytes(memory.weightsBytes)],
      ['WebAssembly in all', bytes(memory.wasmBytes)],
    ]);
  }
}

function fill(id: string, facts: Facts): void {
  const rows = facts.map(([term, value]) => {
    const row = make('div');
    row.append(make('dt', '', term), make('dd', '', value));
    return row;
  });
  element(id, HTMLDListElement).replaceChildren(...rows);
}
