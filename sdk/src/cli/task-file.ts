/** Reads task items from a JSONL file, for a preset or as they are; a failure names the file and the line. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { ShiftAddError, fromFileSystem } from '../errors.js';
import { taskPresets, type ChoiceItem, type TaskItem, type TaskPreset } from '../index.js';
import { UsageError } from './command.js';

/** What --tasks names: FILE, or PRESET=FILE. */
export function splitTasks(word: string): { file: string; preset: TaskPreset | null } {
  const [, name, file] = /^([a-z-]+)=(.+)$/.exec(word) ?? [null, word, null];
  if (!Object.hasOwn(taskPresets, name!) || (file === null && existsSync(word))) return { file: word, preset: null };
  const preset = taskPresets[name!]!;
  if (file !== null) return { file, preset };
  throw new UsageError(`--tasks ${name}=FILE needs a file of {"query", "choices", "gold"} lines with ${preset.expects}`, 'eval');
}

/** ERR_TASK_FILE when an item has another number of choices. */
export function checkChoices(items: readonly TaskItem[], { choices }: TaskPreset, path: string): void {
  const odd = items.findIndex((item) => !Array.isArray((item as Partial<ChoiceItem>).choices) || (choices !== null && (item as ChoiceItem).choices.length !== choices));
  if (odd < 0) return;
  throw new ShiftAddError('ERR_TASK_FILE', `${path}: item ${odd + 1} should have a query and ${choices ?? 'its'} choices. Is it the file of another task?`);
}

export async function readTaskItems(path: string): Promise<TaskItem[]> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw fromFileSystem(error, path, 'Pass the path of a JSONL file to --tasks.');
  });
  const items: TaskItem[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue;
    try {
      items.push(JSON.parse(line) as TaskItem);
    } catch (error) {
      throw new ShiftAddError('ERR_TASK_FILE', `${path}, line ${index + 1} is not valid JSON: ${(error as Error).message}. Write one item per line.`, error);
    }
  }
  return items;
}
