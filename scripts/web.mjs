// `npm run web`: sets the checkout up, builds the chat page into build/web and serves it on this machine.
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { StepError } from './run-step.mjs';
import { root, runScript, setUp } from './setup.mjs';
import { buildPage } from './web-build.mjs';
import { serve } from './web-server.mjs';

const MODEL = 'models/smollm2-135m-instruct';

await runScript(async () => {
  const options = readOptions();
  // Another build of the SDK needs no set-up of this one.
  if (options.sdk === undefined) await setUp({ browser: true });
  const sdk = resolve(root, options.sdk ?? 'dist/browser');
  const out = resolve(root, options.out);
  const isolation = !options['no-isolation'];
  const size = await buildPage({ sdk, out, variant: isolation ? 'isolated' : 'not isolated' });
  process.stderr.write(`shiftadd: page in ${out}, ${(size / 1000).toFixed(1)} kB after gzip without the SDK\n`);
  if (options['build-only']) return;
  const folders = { '/': out, [`/${MODEL}/`]: join(root, ...MODEL.split('/')) };
  const server = await serve({ folders, port: options.port, isolation }).catch((error) => {
    if (error.code !== 'EADDRINUSE') throw error;
    throw new StepError(`port ${options.port} is in use; choose another with --port`);
  });
  process.stdout.write(`http://localhost:${server.address().port}/\n`);
});

function readOptions() {
  try {
    const { values } = parseArgs({
      options: {
        port: { type: 'string', default: '8080' },
        'no-isolation': { type: 'boolean', default: false },
        'build-only': { type: 'boolean', default: false },
        sdk: { type: 'string' },
        out: { type: 'string', default: 'build/web' },
      },
    });
    const port = Number(values.port);
    if (!Number.isInteger(port) || port < 0 || port > 65535) throw new TypeError(`--port is no port: ${values.port}`);
    return { ...values, port };
  } catch (error) {
    throw new StepError(`${error.message}\nUsage: npm run web -- [--port <n>] [--no-isolation] [--build-only] [--sdk <folder>] [--out <folder>]`);
  }
}
