/** Keeps the marks of tool calls out of streamed text: what may be a call is held back until the answer is whole. */
import { callFormat, type CallFormat } from './call-format.js';

export class HeldCalls {
  private held = '';
  private isHolding: boolean;
  private sent = '';
  private readonly format: CallFormat;

  /** `demanded`: the answer is nothing but calls. */
  constructor(
    template: string | null,
    demanded: boolean,
    /** The text of ids with special tokens, which openers may be. */
    private readonly withSpecials: (tokens: number[]) => string,
  ) {
    this.format = callFormat(template);
    this.isHolding = demanded;
  }

  /** The part of a piece that can be shown. */
  push(text: string, tokens: number[]): string {
    this.held += text;
    if (this.isHolding) return '';
    const { opener, name } = this.format;
    const special = name === 'llama' ? '<|python_tag|>' : opener.trim();
    if (this.withSpecials(tokens).includes(special) && !text.includes(special)) this.isHolding = true;
    if (name === 'llama' && (this.sent + this.held).trimStart().startsWith('{')) this.isHolding = true;
    if (this.isHolding) return '';
    const at = this.held.indexOf(special);
    if (at !== -1) {
      this.isHolding = true;
      return this.show(this.held.slice(0, at).trimEnd().length);
    }
    return this.show(this.held.length - this.beginning(special));
  }

  /** What is left to show once the answer is known: of `text`, what has not been shown. */
  rest(text: string): string {
    return text.startsWith(this.sent) ? text.slice(this.sent.length) : '';
  }

  private show(length: number): string {
    // White space in front of a call is no part of the text.
    const shown = this.held.slice(0, length).replace(/\s+$/, '');
    this.held = this.held.slice(shown.length);
    this.sent += shown;
    return shown;
  }

  /** Length of the end of the held text that may begin the mark. */
  private beginning(mark: string): number {
    for (let length = Math.min(mark.length - 1, this.held.length); length > 0; length--) if (mark.startsWith(this.held.slice(-length))) return length;
    return 0;
  }
}
