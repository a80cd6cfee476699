/**
 * Shows text of a model: paragraphs, fenced code, `code` and **strong** words. Only text nodes are made from it, so that
 * nothing a model writes can become markup.
 */
import { make } from './element.js';

interface Block {
  code: boolean;
  text: string;
}

/** Grows with an answer. Blocks that did not change keep their elements, so a selection in them survives. */
export class AnswerText {
  private shown: Block[] = [];

  constructor(private readonly host: HTMLElement) {}

  show(text: string): void {
    const blocks = readBlocks(text);
    let same = 0;
    while (same < blocks.length && same < this.shown.length && equal(blocks[same]!, this.shown[same]!)) same++;
    while (this.host.childElementCount > same) this.host.lastElementChild!.remove();
    this.host.append(...blocks.slice(same).map(draw));
    this.shown = blocks;
  }
}

function equal(a: Block, b: Block): boolean {
  return a.code === b.code && a.text === b.text;
}

function readBlocks(text: string): Block[] {
  const blocks: Block[] = [];
  let lines: string[] = [];
  let code = false;
  const close = (): void => {
    if (lines.length > 0) blocks.push({ code, text: lines.join('\n') });
    lines = [];
  };
  for (const line of text.trim().split('\n')) {
    const fence = /^\s*```/.test(line);
    if (fence || (!code && line.trim() === '')) close();
    else lines.push(line);
    if (fence) code = !code;
  }
  close();
  return blocks;
}

function draw({ code, text }: Block): HTMLElement {
  if (code) {
    const block = make('pre');
    block.tabIndex = 0; // long lines scroll, by keyboard too
    block.append(make('code', '', text));
    return block;
  }
  const paragraph = make('p');
  for (const piece of text.split(/(`[^`\n]+`|\*\*[^*\n]+\*\*)/)) {
    if (/^`.+`$/.test(piece)) paragraph.append(make('code', '', piece.slice(1, -1)));
    else if (/^\*\*.+\*\*$/.test(piece)) paragraph.append(make('strong', '', piece.slice(2, -2)));
    else paragraph.append(piece);
  }
  return paragraph;
}
