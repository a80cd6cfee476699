/** The report of `profile --html`: one self-contained file, without scripts and without anything from elsewhere. */
import type { ProfileResult } from '../index.js';
import { pageStyle } from './inspect-page-style.js';
import type { Cells } from './inspect-tables.js';
import { Markup, markup } from './markup.js';
import type { OutputKind } from './output-file.js';
import { asTable, page, pageMark, tableOf } from './page.js';
import { type Line, extent, legend, timeChart } from './profile-charts.js';
import { boardRows, figureText, jouleText, memoryRows, phaseRows, plainNumber, railRows, runRows, windowRows } from './profile-tables.js';
import { bytes, count } from './quantities.js';

const generator = 'shiftadd profile';

export const profilePageKind: OutputKind = { mark: pageMark(generator), noun: 'report of shiftadd profile', example: 'report.html' };

/** Phases are shaded; their colours keep lines and text readable in both schemes. */
const profileStyle = `${pageStyle}
:root { --idle: #e9e9e4; --prefill: #f6e3cf; --decode: #d8e6f5; --bad: #a32020; }
@media (prefers-color-scheme: dark) { :root { --idle: #262624; --prefill: #4a3419; --decode: #1d3550; --bad: #ff9d90; } }
.phase-idle { fill: var(--idle); background: var(--idle); }
.phase-prefill { fill: var(--prefill); background: var(--prefill); }
.phase-decode { fill: var(--decode); background: var(--decode); }
.chart { display: grid; grid-template-columns: 4.6rem 1fr; font-size: 0.8rem; color: var(--quiet); }
.chart svg { height: 14rem; overflow: visible; }
.levels { display: flex; flex-direction: column; justify-content: space-between; text-align: right; padding-right: 0.5rem; margin: -0.6em 0; white-space: nowrap; }
.times { grid-column: 2; display: flex; justify-content: space-between; padding-top: 0.3rem; }
.grid, .line { vector-effect: non-scaling-stroke; }
.line { fill: none; stroke-width: 1.6px; stroke-linejoin: round; }
.line-0 { stroke: var(--piece-0); background: var(--piece-0); }
.line-1 { stroke: var(--piece-1); background: var(--piece-1); }
.line-2 { stroke: var(--piece-2); background: var(--piece-2); }
.line-3 { stroke: var(--piece-3); background: var(--piece-3); }
.line-4 { stroke: var(--piece-4); background: var(--piece-4); }
.stroke { height: 0.25em; vertical-align: middle; }
.swatch:not(.stroke) { border: 1px solid var(--line); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 10.5rem), 1fr)); gap: 0.8rem; margin: 1.2rem 0; padding: 0; list-style: none; }
.cards li { border: 1px solid var(--line); border-radius: 6px; padding: 0.6rem 0.8rem; }
.cards b { display: block; font-size: 1.1rem; font-weight: 600; white-space: nowrap; font-variant-numeric: tabular-nums; }
.cards span { color: var(--quiet); font-size: 0.9em; }
.invalid { border-left: 4px solid var(--bad); padding: 0.3rem 0.8rem; color: var(--bad); }
`;

/** Colours that can be told apart are few: the rails that draw most are drawn, the table has all. */
const mostRails = 4;

export function profilePage(result: ProfileResult): string {
  const { model, board } = result;
  const body = markup`<header>
<h1>What a token of ${model.name} costs</h1>
<p class="facts">${headline(result)}</p>
<p class="path">${[board?.name ?? 'unknown board', `measured ${result.startedAt}`].join(' · ')}</p>
</header>
${result.valid ? '' : markup`<p class="invalid">This run is not valid: ${result.problems.join('; ')}.</p>`}
${cards(result)}
<section><h2>Figures</h2>${tableOf(phaseRows(result), 'Prefill and decode, each with 95 % intervals')}${unresolved(result)}</section>
${powerSection(result)}
${memorySection(result)}
${tokenSection(result)}
<section><h2>Windows</h2>${tableOf(windowRows(result), 'Every window that was measured')}</section>
<section><h2>Run and board</h2>${tableOf(runRows(result), 'What was run, and with what it was measured')}${optional(boardRows(result), 'The board at the start and at the end')}</section>
<section><h2>Method and its limits</h2><ul class="notes">${[...result.method.statement, ...result.notes].map((line) => markup`<li>${line}</li>`)}</ul></section>`;
  return page({ generator, title: `${model.name}: a shiftadd profile`, style: profileStyle, body });
}

function headline({ model, backend, meter }: ProfileResult): string {
  return [
    `${count(model.parameters)} parameters`,
    model.bitsPerWeight === null ? 'dense' : `${model.bitsPerWeight.toFixed(3)} bits per weight`,
    `${backend.name}, ${backend.isa}, ${backend.threads} ${backend.threads === 1 ? 'thread' : 'threads'}`,
    meter === null ? 'no energy meter' : `${meter.name}: ${meter.scope}`,
  ].join(' · ');
}

