/** The routes: who may ask, what is asked, and the answer or the error. */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { HttpBindings } from '@hono/node-server';
import { Hono, type Context } from 'hono';
import { cors } from 'hono/cors';
import { makeAnswers, type AnswerEvent, type AnswerStart, type Served } from './answers.js';
import type { BusyEnergy } from './busy-energy.js';
import { chatAnswers, chatBody, chatChunks } from './chat-completions.js';
import { completionAnswers, completionBody, completionChunks } from './completions.js';
import { watchDeparture, type Departure } from './departure.js';
import { embeddingBody } from './embeddings.js';
import { eventStream } from './event-stream.js';
import type { Field } from './field-check.js';
import { HttpError, toHttpError } from './http-error.js';
import type { Metrics } from './metrics.js';
import { openApiDocument } from './openapi.js';
import { readRequest } from './request-body.js';
import { requestFields, type ChatRequest, type CompletionRequest, type EmbeddingRequest } from './request-fields.js';
import { stopping, type Slots } from './slots.js';

export interface AppSettings {
  served: Served;
  slots: Slots;
  metrics: Metrics;
  energy: BusyEnergy | null;
  apiKey: string | null;
  corsOrigins: readonly string[];
  maxBodyBytes: number;
  stallMs: number;
  version: string;
  /** Whether the server is stopping. */
  isStopping(): boolean;
  /** Failures that are the server's. */
  onError(error: unknown): void;
  /** Requests in progress. */
  departures: Set<Departure>;
}

type Env = { Bindings: HttpBindings };

const routes: Readonly<Record<string, 'GET' | 'POST'>> = {
  '/health': 'GET',
  '/metrics': 'GET',
  '/openapi.json': 'GET',
  '/v1/models': 'GET',
  '/v1/chat/completions': 'POST',
  '/v1/completions': 'POST',
  '/v1/embeddings': 'POST',
};

export function makeApp(settings: AppSettings): Hono<Env> {
  const { served, slots, metrics, corsOrigins } = settings;
  const app = new Hono<Env>();
  const modelBody = { id: served.name, object: 'model', created: served.created, owned_by: 'shiftadd' };
  const fields = requestFields(served.model.info.vocabularySize);
  const document = openApiDocument(settings.version, served.model.info.vocabularySize);
  const everyOrigin = corsOrigins.includes('*');

  app.use(async (c, next) => {
    const path = c.req.path;
    await next();
    // A stream is counted when it ends.
    if (c.res.headers.get('content-type')?.startsWith('text/event-stream') !== true) metrics.request(Object.hasOwn(routes, path) ? path : path.startsWith('/v1/models/') ? '/v1/models/{model}' : 'other', c.res.status);
  });
  if (corsOrigins.length > 0) app.use(cors({ origin: everyOrigin ? '*' : [...corsOrigins], allowHeaders: ['Authorization', 'Content-Type'], exposeHeaders: ['Retry-After'], maxAge: 600 }));
  app.use(async (c, next) => {
    const origin = c.req.header('origin');
    // A page of another origin must not use a server on this machine, nor one whose name was pointed here.
    if (origin !== undefined && !everyOrigin && !corsOrigins.includes(origin)) throw new HttpError(403, 'Requests of pages are not allowed from this origin. The option corsOrigins (--cors-origin) allows one.', { code: 'origin_not_allowed' });
    if (c.req.path !== '/health') checkKey(settings.apiKey, c.req.header('authorization'));
    if (settings.isStopping() && c.req.path !== '/metrics') throw stopping();
    await next();
  });

  app.get('/health', (c) => c.json({ status: 'ok', running: slots.running, waiting: slots.waiting }));
  app.get('/metrics', (c) => c.text(metrics.text(), 200, { 'Content-Type': 'text/plain; version=0.0.4; charset=utf-8' }));
  app.get('/openapi.json', (c) => c.json(document));
  app.get('/v1/models', (c) => c.json({ object: 'list', data: [modelBody] }));
  app.get('/v1/models/:id{.+}', (c) => {
    checkModel(served, c.req.param('id'));
    return c.json(modelBody);
  });
  app.post('/v1/chat/completions', (c) =>
    answer<ChatRequest>(settings, c, fields.chat, {
      starts: chatAnswers,
      body: (request, events) => chatBody(served, request, events),
      chunks: (request, events) => chatChunks(served, request, events),
    }),
  );
  app.post('/v1/completions', (c) =>
    answer<CompletionRequest>(settings, c, fields.completion, {
      starts: completionAnswers,
      body: (_, events) => completionBody(served, events),
      chunks: (request, events) => completionChunks(served, request, events),
    }),
  );
  app.post('/v1/embeddings', (c) =>
    inSlot<EmbeddingRequest>(settings, c, fields.embedding, async (request, departure, done) => {
      try {
        return Response.json(await embeddingBody(served, request, departure.signal));
      } finally {
        done();
      }
    }),
  );

  app.notFound((c) => {
    const method = routes[c.req.path];
    if (method === undefined) return new HttpError(404, `There is no ${c.req.path.slice(0, 200)} here. GET /openapi.json lists what there is.`, { code: 'not_found' }).response();
    return new HttpError(405, `${c.req.path} takes ${method}, not ${c.req.method}.`, { code: 'method_not_allowed', headers: { Allow: method === 'GET' ? 'GET, HEAD' : method } }).response();
  });
  app.onError((error) => {
    const failure = toHttpError(error);
    if (failure.status === 500) settings.onError(error);
    return failure.response();
  });
  return app;
}

