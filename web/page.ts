/** The page: one model at a time, from choosing it to talking with it. */
import { Conversation } from './conversation.js';
import { element } from './element.js';
import { ModelPicker, embeddedModel } from './model-picker.js';
import { workOffline } from './offline.js';
import type { BrowserModel, ModelSource } from './sdk-contract.js';
import { StatusPanel } from './status-panel.js';

// Not a static import: without the SDK's files the page can still say so.
const sdk = import('shiftadd');

let model: BrowserModel | null = null;
let loading: AbortController | null = null;

const panel = new StatusPanel();
const picker = new ModelPicker({
  load: (source) => void load(source),
  cancel: () => loading?.abort(),
  remove: (url) => void attempt(async () => (await (await sdk).removeCachedModel(url), await showStored())),
  say,
});
const conversation = new Conversation({
  settings: () => ({
    temperature: element('temperature', HTMLInputElement).valueAsNumber,
    system: element('system', HTMLTextAreaElement).value.trim(),
  }),
  live: (speed) => panel.showLive(speed),
  answered: (result) => {
    panel.showResult(result);
    showMemory();
  },
  failed: showError,
  say,
});

async function load(source: ModelSource): Promise<void> {
  const controller = new AbortController();
  loading = controller;
  hideError();
  picker.showLoading();
  try {
    const { loadModel } = await sdk;
    await open(await loadModel(source, { signal: controller.signal, onProgress: (progress) => picker.showProgress(progress) }));
  } catch (error) {
    picker.showChoice();
    element('load', HTMLButtonElement).focus();
    if (controller.signal.aborted) say('Loading was cancelled');
    else showError(error);
  } finally {
    loading = null;
  }
}

async function open(loaded: BrowserModel): Promise<void> {
  model = loaded;
  void loaded.closed.then((error) => {
    // Closed by the page itself, it is no longer the current one.
    if (model !== loaded) return;
    model = null;
    void attempt(leave);
    if (error !== null) showError(error);
  });
  await conversation.begin(loaded);
  panel.showModel(loaded);
  showMemory();
  show('chat');
  conversation.focus();
  say(`${loaded.info.name} is ready`);
}

/** Back to the choice of a model. */
async function leave(): Promise<void> {
  const left = model;
  model = null;
  show('picker');
  picker.showChoice();
  element('picker-title', HTMLHeadingElement).focus();
  await conversation.begin(null);
  await left?.close();
  await showStored();
}

function show(view: 'picker' | 'chat'): void {
  document.body.dataset['view'] = view;
  element('picker', HTMLElement).hidden = view !== 'picker';
  element('chat', HTMLElement).hidden = view !== 'chat';
  element('panel', HTMLElement).hidden = view !== 'chat';
  showDetails(false);
}

/** On a narrow screen the panel takes the place of the chat; on a wide one it is always there. */
function showDetails(shown: boolean): void {
  document.body.toggleAttribute('data-details', shown);
  element('details', HTMLButtonElement).setAttribute('aria-expanded', String(shown));
}

function showMemory(): void {
  const current = model;
  if (current === null) return;
  panel.showMemory(current).catch((error: unknown) => {
    if (model === current) showError(error); // a model that was left meanwhile has nothing to say
  });
}

async function showStored(): Promise<{ url: string }[]> {
  const stored = await (await sdk).listCachedModels();
  picker.showStored(stored);
  return stored;
}

/** For assistive technology, where the eye sees it anyway. */
function say(text: string): void {
  element('status', HTMLParagraphElement).textContent = text;
}

function showError(error: unknown): void {
  const { code, name, message } = (error ?? {}) as { code?: unknown; name?: string; message?: string };
  element('error-code', HTMLElement).textContent = typeof code === 'string' ? code : (name ?? 'Error');
  element('error-message', HTMLSpanElement).textContent = message ?? String(error);
  element('error', HTMLDivElement).hidden = false;
}

function hideError(): void {
  element('error', HTMLDivElement).hidden = true;
}

async function attempt(work: () => Promise<unknown>): Promise<void> {
  try {
    await work();
  } catch (error) {
    showError(error);
  }
}

function onClick(id: string, action: () => unknown): void {
  element(id, HTMLButtonElement).addEventListener('click', () => void attempt(async () => action()));
}

onClick('new-chat', () => {
  hideError();
  showDetails(false);
  return conversation.restart();
});
onClick('change-model', leave);
onClick('details', () => showDetails(!document.body.hasAttribute('data-details')));
onClick('dismiss-error', () => {
  hideError();
  element('main', HTMLElement).focus();
});

const temperature = element('temperature', HTMLInputElement);
temperature.addEventListener('input', () => {
  element('temperature-shown', HTMLOutputElement).value = temperature.valueAsNumber.toFixed(1);
});

void attempt(async () => {
  const stored = await showStored();
  const plain = (url: string): string => url.replace(/\/+$/, '');
  // Nothing is downloaded that nobody asked for; what is here already may as well be opened.
  const here = stored.some(({ url }) => plain(url) === plain(embeddedModel));
  if (here && model === null && loading === null) await load(embeddedModel);
});

// After everything that the first visit needs.
addEventListener('load', () => {
  void workOffline((take) => {
    element('update', HTMLDivElement).hidden = false;
    element('take-update', HTMLButtonElement).onclick = take;
  }).catch((error: unknown) => console.warn('This page will need the network next time:', error)); // in private windows, say
});
