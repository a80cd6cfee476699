/**
 * The charts of the profile page. Lines and shades are SVG that is stretched to the width of the page; labels are text beside
 * it, so that they have the same size on a phone. What a chart shows stands in a table too.
 */
import type { ProfileTimeline } from '../index.js';
import { roundUp } from './inspect-charts.js';
import { Markup, markup } from './markup.js';

const width = 1000;
const height = 200;
/** More points than pixels add nothing but bytes. */
const mostPoints = 600;

export interface Line {
  name: string;
  /** Number of its colour in the style of the page. */
  colour: number;
  atMs: readonly number[];
  values: readonly (number | null)[];
}

export interface ChartParts {
  id: string;
  title: string;
  /** One sentence: what the lines do. */
  description: string;
  lines: readonly Line[];
  phases: ProfileTimeline['phases'];
  endMs: number;
  /** A value as its label on the axis. */
  format: (value: number) => string;
}

/** The least and the largest known value; null without one. Not by spreading: a run may have 100,000 readings. */
export function extent(values: readonly (number | null)[]): { least: number; most: number } | null {
  let found: { least: number; most: number } | null = null;
  for (const value of values) {
    if (value === null) continue;
    found = found === null ? { least: value, most: value } : { least: Math.min(found.least, value), most: Math.max(found.most, value) };
  }
  return found;
}

export function timeChart({ id, title, description, lines, phases, endMs, format }: ChartParts): Markup {
  const top = roundUp(Math.max(...lines.map(({ values }) => extent(values)?.most ?? 0))) || 1;
  const x = (ms: number): number => place((ms / endMs) * width);
  const y = (value: number): number => place(height - (Math.max(0, value) / top) * height);
  const shades = phases.map(({ name, startMs, endMs: end }) => markup`<rect class="phase-${name}" x="${x(startMs)}" y="0" width="${place(x(end) - x(startMs))}" height="${height}"/>`);
  const grid = [0, 0.5, 1].map((part) => markup`<line class="grid" x1="0" x2="${width}" y1="${place(height * part)}" y2="${place(height * part)}"/>`);
  const paths = lines.map(({ colour, atMs, values }) => markup`<path class="line line-${colour}" d="${pathOf(atMs, values, x, y)}"/>`);
  const levels = [1, 0.5, 0].map((part) => markup`<span>${format(top * part)}</span>`);
  return markup`<div class="chart">
<div class="levels" aria-hidden="true">${levels}</div>
<svg role="img" aria-labelledby="${id}-title ${id}-description" viewBox="0 0 ${width} ${height}" preserveAspectRatio="none">
<title id="${id}-title">${title}</title>
<desc id="${id}-description">${description}</desc>
${shades}${grid}${paths}
</svg>
<div class="times" aria-hidden="true">${timeLabels(endMs)}</div>
</div>`;
}

/** Gaps in the readings are gaps in the line. */
function pathOf(atMs: readonly number[], values: readonly (number | null)[], x: (ms: number) => number, y: (value: number) => number): string {
  let path = '';
  let drawing = false;
  for (const { ms, value } of thinned(atMs, values)) {
    if (value === null) {
      drawing = false;
      continue;
    }
    path += `${drawing ? 'L' : 'M'}${x(ms)} ${y(value)}`;
    drawing = true;
  }
  return path;
}

/** At most `mostPoints`: of each stretch the lowest and the highest value in their order, so that peaks stay. */
export function thinned(atMs: readonly number[], values: readonly (number | null)[]): { ms: number; value: number | null }[] {
  const points = atMs.map((ms, i) => ({ ms, value: values[i] ?? null }));
  const size = Math.ceil(points.length / (mostPoints / 2));
  if (size <= 2) return points;
  const chosen: { ms: number; value: number | null }[] = [];
  for (let from = 0; from < points.length; from += size) {
    const stretch = points.slice(from, from + size);
    const known = stretch.filter(({ value }) => value !== null);
    if (known.length === 0) {
      chosen.push(stretch[0]!);
      continue;
    }
    const low = known.reduce((a, b) => (b.value! < a.value! ? b : a));
    const high = known.reduce((a, b) => (b.value! > a.value! ? b : a));
    chosen.push(...(low === high ? [low] : low.ms < high.ms ? [low, high] : [high, low]));
  }
  return chosen;
}

function timeLabels(endMs: number): Markup[] {
  return [0, 0.25, 0.5, 0.75, 1].map((part) => markup`<span>${secondsText((endMs * part) / 1000)}</span>`);
}

function secondsText(seconds: number): string {
  if (seconds < 600) return `${seconds < 10 && seconds > 0 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  return `${Math.round(seconds / 60)} min`;
}

export function legend(lines: readonly Line[], phases: ProfileTimeline['phases']): Markup {
  const names = [...new Set(phases.map(({ name }) => name))];
  const items = [
    ...lines.map(({ name, colour }) => markup`<li><span class="swatch stroke line-${colour}" aria-hidden="true"></span>${name}</li>`),
    ...names.map((name) => markup`<li><span class="swatch phase-${name}" aria-hidden="true"></span>${name}</li>`),
  ];
  return markup`<ul class="legend">${items}</ul>`;
}

/** Coordinates to a tenth. */
function place(value: number): number {
  return Math.round(value * 10) / 10;
}
