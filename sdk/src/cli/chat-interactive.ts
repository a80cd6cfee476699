/** A conversation on a terminal: reads lines, streams answers, knows a few commands that begin with a slash. */
import { createInterface, type Interface } from 'node:readline';
import type { Chat, ChatOptions, GenerationResult, Model, Run, TextChunk } from '../index.js';
import { nearest } from '../options.js';
import { speed, statistics } from './run-summary.js';
import type { Terminal } from './terminal.js';

const INTERRUPTED = 130;

const slashCommands = {
  '/help': 'show these commands',
  '/reset': 'forget the conversation',
  '/stats': 'speed and memory of the last answer',
  '/exit': 'leave (or press Ctrl-D)',
} as const;

type SlashCommand = keyof typeof slashCommands;

export async function converse(model: Model, settings: ChatOptions, terminal: Terminal): Promise<void> {
  const { backend, info } = model;
  terminal.note(`${info.name} on ${backend.name} (${backend.isa}, ${backend.threads} threads). /help lists commands.`);
  const lines = createInterface({ input: process.stdin, output: process.stdout, prompt: '> ', historySize: 1000 });
  try {
    await new Conversation(model.createChat(settings), settings, terminal, lines).run();
  } finally {
    lines.close();
  }
}

class Conversation {
  #last: GenerationResult | undefined;
  #answer: AsyncIterator<TextChunk> | undefined;
  #stopping = false;
  #turn = 0;

  constructor(
    private readonly chat: Chat,
    private readonly settings: ChatOptions,
    private readonly terminal: Terminal,
    private readonly lines: Interface,
  ) {}

  async run(): Promise<void> {
    // Readline holds the keyboard, so that Ctrl-C comes as its event and not as a signal.
    this.lines.on('SIGINT', () => this.interrupt());
    this.lines.prompt();
    for await (const line of this.lines) {
      const text = line.trim();
      if (text === '/exit') return;
      if (text.startsWith('/')) this.command(text);
      else if (text !== '') await this.answer(text);
      this.lines.prompt();
    }
    this.terminal.line();
  }

  /** Stops a running answer; a second time, or without one, ends the program. */
  private interrupt(): void {
    if (this.#answer === undefined || this.#stopping) {
      this.lines.close();
      this.terminal.line();
      process.exit(INTERRUPTED);
    }
    this.#stopping = true;
    void this.#answer.return?.();
  }

  private command(text: string): void {
    switch (text as SlashCommand) {
      case '/help':
        for (const [name, does] of Object.entries(slashCommands)) this.terminal.line(`${name.padEnd(8)} ${does}`);
        return;
      case '/reset':
        this.chat.reset();
        return this.terminal.note('The conversation starts anew.');
      case '/stats':
        return this.terminal.line(this.#last === undefined ? 'No answer yet.' : statistics(this.#last));
      default: {
        const near = nearest(text, Object.keys(slashCommands));
        this.terminal.note(`There is no command ${text}. ${near === null ? '/help lists them.' : `Did you mean ${near}?`}`);
      }
    }
  }

  /** A failure, such as a full context, is told and the conversation goes on. */
  private async answer(text: string): Promise<void> {
    try {
      const run = this.chat.send(text, this.turnSeed());
      await this.show(run);
      this.#last = await run.result();
      this.terminal.line();
      this.terminal.note(this.#stopping ? '(stopped; this answer is not part of the conversation)' : speed(this.#last));
    } catch (error) {
      this.terminal.line();
      this.terminal.note(`shiftadd: ${(error as Error).message}`);
    } finally {
      this.#answer = undefined;
      this.#stopping = false;
    }
  }

  private async show(run: Run): Promise<void> {
    const answer = run[Symbol.asyncIterator]();
    this.#answer = answer;
    for (let next = await answer.next(); next.done !== true; next = await answer.next()) this.terminal.write(next.value.text);
  }

  /** The same conversation with the same seed repeats itself, but the same question twice may get two answers. */
  private turnSeed(): { seed?: number } {
    const { seed } = this.settings;
    return seed === undefined ? {} : { seed: seed + this.#turn++ };
  }
}
