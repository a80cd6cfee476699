/**
 * A pickle machine for the data.pkl of torch.save: it builds numbers, texts, lists, tuples, dicts and descriptions of
 * tensors, and refuses everything else. Nothing is executed: the few globals are names that it knows.
 */
import { show } from '../options.js';
import { badFile } from './zip-archive.js';

/** Elements on the stack and in the memo; a model of a thousand layers needs a hundredth. */
const valueLimit = 1_000_000;
const markLimit = 1000;
const globalNameLimit = 200;
const dimensionLimit = 8;
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Types of tensors, by torch's names of their storages. */
const storageTypes: Readonly<Record<string, string>> = {
  'torch.FloatStorage': 'F32',
  'torch.HalfStorage': 'F16',
  'torch.BFloat16Storage': 'BF16',
  'torch.DoubleStorage': 'F64',
  'torch.LongStorage': 'I64',
  'torch.IntStorage': 'I32',
  'torch.ShortStorage': 'I16',
  'torch.CharStorage': 'I8',
  'torch.ByteStorage': 'U8',
  'torch.BoolStorage': 'BOOL',
};
const orderedDict = 'collections.OrderedDict';
const rebuildTensor = 'torch._utils._rebuild_tensor_v2';

/** The elements behind one or more tensors: `data/<key>` of the archive. */
export class PickledStorage {
  constructor(
    readonly key: string,
    /** As safetensors names it. */
    readonly dtype: string,
    readonly elements: number,
  ) {}
}

/** A tensor whose elements lie one after the other, the last dimension fastest. */
export class PickledTensor {
  constructor(
    readonly storage: PickledStorage,
    /** In elements. */
    readonly offset: number,
    readonly shape: readonly number[],
  ) {}
}

export class PickledTuple {
  constructor(readonly items: readonly PickledValue[]) {}
}

/** A global that is on the list, `module.name`; what it does is known here. */
export class PickledGlobal {
  constructor(readonly name: string) {}
}

export type PickledDict = Map<PickledValue, PickledValue>;
export type PickledValue =
  | null
  | boolean
  | number
  | string
  | PickledValue[]
  | PickledDict
  | PickledTuple
  | PickledGlobal
  | PickledStorage
  | PickledTensor;

/** The value of a pickle; `path` is for messages. ERR_BAD_MODEL_FILE. */
export function parsePickle(path: string, bytes: Uint8Array): PickledValue {
  return new Machine(path, bytes).run();
}

class Machine {
  readonly #view: DataView;
  #at = 0;
  #stack: PickledValue[] = [];
  /** Stacks below the marks. */
  readonly #marks: PickledValue[][] = [];
  #below = 0;
  readonly #memo = new Map<number, PickledValue>();

