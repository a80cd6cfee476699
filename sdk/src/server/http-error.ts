/** Failures of a request as OpenAI's clients know them: a status, and `{ error: { message, type, param, code } }`. */
import { ShiftAddError, type ErrorCode } from '../errors.js';

export interface ErrorBody {
  error: { message: string; type: string; param: string | null; code: string | null };
}

export interface ErrorDetails {
  /** The field of the request that is wrong, such as `messages[0].content`. */
  param?: string | null;
  code?: string | null;
  headers?: Readonly<Record<string, string>>;
}

const typeOfStatus: Readonly<Record<number, string>> = { 401: 'authentication_error', 403: 'permission_error', 429: 'rate_limit_error', 503: 'unavailable_error' };

export class HttpError extends Error {
  readonly param: string | null;
  readonly code: string | null;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    readonly status: number,
    message: string,
    { param = null, code = null, headers = {} }: ErrorDetails = {},
  ) {
    super(message);
    this.name = 'HttpError';
    this.param = param;
    this.code = code;
    this.headers = headers;
  }

  body(): ErrorBody {
    const type = typeOfStatus[this.status] ?? (this.status < 500 ? 'invalid_request_error' : 'server_error');
    return { error: { message: this.message, type, param: this.param, code: this.code } };
  }

  response(): Response {
    return Response.json(this.body(), { status: this.status, headers: { ...this.headers } });
  }
}

/** The client closed its connection: nobody reads the answer. The status is for counting alone. */
export class ClientGone extends HttpError {
  constructor() {
    super(499, 'The client closed the connection.', { code: 'client_gone' });
  }
}

/** What failed in the SDK because of the request. */
const statusOfCode: Partial<Record<ErrorCode, [status: number, code: string, param?: string]>> = {
  ERR_CONTEXT_OVERFLOW: [400, 'context_length_exceeded'],
  ERR_CHAT_TEMPLATE: [400, 'chat_template', 'messages'],
  ERR_UNSUPPORTED_SCHEMA: [400, 'unsupported_schema'],
  ERR_SCHEMA_BUDGET: [400, 'schema_budget', 'max_tokens'],
  ERR_TOKENIZER: [400, 'tokenizer'],
  ERR_CLOSED: [503, 'closed'],
  ERR_OUT_OF_MEMORY: [503, 'out_of_memory'],
};

/** Option names of the SDK in its sentences, as the request has them. */
const requestNames: Readonly<Record<string, string>> = { maxTokens: 'max_tokens', logitBias: 'logit_bias', presencePenalty: 'presence_penalty', frequencyPenalty: 'frequency_penalty', toolChoice: 'tool_choice', contextSize: 'context' };

/** Any failure of answering a request. Only what is not the request's fault becomes a 5xx. */
export function toHttpError(error: unknown): HttpError {
  if (error instanceof HttpError) return error;
  const sentence = error instanceof Error ? error.message : String(error);
  const message = sentence.replace(/\b[a-z]+[A-Z]\w*\b/g, (name) => requestNames[name] ?? name);
  if (error instanceof ShiftAddError) {
    const [status, code, param] = statusOfCode[error.code] ?? [500, error.code.toLowerCase()];
    return new HttpError(status, message, { code, ...(param === undefined ? {} : { param }), ...(status === 503 ? { headers: { 'Retry-After': '1' } } : {}) });
  }
  // The SDK throws these for wrong options, and its sentences begin alike; other ones are faults of the server.
  if ((error instanceof TypeError || error instanceof RangeError) && message.startsWith('Expected ')) {
    const param = /\bfor ([a-z_]+)(\[|\b)/.exec(message)?.[1] ?? null;
    return new HttpError(400, message, { param, code: 'invalid_value' });
  }
  return new HttpError(500, 'The server failed on this request; its log tells more.', { code: 'internal_error' });
}
