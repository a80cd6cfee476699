/** Streams text that may turn into a tool call: what could be the beginning of one is held back until it is certain. */

const marks = ['<tool_call>', '[TOOL_CALLS]', '<|python_tag|>'];
/** Marks that are special tokens are no part of the text; then the call itself comes first. */
const objects = ['{"name"', '[{"name"', '{"parameters"', '{"arguments"'];

export class CallGuard {
  private held = '';
  private isCall = false;

  /** The part of the text so far that certainly is no call. */
  push(text: string): string {
    this.held += text;
    if (this.isCall) return '';
    for (let at = 0; at < this.held.length; at++) {
      if (!/[\s<[{]/.test(this.held[at]!)) continue;
      const verdict = beginsCall(this.held.slice(at));
      if (verdict === 'no') continue;
      this.isCall = verdict === 'yes';
      return this.cut(at);
    }
    return this.cut(this.held.length);
  }

  /** What was held back; it is to be shown when the answer has no call. */
  end(): string {
    return this.cut(this.held.length);
  }

  private cut(at: number): string {
    const shown = this.held.slice(0, at);
    this.held = this.held.slice(at);
    return shown;
  }
}

/** Whether a text begins a call, or would with more of it. White space in front belongs to it. */
function beginsCall(text: string): 'yes' | 'no' | 'open' {
  const rest = text.trimStart();
  const dense = rest.slice(0, 200).replace(/\s+/g, '');
  if (marks.some((mark) => rest.startsWith(mark)) || objects.some((opening) => dense.startsWith(opening))) return 'yes';
  return marks.some((mark) => mark.startsWith(rest)) || objects.some((opening) => opening.startsWith(dense)) ? 'open' : 'no';
}
