/** Reads task items from a JSONL file; a failure names the file and the line. */
import { readFile } from 'node:fs/promises';
import { ShiftAddError, fromFileSystem } from '../errors.js';
import type { TaskItem } from '../index.js';

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
