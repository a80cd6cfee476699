/** The thread in which a meter is read, so that nothing that the main thread does delays a reading. */
import { parentPort, workerData } from 'node:worker_threads';
import { monotonicMs } from './energy-meter.js';
import type { MeterPlan } from './meter-plan.js';
import { startReading } from './meter-reader.js';

export interface RecorderWork {
  root: string;
  plan: MeterPlan;
  hz: number;
}

/** Readings are sent together: each message takes the main thread away from what is measured. While it waits, at once. */
const sendMs = 500;

/** What the main thread asks for. */
export type RecorderRequest = 'each' | 'together' | 'close';

const { root, plan, hz } = workerData as RecorderWork;
const port = parentPort!;
let readings: number[] = [];
let sentMs = monotonicMs();
let isAwaited = false;

function send(): void {
  sentMs = monotonicMs();
  if (readings.length > 0) port.postMessage(new Float64Array(readings));
  readings = [];
}

// Each reading is its moment and its values; a missed one is NaN.
const reader = startReading(root, plan, hz, (atMs, values) => {
  readings.push(atMs, ...values.map((value) => value ?? NaN));
  if (isAwaited || atMs - sentMs >= sendMs) send();
});

port.on('message', (request: RecorderRequest) => {
  isAwaited = request === 'each';
  if (request !== 'together') send();
  if (request !== 'close') return;
  reader.stop();
  port.close();
});
