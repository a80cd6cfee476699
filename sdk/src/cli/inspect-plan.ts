/** `shiftadd inspect --plan`: whether a model fits a device, as text. */
import { loadBoardProfiles, planMemory, type MemoryPlan, type PlanMemoryOptions } from '../index.js';
import type { Cells } from './inspect-tables.js';
import { bytes, count, counted } from './quantities.js';

export const allDevices = 'all';

/** A plan, or one per board with device `all`. */
export async function plansOf(model: string | undefined, { device, ...options }: PlanMemoryOptions): Promise<MemoryPlan[]> {
  if (device !== allDevices) return [await planMemory(model, { ...options, device })];
  const plans: MemoryPlan[] = [];
  for (const { id } of loadBoardProfiles()) plans.push(await planMemory(model, { ...options, device: id }));
  return plans;
}

/** In one sentence. */
export function verdict(plan: MemoryPlan): string {
  const where = plan.device?.name ?? 'this machine';
  const what = `${bytes(plan.neededBytes)} with a context of ${counted(plan.contextSize, 'token')}`;
  const { availableBytes } = plan.memory;
  if (availableBytes === null) return `${what} are needed; how much ${where} has free is unknown.`;
  const share = `${what}, of ${bytes(availableBytes)} on ${where}`;
  return plan.fits ? `Fits: ${share}.` : `Does not fit: ${share}. What would: ${plan.advice.join('; or ')}.`;
}

export function planParts(plan: MemoryPlan): Cells {
  const { weights, kvCache, scratch, program, reserve } = plan.bytes;
  const { availableBytes, totalBytes, source } = plan.memory;
  const mapped = plan.mappedBytes > 0 ? `${bytes(plan.mappedBytes)} of them mapped files` : plan.backend === 'cuda' ? 'on the GPU' : 'in the memory of WebAssembly';
  const rows = [
    ['weights', bytes(weights), mapped],
    ['KV cache', bytes(kvCache), `${counted(plan.contextSize, 'token')}, ${plan.kvCache}`],
    ['scratch', bytes(scratch), 'of one session'],
    ['program and runtime', bytes(program), `estimate; ${plan.backend}, ${counted(plan.threads, 'thread')}`],
    ['needed', bytes(plan.neededBytes), ''],
    ...(reserve > 0 ? [['reserve for the system', bytes(reserve), `estimate; of ${bytes(totalBytes!)}`]] : []),
    ['available', availableBytes === null ? 'unknown' : bytes(availableBytes), source],
    ['largest context', plan.largestContext === null ? 'unknown' : count(plan.largestContext), 'tokens, at most the limit of the model'],
  ];
  return { header: ['part', 'bytes', ''], rows, right: [1] };
}

export function planSpeed({ speed, contextSize, powerMode }: MemoryPlan): string[] {
  if (speed === null) return ['Speed: the bandwidth of this machine is not in a profile; shiftadd bench measures both.'];
  const { bytesPerToken, bandwidthGBs, bound, typicalShare } = speed;
  const lines = [
    `Speed${powerMode === null ? '' : ` in the power mode ${powerMode}`}: at most ${rate(bound.empty)} tokens per second with an empty context and ${rate(bound.full)} with ${count(contextSize)} tokens: ${bandwidthGBs} GB/s over ${bytes(bytesPerToken.empty)} to ${bytes(bytesPerToken.full)} per token.`,
  ];
  if (typicalShare === null) lines.push('Which share of that this backend reaches has not been measured.');
  else {
    const { least, most, source } = typicalShare;
    lines.push(`Estimate: ${percent(least)} to ${percent(most)} of it, ${rate(least * bound.full)} to ${rate(most * bound.empty)} tokens per second (${source}).`);
  }
  return lines;
}

/** A row per device. */
export function planDevices(plans: readonly MemoryPlan[]): Cells {
  return {
    header: ['device', 'backend', 'needed', 'available', 'fits', 'largest context', 'bound, tokens/s', 'estimate, tokens/s'],
    rows: plans.map((plan) => {
      const { speed, largestContext } = plan;
      const share = speed?.typicalShare;
      return [
        plan.device!.id,
        plan.backend,
        bytes(plan.neededBytes),
        plan.memory.availableBytes === null ? 'unknown' : bytes(plan.memory.availableBytes),
        plan.fits === null ? '?' : plan.fits ? 'yes' : 'no',
        largestContext === null ? '?' : count(largestContext),
        speed === null ? '-' : rate(speed.bound.full),
        speed === null || share === null || share === undefined ? '-' : `${rate(share.least * speed.bound.full)} to ${rate(share.most * speed.bound.full)}`,
      ];
    }),
    right: [2, 3, 5, 6, 7],
  };
}

function rate(tokensPerSecond: number): string {
  return tokensPerSecond.toFixed(tokensPerSecond < 10 ? 1 : 0);
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`;
}
