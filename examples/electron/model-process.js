// The process of the model: a utility process of Electron, or a worker thread of plain Node. Its first message brings the port.
import { parentPort as threadPort } from 'node:worker_threads';
import { loadModel } from 'shiftadd';
import { serveChat } from './chat-port.js';

const model = await loadModel(process.env['SHIFTADD_MODEL']);

const electronPort = /** @type {any} */ (process).parentPort;
if (electronPort !== undefined) electronPort.on('message', (/** @type {any} */ { ports }) => serveChat(model, ports[0]));
else threadPort?.on('message', ({ port }) => serveChat(model, port));
