/**
 * The dense checkpoint in the rotated basis, as one fp16 file that the quantizer works on in the place of the checkpoint: it
 * predicts the same. Gains of the norms in front of linear layers are folded into those and become 1.
 */
import { denseTensor } from './checkpoint/packed-writer.js';
import type { ModelFolder } from './checkpoint/model-folder.js';
import { readSafetensors, readSafetensorsIfWhole, type SafetensorsFile } from './checkpoint/safetensors.js';
import { writeSafetensors, type TensorToWrite } from './checkpoint/safetensors-writer.js';
import { withDenseModel, type DenseModelOptions } from './dense-model.js';
import type { EngineModel } from './engine.js';
import { fromWriting } from './errors.js';
import type { FamilySpec } from './families/index.js';
import { buildModelSpec, type ModelTensor } from './model-spec.js';
import { isFolded, type Rotation } from './rotation.js';
import { partOf } from './weight-bytes.js';

const half = { zero: 0, one: 0x3c00, bytes: 2 };

/**
 * Writes the file, or takes the one that is there when it has the same key. `onProgress`: 0 to 1. Rejects with ERR_WRITE,
 * ERR_BAD_MODEL_FILE when a weight does not fit fp16, or the signal's reason.
 */
export async function rotateCheckpoint(
  source: ModelFolder,
  family: FamilySpec,
  rotation: Rotation,
  file: { path: string; key: string },
  options: DenseModelOptions & { onProgress: (done: number) => void },
): Promise<ModelFolder> {
  const there = await readSafetensorsIfWhole(file.path);
  const written = there?.metadata['key'] === file.key ? there : await write(source, family, rotation, file, options);
  const stored = new Map([...written.tensors.values()].map((entry) => [entry.name, { ...entry, path: written.path, file: 0 }]));
  return { ...source, files: [written], stored, rotation };
}

async function write(
  source: ModelFolder,
  family: FamilySpec,
  rotation: Rotation,
  { path, key }: { path: string; key: string },
  options: DenseModelOptions & { onProgress: (done: number) => void },
): Promise<SafetensorsFile> {
  await withDenseModel(source, family, options, 'Rotating', async (engineModel) => {
    let done = 0;
    const { tensors: wanted } = buildModelSpec(source, family);
    const tensors = wanted.map((tensor): TensorToWrite => {
      const { data, ...entry } = rotatedTensor(engineModel, tensor, rotation);
      return {
        ...entry,
        data: async function* () {
          options.signal?.throwIfAborted();
          yield* data();
          options.onProgress(++done / tensors.length);
        },
      };
    });
    try {
      await writeSafetensors(path, tensors, { key }, 'replace');
    } catch (error) {
      throw fromWriting(error, path);
    }
  });
  return readSafetensors(path);
}

function rotatedTensor(engineModel: EngineModel, { wanted, dense }: ModelTensor, rotation: Rotation): TensorToWrite {
  const { name, role, layer, shape, added = 0 } = wanted;
  if (partOf(role) === 'norms' && !isFolded(role)) return denseTensor(dense!);
  const count = shape.reduce((product, size) => product * size, 1);
  const bytes = (halves: Uint16Array): Uint8Array => new Uint8Array(halves.buffer, halves.byteOffset, halves.byteLength);
  return {
    name,
    dtype: 'F16',
    shape,
    bytes: half.bytes * count,
    data: async function* () {
      if (isFolded(role)) yield bytes(new Uint16Array(count).fill(added === 1 ? half.zero : half.one));
      else yield bytes(await engineModel.rotated(rotation, role, layer, count).catch((error: unknown) => {
        if (error instanceof Error) error.message = `${name}: ${error.message}; leave the rotation off`;
        throw error;
      }));
    },
  };
}
