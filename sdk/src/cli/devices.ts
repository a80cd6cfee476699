/** `shiftadd devices`: what this machine can run on. */
import { availableParallelism, cpus, freemem, totalmem } from 'node:os';
import type { EngineGpu } from '../engine.js';
import { listBackends } from '../index.js';
import { defineCommand, outputOptions } from './command.js';
import { bytes, table } from './quantities.js';

export const devices = defineCommand({
  name: 'devices',
  arguments: [],
  summary: 'show the backends of this machine, and why one is missing',
  options: outputOptions,
  examples: [
    { command: 'shiftadd devices', does: 'what this machine can run on' },
    { command: 'shiftadd devices --json', does: 'the same for a program' },
  ],
  async run({ terminal }) {
    const backends = await listBackends();
    const machine = {
      platform: process.platform,
      architecture: process.arch,
      processor: cpus()[0]?.model.trim() ?? null,
      cores: availableParallelism(),
      memoryBytes: totalmem(),
      freeMemoryBytes: freemem(),
      node: process.versions.node,
    };
    if (terminal.json) return terminal.document({ backends, machine });
    const gpuNames = (gpus: EngineGpu[]): string =>
      gpus.map(({ name, multiprocessors, capability }, index) => `${index}: ${name} (compute capability ${capability / 10}, ${multiprocessors} multiprocessors)`).join('; ');
    const rows = backends.map(({ name, available, reason, device, gpus }) => [
      name,
      available ? 'ready' : 'not available',
      gpus !== undefined ? gpuNames(gpus) : device === undefined ? (reason ?? '') : `${device.isa}, ${device.cores} cores`,
    ]);
    terminal.line(table(['backend', 'state', 'device or reason'], rows));
    terminal.line();
    terminal.line(`${machine.processor ?? 'unknown processor'}, ${machine.cores} cores (${machine.platform}-${machine.architecture}, Node.js ${machine.node})`);
    terminal.line(`${bytes(machine.memoryBytes)} of memory, ${bytes(machine.freeMemoryBytes)} free`);
  },
});
