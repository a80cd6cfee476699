// What the NEON kernels should cost, without an Arm machine: compiles them for aarch64, finds their innermost loops and has
// llvm-mca schedule these. Prints vector instructions, loads, stores and cycles per 256 weights; loads hit the first cache.
//
//   node benchmarks/native/neon_mca.mjs
//
// Needs aarch64-linux-gnu-g++ (or CXX="clang++ --target=aarch64-linux-gnu") and llvm-mca 17 or newer for its own model of
// Neoverse N1 (MCA=llvm-mca-19).
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const processors = ['cortex-a57', 'cortex-a72', 'neoverse-n1', 'neoverse-n2', 'cortex-a55'];
const compiler = (process.env.CXX ?? 'aarch64-linux-gnu-g++').split(' ');
const mca = process.env.MCA ?? 'llvm-mca';
const ITERATIONS = 200;

const packed = assembly('kernels_neon.cpp', []);
const panel = assembly('kernels_neon_panel.cpp', []);
const panelDot = assembly('kernels_neon_dot.cpp', ['-march=armv8.2-a+dotprod']);

// A table is looked up for 16 rows of a chunk: 64 weights of one plane. Two tables, low and high bytes.
const lookups = (planes) => (counts) => (counts.tbl / (2 * planes)) * 64;
// The loop of the fast kernel is one chunk; low bytes are widened outside of it, once in `chunks`.
const widening = [28, 29].flatMap((v) => [`uaddw v${v - 4}.8h, v${v - 4}.8h, v${v}.8b`, `uaddw2 v${v - 2}.8h, v${v - 2}.8h, v${v}.16b`]);
const fast = (planes, chunks) => ({
  name: `fast, ${planes} planes`,
  text: packed,
  symbol: `accumulate_fastILj${planes}E`,
  work: lookups(planes),
  extend: (body) => [...Array(Math.ceil((chunks * 4 * planes) / count(body).tbl)).fill(body).flat(), ...widening],
});
table('accumulate, per 256 weights', 256, [
  ...[fast(1, 16), fast(2, 8), fast(3, 4), fast(4, 4), fast(8, 2)],
  { name: 'exact, per plane', text: packed, symbol: 'neon10accumulateE', work: lookups(1) },
]);
// smlal multiplies 4 pairs; sdot 16 pairs of bytes, of which three are one product.
table('panel product, per 1024 multiplications', 1024, [
  { name: 'smlal, 4 tokens', text: panel, work: (counts) => counts.mla * 4 },
  { name: 'sdot, 4 tokens', text: panelDot, work: (counts) => (counts.mla * 16) / 3, all: true },
]);

function table(title, unit, rows) {
  const lines = [[title, 'vector', 'loads', 'stores', ...processors]];
  for (const { name, text, symbol, work, all, extend = (body) => body } of rows) {
    const bodies = innermostLoops(functionBody(text, symbol)).sort((a, b) => weight(b) - weight(a));
    // The product by sdot is three loops over the same columns.
    const loops = (all ? bodies.filter((body) => weight(body) > weight(bodies[0]) / 2) : bodies.slice(0, 1)).map(extend);
    const counts = loops.map(count);
    const total = counts.reduce((sum, each) => Object.fromEntries(Object.keys(sum).map((key) => [key, sum[key] + each[key]])));
    const factor = unit / work(total);
    const cycles = processors.map((processor) => loops.reduce((sum, loop) => sum + schedule(loop, processor), 0));
    lines.push([name, ...[total.vector, total.loads, total.stores, ...cycles].map((value) => (value * factor).toFixed(1))]);
  }
  const widths = lines[0].map((_, column) => Math.max(...lines.map((line) => line[column].length)));
  for (const line of lines) console.log(line.map((cell, i) => (i ? cell.padStart(widths[i]) : cell.padEnd(widths[i]))).join('  '));
  console.log();
}

function assembly(file, options) {
  const flags = ['-std=c++20', '-O3', '-fno-exceptions', '-fno-rtti', '-ffp-contract=off', '-fno-math-errno', '-fPIC'];
  if (!compiler[0].includes('clang')) flags.push('-mtune=neoverse-n1');
  const source = join('backends', 'cpu', file);
  return run(compiler[0], [...compiler.slice(1), ...flags, ...options, '-I.', '-S', source, '-o', '-']);
}

function functionBody(text, symbol) {
  const lines = text.split('\n');
  if (symbol === undefined) return lines;
  const first = lines.findIndex((line) => line.startsWith('_Z') && line.includes(symbol));
  if (first < 0) throw new Error(`no function ${symbol}`);
  return lines.slice(first + 1, lines.findIndex((line, i) => i > first && line.includes('.cfi_endproc')));
}

/** Runs of lines from a label to a branch back to it that hold no other such run. */
function innermostLoops(lines) {
  const loops = [];
  lines.forEach((line, end) => {
    const target = /^\s+(?:b|b\.?[a-z]{2}|cbn?z|tbn?z)\s.*?(\.L\w+)\s*(?:\/\/.*)?$/.exec(line)?.[1];
    if (!target) return;
    const start = lines.findIndex((each) => each.startsWith(`${target}:`));
    if (start >= 0 && start < end) loops.push({ start, end });
  });
  return loops
    .filter(({ start, end }) => !loops.some((other) => other.start >= start && other.end <= end && other.end - other.start < end - start))
    .map(({ start, end }) => lines.slice(start + 1, end + 1).filter((line) => /^\s+[a-z]/.test(line)));
}

function count(body) {
  const of = (pattern) => body.filter((line) => pattern.test(line)).length;
  const loads = of(/^\s+ld[rpu]\w*\s+[qvd]/) + of(/^\s+ldp\s+q/) + of(/^\s+ld1r?\s/);
  const stores = of(/^\s+st[rpu]\w*\s+[qvd]/) + of(/^\s+st1\s/);
  const vectors = of(/\b[vqd]\d+\b/);
  return { tbl: of(/^\s+tbl\s/), mla: of(/^\s+(?:smlal2?|sdot)\s/), vector: vectors - (loads - of(/^\s+ldp\s+q/)) - stores, loads, stores };
}

function weight(body) {
  const counts = count(body);
  return counts.tbl + counts.mla;
}

function schedule(body, processor) {
  const options = ['-mtriple=aarch64-linux-gnu', `-mcpu=${processor}`, '-mattr=+dotprod', `-iterations=${ITERATIONS}`];
  const report = run(mca, [...options, '-instruction-info=0', '-resource-pressure=0', '-'], body.join('\n'));
  return Number(/Total Cycles:\s+(\d+)/.exec(report)[1]) / ITERATIONS;
}

function run(program, args, input) {
  const result = spawnSync(program, args, { cwd: root, input, encoding: 'utf8', maxBuffer: 1 << 26 });
  if (result.status !== 0) throw new Error(`${program} failed: ${result.error?.message ?? result.stderr}`);
  return result.stdout;
}
