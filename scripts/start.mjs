// `npm start`: sets the checkout up, then chats. Arguments after `--` go to `shiftadd chat`.
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { root, runScript, setUp } from './setup.mjs';

await runScript(() => setUp());
if (!process.exitCode) {
  const commandLine = join(root, 'dist', 'esm', 'cli', 'main.js');
  process.argv = [process.argv[0], commandLine, 'chat', ...process.argv.slice(2)];
  await import(pathToFileURL(commandLine).href);
}
