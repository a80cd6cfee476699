/** The conversation: messages, an answer as it grows, and the field to write in. */
import { counted, duration } from '../sdk/src/cli/quantities.js';
import type { GenerationResult, TextChunk } from '../sdk/src/run.js';
import { AnswerText } from './answer-text.js';
import { element, make } from './element.js';
import type { BrowserChat, BrowserModel } from './sdk-contract.js';
import type { LiveSpeed } from './status-panel.js';

/** Beside the temperature, as in the chat of the command line: a small model goes astray with unlikely tokens, and in circles. */
const sampling = { topP: 0.9, repetitionPenalty: 1.1 };

export interface ConversationEvents {
  settings(): { temperature: number; system: string };
  live(speed: LiveSpeed): void;
  answered(result: GenerationResult): void;
  failed(error: unknown): void;
  say(text: string): void;
}

export class Conversation {
  private model: BrowserModel | null = null;
  /** Made with the first message, so that it takes the system message of that moment. */
  private chat: BrowserChat | null = null;
  private stopTurn: (() => void) | null = null;
  private turn: Promise<void> = Promise.resolve();
  /** Whether the reader looks at the end, which then stays in view whatever grows or shrinks. */
  private following = true;

  private readonly scroll = element('scroll', HTMLDivElement);
  private readonly welcome = element('welcome', HTMLDivElement);
  private readonly log = element('log', HTMLDivElement);
  private readonly growing = element('growing', HTMLDivElement);
  private readonly message = element('message', HTMLTextAreaElement);
  private readonly sendButton = element('send', HTMLButtonElement);
  private readonly stopButton = element('stop', HTMLButtonElement);

  constructor(private readonly events: ConversationEvents) {
    element('composer', HTMLFormElement).addEventListener('submit', (event) => {
      event.preventDefault();
      this.submit();
    });
    this.message.addEventListener('keydown', (event) => {
      if (event.key === 'Escape') this.stop();
      // An input method uses Enter to accept a word.
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.submit();
    });
    this.stopButton.addEventListener('click', () => this.stop());
    let lastTop = 0;
    this.scroll.addEventListener('scroll', () => {
      // Only a move up is the reader's: an event may also come late, after the text has grown once more.
      const { scrollTop, scrollHeight, clientHeight } = this.scroll;
      if (scrollHeight - scrollTop - clientHeight < 48) this.following = true;
      else if (scrollTop < lastTop) this.following = false;
      lastTop = scrollTop;
    });
    const resized = new ResizeObserver(() => {
      if (this.following) this.scroll.scrollTop = this.scroll.scrollHeight;
    });
    for (const part of [this.scroll, this.log, this.growing]) resized.observe(part);
    for (const example of element('examples', HTMLUListElement).querySelectorAll('button')) {
      example.addEventListener('click', () => {
        this.message.value = example.textContent;
        this.submit();
        this.message.focus();
      });
    }
  }

  /** An empty conversation with a model, or with none. */
  async begin(model: BrowserModel | null): Promise<void> {
    this.model = model;
    this.stop();
    await this.turn;
    const { chat } = this;
    this.chat = null;
    this.log.replaceChildren();
    this.growing.replaceChildren();
    this.welcome.hidden = false;
    // A closed or crashed model has closed its chats already.
    await chat?.close().catch(() => undefined);
  }

  /** Forgets what was said. */
  async restart(): Promise<void> {
    await this.begin(this.model);
    this.events.say('New chat');
    this.message.focus();
  }

  focus(): void {
    this.message.focus();
  }

  private submit(): void {
    const text = this.message.value.trim();
    if (text === '' || this.model === null || this.stopTurn !== null) return;
    this.message.value = '';
    this.turn = this.answer(this.model, text);
  }

  private stop(): void {
    this.stopTurn?.();
  }

  /** One turn. Never rejects: a failure is shown. */
  private async answer(model: BrowserModel, text: string): Promise<void> {
    this.welcome.hidden = true;
    const question = addMessage(this.log, 'You', 'user');
    question.body.append(make('p', '', text));
    const answer = addMessage(this.growing, 'Model', 'model');
    answer.body.append(make('p', 'waiting', 'Reading the message'));
    this.following = true;
    this.stopTurn = () => undefined;
    this.showBusy(true);
    try {
      const { temperature, system } = this.events.settings();
      this.chat ??= model.createChat({ ...sampling, ...(system === '' ? {} : { system }) });
      const run = this.chat.send(text, { temperature });
      const chunks = run[Symbol.asyncIterator]();
      this.stopTurn = () => void chunks.return?.();
      await this.grow(chunks, answer.body);
      const result = await run.result();
      answer.note.textContent = describe(result);
      if (result.finishReason === 'aborted') {
        // The SDK leaves such a turn out of the history.
        answer.article.classList.add('forgotten');
        answer.note.textContent = 'Stopped. The model does not remember this turn.';
      }
      this.events.answered(result);
    } catch (error) {
      answer.article.classList.add('forgotten');
      answer.note.textContent = 'No complete answer. The model does not remember this turn.';
      if (this.message.value === '') this.message.value = text;
      this.events.failed(error);
    } finally {
      answer.body.querySelector('.waiting')?.remove();
      this.stopTurn = null;
      this.showBusy(false);
      // Entering the log reads the whole answer out, once.
      this.log.append(answer.article);
    }
  }

  private async grow(chunks: AsyncIterator<TextChunk, undefined>, body: HTMLElement): Promise<void> {
    const text = new AnswerText(body);
    const began = performance.now();
    let firstAt: number | null = null;
    let written = '';
    let tokens = 0;
    let frame = 0;
    const draw = (): void => {
      frame = 0;
      text.show(written);
      const seconds = (performance.now() - (firstAt ?? began)) / 1000;
      const tokensPerSecond = tokens > 1 && seconds > 0 ? (tokens - 1) / seconds : null;
      this.events.live({ tokens, tokensPerSecond, firstTokenMs: firstAt === null ? null : firstAt - began });
    };
    try {
      for (let next = await chunks.next(); next.done !== true; next = await chunks.next()) {
        if (firstAt === null) body.replaceChildren();
        firstAt ??= performance.now();
        written += next.value.text;
        tokens += next.value.tokens.length;
        // Several tokens may come within one frame.
        frame ||= requestAnimationFrame(draw);
      }
    } finally {
      cancelAnimationFrame(frame);
      if (firstAt !== null) draw();
    }
  }

  private showBusy(busy: boolean): void {
    const focused = document.activeElement === (busy ? this.sendButton : this.stopButton);
    this.sendButton.hidden = busy;
    this.stopButton.hidden = !busy;
    // The button that had the focus is gone.
    if (focused) (busy ? this.stopButton : this.message).focus();
    if (busy) this.events.say('Answering');
  }
}

function addMessage(host: HTMLElement, who: string, kind: string): { article: HTMLElement; body: HTMLElement; note: HTMLElement } {
  const article = make('article', `message ${kind}`);
  const body = make('div', 'text');
  const note = make('p', 'note');
  article.append(make('h3', '', who), body, note);
  host.append(article);
  return { article, body, note };
}

function describe({ finishReason, usage, timings }: GenerationResult): string {
  const parts = [counted(usage.completionTokens, 'token')];
  if (timings.tokensPerSecond !== null) parts.push(`${timings.tokensPerSecond.toFixed(1)} tokens per second`);
  if (timings.firstTokenMs !== null) parts.push(`time to first token ${duration(timings.firstTokenMs)}`);
  if (finishReason === 'length') parts.push('cut off where the context ends');
  return parts.join(' · ');
}
