/** HTML and SVG as tagged templates: what is filled in is escaped, unless it is markup itself. */

/** Markup that is safe to put into a page. */
export class Markup {
  constructor(readonly text: string) {}
  toString(): string {
    return this.text;
  }
}

type Filling = string | number | Markup | readonly (string | number | Markup)[];

const references: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

/**
 * Text as it may stand in an element or in a quoted attribute. Characters that HTML forbids, and those that turn the
 * direction of the text around and so disguise it, are replaced.
 */
export function escapeText(text: string): string {
  return text
    .replace(/[&<>"']/g, (character) => references[character]!)
    .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\ufdd0-\ufdef\ufffe\uffff]/g, '\ufffd');
}

function fill(value: Filling): string {
  if (value instanceof Markup) return value.text;
  if (typeof value === 'object') return value.map(fill).join('');
  return escapeText(String(value));
}

export function markup(strings: TemplateStringsArray, ...values: Filling[]): Markup {
  return new Markup(strings.map((part, index) => part + (index < values.length ? fill(values[index]!) : '')).join(''));
}
