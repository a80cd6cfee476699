/**
 * Writes a safetensors file: the data section begins at a multiple of 64 bytes, tensors follow in the order given. The
 * file appears under its name only when it is whole.
 */
import { open, rename, rm, type FileHandle } from 'node:fs/promises';

/** A tensor to write; the caller sorts: sizes that are multiples of 64 first, so that those tensors are aligned. */
export interface TensorToWrite {
  name: string;
  dtype: string;
  shape: number[];
  bytes: number;
  /** The data in order, as many bytes as `bytes` says. */
  data: () => Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
}

const alignment = 64;

/**
 * Streams the tensors to `path`.partial, syncs, then renames. A .partial that is there, of another writer or of one that was
 * killed, is an error unless it is to be replaced. Throws what the file system throws.
 */
export async function writeSafetensors(
  path: string,
  tensors: TensorToWrite[],
  metadata: Record<string, string> = {},
  unfinished: 'refuse' | 'replace' = 'refuse',
): Promise<void> {
  const partial = `${path}.partial`;
  const file = await open(partial, unfinished === 'refuse' ? 'wx' : 'w');
  try {
    await writeAll(file, encodeHeader(tensors, metadata));
    for (const tensor of tensors) {
      let written = 0;
      for await (const chunk of tensor.data()) {
        await writeAll(file, chunk);
        written += chunk.byteLength;
      }
      if (written !== tensor.bytes) throw new Error(`tensor ${tensor.name} has ${written} bytes, not ${tensor.bytes}`);
    }
    await file.sync();
    await file.close();
    await rename(partial, path);
  } catch (error) {
    await file.close().catch(() => undefined);
    await rm(partial, { force: true });
    throw error;
  }
}

/** Bytes that the header will take, length prefix and padding included. */
export function headerBytes(tensors: TensorToWrite[], metadata: Record<string, string> = {}): number {
  return encodeHeader(tensors, metadata).byteLength;
}

function encodeHeader(tensors: TensorToWrite[], metadata: Record<string, string>): Uint8Array {
  const header: Record<string, unknown> = Object.keys(metadata).length > 0 ? { __metadata__: metadata } : {};
  let offset = 0;
  for (const { name, dtype, shape, bytes } of tensors) {
    header[name] = { dtype, shape, data_offsets: [offset, offset + bytes] };
    offset += bytes;
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const total = Math.ceil((8 + text.length) / alignment) * alignment;
  const encoded = new Uint8Array(total).fill(0x20);
  new DataView(encoded.buffer).setBigUint64(0, BigInt(total - 8), true);
  encoded.set(text, 8);
  return encoded;
}

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  let done = 0;
  while (done < bytes.byteLength) done += (await file.write(bytes, done, bytes.byteLength - done)).bytesWritten;
}