  constructor(
    private readonly path: string,
    private readonly bytes: Uint8Array,
  ) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  run(): PickledValue {
    for (;;) {
      const opcode = this.#byte();
      if (opcode === 0x2e /* STOP */) break;
      this.#step(opcode);
      if (this.#below + this.#stack.length > valueLimit || this.#memo.size > valueLimit)
        throw this.#bad(`holds more than ${valueLimit} values`);
    }
    if (this.#at !== this.bytes.length) throw this.#bad(`has ${this.bytes.length - this.#at} bytes behind its end`);
    if (this.#marks.length > 0 || this.#stack.length !== 1) throw this.#bad('leaves more than one value');
    return this.#stack[0]!;
  }

  #step(opcode: number): void {
    switch (opcode) {
      case 0x80: // PROTO
        if (this.#byte() !== 2) throw this.#bad('is not of pickle protocol 2, which torch.save writes');
        return;
      case 0x4e: // NONE
        return this.#push(null);
      case 0x88: // NEWTRUE
        return this.#push(true);
      case 0x89: // NEWFALSE
        return this.#push(false);
      case 0x4b: // BININT1
        return this.#push(this.#byte());
      case 0x4d: // BININT2
        return this.#push(this.#view.getUint16(this.#take(2), true));
      case 0x4a: // BININT
        return this.#push(this.#view.getInt32(this.#take(4), true));
      case 0x8a: // LONG1
        return this.#push(this.#long());
      case 0x47: // BINFLOAT
        return this.#push(this.#view.getFloat64(this.#take(8)));
      case 0x58: // BINUNICODE
        return this.#push(this.#text());
      case 0x63: // GLOBAL
        return this.#push(this.#global());
      case 0x28: // MARK
        if (this.#marks.length === markLimit) throw this.#bad(`nests deeper than ${markLimit}`);
        this.#marks.push(this.#stack);
        this.#below += this.#stack.length;
        this.#stack = [];
        return;
      case 0x5d: // EMPTY_LIST
        return this.#push([]);
      case 0x61: // APPEND
        return this.#append([this.#pop()]);
      case 0x65: // APPENDS
        return this.#append(this.#popMark());
      case 0x7d: // EMPTY_DICT
        return this.#push(new Map());
      case 0x73: {
        // SETITEM
        const value = this.#pop();
        return this.#setItems([this.#pop(), value]);
      }
      case 0x75: // SETITEMS
        return this.#setItems(this.#popMark());
      case 0x29: // EMPTY_TUPLE
        return this.#push(new PickledTuple([]));
      case 0x74: // TUPLE
        return this.#push(new PickledTuple(this.#popMark()));
      case 0x85: // TUPLE1 to TUPLE3
      case 0x86:
      case 0x87: {
        const items = [this.#pop()];
        for (let more = opcode - 0x85; more > 0; more--) items.unshift(this.#pop());
        return this.#push(new PickledTuple(items));
      }
      case 0x71: // BINPUT
        return void this.#memo.set(this.#byte(), this.#top());
      case 0x72: // LONG_BINPUT
        return void this.#memo.set(this.#view.getUint32(this.#take(4), true), this.#top());
      case 0x68: // BINGET
        return this.#recall(this.#byte());
      case 0x6a: // LONG_BINGET
        return this.#recall(this.#view.getUint32(this.#take(4), true));
      case 0x51: // BINPERSID
        return this.#push(this.#storage(this.#pop()));
      case 0x52: {
        // REDUCE
        const given = this.#pop();
        return this.#push(this.#call(this.#pop(), given));
      }
      case 0x62: // BUILD: the attributes that torch gives a state dict; nothing of them is needed
        this.#pop();
        if (!(this.#top() instanceof Map)) throw this.#bad('sets the state of something that is no dict');
        return;
      default:
        throw this.#bad(`uses the pickle opcode 0x${opcode.toString(16).padStart(2, '0')}, which a weight file has no need of`);
    }
  }

  #bad(what: string): Error {
    return badFile(this.path, `has a data.pkl that ${what}`);
  }

  /** Moves past `count` bytes and returns where they begin. */
  #take(count: number): number {
    if (count > this.bytes.length - this.#at) throw this.#bad(`is cut at byte ${this.bytes.length}`);
    this.#at += count;
    return this.#at - count;
  }

  #byte(): number {
    return this.bytes[this.#take(1)]!;
  }

  #push(value: PickledValue): void {
    this.#stack.push(value);
  }

  #pop(): PickledValue {
    const value = this.#stack.pop();
    if (value === undefined) throw this.#bad(`takes a value that is not there, at byte ${this.#at}`);
    return value;
  }

  #top(): PickledValue {
    const value = this.#stack.at(-1);
    if (value === undefined) throw this.#bad(`takes a value that is not there, at byte ${this.#at}`);
    return value;
  }

  #popMark(): PickledValue[] {
    const below = this.#marks.pop();
    if (below === undefined) throw this.#bad(`ends a list that it did not begin, at byte ${this.#at}`);
    const items = this.#stack;
    this.#stack = below;
    this.#below -= below.length;
    return items;
  }

  #recall(index: number): void {
    const value = this.#memo.get(index);
    if (value === undefined) throw this.#bad(`recalls value ${index}, which it did not store`);
    this.#push(value);
  }

  #append(items: PickledValue[]): void {
    const list = this.#top();
    if (!Array.isArray(list)) throw this.#bad('appends to something that is no list');
    for (const item of items) list.push(item);
  }

  #setItems(items: PickledValue[]): void {
    const dict = this.#top();
    if (!(dict instanceof Map) || items.length % 2 !== 0) throw this.#bad('fills something that is no dict');
    for (let i = 0; i < items.length; i += 2) {
      const key = items[i]!;
      if (typeof key !== 'string' && typeof key !== 'number') throw this.#bad('has a dict key that is no text or number');
      if (dict.has(key)) throw this.#bad(`has the dict key ${show(key)} twice`);
      dict.set(key, items[i + 1]!);
    }
  }

