// Builds the WebAssembly modules: `npm run build:wasm [-- module ...]`. Users need none of this: the modules are in the
// repository (backends/wasm/modules), with a record of what they were made from. What has to be installed is in CONTRIBUTING.md.
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { contentKey } from './stamp.mjs';
import { root } from './setup.mjs';

const crate = join(root, 'backends', 'wasm');
const modules = join(crate, 'modules');

const common = `-Ctarget-feature=+simd128 -Clink-arg=-zstack-size=1048576 --remap-path-prefix=${crate}=. --remap-path-prefix=${join(homedir(), '.cargo')}=cargo`;
// The memory of the threaded modules is shared, and JavaScript gives it its limit: the most that 32 bits address.
const shared = '-Ctarget-feature=+atomics,+bulk-memory,+mutable-globals -Clink-arg=--shared-memory -Clink-arg=--import-memory -Clink-arg=--max-memory=4294967296 ' +
  ['__wasm_init_tls', '__tls_size', '__tls_align', '__tls_base'].map((name) => `-Clink-arg=--export=${name}`).join(' ');
const relaxed = '-Ctarget-feature=+relaxed-simd';

/** What there is: with and without threads, with and without relaxed SIMD. */
export const flavours = {
  single: { flags: [], features: [], relaxed: false },
  'single-relaxed': { flags: [relaxed], features: [], relaxed: true },
  threads: { flags: [shared], features: ['--features', 'threads'], relaxed: false },
  'threads-relaxed': { flags: [relaxed, shared], features: ['--features', 'threads'], relaxed: true },
};

/** The digest of all sources that a module is made from. */
export function sourceKey() {
  const filesOf = (folder) => readdirSync(join(root, folder), { withFileTypes: true }).filter((entry) => entry.isFile()).map((entry) => `${folder}/${entry.name}`).sort();
  const folders = ['core', 'core/grammar', 'backends/cpu', 'backends/wasm', 'backends/wasm/src', 'backends/wasm/cpp'];
  return contentKey(root, [...folders.flatMap(filesOf), 'scripts/build-wasm.mjs']);
}

function run(program, args, environment) {
  const { status, error } = spawnSync(program, args, { cwd: crate, stdio: 'inherit', env: environment });
  if (status !== 0) throw new Error(`${program} ${args.join(' ')} ${error === undefined ? `ended with ${status}` : `could not be run: ${error.message}`}`);
}

function versionOf(program, environment) {
  const { status, stdout } = spawnSync(program, ['--version'], { env: environment, encoding: 'utf8' });
  return status === 0 ? stdout.split('\n')[0].trim() : null;
}

function main(wanted) {
  for (const name of wanted) if (!(name in flavours)) throw new Error(`there is no module ${name}; there are ${Object.keys(flavours).join(', ')}`);
  // Debian's compiler, whose library sources are installed, comes before one of rustup.
  const path = [process.env.WASM_TOOLS, join(root, 'node_modules', '.bin'), '/usr/bin', '/bin'].filter(Boolean).join(delimiter);
  const environment = { ...process.env, PATH: path, RUSTC_BOOTSTRAP: '1' };
  const bindgen = /^wasm-bindgen = "=([\d.]+)"/m.exec(readFileSync(join(crate, 'Cargo.toml'), 'utf8'))[1];
  const tools = Object.fromEntries(['rustc', 'clang++-22', 'wasm-ld-22', 'wasm-pack', 'wasm-bindgen', 'wasm-opt'].map((name) => [name, versionOf(name, environment)]));
  const missing = Object.entries(tools).filter(([, version]) => version === null).map(([name]) => name);
  if (missing.length > 0) throw new Error(`${missing.join(', ')} cannot be run. CONTRIBUTING.md says how to install what the WebAssembly build needs.`);
  if (tools['wasm-bindgen'] !== `wasm-bindgen ${bindgen}`) throw new Error(`wasm-bindgen ${bindgen} is needed, ${tools['wasm-bindgen']} is installed`);
  mkdirSync(modules, { recursive: true });
  for (const name of wanted) {
    const { flags, features, relaxed: isRelaxed } = flavours[name];
    const folder = join('target', 'packages', name);
    run('wasm-pack', ['build', '--mode', 'force', '--target', 'web', '--out-dir', folder, '--out-name', name, '--', '--locked', ...features], {
      ...environment,
      RUSTFLAGS: [common, ...flags].join(' '),
      CARGO_TARGET_DIR: join(crate, 'target', name),
      ...(isRelaxed ? { SHIFTADD_RELAXED: '1' } : {}),
    });
    for (const file of [`${name}_bg.wasm`, `${name}.js`, `${name}.d.ts`]) {
      if (!existsSync(join(crate, folder, file))) throw new Error(`wasm-pack made no ${join(folder, file)}`);
      rmSync(join(modules, file), { force: true });
      cpSync(join(crate, folder, file), join(modules, file));
    }
  }
  writeFileSync(join(modules, 'BUILD.json'), `${JSON.stringify({ sources: sourceKey(), tools }, null, 2)}\n`);
}

if (process.argv[1] === import.meta.filename) {
  try {
    main(process.argv.length > 2 ? process.argv.slice(2) : Object.keys(flavours));
  } catch (error) {
    console.error(`build:wasm: ${error.message}`);
    process.exitCode = 1;
  }
}
