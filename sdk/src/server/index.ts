/// <reference lib="esnext.disposable" preserve="true" />
/** `shiftadd/server`: a model over HTTP with the routes of OpenAI. */
export { serve, type ServeOptions, type Server } from './serve.js';
