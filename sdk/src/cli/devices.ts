/** `shiftadd devices`: what this machine can run on, which board it is, and what measures its energy. */
import { availableParallelism, cpus, freemem, totalmem } from 'node:os';
import type { DetectedBoard } from '../devices/board.js';
import type { MeterList } from '../devices/find-meters.js';
import type { EngineGpu } from '../engine.js';
import { type BackendReport, detectBoard, findEnergyMeters, listBackends } from '../index.js';
import { defineCommand, given, outputOptions } from './command.js';
import { bytes, counted, table } from './quantities.js';

export const systemOptions = {
  'sys-root': { rule: { kind: 'text' }, value: 'DIR', help: 'where /proc, /sys and /etc of the machine lie, as in a container that mounts them elsewhere', otherwise: '/' },
} as const;

export const devices = defineCommand({
  name: 'devices',
  arguments: [],
  summary: 'show the backends, the board and the energy meters of this machine, and why one is missing',
  options: { ...systemOptions, ...outputOptions },
  examples: [
    { command: 'shiftadd devices', does: 'what this machine can run on, and what can be measured' },
    { command: 'shiftadd devices --json', does: 'the same for a program' },
    { command: 'shiftadd devices --sys-root /host', does: 'the board around a container that mounts its files at /host' },
  ],
  async run({ values, terminal }) {
    const where = given({ sysRoot: values['sys-root'] });
    const backends = await listBackends();
    const board = await detectBoard(where);
    const meters = await findEnergyMeters(where);
    const machine = {
      platform: process.platform,
      architecture: process.arch,
      processor: cpus()[0]?.model.trim() ?? null,
      cores: availableParallelism(),
      memoryBytes: totalmem(),
      freeMemoryBytes: freemem(),
      node: process.versions.node,
    };
    if (terminal.json) return terminal.document({ backends, machine, board, energy: meters });
    terminal.line(table(['backend', 'state', 'device or reason'], backends.map(({ name, available, reason, ...rest }) => [name, available ? 'ready' : 'not available', available ? deviceOf(rest) : (reason ?? '')])));
    terminal.line();
    for (const line of boardLines(board)) terminal.line(line);
    terminal.line();
    for (const line of meterLines(meters)) terminal.line(line);
    terminal.line();
    terminal.line(`${machine.processor ?? 'unknown processor'}, ${machine.cores} cores (${machine.platform}-${machine.architecture}, Node.js ${machine.node})`);
    terminal.line(`${bytes(machine.memoryBytes)} of memory, ${bytes(machine.freeMemoryBytes)} free`);
  },
});

export function deviceOf({ device, gpus }: Pick<BackendReport, 'device' | 'gpus'>): string {
  const gpuName = ({ name, multiprocessors, capability }: EngineGpu, index: number): string => `${index}: ${name} (compute capability ${capability / 10}, ${multiprocessors} multiprocessors)`;
  return gpus !== undefined ? gpus.map(gpuName).join('; ') : device === undefined ? '' : `${device.isa}, ${device.cores} cores`;
}

function boardLines(board: DetectedBoard): string[] {
  const { profile, release, powerMode, onBattery, processor, clocks, temperatures, throttling, memory } = board;
  const matched = { part: 'by its part number', compatible: 'by its device tree', 'soc and memory': 'by its chip and memory', architecture: 'no known board' }[board.matchedBy];
  const megahertz = (value: number | null): string => (value === null ? '?' : `${Math.round(value)} MHz`);
  const inEffect = powerMode?.inEffect === false ? ', NOT in effect' : powerMode?.inEffect === null ? ', not verified' : '';
  const hottest = temperatures.toSorted((a, b) => b.celsius - a.celsius)[0];
  const rows: [string, string | null][] = [
    ['board', `${profile.name} (${profile.id}, ${matched})`],
    ['model', board.model],
    ['module', board.module === null ? null : `${board.module}${board.superConfiguration ? ', flashed as Super' : ''}`],
    ['release', release === null ? null : `L4T ${release.l4t}${release.jetpack === null ? '' : `, JetPack ${release.jetpack}`}`],
    ['power mode', powerMode === null ? null : `${powerMode.id}: ${powerMode.name ?? 'unknown'}${inEffect}`],
    ['power supply', onBattery === null ? null : onBattery ? 'battery' : 'mains'],
    ['processor', processor.onlineCores === null ? null : `${processor.onlineCores} of ${processor.presentCores ?? '?'} cores online, ${megahertz(processor.megahertz)} of ${megahertz(processor.limitMegahertz)}${processor.governor === null ? '' : `, governor ${processor.governor}`}`],
    ...clocks.map(({ name, megahertz: now, limitMegahertz }): [string, string] => [name === 'gpu' ? 'GPU' : name, `${megahertz(now)}${limitMegahertz === null ? '' : ` of ${megahertz(limitMegahertz)}`}`]),
    ['temperature', hottest === undefined ? null : `${hottest.celsius.toFixed(1)} °C (${hottest.zone}, the hottest of ${temperatures.length})`],
    ['throttling', throttling.now === null ? null : `${throttling.now ? 'YES' : 'no'}${throttling.evidence.length === 0 ? '' : ` (${throttling.evidence.join(', ')})`}`],
    ['memory', memory.totalBytes === null ? null : `${bytes(memory.totalBytes)}${memory.availableBytes === null ? '' : `, ${bytes(memory.availableBytes)} available`}${profile.kind === 'jetson' && memory.largestFreeBlocks !== null ? `, ${counted(memory.largestFreeBlocks, 'free block')} of the largest size` : ''}`],
  ];
  return [table(['', ''], rows.filter((row): row is [string, string] => row[1] !== null)).trimStart(), ...board.notes.map((note) => `Note: ${note}`)];
}

export function meterLines({ meters, unreadable, notes }: MeterList): string[] {
  if (meters.length + unreadable.length === 0) return ['No energy meter was found; joules are then unknown, not zero.'];
  const rows = [
    ...meters.map(({ name, scope, method, total }) => [name, 'ready', scope, `${method}: ${total}`]),
    ...unreadable.map(({ name, scope, reason }) => [name, 'cannot be read', scope, reason]),
  ];
  const fixes = unreadable.map(({ name, fix }) => `To read ${name}: ${fix}`);
  return [table(['energy meter', 'state', 'scope', 'total or reason'], rows), ...fixes, ...notes.map((note) => `Note: ${note}`), ...(meters.length > 1 ? [`${counted(meters.length, 'meter')} can be read; a model is measured by the first that covers where it runs, unless another is named.`] : [])];
}
