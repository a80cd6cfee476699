/** The options of `serve`: type, range and default. */
import type { Rule } from '../options.js';

export const serveRules = {
  host: { kind: 'text', initial: '127.0.0.1' },
  port: { kind: 'integer', least: 0, most: 65535, initial: 8080 },
  name: { kind: 'text' }, // default: the model's
  apiKey: { kind: 'text' }, // default: none
  corsOrigins: { kind: 'texts', initial: [] },
  parallel: { kind: 'integer', least: 1, most: 64, initial: 4 },
  queue: { kind: 'integer', least: 0, most: 100_000, initial: 64 },
  maxBodyBytes: { kind: 'integer', least: 1024, most: 2 ** 30, initial: 2 ** 20 },
  requestTimeoutMs: { kind: 'integer', least: 100, most: 3_600_000, initial: 30_000 },
  stallTimeoutMs: { kind: 'integer', least: 100, most: 3_600_000, initial: 30_000 },
  stopTimeoutMs: { kind: 'integer', least: 0, most: 3_600_000, initial: 10_000 },
  onError: { kind: 'callback' },
} as const satisfies Record<string, Rule>;
