// Runs every native test program; each prints TAP. `npm test` builds them into build/bin.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { packageRoot } from '../../sdk/src/native-path.js';

const folder = join(packageRoot(), 'build', 'bin');
const programs = readdirSync(folder, { withFileTypes: true })
  .filter((entry) => entry.isFile() && /_test(\.exe)?$/.test(entry.name))
  .map((entry) => entry.name)
  .sort();

t.ok(programs.length > 0, `${folder} holds test programs`);
for (const program of programs) {
  await t.spawn(join(folder, program), [], { cwd: packageRoot() }, program);
}
