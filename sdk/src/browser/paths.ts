/** Takes the place of `node:path` in the worker, where the paths are those of `ModelStore`. */
export function join(...parts: string[]): string {
  return parts.map((part, i) => (i === 0 ? part.replace(/\/+$/, '') : part)).join('/');
}

export function dirname(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf('/')));
}

export function basename(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}
