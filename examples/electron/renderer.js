// The page: sends a message over the port and shows the answer as it comes.
const form = /** @type {HTMLFormElement} */ (document.querySelector('form'));
const answer = /** @type {HTMLPreElement} */ (document.querySelector('pre'));
let id = 0;

addEventListener('message', ({ data, ports }) => {
  if (data !== 'model-port') return;
  const [port] = ports;
  port.onmessage = ({ data: { text, error } }) => answer.append(text ?? error?.message ?? '');
  form.onsubmit = (event) => {
    event.preventDefault();
    answer.textContent = '';
    port.postMessage({ id: ++id, send: String(new FormData(form).get('message')) });
  };
  const stop = /** @type {HTMLButtonElement} */ (form.elements.namedItem('stop'));
  stop.onclick = () => port.postMessage({ id, cancel: true });
});
