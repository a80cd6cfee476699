/// <reference lib="esnext.disposable" preserve="true" />
/** `shiftadd/ai-sdk`: loaded models as models of the AI SDK (`ai` 7, interface V4). Nothing of that package is needed at run time. */
export { languageModel } from './language-model.js';
export { embeddingModel, type EmbeddingSettings } from './embedding-model.js';
export type { ShiftAddCallOptions } from './call-settings.js';
export type { ShiftAddMetadata } from './answer.js';
