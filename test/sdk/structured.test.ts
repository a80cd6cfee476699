// Grammars of schemas against independent validators: what may be written parses and validates, what is valid may be written.
import t from 'tap';
import { loadNativeEngine } from '../../sdk/src/engine-native.js';
import { schemaCases } from './structured-schemas.js';
import { openForms, randomNumbers, validator, walk } from './structured-forms.js';

const forms = await openForms(loadNativeEngine());
t.teardown(() => forms.model.close());
const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
const spaced = (value: any): string => {
  if (Array.isArray(value)) return `[${value.map(spaced).join(', ')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  return `{${Object.entries(value).map(([key, entry]) => `${JSON.stringify(key)}: ${spaced(entry)}`).join(', ')}}`;
};
// Some characters end a line of TAP.
const shown = (text: string): string => text.replace(/[^ -~]|#/gu, '?');
const walks = Number(process.env['SHIFTADD_WALKS'] ?? 6);
t.setTimeout(240_000); // machines in use by others

for (const { name, schema, taken = [], refused = [] } of schemaCases) {
  t.test(name, async (t) => {
    const validate = validator(schema);
    const grammar = await forms.open(schema);
    const { least, verdict } = await grammar.follow(new Uint8Array(), 0);
    t.equal(verdict, 'open');
    t.ok(least > 0 && least < 200, `the shortest answer has ${least} tokens`);
    for (const value of taken) {
      t.equal(validate(value), null, shown(`${JSON.stringify(value)} is valid`));
      for (const text of [JSON.stringify(value), spaced(value), ` ${JSON.stringify(value)}`]) {
        const end = (await grammar.follow(bytesOf(text), 100)).verdict;
        t.ok(end === 'accepted' || end === 'final', shown(`${text} is accepted`));
      }
    }
    for (const text of refused) {
      const { verdict: end } = await grammar.follow(bytesOf(text), 100);
      t.ok(end === 'refused' || (end === 'open' && !text.endsWith('}')), shown(`${text} is refused: ${end}`));
    }
    const random = randomNumbers(name.length * 7919 + 1);
    let wrong = 0;
    for (let i = 0; i < walks; i++) {
      // From no room at all to plenty.
      const budget = least + (i % 3 === 0 ? i % 2 : Math.floor(random() * 40));
      const { text, tokens } = await walk(grammar, forms.vocabulary, budget, random);
      const decoded = new TextDecoder('utf-8', { fatal: true }).decode(text);
      const failure = validate(JSON.parse(decoded));
      if (failure !== null || tokens.length > budget) {
        wrong++;
        t.comment(shown(`${decoded}: ${failure}`));
      }
    }
    t.equal(wrong, 0, `${walks} walks validate`);
    await grammar.close();
  });
}
