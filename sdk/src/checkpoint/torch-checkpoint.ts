/** The tensors of a pytorch_model.bin, where they lie in the file: its entries are stored as they are, so that they can be mapped. */
import { open } from 'node:fs/promises';
import { ShiftAddError, fromFileSystem } from '../errors.js';
import { PickledTensor } from './pickle.js';
import { dtypeBytes, type SafetensorsFile, type TensorEntry } from './safetensors.js';
import { openTorchFile } from './torch-file.js';
import { badFile } from './zip-archive.js';

/** Reads no tensor. ERR_NOT_FOUND, ERR_BAD_MODEL_FILE, ERR_UNSUPPORTED_MODEL for a file of torch before 1.6. */
export async function readTorchCheckpoint(path: string): Promise<SafetensorsFile> {
  await refuseOldFormat(path);
  const { archive, root, value } = await openTorchFile(path);
  if (!(value instanceof Map)) throw badFile(path, 'does not hold a dict of tensors');
  const tensors = new Map<string, TensorEntry>();
  for (const [name, tensor] of value) {
    if (typeof name !== 'string') throw badFile(path, 'does not hold a dict of tensors by name');
    if (!(tensor instanceof PickledTensor)) {
      if (name === '_metadata') continue;
      throw badFile(path, `has something else than a tensor under ${name}; save model.state_dict() alone`);
    }
    const { storage, offset, shape } = tensor;
    const entry = archive.entries.get(`${root}data/${storage.key}`);
    const elementBytes = dtypeBytes[storage.dtype]!;
    if (entry === undefined) throw badFile(path, `has no data for tensor ${name} (storage ${storage.key})`);
    if (entry.bytes !== storage.elements * elementBytes)
      throw badFile(path, `has ${entry.bytes} bytes for tensor ${name}, whose storage should hold ${storage.elements} elements of ${elementBytes}`);
    const bytes = shape.reduce((product, size) => product * size, elementBytes);
    tensors.set(name, { name, dtype: storage.dtype, shape: [...shape], offset: entry.offset + offset * elementBytes, bytes });
  }
  const stat = await open(path).then(async (file) => file.stat().finally(() => file.close()));
  return { path, fileBytes: stat.size, tensors, metadata: {} };
}

/** Until version 1.6 torch.save wrote pickles without a zip around them. */
async function refuseOldFormat(path: string): Promise<void> {
  const file = await open(path).catch((error: unknown) => {
    throw fromFileSystem(error, path, 'Download or copy the model folder again.');
  });
  try {
    const { buffer, bytesRead } = await file.read(new Uint8Array(2), 0, 2, 0).catch((error: unknown) => {
      throw fromFileSystem(error, path, 'Download or copy the model folder again.');
    });
    if (bytesRead === 2 && buffer[0] === 0x80 && buffer[1]! <= 5)
      throw new ShiftAddError('ERR_UNSUPPORTED_MODEL', `${path} has the old torch format. Load it with torch and save it again, best as safetensors.`);
  } finally {
    await file.close();
  }
}
