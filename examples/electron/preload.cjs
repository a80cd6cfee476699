// Hands the port to the page, which has no access to Node.
const { ipcRenderer } = require('electron');

ipcRenderer.on('model-port', (event) => window.postMessage('model-port', '*', [...event.ports]));
