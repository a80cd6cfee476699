/** Which meter tells of the work of one processor: that of a GPU says nothing of the CPU, nor the other way round. */
import { ShiftAddError } from '../errors.js';
import { show } from '../options.js';
import type { SelectedBackend } from '../select-backend.js';
import type { EnergyMeter, UnreadableMeter } from './energy-meter.js';

/** Where work runs: on the processor, on any GPU, or on the GPU with this UUID (`GPU-...`). */
export type WorkPlace = 'cpu' | 'gpu' | `GPU-${string}`;

/** Of a model on this backend. A GPU without identity is any. */
export function workPlace({ name, gpu }: Pick<SelectedBackend, 'name' | 'gpu'>): WorkPlace {
  if (name !== 'cuda') return 'cpu';
  return gpu !== undefined && gpu.uuid.startsWith('GPU-') ? (gpu.uuid as WorkPlace) : 'gpu';
}

/** Whether a meter sees what runs there. Everything but a package, a platform counter and a GPU holds the whole machine. */
export function covers({ scope, name, gpu }: EnergyMeter, place: WorkPlace): boolean {
  if (scope === 'gpu') return place === 'gpu' || (place !== 'cpu' && sameGpu(gpu, place));
  // The platform of an Intel processor holds a GPU of its own, not a card.
  return place === 'cpu' || !(scope === 'package' || name === 'rapl-psys');
}

/** A driver that does not say which GPU a meter is of leaves it in question; it is not left out. */
function sameGpu(uuid: string | undefined, place: string): boolean {
  return uuid === undefined || uuid === '' || uuid === place;
}

/** The meter that was named, else the first that sees the work; null with the reason where there is none. */
export function chooseMeter<Plan extends { meter: EnergyMeter }>(
  plans: readonly Plan[],
  unreadable: readonly UnreadableMeter[],
  { meter, worksOn }: { meter?: string | undefined; worksOn?: WorkPlace | undefined },
): { plan: Plan; problem: null } | { plan: null; problem: string } {
  const plan = plans.find((candidate) => (meter !== undefined ? candidate.meter.name === meter : worksOn === undefined || covers(candidate.meter, worksOn)));
  if (plan !== undefined) return { plan, problem: null };
  const readable = plans.map(({ meter: { name } }) => name).join(', ');
  if (meter !== undefined) {
    const lost = unreadable.find(({ name }) => name === meter);
    const why = lost === undefined ? `There is no energy meter ${show(meter)} here; readable: ${readable === '' ? 'none' : readable}.` : `The energy meter ${meter} cannot be read: ${lost.reason}. ${lost.fix}`;
    throw new ShiftAddError('ERR_NOT_FOUND', why);
  }
  if (plans.length === 0) return { plan: null, problem: 'this machine has no energy meter that can be read; shiftadd devices tells why' };
  const place = worksOn === 'cpu' ? 'processor' : 'GPU';
  return { plan: null, problem: `no meter that can be read here (${readable}) covers the ${place}, on which this runs; shiftadd devices tells more` };
}
