/** The board profiles that the package carries: `devices/profiles/*.json`. */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { ShiftAddError } from '../errors.js';
import { nearest, show } from '../options.js';
import { bundledFix, packageRoot } from '../package-root.js';
import type { BoardProfile } from './board-profile.js';

let loaded: readonly BoardProfile[] | null = null;

/** Every board that shiftadd knows, by id. ERR_NOT_FOUND when the package is incomplete. */
export function loadBoardProfiles(): readonly BoardProfile[] {
  return (loaded ??= readProfiles(join(packageRoot(), 'devices', 'profiles')));
}

/** ERR_NOT_FOUND for an unknown id, with the ids that there are. */
export function boardProfile(id: string): BoardProfile {
  if (typeof id !== 'string') throw new TypeError(`Expected the id of a board but received ${show(id)}`);
  const profiles = loadBoardProfiles();
  const found = profiles.find((profile) => profile.id === id);
  if (found !== undefined) return found;
  const ids = profiles.map((profile) => profile.id);
  const near = nearest(id, ids);
  throw new ShiftAddError('ERR_NOT_FOUND', `There is no board ${show(id)}.${near === null ? '' : ` Did you mean '${near}'?`} Known are ${ids.join(', ')}.`);
}

/** One file per board; schema.json beside them says what they hold. */
function readProfiles(folder: string): BoardProfile[] {
  try {
    return readdirSync(folder)
      .filter((name) => name.endsWith('.json') && name !== 'schema.json')
      .sort()
      .map((name) => {
        const { $schema: _, ...profile } = JSON.parse(readFileSync(join(folder, name), 'utf8')) as BoardProfile & { $schema?: string };
        return { ...profile, id: name.slice(0, -'.json'.length) };
      });
  } catch (error) {
    throw new ShiftAddError('ERR_NOT_FOUND', `The board profiles in ${folder} cannot be read. Install the package again.${bundledFix()}`, error);
  }
}
