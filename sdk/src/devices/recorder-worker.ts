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

/** Readings are sent together, to wake the main thread seldom. */
const sendMs = 50;

const { root, plan, hz } = workerData as RecorderWork;
const port = parentPort!;
let readings: number[] = [];
let sentMs = monotonicMs();

// Each reading is its moment and its values; a missed one is NaN.
const reader = startReading(root, plan, hz, (atMs, values) => {
  readings.push(atMs, ...values.map((value) => value ?? NaN));
  if (atMs - sentMs < sendMs) return;
  sentMs = atMs;
  port.postMessage(new Float64Array(readings));
  readings = [];
});

port.once('message', () => {
  reader.stop();
  port.close();
});
