// `shiftadd chat --schema`: an answer that a schema accepts, and files that hold none.
import { writeFile } from 'node:fs/promises';
import t from 'tap';
import { shiftadd } from './cli-process.js';
import { join, stories, temporaryFolder } from './fixtures.js';

t.test('--schema', async (t) => {
  const folder = await temporaryFolder(t);
  const file = async (name: string, text: string): Promise<string> => {
    await writeFile(join(folder, name), text);
    return join(folder, name);
  };
  const schema = await file('schema.json', JSON.stringify({ type: 'object', properties: { a: { type: 'integer', minimum: 3, maximum: 5 } }, required: ['a'] }));
  const words = ['chat', stories, '--raw', '--prompt', 'Once', '--max-tokens', '40', '--schema'];
  const plain = await shiftadd([...words, schema]);
  t.match(JSON.parse(plain.output), { a: /^[345]$/ });
  const { json, finishReason } = JSON.parse((await shiftadd([...words, schema, '--json'])).output);
  t.match({ json, finishReason }, { json: { a: Number }, finishReason: 'stop' });
  for (const [path, status, notes] of [
    [join(folder, 'none.json'), 1, /does not exist/],
    [await file('bad.json', '{'), 2, /is no JSON/],
    [await file('list.json', '[]'), 2, /no JSON schema/],
    [await file('not.json', '{"not":{}}'), 1, /keyword not/],
  ] as const) {
    const ended = await shiftadd([...words, path]);
    t.equal(ended.status, status);
    t.match(ended.notes, notes);
  }
  t.equal((await shiftadd([...words, schema, '--stop', 'x'])).status, 2);
});
