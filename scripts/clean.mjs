// `npm run clean`: removes everything that the set-up and the packaging made, except the installed packages.
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './setup.mjs';

for (const folder of ['build', 'build-arm64', 'dist', '.tap']) {
  rmSync(join(root, folder), { recursive: true, force: true });
}
