/** Log-probabilities of tokens in the two shapes that OpenAI has. */
import type { GeneratedLogprob, TokenLogprob } from '../token-logprobs.js';
import type { Tokenizer } from '../tokenizer.js';

interface ChatLogprob {
  token: string;
  logprob: number;
  /** The raw bytes: a token may be a part of a character. */
  bytes: number[];
}

export interface ChatLogprobs {
  content: (ChatLogprob & { top_logprobs: ChatLogprob[] })[];
  refusal: null;
}

export function chatLogprobs(tokenizer: Tokenizer, logprobs: readonly GeneratedLogprob[]): ChatLogprobs {
  const body = ({ token, logprob }: TokenLogprob): ChatLogprob => {
    const bytes = tokenizer.bytesOf(token);
    return { token: textOf(bytes), logprob, bytes: [...bytes] };
  };
  return { content: logprobs.map((entry) => ({ ...body(entry), top_logprobs: entry.top.map(body) })), refusal: null };
}

export interface CompletionLogprobs {
  tokens: string[];
  token_logprobs: number[];
  top_logprobs: Record<string, number>[];
  text_offset: number[];
}

/** `offset`: characters of the answer in front of the first of these tokens. */
export function completionLogprobs(tokenizer: Tokenizer, logprobs: readonly GeneratedLogprob[], offset: number): CompletionLogprobs {
  const tokens = logprobs.map(({ token }) => textOf(tokenizer.bytesOf(token)));
  let next = offset;
  const offsets = tokens.map((token) => {
    const at = next;
    next += token.length;
    return at;
  });
  return {
    tokens,
    token_logprobs: logprobs.map(({ logprob }) => logprob),
    top_logprobs: logprobs.map(({ top }) => Object.fromEntries(top.map(({ token, logprob }) => [textOf(tokenizer.bytesOf(token)), logprob]))),
    text_offset: offsets,
  };
}

function textOf(bytes: Uint8Array): string {
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);
}