/** The few numbers that most readers came for. */
function cards({ decode, prefill, memory, idle }: ProfileResult): Markup {
  const entries: [string, string][] = [
    ['per generated token', jouleText(decode.energy.joulesPerToken)],
    ['of it above idle', jouleText(decode.energy.netJoulesPerToken)],
    ['per prompt token', jouleText(prefill.energy.joulesPerToken)],
    ['generated tokens per second', figureText(decode.tokensPerSecond)],
    ['idle power', idle.watts === null ? '-' : `${figureText(idle.watts)} W`],
    ['resident memory, peak', memory.residentPeakBytes === null ? '-' : bytes(memory.residentPeakBytes)],
  ];
  return markup`<ul class="cards">${entries.filter(([, value]) => value !== '-').map(([name, value]) => markup`<li><b>${value}</b><span>${name}</span></li>`)}</ul>`;
}

function unresolved({ prefill, decode }: ProfileResult): Markup {
  const lines = [prefill, decode].flatMap(({ name, energy }) => (energy.problem !== null ? [`${name}: no joules, ${energy.problem}.`] : energy.netProblem !== null ? [`${name}: no net energy, ${energy.netProblem}.`] : []));
  return lines.length === 0 ? new Markup('') : markup`<ul class="notes">${lines.map((line) => markup`<li>${line}</li>`)}</ul>`;
}

function optional(cells: Cells | null, caption: string): Markup {
  return cells === null ? new Markup('') : tableOf(cells, caption);
}

function endOf({ timeline }: ProfileResult): number {
  return Math.max(timeline.memory.atMs.at(-1) ?? 0, timeline.power.atMs.at(-1) ?? 0, timeline.phases.at(-1)?.endMs ?? 0, 1);
}

function powerSection(result: ProfileResult): Markup {
  const { meter, timeline } = result;
  if (meter === null || timeline.power.atMs.length === 0) {
    return markup`<section><h2>Power</h2><p>${meter === null ? `Not measured: ${result.meterProblem}.` : 'The meter gave no readings.'}</p></section>`;
  }
  const { atMs, watts, rails } = timeline.power;
  const most = (values: readonly (number | null)[]): number => extent(values)?.most ?? 0;
  const shown = [...rails].filter(({ name }) => name !== meter.total).sort((a, b) => most(b.watts) - most(a.watts)).slice(0, mostRails);
  const lines: Line[] = [
    { name: `total (${meter.total})`, colour: 0, atMs, values: watts },
    ...shown.map(({ name, watts: values }, i) => ({ name, colour: i + 1, atMs, values })),
  ];
  const range = extent(watts);
  const description = `${range === null ? 'No reading of the total.' : `From ${plainNumber(range.least)} to ${plainNumber(range.most)} watts.`} The table of rails has averages and peaks.`;
  return markup`<section><h2>Power</h2>
<figure>${timeChart({ id: 'power', title: 'Power over time', description, lines, phases: timeline.phases, endMs: endOf(result), format: (value) => `${plainNumber(value)} W` })}
${legend(lines, timeline.phases)}
<figcaption>Power of the ${meter.scope}, in watts.</figcaption></figure>
${optional(railRows(result), 'Power of the rails; those in the total are added')}</section>`;
}

function memorySection(result: ProfileResult): Markup {
  const { atMs, residentBytes, availableBytes } = result.timeline.memory;
  const lines: Line[] = [
    { name: 'resident memory of the process', colour: 0, atMs, values: residentBytes },
    { name: 'available memory of the machine', colour: 2, atMs, values: availableBytes },
  ].filter(({ values }) => values.some((value) => value !== null));
  const charts = lines.map((line, i) => {
    const { least, most } = extent(line.values)!;
    const description = `${line.name}: from ${bytes(least)} to ${bytes(most)}.`;
    return markup`<figure>${timeChart({ id: `memory-${i}`, title: line.name, description, lines: [line], phases: result.timeline.phases, endMs: endOf(result), format: bytes })}
${legend([line], result.timeline.phases)}</figure>`;
  });
  return markup`<section><h2>Memory</h2>
${charts}
${tableOf(memoryRows(result), 'Memory: what the engine accounts for, and what the system shows')}</section>`;
}

function tokenSection(result: ProfileResult): Markup {
  const { atMs, prefill, decode } = result.timeline.tokens;
  const lines: Line[] = [
    { name: 'tokens read', colour: 1, atMs, values: prefill },
    { name: 'tokens generated', colour: 0, atMs, values: decode },
  ];
  const cells: Cells = {
    header: ['phase', 'turn', 'repetition', 'from', 'to'],
    rows: result.timeline.phases.map(({ name, turn, repetition, startMs, endMs }) => [name, turn === null ? '-' : `${turn + 1}`, repetition === null ? '-' : `${repetition + 1}`, `${(startMs / 1000).toFixed(2)} s`, `${(endMs / 1000).toFixed(2)} s`]),
    right: [1, 2, 3, 4],
  };
  const charts = lines.map((line, i) => {
    const total = line.values.at(-1) ?? 0;
    return markup`<figure>${timeChart({ id: `tokens-${i}`, title: line.name, description: `${count(total)} tokens by the end, warm-up left out.`, lines: [line], phases: result.timeline.phases, endMs: endOf(result), format: (value) => count(Math.round(value)) })}
${legend([line], result.timeline.phases)}</figure>`;
  });
  return markup`<section><h2>Tokens</h2>
${charts}
${asTable(cells, 'When each phase ran')}</section>`;
}
