// The summary as a Markdown table that is aligned on a terminal too.

const modelColumns = [
  { title: 'load ms', metric: 'loadMs', digits: 0 },
  { title: 'first text ms', metric: 'firstTextMs', digits: 0 },
  { title: 'prefill 128', metric: 'prefillMediumTokensPerSecond' },
  { title: 'prefill 512', metric: 'prefillLongTokensPerSecond' },
  { title: 'decode 16', metric: 'decodeShortTokensPerSecond' },
  { title: 'decode 512', metric: 'decodeLongTokensPerSecond' },
  { title: 'GB/s', metric: 'gigabytesPerSecond' },
  { title: 'of reading', metric: 'readShare', digits: 2 },
  { title: 'peak RSS MB', metric: 'peakRssBytes', scale: 1e-6, digits: 0 },
];

/**
 * @param {ReturnType<typeof import('./summary.mjs').summarize>} summary
 * @param {{ title: string, metric: string, digits?: number, scale?: number }[]} [columns]
 */
export function formatTable(summary, columns = modelColumns) {
  const rows = [['model', 'threads', 'engine', ...columns.map(({ title }) => title)]];
  for (const { model, threads, contenders, ratios } of summary) {
    for (const { label, metrics } of contenders) {
      rows.push([model, String(threads), label, ...columns.map(({ metric, scale = 1, digits }) => number(metrics[metric]?.median, scale, digits))]);
    }
    for (const { ours, peer, metrics } of ratios) {
      rows.push([model, String(threads), `${ours} / ${peer}`, ...columns.map(({ metric }) => number(metrics[metric], 1, 2))]);
    }
  }
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const pad = (row) => `| ${row.map((cell, column) => (isText(column) ? cell.padEnd(widths[column]) : cell.padStart(widths[column]))).join(' | ')} |`;
  const rule = `| ${widths.map((width, column) => (isText(column) ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`)).join(' | ')} |`;
  return [pad(rows[0]), rule, ...rows.slice(1).map(pad)].join('\n');
}

/** Model and engine; everything else is a number. */
const isText = (column) => column === 0 || column === 2;

/** With three digits that count unless `digits` after the point are asked for. */
function number(value, scale, digits) {
  if (value === undefined) return '';
  const scaled = value * scale;
  return scaled.toFixed(digits ?? (scaled >= 100 ? 0 : scaled >= 10 ? 1 : 2));
}
