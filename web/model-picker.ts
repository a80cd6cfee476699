/** Where a model comes from, how far it is loaded, and which ones this browser keeps. */
import { bytes } from '../sdk/src/cli/quantities.js';
import { element, make } from './element.js';
import type { LoadProgress, ModelSource } from './sdk-contract.js';

export interface PickerEvents {
  load(source: ModelSource): void;
  cancel(): void;
  remove(url: string): void;
  /** For assistive technology. */
  say(text: string): void;
}

/** The folder of the model that comes with the page. */
export const embeddedModel = new URL('models/smollm2-135m-instruct/', document.baseURI).href;

const phases: Record<LoadProgress['phase'], string> = {
  open: 'Opening the model',
  download: 'Downloading',
  verify: 'Checking',
  load: 'Loading into memory',
};

export class ModelPicker {
  private readonly form = element('choice', HTMLFormElement);
  private readonly folder = element('folder', HTMLInputElement);
  private readonly address = element('address', HTMLInputElement);
  private readonly problem = element('source-problem', HTMLParagraphElement);
  private readonly progress = element('progress', HTMLDivElement);
  private readonly progressText = element('progress-text', HTMLLabelElement);
  private readonly progressBar = element('progress-bar', HTMLProgressElement);
  private announced = '';

  constructor(private readonly events: PickerEvents) {
    this.form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.submit();
    });
    // Not on `change`, which comes with the press on the button: the text would vanish and the button move away.
    this.form.addEventListener('input', () => this.refuse(''));
    element('cancel-load', HTMLButtonElement).addEventListener('click', () => events.cancel());
    if (!('webkitdirectory' in this.folder)) {
      element('use-folder', HTMLInputElement).disabled = true;
      element('folder-note', HTMLParagraphElement).textContent = 'This browser cannot open folders.';
    }
  }

  /** Lets a model be chosen. */
  showChoice(): void {
    this.form.hidden = false;
    this.progress.hidden = true;
  }

  showLoading(): void {
    this.form.hidden = true;
    this.progress.hidden = false;
    this.announced = '';
    this.showProgress({ phase: 'open', done: 0, total: 0 });
    element('cancel-load', HTMLButtonElement).focus();
  }

  showProgress({ phase, done, total }: LoadProgress): void {
    const share = total > 0 ? Math.min(1, done / total) : 0;
    const counted = (phase === 'download' || phase === 'verify') && total > 0;
    this.progressText.textContent = phases[phase] + (counted ? `: ${bytes(done)} of ${bytes(total)}` : '');
    if (total > 0) this.progressBar.value = share;
    else this.progressBar.removeAttribute('value');
    // Every step would be too much to listen to.
    const quarter = Math.floor(share * 4) * 25;
    const said = counted ? `${phases[phase]}, ${quarter} percent` : phases[phase];
    if (said !== this.announced) this.events.say(said);
    this.announced = said;
  }

  showStored(models: { url: string; bytes: number }[]): void {
    element('stored', HTMLDetailsElement).hidden = models.length === 0;
    element('stored-title', HTMLElement).textContent = `Stored in this browser: ${models.length}`;
    const entries = models.map(({ url, bytes: size }) => {
      const entry = make('li');
      const remove = make('button', '', 'Remove');
      remove.type = 'button';
      remove.setAttribute('aria-label', `Remove ${url}`);
      remove.addEventListener('click', () => this.events.remove(url));
      entry.append(make('span', 'url', url), make('span', 'size', bytes(size)), remove);
      return entry;
    });
    element('stored-list', HTMLUListElement).replaceChildren(...entries);
  }

  private submit(): void {
    const chosen = new FormData(this.form).get('source');
    if (chosen === 'embedded') this.events.load(embeddedModel);
    else if (chosen === 'folder') this.loadFolder();
    else this.loadAddress();
  }

  private loadFolder(): void {
    const files = [...(this.folder.files ?? [])];
    if (files.length === 0) this.refuse('Choose a folder first.', this.folder);
    else this.events.load(files);
  }

  private loadAddress(): void {
    const text = this.address.value.trim();
    const url = URL.canParse(text, document.baseURI) ? new URL(text, document.baseURI) : null;
    // The page's content security policy allows no other connections.
    const allowed = url !== null && (url.protocol === 'https:' || url.origin === location.origin);
    if (text === '') this.refuse('Write an address first.', this.address);
    else if (!allowed) this.refuse('Expected an address that begins with https://, or a path on this site.', this.address);
    else this.events.load(url.href);
  }

  private refuse(why: string, field?: HTMLInputElement): void {
    this.problem.textContent = why;
    for (const each of [this.folder, this.address]) each.toggleAttribute('aria-invalid', false);
    field?.setAttribute('aria-invalid', 'true');
    field?.focus();
  }
}
