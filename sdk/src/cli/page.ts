/** The frame of a page that a command writes: one self-contained file, without scripts and without anything from elsewhere. */
import type { Cells } from './inspect-tables.js';
import { Markup, markup } from './markup.js';

/** By this a file is known as a page that may be written again. */
export function pageMark(generator: string): string {
  return `<meta name="generator" content="${generator}">`;
}

/** Nothing runs and nothing is fetched, even if a browser is told to. */
const policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

export interface PageParts {
  /** The command. */
  generator: string;
  title: string;
  style: string;
  body: Markup;
}

export function page({ generator, title, style, body }: PageParts): string {
  return markup`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
${new Markup(pageMark(generator))}
<meta http-equiv="Content-Security-Policy" content="${new Markup(policy)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title>
<style>${new Markup(style)}</style>
</head>
<body>
<main>
${body}
</main>
</body>
</html>
`.text;
}

export function tableOf({ header, rows, right }: Cells, caption: string): Markup {
  const kind = (column: number): Markup => new Markup(right.includes(column) ? ' class="number"' : '');
  const head = header.map((cell, column) => markup`<th scope="col"${kind(column)}>${cell}</th>`);
  const body = rows.map(
    (row) =>
      markup`<tr>${row.map((cell, column) => (column === 0 ? markup`<th scope="row"${kind(0)}>${cell}</th>` : markup`<td${kind(column)}>${cell}</td>`))}</tr>\n`,
  );
  return markup`<div class="wide" tabindex="0" role="group" aria-label="${caption}"><table><caption>${caption}</caption><thead><tr>${head}</tr></thead><tbody>
${body}</tbody></table></div>`;
}

/** The numbers of a chart, for those who cannot or do not want to look at it. */
export function asTable(cells: Cells, caption: string): Markup {
  return markup`<details><summary>The numbers as a table</summary>${tableOf(cells, caption)}</details>`;
}
