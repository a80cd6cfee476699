/** The two streams of a command: results on standard output, notes and progress on standard error. */
import { ProgressLine } from './progress-line.js';

/** The version of the JSON documents: a field that changes its meaning or goes away raises it. */
export const documentVersion = 1;

/** Lists of numbers, which JSON.stringify spreads over a line each. A line break is never inside a JSON string. */
const numberLists = /\[\n[-\d.,eE+\s]+\n\s*\]/g;

export class Terminal {
  constructor(
    readonly json: boolean,
    readonly quiet: boolean,
  ) {}

  /** The one JSON document of `--json`. */
  document(value: object): void {
    const text = JSON.stringify({ version: documentVersion, ...value }, null, 2);
    process.stdout.write(`${text.replace(numberLists, (list) => list.replace(/\s+/g, ' '))}\n`);
  }

  /** Text of the result, as it comes. */
  write(text: string): void {
    process.stdout.write(text);
  }

  line(text = ''): void {
    process.stdout.write(`${text}\n`);
  }

  /** Something worth knowing that is not the result. */
  note(text: string): void {
    if (!this.quiet) process.stderr.write(`${text}\n`);
  }

  progress(what: string): ProgressLine {
    return new ProgressLine(process.stderr, what, this.quiet);
  }
}

/** A reader that goes away (`shiftadd inspect | head`) ends the program quietly. */
export function endQuietlyWithoutReader(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      process.exit(error.code === 'EPIPE' ? 0 : 1);
    });
  }
}
