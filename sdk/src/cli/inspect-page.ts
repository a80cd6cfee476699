/** The page of `inspect --html`: one self-contained file, without scripts and without anything from elsewhere. */
import { basename } from 'node:path';
import type { AuditResult } from '../audit.js';
import type { JsonObject } from '../checkpoint/json-file.js';
import type { InspectResult } from '../inspect.js';
import { bitsChart, blockBars, shareBar } from './inspect-charts.js';
import { pageStyle } from './inspect-page-style.js';
import { auditRows, blockRows, nats, parts, properties, share, tensorRows } from './inspect-tables.js';
import { Markup, markup } from './markup.js';
import type { OutputKind } from './output-file.js';
import { asTable, page, pageMark, tableOf } from './page.js';
import { bytes, count } from './quantities.js';

const generator = 'shiftadd inspect';

export const inspectPageKind: OutputKind = { mark: pageMark(generator), noun: 'page of shiftadd inspect', example: 'report.html' };

export function inspectPage(result: InspectResult, audit: AuditResult): string {
  const name = basename(result.path);
  const body = markup`<header>
<h1>${name}</h1>
<p class="facts">${headline(result)}</p>
<p class="path">${result.path}</p>
</header>
${bitsSection(result)}
${errorSection(result)}
${sizeSection(result)}
${auditSection(audit)}
<section><h2>Properties</h2>${tableOf(properties(result), 'Properties of the model')}${recordTable(result)}</section>
<section><h2>Tensors</h2>${tableOf(tensorRows(result, true), 'All tensors')}</section>`;
  return page({ generator, title: `${name}: a shiftadd model`, style: pageStyle, body });
}

function headline(result: InspectResult): string {
  return [
    `${count(result.parameters)} parameters`,
    `${result.layers} blocks`,
    result.bitsPerWeight === null ? 'dense' : `${result.bitsPerWeight.toFixed(3)} bits per weight`,
    bytes(result.bytes.total),
  ].join(' · ');
}

function bitsSection(result: InspectResult): Markup {
  return markup`<section><h2>Bits</h2>
<figure>${bitsChart(result.blocks)}<figcaption>${result.packed ? 'Bit-planes of each matrix' : 'Bits of each element'}, block by block from the left.</figcaption></figure>
${asTable(blockRows(result), 'Bits and errors of every block')}</section>`;
}

function errorSection({ blocks, packed }: InspectResult): Markup {
  const figures = [];
  if (blocks.some(({ outputError }) => outputError !== null)) {
    const what = 'Mean over the matrices of the share of the output that is lost on the calibration text.';
    const chart = blockBars(blocks, (block) => block.outputError, { id: 'error', title: 'Output error per block', what, format: share });
    figures.push(markup`<figure>${chart}<figcaption>Output error: ${what}</figcaption></figure>`);
  }
  if (blocks.some(({ kl }) => kl !== null)) {
    const what = 'How far the predictions move when one matrix alone is packed, in nats per token, summed over the matrices.';
    const chart = blockBars(blocks, (block) => block.kl, { id: 'kl', title: 'KL divergence per block', what, format: nats });
    figures.push(markup`<figure>${chart}<figcaption>Sensitivity: ${what}</figcaption></figure>`);
  }
  if (figures.length === 0) {
    const why = packed ? 'This folder records no errors; models that are quantized with this version do.' : 'A dense model has none.';
    return markup`<section><h2>Errors</h2><p>${why}</p></section>`;
  }
  return markup`<section><h2>Errors</h2>${figures}<p>The table above has the numbers.</p></section>`;
}

function sizeSection(result: InspectResult): Markup {
  const { linearLayers, embedding, head, norms, tokenizer } = result.bytes;
  const pieces = [
    { name: 'linear layers', value: linearLayers },
    { name: result.tiedHead ? 'embedding and head' : 'embedding', value: embedding },
    { name: 'head', value: head },
    { name: 'norms', value: norms },
    { name: 'tokenizer files', value: tokenizer },
  ]
    .filter(({ value }) => value > 0)
    .map((piece) => ({ ...piece, label: bytes(piece.value) }));
  const legend = pieces.map(({ name, label }, n) => markup`<li><span class="swatch piece-${n}" aria-hidden="true"></span>${name} ${label}</li>`);
  return markup`<section><h2>Size</h2>
<figure>${shareBar(pieces)}<ul class="legend">${legend}</ul></figure>
${asTable(parts(result), 'Bytes of the parts')}</section>`;
}

function auditSection(audit: AuditResult): Markup {
  const notes = audit.notes.map((note) => markup`<li>${note}</li>`);
  return markup`<section><h2>What one token costs</h2>
${tableOf(auditRows(audit), 'Operations of one decoded token; energies are estimates in microjoules')}
<ul class="notes">${notes}</ul></section>`;
}

/** What the quantizer recorded, as it stands in config.json. */
function recordTable({ calibration, source }: InspectResult): Markup {
  const entries = [
    ['source', source],
    ['calibration', calibration],
  ] as const;
  const rows = entries.flatMap(([title, record]) => Object.entries(record ?? ({} as JsonObject)).map(([key, value]) => [`${title}: ${key}`, plain(value)]));
  return rows.length === 0 ? new Markup('') : tableOf({ header: ['record', 'value'], rows, right: [] }, 'How the folder was made');
}

function plain(value: unknown): string {
  return typeof value === 'string' ? value : (JSON.stringify(value) ?? '');
}
