// Loads the model that lies beside the page and continues a text with it.
import { loadModel } from './shiftadd/index.js';

const find = (/** @type {string} */ selector) => /** @type {any} */ (document.querySelector(selector));
const [progress, status, form, button, story] = ['progress', '[role=status]', 'form', 'button', '#story'].map(find);

try {
  const model = await loadModel('./model/', {
    onProgress: ({ phase, done, total }) => {
      progress.value = total > 0 ? done / total : 0;
      status.textContent = phase;
    },
  });
  progress.hidden = true;
  status.textContent = `${model.info.name} on ${model.backend.threads} threads`;
  button.disabled = false;

  form.onsubmit = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    button.disabled = true;
    story.textContent = form.elements.prompt.value;
    try {
      for await (const { text } of model.generate(story.textContent, { maxTokens: 40 })) story.append(text);
    } catch (error) {
      status.textContent = String(error);
    }
    button.disabled = false;
  };
} catch (error) {
  status.textContent = String(error);
}