/** In a time that does not tell how much of the key is right. */
function checkKey(key: string | null, header: string | undefined): void {
  if (key === null) return;
  const given = /^Bearer +(.*)$/i.exec(header ?? '')?.[1] ?? '';
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  if (timingSafeEqual(digest(given), digest(key))) return;
  throw new HttpError(401, header === undefined ? 'An API key is needed: send Authorization: Bearer <key>.' : 'The API key is wrong.', { code: 'invalid_api_key', headers: { 'WWW-Authenticate': 'Bearer' } });
}

function checkModel(served: Served, id: string | null | undefined): void {
  if (id === undefined || id === null || id === served.name) return;
  throw new HttpError(404, `There is no model '${id.slice(0, 100)}' here; there is '${served.name}'.`, { param: 'model', code: 'model_not_found' });
}

/** Reads a request, waits for its place and calls `work` in it, which calls `done` once when nothing of it runs any more. */
async function inSlot<T extends { model?: string | null }>(settings: AppSettings, c: Context<Env>, fields: Field, work: (request: T, departure: Departure, done: () => void) => Promise<Response>): Promise<Response> {
  const { served, slots, energy, departures, maxBodyBytes } = settings;
  const { incoming, outgoing } = c.env;
  const departure = watchDeparture(incoming, outgoing);
  departures.add(departure);
  let leave = (): void => undefined;
  let isDone = false;
  const done = (): void => {
    if (isDone) return;
    isDone = true;
    departure.release();
    departures.delete(departure);
    leave();
    // From here on the reader alone takes its time; one that takes nothing holds the connection no longer than this.
    if (!outgoing.writableFinished) outgoing.setTimeout(settings.stallMs, () => outgoing.destroy());
  };
  try {
    const request = await readRequest<T>(incoming, fields, maxBodyBytes);
    checkModel(served, request.model);
    const free = await slots.enter(departure.signal);
    energy?.begin();
    leave = () => {
      energy?.end();
      free();
    };
    return await work(request, departure, done);
  } catch (error) {
    done();
    throw error;
  }
}

interface AnswerKind<T> {
  starts(served: Served, request: T, signal: AbortSignal): AnswerStart[];
  body(request: T, events: AsyncIterable<AnswerEvent>): Promise<object>;
  chunks(request: T, events: AsyncIterable<AnswerEvent>): AsyncGenerator<object, undefined>;
}

async function answer<T extends { model?: string | null; stream?: boolean | null }>(settings: AppSettings, c: Context<Env>, fields: Field, kind: AnswerKind<T>): Promise<Response> {
  const { served, metrics } = settings;
  return inSlot<T>(settings, c, fields, async (request, departure, done) => {
    const events = counted(metrics, makeAnswers(kind.starts(served, request, departure.signal)));
    if (request.stream !== true) {
      const body = await kind.body(request, events);
      done();
      return c.json(body);
    }
    const route = c.req.path;
    return eventStream(kind.chunks(request, events), {
      ended: (error) => {
        const status = error === null ? 200 : toHttpError(error).status;
        if (status === 500) settings.onError(error);
        metrics.request(route, status);
        done();
      },
      left: () => departure.end(toHttpError(new HttpError(499, 'The client closed the connection.', { code: 'client_gone' }))),
    });
  });
}

async function* counted(metrics: Metrics, events: AsyncIterable<AnswerEvent>): AsyncGenerator<AnswerEvent, undefined> {
  for await (const event of events) {
    if (event.kind === 'end') metrics.answer(event.result);
    yield event;
  }
}
