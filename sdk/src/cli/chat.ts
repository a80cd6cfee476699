/** `shiftadd chat`: one answer, or a conversation on a terminal. */
import { readFile } from 'node:fs/promises';
import { text as readAll } from 'node:stream/consumers';
import { fromFileSystem } from '../errors.js';
import type { Model, OverflowPolicy, Run, SchemaSource, SendOptions } from '../index.js';
import { type Rule, chatRules, samplingRules, sendRules } from '../options.js';
import { converse } from './chat-interactive.js';
import { UsageError, defineCommand, engineOptions, given, outputOptions, seedOption } from './command.js';
import { loadWithProgress } from './load-model.js';
import type { Terminal } from './terminal.js';
import { speed } from './run-summary.js';

type IntegerRule = Rule & { kind: 'integer' };
type NumberRule = Rule & { kind: 'number' };

// A small model answers questions best with its most likely tokens, and then repeats itself without a penalty.
const sampling = { temperature: 0, topP: 0.9, repetitionPenalty: 1.1 };

export const chat = defineCommand({
  name: 'chat',
  arguments: ['[model]'],
  summary: 'chat with a model, or answer once with --prompt or text on standard input',
  details: [
    'On a terminal: /reset forgets the conversation, /stats shows speed and memory, /exit (or Ctrl-D) leaves. Ctrl-C stops an answer; once more, or without an answer running, it ends the program.',
  ],
  options: {
    prompt: { rule: { kind: 'text' }, value: 'TEXT', help: 'answer this once and exit' },
    raw: { rule: { kind: 'flag', initial: false }, help: 'continue the prompt as it is, without the chat template; for models that are not made for chat' },
    system: { rule: { kind: 'text' }, value: 'TEXT', help: 'the system message', otherwise: "the model's own" },
    'max-tokens': { rule: { ...(sendRules.maxTokens as IntegerRule), initial: 512 }, value: 'N', help: 'tokens of an answer at most' },
    temperature: { rule: { ...(samplingRules.temperature as NumberRule), initial: sampling.temperature }, value: 'X', help: 'how freely tokens are drawn; 0 always takes the most likely one' },
    'top-k': { rule: samplingRules.topK as IntegerRule, value: 'N', help: 'draw from the N most likely tokens; 0 is off' },
    'top-p': { rule: { ...(samplingRules.topP as NumberRule), initial: sampling.topP }, value: 'X', help: 'draw from the most likely tokens that together reach this probability; 1 is off' },
    'min-p': { rule: samplingRules.minP as NumberRule, value: 'X', help: 'draw from tokens at least this share as likely as the most likely; 0 is off' },
    'repetition-penalty': { rule: { ...(samplingRules.repetitionPenalty as NumberRule), initial: sampling.repetitionPenalty }, value: 'X', help: 'makes the latest tokens less likely; 1 is off' },
    'prompt-lookup': { rule: { kind: 'flag', initial: false }, help: 'guess tokens from earlier text; the same answer, sooner where it repeats the prompt. Needs --temperature 0 and --repetition-penalty 1' },
    stop: { rule: { kind: 'text' }, value: 'TEXT', repeatable: true, help: 'end the answer before this text' },
    schema: { rule: { kind: 'text' }, value: 'FILE', help: 'a JSON schema that the answer keeps to; takes no --stop and no --prompt-lookup' },
    context: { rule: { kind: 'integer', least: 1, most: 2 ** 31 - 1 }, value: 'N', help: 'tokens that the conversation can hold', otherwise: "the model's limit, at most 4096", sdkName: 'contextSize' },
    overflow: { rule: chatRules.overflow as Rule & { kind: 'choice' }, value: 'POLICY', help: "when the conversation does not fit the context any more: 'throw' ends with an error, 'drop-oldest-turns' forgets its oldest turns" },
    ...seedOption,
    ...engineOptions,
    ...outputOptions,
  },
  examples: [
    { command: 'shiftadd chat', does: 'chat with the embedded model' },
    { command: 'shiftadd chat --prompt "What is the capital of France?" --max-tokens 48 --seed 1', does: 'one answer, the same every time' },
    { command: 'shiftadd chat ./my-model --system "Answer in one sentence." < question.txt', does: 'one answer to a file' },
    { command: 'shiftadd chat --prompt "Describe a person." --schema person.json', does: 'an answer that the JSON schema accepts' },
    { command: 'shiftadd chat --prompt "Name three rivers." --json', does: 'the answer with counts, times and memory' },
  ],
  async run(call) {
    const { arguments: [name], values, terminal, signal } = call;
    const interactive = values.prompt === undefined && process.stdin.isTTY === true;
    if (interactive && terminal.json) throw new UsageError('--json needs --prompt or text on standard input', 'chat');
    const prompt = interactive ? undefined : (values.prompt ?? (await readAll(process.stdin)).trim());
    if (interactive && values.raw) throw new UsageError('--raw needs --prompt or text on standard input', 'chat');
    if (values.raw && values.system !== undefined) throw new UsageError('--raw takes no --system: there is no template to put it in', 'chat');
    if (prompt === '') throw new UsageError('chat needs --prompt or text on standard input', 'chat');
    if (interactive && values.schema !== undefined) throw new UsageError('--schema needs --prompt or text on standard input', 'chat');
    if (values.schema !== undefined && (values.stop.length > 0 || values['prompt-lookup'])) throw new UsageError('--schema takes no --stop and no --prompt-lookup', 'chat');
    const schema = values.schema === undefined ? undefined : await readSchemaFile(values.schema);
    const options: SendOptions = {
      ...given({
        maxTokens: values['max-tokens'],
        temperature: values.temperature,
        topK: values['top-k'],
        topP: values['top-p'],
        minP: values['min-p'],
        repetitionPenalty: values['repetition-penalty'],
        seed: values.seed,
      }),
      stop: [...values.stop],
      promptLookup: values['prompt-lookup'],
    };
    const model = await loadWithProgress(name, values, call, { contextSize: values.context });
    try {
      const settings = { ...given({ system: values.system, overflow: values.overflow as OverflowPolicy }), ...options };
      if (prompt === undefined) await converse(model, settings, terminal);
      else if (values.raw) await show(model.generate(prompt, { ...options, ...given({ schema }), signal }), model, terminal);
      else await show(model.createChat(settings).send(prompt, { ...given({ schema }), signal }), model, terminal);
    } finally {
      await model.close();
    }
  },
});

async function readSchemaFile(path: string): Promise<SchemaSource> {
  const source = await readFile(path, 'utf8').catch((error: unknown) => {
    throw fromFileSystem(error, path, 'Name a file with a JSON schema.');
  });
  let schema: unknown;
  try {
    schema = JSON.parse(source);
  } catch (error) {
    throw new UsageError(`${path} is no JSON: ${(error as Error).message}`, 'chat');
  }
  if (typeof schema !== 'object' || schema === null || Array.isArray(schema)) throw new UsageError(`${path} holds no JSON schema, which is an object`, 'chat');
  return schema as SchemaSource;
}

async function show(run: Run, model: Model, terminal: Terminal): Promise<void> {
  if (terminal.json) return terminal.document({ model: { name: model.info.name, path: model.path }, ...(await run.result()) });
  try {
    for await (const { text } of run) terminal.write(text);
  } finally {
    terminal.line();
  }
  terminal.note(speed(await run.result()));
}