  #long(): number {
    const count = this.#byte();
    if (count > 8) throw this.#bad(`has an integer of ${count} bytes; the limit is 8`);
    const start = this.#take(count);
    let value = 0n;
    for (let i = 0; i < count; i++) value |= BigInt(this.bytes[start + i]!) << BigInt(8 * i);
    const signed = Number(BigInt.asIntN(8 * count, value));
    if (!Number.isSafeInteger(signed)) throw this.#bad(`has the integer ${signed}, which is too large`);
    return signed;
  }

  #text(): string {
    const length = this.#view.getUint32(this.#take(4), true);
    const start = this.#take(length);
    try {
      return utf8.decode(this.bytes.subarray(start, start + length));
    } catch {
      throw this.#bad(`has a text at byte ${start} that is not UTF-8`);
    }
  }

  #global(): PickledGlobal {
    const name = `${this.#line()}.${this.#line()}`;
    if (name !== orderedDict && name !== rebuildTensor && !Object.hasOwn(storageTypes, name))
      throw this.#bad(`refers to ${show(name)}, which is not among what a weight file may use`);
    return new PickledGlobal(name);
  }

  #line(): string {
    const start = this.#at;
    const end = this.bytes.subarray(start, start + globalNameLimit + 1).indexOf(0x0a);
    if (end < 0) throw this.#bad(`has the name of a global at byte ${start} that does not end`);
    this.#take(end + 1);
    return Buffer.from(this.bytes.subarray(start, start + end)).toString('latin1');
  }

  /** The persistent id ('storage', type, key, location, elements). */
  #storage(id: PickledValue): PickledStorage {
    const [what, type, key, location, elements] = id instanceof PickledTuple && id.items.length === 5 ? id.items : [];
    const dtype = type instanceof PickledGlobal ? storageTypes[type.name] : undefined;
    if (what !== 'storage' || dtype === undefined || typeof key !== 'string' || !/^\w{1,40}$/.test(key) || typeof location !== 'string' || !isCount(elements))
      throw this.#bad('has a storage that is not described as torch.save does');
    return new PickledStorage(key, dtype, elements);
  }

  #call(callable: PickledValue, given: PickledValue): PickledValue {
    const name = callable instanceof PickledGlobal ? callable.name : null;
    const items = given instanceof PickledTuple ? given.items : null;
    if (name === orderedDict && items?.length === 0) return new Map();
    if (name === rebuildTensor && items !== null) return this.#tensor(items);
    throw this.#bad(`calls ${name ?? 'something that is no known function'} in a way that a weight file has no need of`);
  }

  /** (storage, offset, size, stride, requires_grad, hooks[, metadata]) */
  #tensor(items: readonly PickledValue[]): PickledTensor {
    const [storage, offset, size, stride] = items;
    const shape = this.#counts(size);
    const strides = this.#counts(stride);
    if (items.length < 6 || items.length > 7 || !(storage instanceof PickledStorage) || !isCount(offset) || shape.length !== strides.length)
      throw this.#bad('has a tensor that is not described as torch.save does');
    let elements = 1; // of the dimensions behind the one that is looked at
    for (let i = shape.length - 1; i >= 0; i--) {
      if (shape[i]! > 1 && strides[i] !== elements) throw this.#bad(`has a tensor [${shape.join(', ')}] that is not contiguous`);
      elements *= shape[i]!;
      if (!Number.isSafeInteger(elements)) throw this.#bad(`has a tensor [${shape.join(', ')}], which is too large`);
    }
    if (offset + elements > storage.elements)
      throw this.#bad(`has a tensor [${shape.join(', ')}] at element ${offset} of a storage of ${storage.elements} elements`);
    return new PickledTensor(storage, offset, shape);
  }

  #counts(value: PickledValue | undefined): number[] {
    if (!(value instanceof PickledTuple) || value.items.length > dimensionLimit || !value.items.every(isCount))
      throw this.#bad('has a tensor whose shape or stride is no tuple of whole numbers');
    return value.items as number[];
  }
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}
