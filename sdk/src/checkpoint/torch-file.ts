/** A file of torch.save: what its pickle describes, checked against the archive, and the data of its tensors on request. */
import { parsePickle, PickledTensor, type PickledDict, type PickledValue } from './pickle.js';
import { dtypeBytes } from './safetensors.js';
import { badFile, openZip, readEntry, type ZipArchive } from './zip-archive.js';

/** A thousand times what the pickle of a large model takes. */
const pickleLimitBytes = 16 * 1024 * 1024;
const littleEndian = 'little';

export interface TorchFile {
  archive: ZipArchive;
  /** Folder of all entries: it ends with a slash, or is empty. */
  root: string;
  value: PickledValue;
}

/** Reads the pickle and no tensor. ERR_NOT_FOUND, ERR_BAD_MODEL_FILE. */
export async function openTorchFile(path: string): Promise<TorchFile> {
  const archive = await openZip(path);
  const pickles = [...archive.entries.values()].filter(({ name }) => /^([^/]+\/)?data\.pkl$/.test(name));
  if (pickles.length !== 1) throw badFile(path, `has ${pickles.length} entries data.pkl; a file of torch.save has one`);
  const [pickle] = pickles;
  if (pickle!.bytes > pickleLimitBytes)
    throw badFile(path, `has a data.pkl of ${pickle!.bytes} bytes; the limit is ${pickleLimitBytes}`);
  const root = pickle!.name.slice(0, -'data.pkl'.length);
  const byteOrder = archive.entries.get(`${root}byteorder`);
  if (byteOrder !== undefined) {
    const same = byteOrder.bytes === littleEndian.length && Buffer.from(await readEntry(archive, byteOrder)).toString('latin1') === littleEndian;
    if (!same) throw badFile(path, 'does not hold little-endian numbers');
  }
  return { archive, root, value: parsePickle(path, await readEntry(archive, pickle!)) };
}

/** The tensor `name` of a file that holds a dict. ERR_BAD_MODEL_FILE when there is none of this type. */
export function tensorOf(file: TorchFile, name: string, dtype: string): PickledTensor {
  const { path } = file.archive;
  if (!(file.value instanceof Map)) throw badFile(path, 'does not hold a dict of tensors');
  const tensor = (file.value as PickledDict).get(name);
  if (!(tensor instanceof PickledTensor)) throw badFile(path, `has no tensor ${name}`);
  const { dtype: found } = tensor.storage;
  if (found !== dtype) throw badFile(path, `has a tensor ${name} of type ${found} where ${dtype} is wanted`);
  return tensor;
}

/** The bytes of a tensor, checked against the CRC of its storage. ERR_NOT_FOUND, ERR_BAD_MODEL_FILE. */
export async function readTensor(file: TorchFile, { storage, offset, shape }: PickledTensor): Promise<Uint8Array> {
  const { archive, root } = file;
  const entry = archive.entries.get(`${root}data/${storage.key}`);
  if (entry === undefined) throw badFile(archive.path, `has no data for storage ${storage.key}`);
  const elementBytes = dtypeBytes[storage.dtype]!;
  if (entry.bytes !== storage.elements * elementBytes)
    throw badFile(
      archive.path,
      `has ${entry.bytes} bytes for storage ${storage.key}, which should hold ${storage.elements} elements of ${elementBytes}`,
    );
  const elements = shape.reduce((product, size) => product * size, 1);
  return readEntry(archive, entry, offset * elementBytes, (offset + elements) * elementBytes);
}
