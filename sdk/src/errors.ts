/** The one error class of the SDK and its stable codes. Wrong arguments are `TypeError` or `RangeError` instead. */
import type { EngineError, EngineStatus } from './engine.js';

/** Stable codes of `ShiftAddError`: programs branch on these, people read the message. */
export type ErrorCode =
  | 'ERR_BAD_MODEL_FILE'
  | 'ERR_CHECKSUM'
  | 'ERR_NOT_FOUND'
  | 'ERR_UNSUPPORTED_MODEL'
  | 'ERR_NO_BACKEND'
  | 'ERR_CONTEXT_OVERFLOW'
  | 'ERR_OUT_OF_MEMORY'
  | 'ERR_TOKENIZER'
  | 'ERR_CHAT_TEMPLATE'
  | 'ERR_CLOSED'
  | 'ERR_BUSY'
  | 'ERR_ENGINE'
  | 'ERR_NON_FINITE'
  | 'ERR_CALIBRATION'
  | 'ERR_TASK_FILE'
  | 'ERR_PROFILE'
  | 'ERR_OUTPUT_EXISTS'
  | 'ERR_WRITE'
  | 'ERR_DOWNLOAD'
  | 'ERR_WORKER'
  | 'ERR_HUB'
  | 'ERR_HUB_ACCESS'
  | 'ERR_UNSUPPORTED_SCHEMA'
  | 'ERR_SCHEMA_BUDGET'
  | 'ERR_SERVE'
  | 'ERR_STATE_FILE'
  | 'ERR_STATE_MISMATCH'
  | 'ERR_CANCELLED';

/** Every failure that is not a wrong argument: a stable `code`, a sentence that names the fix, and its `cause`. */
export class ShiftAddError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'ShiftAddError';
    this.code = code;
  }
}

const codeOfStatus: Record<EngineStatus, ErrorCode> = {
  invalid_argument: 'ERR_ENGINE',
  not_found: 'ERR_NOT_FOUND',
  bad_format: 'ERR_BAD_MODEL_FILE',
  unsupported: 'ERR_UNSUPPORTED_MODEL',
  out_of_memory: 'ERR_OUT_OF_MEMORY',
  device_failed: 'ERR_ENGINE',
  cancelled: 'ERR_CANCELLED',
};

function isEngineError(error: unknown): error is EngineError {
  return error instanceof Error && typeof (error as { status?: unknown }).status === 'string';
}

/** True when the engine stopped because its cancel flag was set. */
export function isEngineCancel(error: unknown): boolean {
  return isEngineError(error) && error.status === 'cancelled';
}

/** An engine failure as a `ShiftAddError` that also says what was going on; anything else is returned as it came. */
export function fromEngine(error: unknown, doing: string): unknown {
  if (!isEngineError(error)) return error;
  const code = /\b(non-finite|not finite|nan|inf(inite|inity)?)\b/i.test(error.message)
    ? 'ERR_NON_FINITE'
    : (codeOfStatus[error.status] ?? 'ERR_ENGINE');
  return new ShiftAddError(code, `${doing} failed: ${error.message}`, error);
}

const writeFixes: Record<string, string> = {
  ENOSPC: 'There is no space left. Free some, or choose another output folder.',
  EDQUOT: 'The quota is used up. Free some space, or choose another output folder.',
  EFBIG: 'A file may not become so large here. Choose another output folder or a smaller maxShardBytes.',
  EROFS: 'The file system is read-only. Choose another output folder.',
  EACCES: 'Permission is denied. Choose another output folder, or change its permissions.',
  EPERM: 'Permission is denied. Choose another output folder, or change its permissions.',
  ENOTDIR: 'A part of this path is a file. Choose another output folder.',
  ENAMETOOLONG: 'The name is too long. Choose a shorter one.',
  EIO: 'The device reports an error. Choose another output folder.',
};

/** A failure to write below `path` as ERR_WRITE with the fix; anything else, such as an input's, is returned as it came. */
export function fromWriting(error: unknown, path: string): unknown {
  if (error instanceof ShiftAddError || !(error instanceof Error)) return error;
  const { code, path: where } = error as NodeJS.ErrnoException;
  const here = where === undefined || where.startsWith(path) || path.startsWith(where); // a folder above may be in the way
  const fix = code === undefined || !here ? undefined : writeFixes[code];
  return fix === undefined ? error : new ShiftAddError('ERR_WRITE', `${path} cannot be written (${code}). ${fix}`, error);
}

/** The error of a file system call as a typed error that names the path. */
export function fromFileSystem(error: unknown, path: string, fix: string): ShiftAddError {
  if (error instanceof ShiftAddError) return error;
  const code = (error as NodeJS.ErrnoException).code;
  if (code === 'ENOENT' || code === 'ENOTDIR') {
    return new ShiftAddError('ERR_NOT_FOUND', `${path} does not exist. ${fix}`, error);
  }
  const why = code === 'EISDIR' ? 'it is a folder' : (code ?? String(error));
  return new ShiftAddError('ERR_NOT_FOUND', `${path} cannot be read (${why}). ${fix}`, error);
}
