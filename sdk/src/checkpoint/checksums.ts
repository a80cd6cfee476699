/** Verifies the SHA-256 of every stored tensor of a packed folder, reading the files once through two bounded buffers. */
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { ShiftAddError, fromFileSystem } from '../errors.js';
import type { ModelFolder, StoredTensor } from './model-folder.js';

const bufferBytes = 1024 * 1024;

/** `onBytes` gets the bytes verified so far. ERR_CHECKSUM names the tensor; an abort rejects with the signal's reason. */
export async function verifyChecksums(
  folder: ModelFolder,
  signal?: AbortSignal,
  onBytes?: (done: number) => void,
): Promise<void> {
  if (folder.quantization === null) return;
  const { checksums } = folder.quantization;
  const buffers = [new Uint8Array(bufferBytes), new Uint8Array(bufferBytes)];
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
      let at = 0; // index in tensors
      let hash = createHash('sha256');
      let from = tensors[0]?.offset ?? 0;
      let next = file.read(buffers[0]!, 0, bufferBytes, from);
      for (let turn = 0; at < tensors.length; turn++) {
        signal?.throwIfAborted();
        const { bytesRead } = await next;
        if (bytesRead === 0) throw wrong(tensors[at]!, 'the file ended inside it');
        const buffer = buffers[turn % 2]!;
        const to = from + bytesRead;
        next = file.read(buffers[(turn + 1) % 2]!, 0, bufferBytes, to); // while this part is hashed
        next.catch(() => undefined); // awaited in the next turn; closing the file waits for the last one
        while (at < tensors.length && (tensors[at]!.offset < to || tensors[at]!.bytes === 0)) {
          const tensor = tensors[at]!;
          const end = tensor.offset + tensor.bytes;
          hash.update(buffer.subarray(Math.max(0, tensor.offset - from), Math.min(end, to) - from));
          if (end > to) break;
          const sum = hash.digest('hex');
          if (sum !== checksums.get(tensor.name))
            throw wrong(tensor, `wanted ${checksums.get(tensor.name)}, found ${sum}`);
          hash = createHash('sha256');
          at++;
          verified += tensor.bytes;
        }
        onBytes?.(verified);
        from = to;
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
