/** `shiftadd doctor`: a verdict on everything that text generation and its measurement need. */
import { constants } from 'node:fs';
import { access, readdir } from 'node:fs/promises';
import { freemem, totalmem } from 'node:os';
import { dirname } from 'node:path';
import type { DetectedBoard } from '../devices/board.js';
import type { MeterList } from '../devices/find-meters.js';
import { defaultCache } from '../hub/cache.js';
import { type BackendReport, detectBoard, findEnergyMeters, listBackends } from '../index.js';
import { defineCommand, given, outputOptions } from './command.js';
import { deviceOf, systemOptions } from './devices.js';
import { bytes, counted, table } from './quantities.js';

/** `warning`: it works, but something is missing or worse than it could be. `problem`: text generation cannot work. */
export type Verdict = 'ok' | 'warning' | 'problem';

export interface CheckedItem {
  item: 'backend' | 'board' | 'energy meter' | 'memory' | 'model cache';
  verdict: Verdict;
  found: string;
  /** What to do; null when nothing is to be done. */
  fix: string | null;
}

export const doctor = defineCommand({
  name: 'doctor',
  arguments: [],
  summary: 'check this machine: backends, board, energy meters, memory and the model cache',
  details: ['The exit status is 0 when text generation can work, and 1 otherwise. Warnings do not change it.'],
  options: { ...systemOptions, ...outputOptions },
  examples: [
    { command: 'shiftadd doctor', does: 'what is in order, and what to do about the rest' },
    { command: 'shiftadd doctor --json', does: 'the same for a program' },
  ],
  async run({ values, terminal }) {
    const where = given({ sysRoot: values['sys-root'] });
    const board = await detectBoard(where);
    const items = [...checkBackends(await listBackends()), checkBoard(board), ...checkMeters(await findEnergyMeters(where)), checkMemory(board), await checkCache(defaultCache())];
    const works = items.every(({ verdict }) => verdict !== 'problem');
    if (!works) process.exitCode = 1;
    if (terminal.json) return terminal.document({ works, items });
    terminal.line(table(['verdict', 'item', 'found'], items.map(({ verdict, item, found }) => [verdict, item, found])));
    for (const { item, fix } of items) if (fix !== null) terminal.line(`${item}: ${fix}`);
    terminal.line();
    terminal.line(works ? 'Text generation can work here.' : 'Text generation cannot work here.');
  },
});

/** One backend is enough; another one that is missing is a warning where it would be the better one. */
export function checkBackends(backends: readonly BackendReport[]): CheckedItem[] {
  const any = backends.some(({ available }) => available);
  return backends.map(({ name, available, reason, ...rest }): CheckedItem => {
    const missing = any ? 'warning' : 'problem';
    return { item: 'backend', verdict: available ? 'ok' : missing, found: available ? `${name}: ${deviceOf(rest)}` : `${name} is not available`, fix: available ? null : `${name}: ${reason ?? 'unknown reason'}` };
  });
}

export function checkBoard(board: DetectedBoard): CheckedItem {
  const { profile, throttling, notes } = board;
  const found = `${profile.name}${board.powerMode === null ? '' : `, power mode ${board.powerMode.name ?? board.powerMode.id}`}`;
  if (throttling.now === true) return { item: 'board', verdict: 'warning', found: `${found}, throttled`, fix: `It is slowed down (${throttling.evidence.join(', ')}): let it cool, or give it a stronger supply.` };
  return { item: 'board', verdict: notes.length === 0 ? 'ok' : 'warning', found, fix: notes.length === 0 ? null : notes.join(' ') };
}

export function checkMeters({ meters, unreadable }: MeterList): CheckedItem[] {
  const lost = unreadable.map(({ name, reason, fix }): CheckedItem => ({ item: 'energy meter', verdict: 'warning', found: `${name}: ${reason}`, fix }));
  if (meters.length === 0 && lost.length === 0) return [{ item: 'energy meter', verdict: 'warning', found: 'none', fix: 'Joules are unknown on this machine; docs/energy.md lists what can be read.' }];
  return [...meters.map(({ name, scope, total }): CheckedItem => ({ item: 'energy meter', verdict: 'ok', found: `${name}: ${scope}, ${total}`, fix: null })), ...lost];
}

/** What a model of a few hundred million weights needs. */
const littleMemory = 1e9;

export function checkMemory({ memory }: Pick<DetectedBoard, 'memory'>): CheckedItem {
  const available = memory.availableBytes ?? freemem();
  const found = `${bytes(available)} of ${bytes(memory.totalBytes ?? totalmem())} available`;
  if (available >= littleMemory) return { item: 'memory', verdict: 'ok', found, fix: null };
  return { item: 'memory', verdict: 'warning', found, fix: 'Only small models fit; end other programs, such as the desktop.' };
}

export async function checkCache(folder: string): Promise<CheckedItem> {
  try {
    const models = (await readdir(folder)).filter((name) => name.startsWith('models--'));
    await access(folder, constants.W_OK);
    return { item: 'model cache', verdict: 'ok', found: `${counted(models.length, 'model')} in ${folder}`, fix: null };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' && (await canBeMade(folder))) return { item: 'model cache', verdict: 'ok', found: `${folder}, made by the first pull`, fix: null };
    return { item: 'model cache', verdict: 'warning', found: `${folder} cannot be used (${code})`, fix: 'Set HF_HOME to a folder that you may write to; models in folders of their own work all the same.' };
  }
}

/** Whether the nearest folder that there is may be written to. */
async function canBeMade(folder: string): Promise<boolean> {
  const above = dirname(folder);
  try {
    await access(above, constants.W_OK);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT' && above !== folder && canBeMade(above);
  }
}
