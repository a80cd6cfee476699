/** What a quantization would give and need, computed without doing it. */
import { openModelFolder } from './checkpoint/model-folder.js';
import { ShiftAddError } from './errors.js';
import { describeFamily } from './families/index.js';
import { buildModelSpec } from './model-spec.js';
import { quantizeRules, readOptions } from './options.js';
import { normBytes, packedBytes } from './packed-bytes.js';
import { workingBytes } from './quantize-memory.js';
import { planSteps, rotationOf, type QuantizeOptions } from './quantize-settings.js';
import { resolveModel } from './resolve-model.js';
import { partOf, type WeightBytes } from './weight-bytes.js';
import { typicalWidths } from './width-plan.js';

/** What a matrix will be packed as. */
export interface PlannedTensor {
  name: string;
  planes: number;
  bytes: number;
  bitsPerWeight: number;
}

/** What a quantization would do, before it does it: sizes in bytes. */
export interface QuantizePlan {
  /** Over the linear layers, all scales and padding counted. */
  bitsPerWeight: number;
  /** Of the tensors in the packed folder, exactly; in mode 'mixed' with the widths that a typical model would get. */
  bytes: WeightBytes;
  tensors: PlannedTensor[];
  /** Memory that the quantizer needs besides the mapped checkpoint and the program, estimated. */
  workingBytes: number;
}

/**
 * The size that `quantizeModel` with these options would give. Needs no calibration. Rejects with ERR_NOT_FOUND,
 * ERR_BAD_MODEL_FILE, ERR_UNSUPPORTED_MODEL, TypeError or RangeError.
 */
export async function planQuantization(checkpointFolder: string | URL, options?: QuantizeOptions): Promise<QuantizePlan> {
  const checked = readOptions<QuantizeOptions>(quantizeRules, options, 'planQuantization');
  const source = await openModelFolder(await resolveModel(checkpointFolder));
  if (source.quantization !== null) throw alreadyPacked(source.path);
  const family = describeFamily(source.config, source.configPath);
  buildModelSpec(source, family); // refuses a checkpoint with missing or unknown tensors
  const steps = planSteps(family, checked);
  const norms = normBytes(source, family, checked, rotationOf(family, checked) !== null);
  const widths = typicalWidths(steps, checked, norms);
  const bytes: WeightBytes = { linearLayers: 0, embedding: 0, head: 0, norms, total: norms };
  let linearWeights = 0;
  const tensors = steps.flatMap((step, stepIndex) =>
    step.tensors.map((tensor, index): PlannedTensor => {
      const settings = step.candidates[index]![widths[stepIndex]![index]!]!;
      const size = packedBytes(tensor, settings);
      const weights = tensor.shape[0]! * tensor.shape[1]!;
      const part = partOf(tensor.role);
      bytes[part] += size;
      bytes.total += size;
      if (part === 'linearLayers') linearWeights += weights;
      return { name: tensor.name, planes: settings.planes, bytes: size, bitsPerWeight: (size * 8) / weights };
    }),
  );
  return {
    bitsPerWeight: (bytes.linearLayers * 8) / linearWeights,
    bytes,
    tensors,
    workingBytes: workingBytes(family, steps, checked, bytes.total),
  };
}

export function alreadyPacked(path: string): ShiftAddError {
  return new ShiftAddError(
    'ERR_UNSUPPORTED_MODEL',
    `${path} is packed already. Quantize the checkpoint it was made from.`,
  );
}
