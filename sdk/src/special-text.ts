/**
 * Keeps the text of special tokens from becoming special tokens: each occurrence is replaced by a mark of
 * noncharacters, which survives chat templates and the search for special tokens, and is written back just before the
 * text is normalized and split. A mark typed by a user only ever stands for plain text.
 */
const open = '\uFDD0';
const close = '\uFDD1';

export class SpecialText {
  private readonly pattern: RegExp | null;

  constructor(private readonly contents: string[]) {
    const longestFirst = [...contents].filter((text) => text.length > 0).sort((a, b) => b.length - a.length);
    const escaped = longestFirst.map((text) => text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&'));
    this.pattern = escaped.length === 0 ? null : new RegExp([...escaped, open].join('|'), 'gu');
  }

  /** The text with every special token (and every opening mark) replaced by a mark. */
  guard(text: string): string {
    if (this.pattern === null) return text;
    return text.replace(
      this.pattern,
      (found) => `${open}${found === open ? '' : this.contents.indexOf(found)}${close}`,
    );
  }

  /** True when `guard` put a mark into this text. */
  marks(text: string): boolean {
    return text.includes(open);
  }

  /** True when the text is exactly a special token. */
  isSpecial(text: string): boolean {
    return this.contents.includes(text);
  }

  /** Inverse of `guard`. */
  restore(text: string): string {
    if (!text.includes(open)) return text;
    return text.replace(/\uFDD0(\d*)\uFDD1/gu, (mark, index: string) =>
      index === '' ? open : (this.contents[Number(index)] ?? mark),
    );
  }
}
