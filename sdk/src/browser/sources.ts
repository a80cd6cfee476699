/** Where the files of a model come from: an address, or files that the user chose. */
import { ShiftAddError } from '../errors.js';

/** A folder at an address, files (of a folder, or one GGUF file), or a folder that the user opened. */
export type ModelSource = string | URL | readonly File[] | FileList | FileSystemDirectoryHandle;

/** What crosses to the worker. */
export type SentSource = { kind: 'url'; url: string } | { kind: 'files'; name: string; files: { name: string; file: File }[] } | { kind: 'folder'; folder: FileSystemDirectoryHandle };

/** A file that can be read once from any position. */
export interface SourceFile {
  bytes: number;
  /** Changes when the file does; null when nothing says so. */
  version: string | null;
  /** The bytes from `position` on. May begin earlier than asked for when the server cannot resume; `from` says where. */
  stream(position: number, signal: AbortSignal): Promise<{ from: number; body: ReadableStream<Uint8Array> }>;
  text(): Promise<string>;
}

export interface Source {
  /** How the folder is named in messages; the first part of every path. */
  readonly root: string;
  /** Null when there is no such file. */
  find(name: string): Promise<SourceFile | null>;
  /** Empty where files cannot be listed. */
  names(): Promise<string[]>;
}

export function sendableSource(source: ModelSource, base: string): SentSource {
  if (typeof source === 'string' || source instanceof URL) {
    if (String(source) === '') throw new TypeError("Expected the address of a model folder but received ''");
    return { kind: 'url', url: new URL(source, base).href };
  }
  if (typeof FileSystemDirectoryHandle !== 'undefined' && source instanceof FileSystemDirectoryHandle) return { kind: 'folder', folder: source };
  const files = Array.from((source ?? []) as ArrayLike<File>);
  if (files.length === 0 || !files.every((file) => file instanceof File)) throw new TypeError('Expected an address, files or a folder handle for the model');
  // A chosen folder gives paths such as "folder/config.json"; folders inside it do not belong to the model.
  const parts = files.map((file) => (file.webkitRelativePath === '' ? ['files', file.name] : file.webkitRelativePath.split('/')));
  return {
    kind: 'files',
    name: parts[0]!.length > 1 ? parts[0]![0]! : 'files',
    files: files.flatMap((file, i) => (parts[i]!.length === 2 ? [{ name: parts[i]![1]!, file }] : [])),
  };
}

export function openSource(sent: SentSource): Source {
  switch (sent.kind) {
    case 'url':
      return new AddressSource(sent.url);
    case 'files':
      return new FileSource(sent.name, new Map(sent.files.map(({ name, file }) => [name, file])));
    case 'folder':
      return new FolderSource(sent.folder);
  }
}

class AddressSource implements Source {
  readonly root: string;

  constructor(url: string) {
    this.root = url.replace(/\/+$/, '');
  }

  async find(name: string): Promise<SourceFile | null> {
    const url = this.root.endsWith(`/${name}`) ? this.root : `${this.root}/${name}`;
    const response = await request(url, { method: 'HEAD', cache: 'no-cache' });
    if (response === null) return null;
    const version = versionOf(response);
    return {
      bytes: Number(response.headers.get('content-length') ?? Number.NaN),
      version,
      text: async () => {
        const whole = await request(url, { cache: 'no-cache' });
        if (whole === null) throw new ShiftAddError('ERR_NOT_FOUND', `${url} is gone.`);
        return whole.text();
      },
      stream: async (position, signal) => {
        // Past the browser's own cache, which would store it a second time and may hold the version before.
        const ask = (headers: Record<string, string>): Promise<Response | null> => request(url, { headers, signal, cache: 'no-store' });
        let answer = await ask(position > 0 ? { range: `bytes=${position}-` } : {});
        // If-Range would say the same, but servers of other origins have to allow it first.
        if (answer?.status === 206 && versionOf(answer) !== version) {
          await answer.body?.cancel();
          answer = await ask({});
        }
        if (answer?.body == null) throw new ShiftAddError('ERR_DOWNLOAD', `${url} cannot be downloaded: the server sent nothing.`);
        return { from: answer.status === 206 ? position : 0, body: answer.body };
      },
    };
  }

  async names(): Promise<string[]> {
    return [];
  }
}

function versionOf({ headers }: Response): string | null {
  return headers.get('etag') ?? headers.get('last-modified');
}

/** Null for 404, and for a page in the place of a file, which some servers send. ERR_DOWNLOAD names the address. */
async function request(url: string, options: RequestInit): Promise<Response | null> {
  const response = await fetch(url, options).catch((error: unknown) => {
    if (options.signal?.aborted === true) throw options.signal.reason;
    throw new ShiftAddError('ERR_DOWNLOAD', `${url} cannot be reached (${(error as Error).message}). Check the connection, and that the server allows requests from this page (CORS).`, error);
  });
  if (response.status === 404 || response.status === 410) return null;
  if (!response.ok) throw new ShiftAddError('ERR_DOWNLOAD', `${url} cannot be downloaded: the server answered ${response.status} ${response.statusText}.`);
  if (response.headers.get('content-type')?.startsWith('text/html') === true) return null;
  return response;
}

function fileOf(file: File): SourceFile {
  return {
    bytes: file.size,
    version: null,
    text: () => file.text(),
    stream: async (position) => ({ from: position, body: file.slice(position).stream() as ReadableStream<Uint8Array> }),
  };
}

class FileSource implements Source {
  constructor(
    readonly root: string,
    private readonly files: ReadonlyMap<string, File>,
  ) {}
  async find(name: string): Promise<SourceFile | null> {
    const file = this.files.get(name);
    return file === undefined ? null : fileOf(file);
  }
  async names(): Promise<string[]> {
    return [...this.files.keys()];
  }
}

class FolderSource implements Source {
  readonly root: string;
  constructor(private readonly folder: FileSystemDirectoryHandle) {
    this.root = folder.name === '' ? 'folder' : folder.name;
  }
  async find(name: string): Promise<SourceFile | null> {
    try {
      return fileOf(await (await this.folder.getFileHandle(name)).getFile());
    } catch (error) {
      if ((error as DOMException).name === 'NotFoundError' || (error as DOMException).name === 'TypeMismatchError') return null;
      throw new ShiftAddError('ERR_NOT_FOUND', `${this.root}/${name} cannot be read (${(error as Error).message}). Open the folder again.`, error);
    }
  }
  async names(): Promise<string[]> {
    const names: string[] = [];
    for await (const [name, handle] of this.folder.entries()) if (handle.kind === 'file') names.push(name);
    return names;
  }
}
