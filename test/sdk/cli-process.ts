/** Runs the built command line in a process of its own, as a user does. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { packageRoot } from '../../sdk/src/native-path.js';

export const commandLine = join(packageRoot(), 'dist', 'esm', 'cli', 'main.js');

export interface Ended {
  status: number | null;
  output: string;
  notes: string;
}

export interface RunOptions {
  /** Standard input; empty without it. */
  input?: string;
  /** Besides the environment of the test. */
  env?: Record<string, string>;
  /** Called with standard error so far, for tests that act in between. */
  onNotes?: (notes: string, kill: (signal: NodeJS.Signals) => void) => void;
}

export async function shiftadd(words: string[], { input = '', env = {}, onNotes }: RunOptions = {}): Promise<Ended> {
  const [program, ...first] = plainNode;
  const child = spawn(program!, [...first, commandLine, ...words], { stdio: 'pipe', env: { ...plainEnvironment(), ...env } });
  const ended: Ended = { status: null, output: '', notes: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => (ended.output += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    ended.notes += text;
    onNotes?.(ended.notes, (signal) => child.kill(signal));
  });
  child.stdin.on('error', () => undefined); // it may end before it reads
  child.stdin.end(input);
  ended.status = await new Promise((resolve, reject) => child.on('error', reject).on('close', resolve));
  return ended;
}

/** tap hands its loader to every child, which so starts in twice the time; `env` takes it away again, and becomes the program. */
const plainNode = process.platform === 'win32' ? [process.execPath] : ['env', '-u', 'NODE_OPTIONS', process.execPath];

/** Without the loaders that tap asks every Node process to start with. */
export function plainEnvironment(): NodeJS.ProcessEnv {
  const { NODE_OPTIONS: _, ...env } = process.env;
  return env;
}
