/** Takes the place of `../state-file.js` in the worker, which cannot write files of the user: chats are not saved there. */
import { ShiftAddError } from '../errors.js';

const refused = (): never => {
  throw new ShiftAddError('ERR_WRITE', 'Chats can be saved and restored in Node.js only.');
};

export const writeStateFile = refused;
export const StateFile = { open: refused };
export const damaged = refused;
