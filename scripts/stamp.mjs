// A stamp is a file inside a build output that names the content it was made from. When the output is deleted, its stamp
// goes with it; when a source changes, the stamp no longer matches.
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** A digest of the contents of files and of all files below folders; `extra` are further things the output depends on. */
export function contentKey(root, paths, extra = []) {
  const hash = createHash('sha256').update(JSON.stringify(extra));
  for (const path of paths) addPath(hash, root, path);
  return hash.digest('hex');
}

export function stampMatches(file, key) {
  try {
    return readFileSync(file, 'utf8') === key;
  } catch {
    return false;
  }
}

export function writeStamp(file, key) {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, key);
}

function addPath(hash, root, path) {
  let entries;
  try {
    entries = readdirSync(join(root, path), { withFileTypes: true });
  } catch (error) {
    if (error.code === 'ENOTDIR') hash.update(`\n${path}\n`).update(readFileSync(join(root, path)));
    return;
  }
  entries.sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const entry of entries) {
    if (!entry.name.startsWith('.')) addPath(hash, root, `${path}/${entry.name}`);
  }
}
