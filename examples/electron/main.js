// The main process: a window, the model's process, and a channel between them.
import { fileURLToPath } from 'node:url';
import { app, BrowserWindow, MessageChannelMain, utilityProcess } from 'electron';

const here = (/** @type {string} */ name) => fileURLToPath(new URL(name, import.meta.url));

await app.whenReady();
const model = utilityProcess.fork(here('model-process.js'), [], { serviceName: 'model' });
const window = new BrowserWindow({ webPreferences: { preload: here('preload.cjs') } });
model.on('exit', (code) => {
  if (!window.isDestroyed()) window.setTitle(`The model has ended (${code})`);
});
window.webContents.on('did-finish-load', () => {
  const { port1, port2 } = new MessageChannelMain();
  model.postMessage(null, [port1]);
  window.webContents.postMessage('model-port', null, [port2]);
});
await window.loadFile(here('index.html'));
app.on('window-all-closed', () => app.quit());
