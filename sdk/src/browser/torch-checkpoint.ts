/** Takes the place of `../checkpoint/torch-checkpoint.js` in the worker. */
import { ShiftAddError } from '../errors.js';

export async function readTorchCheckpoint(path: string): Promise<never> {
  throw new ShiftAddError('ERR_UNSUPPORTED_MODEL', `${path} is a torch file, which browsers do not read here. Turn it into a packed model with "shiftadd quantize" first.`);
}
