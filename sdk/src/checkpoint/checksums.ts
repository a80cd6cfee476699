/** Verifies the SHA-256 of every stored tensor of a packed folder, reading the files once through a bounded buffer. */
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { ShiftAddError, fromFileSystem } from '../errors.js';
import type { ModelFolder, StoredTensor } from './model-folder.js';

const bufferBytes = 4 * 1024 * 1024;

/** `onBytes` gets the bytes verified so far. ERR_CHECKSUM names the tensor; an abort rejects with the signal's reason. */
export async function verifyChecksums(
  folder: ModelFolder,
  signal?: AbortSignal,
  onBytes?: (done: number) => void,
): Promise<void> {
  if (folder.quantization === null) return;
  const { checksums } = folder.quantization;
  const buffer = new Uint8Array(bufferBytes);
  let verified = 0;
  for (const name of checksums.keys()) {
    if (!folder.stored.has(name)) {
      throw new ShiftAddError(
        'ERR_BAD_MODEL_FILE',
        `${folder.configPath}: quantization_config.checksums names the tensor ${name}, which is in no safetensors file.`,
      );
    }
  }
  for (const [index, { path }] of folder.files.entries()) {
    const tensors = [...folder.stored.values()]
      .filter((tensor) => tensor.file === index)
      .sort((a, b) => a.offset - b.offset);
    let file;
    try {
      file = await open(path, 'r');
    } catch (error) {
      throw fromFileSystem(error, path, 'Download or copy the model folder again.');
    }
    try {
      for (const tensor of tensors) {
        const hash = createHash('sha256');
        for (let done = 0; done < tensor.bytes;) {
          signal?.throwIfAborted();
          const { bytesRead } = await file.read(
            buffer,
            0,
            Math.min(bufferBytes, tensor.bytes - done),
            tensor.offset + done,
          );
          if (bytesRead === 0) throw wrong(tensor, 'the file ended inside it');
          hash.update(buffer.subarray(0, bytesRead));
          done += bytesRead;
          verified += bytesRead;
          onBytes?.(verified);
        }
        const sum = hash.digest('hex');
        if (sum !== checksums.get(tensor.name))
          throw wrong(tensor, `wanted ${checksums.get(tensor.name)}, found ${sum}`);
      }
    } finally {
      await file.close();
    }
  }
}

function wrong(tensor: StoredTensor, what: string): ShiftAddError {
  return new ShiftAddError(
    'ERR_CHECKSUM',
    `${tensor.path}: tensor ${tensor.name} does not match its checksum (${what}). The file is damaged: download or copy it again.`,
  );
}
