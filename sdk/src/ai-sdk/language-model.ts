/** A loaded model as a language model of the AI SDK. */
import type { LanguageModelV4, LanguageModelV4CallOptions } from '@ai-sdk/provider' with { 'resolution-mode': 'import' };
import type { Model } from '../model.js';
import { coreOf } from '../model-core.js';
import { show } from '../options.js';
import type { Run } from '../run.js';
import { HeldCalls } from '../tools/held-calls.js';
import { content, finishReason, metadata, usage } from './answer.js';
import { answerStream, type StreamSettings } from './answer-stream.js';
import { readCall, type CallSettings } from './call-settings.js';

/**
 * For `generateText`, `streamText` and the rest of `ai`. The model stays the caller's, who closes it. Calls reject with the errors of
 * `chat.send`, TypeError for a prompt that is not text, or the signal's reason; settings that a model does not have become `warnings`.
 * TypeError for something that is no model.
 */
export function languageModel(model: Model): LanguageModelV4 {
  if (typeof (model as Partial<Model> | null)?.createChat !== 'function') throw new TypeError(`Expected a model of loadModel for model but received ${show(model)}`);
  const start = (call: LanguageModelV4CallOptions): { settings: CallSettings; run: Run; response: StreamSettings['response'] } => {
    const settings = readCall(call);
    settings.options.signal?.throwIfAborted();
    const response = { id: crypto.randomUUID(), timestamp: new Date(), modelId: model.info.name };
    return { settings, run: send(model, settings), response };
  };
  return {
    specificationVersion: 'v4',
    provider: 'shiftadd',
    modelId: model.info.name,
    supportedUrls: {},
    async doGenerate(call) {
      const { settings, run, response } = start(call);
      const result = await run.result();
      return {
        content: content(result),
        finishReason: finishReason(result),
        usage: usage(result),
        providerMetadata: metadata(result),
        response,
        warnings: settings.warnings,
      };
    },
    async doStream(call) {
      const { settings, run, response } = start(call);
      const { tools = [], toolChoice = 'auto' } = settings.options;
      const stream = answerStream(run, {
        warnings: settings.warnings,
        response,
        held: tools.length === 0 || toolChoice === 'none' ? null : new HeldCalls(coreOf(model)?.template.source ?? null, toolChoice !== 'auto', (tokens) => model.tokenizer.decode(tokens, { skipSpecialTokens: false })),
        includeRawChunks: call.includeRawChunks === true,
        signal: call.abortSignal,
      });
      return { stream };
    },
  };
}

/** Every call has a chat of its own, which ends with it. */
function send(model: Model, { messages, options }: CallSettings): Run {
  const chat = model.createChat({ history: messages.slice(0, -1) });
  const close = (): Promise<void> => chat.close();
  try {
    const run = chat.send(messages.at(-1)!, options);
    run.result().then(close, close);
    return run;
  } catch (error) {
    void close();
    throw error;
  }
}
