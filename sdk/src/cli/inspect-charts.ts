/**
 * The charts of the inspect page as inline SVG. Colours are variables of the page, so that they follow its light or dark
 * scheme; every chart has a title and a description, and every mark a title with its value.
 */
import { rolesOf, type InspectedBlock } from '../inspect-blocks.js';
import { roleTitles } from './inspect-tables.js';
import { Markup, markup } from './markup.js';

const labelWidth = 64;
const plotWidth = 896;
const font = 'font-size="11"';

interface Frame {
  id: string;
  title: string;
  description: string;
  height: number;
}

function chart({ id, title, description, height }: Frame, content: Markup[]): Markup {
  return markup`<svg role="img" aria-labelledby="${id}-title ${id}-description" viewBox="0 0 ${labelWidth + plotWidth} ${height}">
<title id="${id}-title">${title}</title>
<desc id="${id}-description">${description}</desc>
${content}
</svg>`;
}

const text = (x: number, y: number, anchor: string, content: string | number): Markup =>
  markup`<text x="${place(x)}" y="${place(y)}" text-anchor="${anchor}" ${new Markup(font)}>${content}</text>\n`;

/** Coordinates to a hundredth. */
function place(value: number): number {
  return Math.round(value * 100) / 100;
}

/** Labels of the blocks below a plot; every so many that they do not touch. */
function blockLabels(blocks: readonly InspectedBlock[], y: number): Markup[] {
  const step = plotWidth / blocks.length;
  const every = Math.max(1, Math.ceil(24 / step));
  return blocks.flatMap(({ index }, n) => (n % every === 0 ? [text(labelWidth + (n + 0.5) * step, y, 'middle', index)] : []));
}

/** Bits per block (columns) and matrix (rows), darker for more. */
export function bitsChart(blocks: readonly InspectedBlock[]): Markup {
  const rowHeight = 26;
  const step = plotWidth / blocks.length;
  const roles = rolesOf(blocks);
  const all = blocks.flatMap(({ bits }) => roles.map((role) => bits[role]!));
  const [least, most] = [Math.min(...all), Math.max(...all)];
  const cells = roles.flatMap((role, row) => [
    text(labelWidth - 8, row * rowHeight + 17, 'end', roleTitles[role]),
    ...blocks.map(({ index, bits }, column) => {
      const strength = most === least ? 0.5 : (bits[role]! - least) / (most - least);
      const [x, y] = [place(labelWidth + column * step), row * rowHeight];
      const label = step >= 14 ? text(x + step / 2, y + 17, 'middle', bits[role]!) : '';
      const strong = strength > 0.5 ? 'strong' : 'weak';
      return markup`<g class="cell ${strong}"><title>${`block ${index}, ${roleTitles[role]}: ${bits[role]} bits`}</title><rect x="${x}" y="${y}" width="${place(Math.max(0.5, step - 1))}" height="${rowHeight - 1}" fill-opacity="${place(0.12 + 0.88 * strength)}"/>${label}</g>\n`;
    }),
  ]);
  const bottom = roles.length * rowHeight;
  return chart(
    {
      id: 'bits',
      title: 'Bits per block and matrix',
      description: `A column per block, a row per matrix; from ${least} to ${most} bits, the most in the strongest colour.`,
      height: bottom + 22,
    },
    [...cells, ...blockLabels(blocks, bottom + 15)],
  );
}

/** A bar per block. `format` makes the label of a value. */
export function blockBars(
  blocks: readonly InspectedBlock[],
  of: (block: InspectedBlock) => number | null,
  { id, title, what, format }: { id: string; title: string; what: string; format: (value: number) => string },
): Markup {
  const [top, height] = [10, 130];
  const bottom = top + height;
  const step = plotWidth / blocks.length;
  const values = blocks.map((block) => of(block) ?? 0);
  const scale = roundUp(Math.max(...values));
  const grid = [0, 0.5, 1].map((part) => {
    const y = place(bottom - part * height);
    return markup`<line class="grid" x1="${labelWidth}" x2="${labelWidth + plotWidth}" y1="${y}" y2="${y}"/>${text(labelWidth - 8, y + 4, 'end', format(part * scale))}`;
  });
  const bars = blocks.map((block, n) => {
    const value = of(block);
    const size = scale === 0 ? 0 : (Math.max(0, values[n]!) / scale) * height;
    return markup`<rect class="bar" x="${place(labelWidth + n * step + step * 0.15)}" y="${place(bottom - size)}" width="${place(step * 0.7)}" height="${place(size)}"><title>${`block ${block.index}: ${value === null ? 'not known' : format(value)}`}</title></rect>\n`;
  });
  const worst = blocks[values.indexOf(Math.max(...values))]!;
  return chart(
    { id, title, description: `${what} One bar per block; the largest is block ${worst.index} with ${format(of(worst) ?? 0)}.`, height: bottom + 22 },
    [...grid, ...bars, ...blockLabels(blocks, bottom + 15)],
  );
}

/** The next number of 1, 2, 2.5 or 5 times a power of ten; 0 for what is not positive. */
export function roundUp(value: number): number {
  if (!(value > 0) || !Number.isFinite(value)) return 0;
  const unit = 10 ** Math.floor(Math.log10(value));
  return (([1, 2, 2.5, 5].find((factor) => value <= factor * unit * (1 + 1e-9)) ?? 10) * unit);
}

/** Parts of a whole as one bar; their colours are numbered as in the legend. */
export function shareBar(parts: readonly { name: string; value: number; label: string }[]): Markup {
  const whole = parts.reduce((sum, { value }) => sum + value, 0);
  let x = 0;
  const width = labelWidth + plotWidth;
  const pieces = parts.map(({ name, value, label }, n) => {
    const size = whole === 0 ? 0 : (value / whole) * width;
    const piece = markup`<rect class="piece-${n}" x="${place(x)}" y="0" width="${place(size)}" height="32"><title>${`${name}: ${label}, ${((100 * value) / (whole || 1)).toFixed(1)} %`}</title></rect>\n`;
    x += size;
    return piece;
  });
  const description = parts.map(({ name, label }) => `${name} ${label}`).join(', ');
  return chart({ id: 'size', title: 'Bytes of the parts', description: `${description}.`, height: 32 }, pieces);
}
