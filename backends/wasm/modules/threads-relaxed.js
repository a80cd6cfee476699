/* @ts-self-types="./threads-relaxed.d.ts" */

/**
 * A status of the C interface other than 0, and its sentence.
 */
export class Failure {
    static __wrap(ptr) {
        const obj = Object.create(Failure.prototype);
        obj.__wbg_ptr = ptr;
        FailureFinalization.register(obj, obj.__wbg_ptr, obj);
        return obj;
    }
    __destroy_into_raw() {
        const ptr = this.__wbg_ptr;
        this.__wbg_ptr = 0;
        FailureFinalization.unregister(this);
        return ptr;
    }
    free() {
        const ptr = this.__destroy_into_raw();
        wasm.__wbg_failure_free(ptr, 0);
    }
    /**
     * @returns {string}
     */
    get message() {
        let deferred1_0;
        let deferred1_1;
        try {
            const ret = wasm.failure_message(this.__wbg_ptr);
            deferred1_0 = ret[0];
            deferred1_1 = ret[1];
            return getStringFromWasm0(ret[0], ret[1]);
        } finally {
            wasm.__wbindgen_free(deferred1_0, deferred1_1, 1);
        }
    }
    /**
     * @returns {number}
     */
    get status() {
        const ret = wasm.__wbg_get_failure_status(this.__wbg_ptr);
        return ret;
    }
    /**
     * @param {number} arg0
     */
    set status(arg0) {
        wasm.__wbg_set_failure_status(this.__wbg_ptr, arg0);
    }
}
if (Symbol.dispose) Failure.prototype[Symbol.dispose] = Failure.prototype.free;

export class ModelInfo {
    static __wrap(ptr) {
        const obj = Object.create(ModelInfo.prototype);
        obj.__wbg_ptr = ptr;
        ModelInfoFinalization.register(obj, obj.__wbg_ptr, obj);
        return obj;
    }
    __destroy_into_raw() {
        const ptr = this.__wbg_ptr;
        this.__wbg_ptr = 0;
        ModelInfoFinalization.unregister(this);
        return ptr;
    }
    free() {
        const ptr = this.__destroy_into_raw();
        wasm.__wbg_modelinfo_free(ptr, 0);
    }
    /**
     * @returns {number}
     */
    get heap_bytes() {
        const ret = wasm.__wbg_get_modelinfo_heap_bytes(this.__wbg_ptr);
        return ret;
    }
    /**
     * @returns {number}
     */
    get kv_type() {
        const ret = wasm.__wbg_get_modelinfo_kv_type(this.__wbg_ptr);
        return ret;
    }
    /**
     * @returns {number}
     */
    get mapped_bytes() {
        const ret = wasm.__wbg_get_modelinfo_mapped_bytes(this.__wbg_ptr);
        return ret;
    }
    /**
     * @returns {number}
     */
    get precision() {
        const ret = wasm.__wbg_get_modelinfo_precision(this.__wbg_ptr);
        return ret;
    }
    /**
     * @returns {number}
     */
    get threads() {
        const ret = wasm.__wbg_get_modelinfo_threads(this.__wbg_ptr);
        return ret;
    }
    /**
     * @returns {string}
     */
    get isa() {
        let deferred1_0;
        let deferred1_1;
        try {
            const ret = wasm.modelinfo_isa(this.__wbg_ptr);
            deferred1_0 = ret[0];
            deferred1_1 = ret[1];
            return getStringFromWasm0(ret[0], ret[1]);
        } finally {
            wasm.__wbindgen_free(deferred1_0, deferred1_1, 1);
        }
    }
    /**
     * @param {number} arg0
     */
    set heap_bytes(arg0) {
        wasm.__wbg_set_modelinfo_heap_bytes(this.__wbg_ptr, arg0);
    }
    /**
     * @param {number} arg0
     */
    set kv_type(arg0) {
        wasm.__wbg_set_modelinfo_kv_type(this.__wbg_ptr, arg0);
    }
    /**
     * @param {number} arg0
     */
    set mapped_bytes(arg0) {
        wasm.__wbg_set_modelinfo_mapped_bytes(this.__wbg_ptr, arg0);
    }
    /**
     * @param {number} arg0
     */
    set precision(arg0) {
        wasm.__wbg_set_modelinfo_precision(this.__wbg_ptr, arg0);
    }
    /**
     * @param {number} arg0
     */
    set threads(arg0) {
        wasm.__wbg_set_modelinfo_threads(this.__wbg_ptr, arg0);
    }
}
if (Symbol.dispose) ModelInfo.prototype[Symbol.dispose] = ModelInfo.prototype.free;

export class SessionInfo {
    static __wrap(ptr) {
        const obj = Object.create(SessionInfo.prototype);
        obj.__wbg_ptr = ptr;
        SessionInfoFinalization.register(obj, obj.__wbg_ptr, obj);
        return obj;
    }
    __destroy_into_raw() {
        const ptr = this.__wbg_ptr;
        this.__wbg_ptr = 0;
        SessionInfoFinalization.unregister(this);
        return ptr;
    }
    free() {
        const ptr = this.__destroy_into_raw();
        wasm.__wbg_sessioninfo_free(ptr, 0);
    }
    /**
     * @returns {number}
     */
    get beyond_switch() {
        const ret = wasm.__wbg_get_sessioninfo_beyond_switch(this.__wbg_ptr);
        return ret;
    }
    /**
     * @returns {number}
     */
    get context_size() {
        const ret = wasm.__wbg_get_sessioninfo_context_size(this.__wbg_ptr);
        return ret;
    }
    /**
     * @returns {number}
     */
    get kv_cache_bytes() {
        const ret = wasm.__wbg_get_sessioninfo_kv_cache_bytes(this.__wbg_ptr);
        return ret;
    }
    /**
     * @returns {number}
     */
    get position_bytes() {
        const ret = wasm.__wbg_get_sessioninfo_position_bytes(this.__wbg_ptr);
        return ret;
    }
    /**
     * @returns {number}
     */
    get position() {
        const ret = wasm.__wbg_get_sessioninfo_position(this.__wbg_ptr);
        return ret;
    }
    /**
     * @returns {number}
     */
    get scratch_bytes() {
        const ret = wasm.__wbg_get_sessioninfo_scratch_bytes(this.__wbg_ptr);
        return ret;
    }
    /**
     * @param {number} arg0
     */
    set beyond_switch(arg0) {
        wasm.__wbg_set_sessioninfo_beyond_switch(this.__wbg_ptr, arg0);
    }
    /**
     * @param {number} arg0
     */
    set context_size(arg0) {
        wasm.__wbg_set_sessioninfo_context_size(this.__wbg_ptr, arg0);
    }
    /**
     * @param {number} arg0
     */
    set kv_cache_bytes(arg0) {
        wasm.__wbg_set_sessioninfo_kv_cache_bytes(this.__wbg_ptr, arg0);
    }
    /**
     * @param {number} arg0
     */
    set position_bytes(arg0) {
        wasm.__wbg_set_sessioninfo_position_bytes(this.__wbg_ptr, arg0);
    }
    /**
     * @param {number} arg0
     */
    set position(arg0) {
        wasm.__wbg_set_sessioninfo_position(this.__wbg_ptr, arg0);
    }
    /**
     * @param {number} arg0
     */
    set scratch_bytes(arg0) {
        wasm.__wbg_set_sessioninfo_scratch_bytes(this.__wbg_ptr, arg0);
    }
}
if (Symbol.dispose) SessionInfo.prototype[Symbol.dispose] = SessionInfo.prototype.free;

/**
 * Room for the bytes of a file, aligned to 64; 0 when there is none. `release` frees it.
 * @param {number} bytes
 * @returns {number}
 */
export function allocate(bytes) {
    const ret = wasm.allocate(bytes);
    return ret >>> 0;
}

/**
 * @param {number} session
 * @param {Int32Array} tokens
 */
export function append(session, tokens) {
    const ptr0 = passArray32ToWasm0(tokens, wasm.__wbindgen_malloc);
    const len0 = WASM_VECTOR_LEN;
    const ret = wasm.append(session, ptr0, len0);
    if (ret[1]) {
        throw takeFromExternrefTable0(ret[0]);
    }
}

/**
 * @param {number} grammar
 */
export function close_grammar(grammar) {
    wasm.close_grammar(grammar);
}

/**
 * @param {number} model
 */
export function close_model(model) {
    wasm.close_model(model);
}

/**
 * @param {number} session
 */
export function close_session(session) {
    wasm.close_session(session);
}

/**
 * `grammar` 0: no constraint.
 * @param {number} session
 * @param {number} grammar
 * @param {number} budget
 */
export function constrain(session, grammar, budget) {
    const ret = wasm.constrain(session, grammar, budget);
    if (ret[1]) {
        throw takeFromExternrefTable0(ret[0]);
    }
}

/**
 * @param {number} session
 * @param {number} from
 * @param {Int32Array} tokens
 */
export function copy_session(session, from, tokens) {
    const ptr0 = passArray32ToWasm0(tokens, wasm.__wbindgen_malloc);
    const len0 = WASM_VECTOR_LEN;
    const ret = wasm.copy_session(session, from, ptr0, len0);
    if (ret[1]) {
        throw takeFromExternrefTable0(ret[0]);
    }
}

/**
 * @param {number} session
 * @param {number} token
 * @param {Int32Array} draft
 * @returns {Int32Array}
 */
export function decode_draft(session, token, draft) {
    const ptr0 = passArray32ToWasm0(draft, wasm.__wbindgen_malloc);
    const len0 = WASM_VECTOR_LEN;
    const ret = wasm.decode_draft(session, token, ptr0, len0);
    if (ret[3]) {
        throw takeFromExternrefTable0(ret[2]);
    }
    var v2 = getArrayI32FromWasm0(ret[0], ret[1]).slice();
    wasm.__wbindgen_free(ret[0], ret[1] * 4, 4);
    return v2;
}

/**
 * @param {number} model
 * @returns {ModelInfo}
 */
export function describe_model(model) {
    const ret = wasm.describe_model(model);
    if (ret[2]) {
        throw takeFromExternrefTable0(ret[1]);
    }
    return ModelInfo.__wrap(ret[0]);
}

/**
 * @param {number} session
 * @returns {SessionInfo}
 */
export function describe_session(session) {
    const ret = wasm.describe_session(session);
    if (ret[2]) {
        throw takeFromExternrefTable0(ret[1]);
    }
    return SessionInfo.__wrap(ret[0]);
}

/**
 * @param {number} session
 * @param {Int32Array} tokens
 * @param {number} pooling
 * @param {number} embedding
 * @returns {Float32Array}
 */
export function embed(session, tokens, pooling, embedding) {
    const ptr0 = passArray32ToWasm0(tokens, wasm.__wbindgen_malloc);
    const len0 = WASM_VECTOR_LEN;
    const ret = wasm.embed(session, ptr0, len0, pooling, embedding);
    if (ret[3]) {
        throw takeFromExternrefTable0(ret[2]);
    }
    var v2 = getArrayF32FromWasm0(ret[0], ret[1]).slice();
    wasm.__wbindgen_free(ret[0], ret[1] * 4, 4);
    return v2;
}

/**
 * @param {number} session
 * @param {Int32Array} tokens
 * @returns {Float32Array}
 */
export function evaluate(session, tokens) {
    const ptr0 = passArray32ToWasm0(tokens, wasm.__wbindgen_malloc);
    const len0 = WASM_VECTOR_LEN;
    const ret = wasm.evaluate(session, ptr0, len0);
    if (ret[3]) {
        throw takeFromExternrefTable0(ret[2]);
    }
    var v2 = getArrayF32FromWasm0(ret[0], ret[1]).slice();
    wasm.__wbindgen_free(ret[0], ret[1] * 4, 4);
    return v2;
}

/**
 * The verdict, the tokens to the end and the words of the mask, in this order.
 * @param {number} grammar
 * @param {Uint8Array} text
 * @param {number} budget
 * @param {number} vocabulary
 * @returns {Uint32Array}
 */
export function follow_grammar(grammar, text, budget, vocabulary) {
    const ptr0 = passArray8ToWasm0(text, wasm.__wbindgen_malloc);
    const len0 = WASM_VECTOR_LEN;
    const ret = wasm.follow_grammar(grammar, ptr0, len0, budget, vocabulary);
    if (ret[3]) {
        throw takeFromExternrefTable0(ret[2]);
    }
    var v2 = getArrayU32FromWasm0(ret[0], ret[1]).slice();
    wasm.__wbindgen_free(ret[0], ret[1] * 4, 4);
    return v2;
}

/**
 * The instruction set that `isa` names, or the one that is chosen without.
 * @param {string | null} [isa]
 * @returns {string}
 */
export function instruction_set(isa) {
    let deferred3_0;
    let deferred3_1;
    try {
        var ptr0 = isLikeNone(isa) ? 0 : passStringToWasm0(isa, wasm.__wbindgen_malloc, wasm.__wbindgen_realloc);
        var len0 = WASM_VECTOR_LEN;
        const ret = wasm.instruction_set(ptr0, len0);
        var ptr2 = ret[0];
        var len2 = ret[1];
        if (ret[3]) {
            ptr2 = 0; len2 = 0;
            throw takeFromExternrefTable0(ret[2]);
        }
        deferred3_0 = ptr2;
        deferred3_1 = len2;
        return getStringFromWasm0(ptr2, len2);
    } finally {
        wasm.__wbindgen_free(deferred3_0, deferred3_1, 1);
    }
}

/**
 * @param {number} session
 * @returns {boolean}
 */
export function is_complete(session) {
    const ret = wasm.is_complete(session);
    if (ret[2]) {
        throw takeFromExternrefTable0(ret[1]);
    }
    return ret[0] !== 0;
}

/**
 * Works for the models of other threads and never returns.
 */
export function lend_thread() {
    wasm.lend_thread();
}

/**
 * How many threads have been lent.
 * @returns {number}
 */
export function lent_threads() {
    const ret = wasm.lent_threads();
    return ret >>> 0;
}

/**
 * @param {number} session
 * @param {number} vocabulary
 * @returns {Float32Array}
 */
export function logits(session, vocabulary) {
    const ret = wasm.logits(session, vocabulary);
    if (ret[3]) {
        throw takeFromExternrefTable0(ret[2]);
    }
    var v1 = getArrayF32FromWasm0(ret[0], ret[1]).slice();
    wasm.__wbindgen_free(ret[0], ret[1] * 4, 4);
    return v1;
}

/**
 * @param {number} model
 * @param {Int32Array} numbers
 * @returns {number}
 */
export function open_grammar(model, numbers) {
    const ptr0 = passArray32ToWasm0(numbers, wasm.__wbindgen_malloc);
    const len0 = WASM_VECTOR_LEN;
    const ret = wasm.open_grammar(model, ptr0, len0);
    if (ret[2]) {
        throw takeFromExternrefTable0(ret[1]);
    }
    return ret[0] >>> 0;
}

/**
 * `addresses` and `sizes` say where the files of `paths` are in this memory; they stay there until the model is closed.
 * @param {Float64Array} spec
 * @param {string[]} paths
 * @param {Uint32Array} addresses
 * @param {Uint32Array} sizes
 * @param {number} threads
 * @param {number} precision
 * @param {number} kv_type
 * @param {string | null} [isa]
 * @returns {number}
 */
export function open_model(spec, paths, addresses, sizes, threads, precision, kv_type, isa) {
    const ptr0 = passArrayF64ToWasm0(spec, wasm.__wbindgen_malloc);
    const len0 = WASM_VECTOR_LEN;
    const ptr1 = passArrayJsValueToWasm0(paths, wasm.__wbindgen_malloc);
    const len1 = WASM_VECTOR_LEN;
    const ptr2 = passArray32ToWasm0(addresses, wasm.__wbindgen_malloc);
    const len2 = WASM_VECTOR_LEN;
    const ptr3 = passArray32ToWasm0(sizes, wasm.__wbindgen_malloc);
    const len3 = WASM_VECTOR_LEN;
    var ptr4 = isLikeNone(isa) ? 0 : passStringToWasm0(isa, wasm.__wbindgen_malloc, wasm.__wbindgen_realloc);
    var len4 = WASM_VECTOR_LEN;
    const ret = wasm.open_model(ptr0, len0, ptr1, len1, ptr2, len2, ptr3, len3, threads, precision, kv_type, ptr4, len4);
    if (ret[2]) {
        throw takeFromExternrefTable0(ret[1]);
    }
    return ret[0] >>> 0;
}

/**
 * @param {number} model
 * @param {number} context_size
 * @returns {number}
 */
export function open_session(model, context_size) {
    const ret = wasm.open_session(model, context_size);
    if (ret[2]) {
        throw takeFromExternrefTable0(ret[1]);
    }
    return ret[0] >>> 0;
}

/**
 * @param {number} session
 * @param {Int32Array} tokens
 */
export function prefill(session, tokens) {
    const ptr0 = passArray32ToWasm0(tokens, wasm.__wbindgen_malloc);
    const len0 = WASM_VECTOR_LEN;
    const ret = wasm.prefill(session, ptr0, len0);
    if (ret[1]) {
        throw takeFromExternrefTable0(ret[0]);
    }
}

/**
 * @param {number} session
 * @param {Int32Array} tokens
 * @param {number} vocabulary
 * @returns {Float32Array}
 */
export function prefill_logits(session, tokens, vocabulary) {
    const ptr0 = passArray32ToWasm0(tokens, wasm.__wbindgen_malloc);
    const len0 = WASM_VECTOR_LEN;
    const ret = wasm.prefill_logits(session, ptr0, len0, vocabulary);
    if (ret[3]) {
        throw takeFromExternrefTable0(ret[2]);
    }
    var v2 = getArrayF32FromWasm0(ret[0], ret[1]).slice();
    wasm.__wbindgen_free(ret[0], ret[1] * 4, 4);
    return v2;
}

/**
 * Reads all weights once and returns their bytes: what limits a decode step.
 * @param {number} model
 * @returns {number}
 */
export function read_files(model) {
    const ret = wasm.read_files(model);
    if (ret[2]) {
        throw takeFromExternrefTable0(ret[1]);
    }
    return ret[0];
}

/**
 * @param {number} address
 */
export function release(address) {
    wasm.release(address);
}

/**
 * @param {number} session
 * @param {Int32Array} tokens
 * @param {Uint8Array} saved
 * @param {boolean} beyond_switch
 */
export function restore_positions(session, tokens, saved, beyond_switch) {
    const ptr0 = passArray32ToWasm0(tokens, wasm.__wbindgen_malloc);
    const len0 = WASM_VECTOR_LEN;
    const ptr1 = passArray8ToWasm0(saved, wasm.__wbindgen_malloc);
    const len1 = WASM_VECTOR_LEN;
    const ret = wasm.restore_positions(session, ptr0, len0, ptr1, len1, beyond_switch);
    if (ret[1]) {
        throw takeFromExternrefTable0(ret[0]);
    }
}

/**
 * @param {number} session
 * @param {number} position
 */
export function rewind(session, position) {
    const ret = wasm.rewind(session, position);
    if (ret[1]) {
        throw takeFromExternrefTable0(ret[0]);
    }
}

/**
 * @param {number} session
 * @param {number} temperature
 * @param {number} top_k
 * @param {number} top_p
 * @param {number} min_p
 * @param {number} repetition_penalty
 * @param {number} repetition_window
 * @returns {number}
 */
export function sample(session, temperature, top_k, top_p, min_p, repetition_penalty, repetition_window) {
    const ret = wasm.sample(session, temperature, top_k, top_p, min_p, repetition_penalty, repetition_window);
    if (ret[2]) {
        throw takeFromExternrefTable0(ret[1]);
    }
    return ret[0];
}

/**
 * @param {number} session
 * @param {number} first
 * @param {number} count
 * @returns {Uint8Array}
 */
export function save_positions(session, first, count) {
    const ret = wasm.save_positions(session, first, count);
    if (ret[3]) {
        throw takeFromExternrefTable0(ret[2]);
    }
    var v1 = getArrayU8FromWasm0(ret[0], ret[1]).slice();
    wasm.__wbindgen_free(ret[0], ret[1] * 1, 1);
    return v1;
}

/**
 * @param {number} session
 * @param {bigint} seed
 */
export function seed(session, seed) {
    const ret = wasm.seed(session, seed);
    if (ret[1]) {
        throw takeFromExternrefTable0(ret[0]);
    }
}

/**
 * @param {number} model
 * @param {Uint8Array} bytes
 * @param {Uint32Array} ends
 * @param {Int32Array} end_tokens
 */
export function set_vocabulary(model, bytes, ends, end_tokens) {
    const ptr0 = passArray8ToWasm0(bytes, wasm.__wbindgen_malloc);
    const len0 = WASM_VECTOR_LEN;
    const ptr1 = passArray32ToWasm0(ends, wasm.__wbindgen_malloc);
    const len1 = WASM_VECTOR_LEN;
    const ptr2 = passArray32ToWasm0(end_tokens, wasm.__wbindgen_malloc);
    const len2 = WASM_VECTOR_LEN;
    const ret = wasm.set_vocabulary(model, ptr0, len0, ptr1, len1, ptr2, len2);
    if (ret[1]) {
        throw takeFromExternrefTable0(ret[0]);
    }
}

/**
 * @returns {number}
 */
export function version() {
    const ret = wasm.version();
    return ret;
}
function __wbg_get_imports(memory) {
    const import0 = {
        __proto__: null,
        __wbg___wbindgen_string_get_0380ccaa2f57f0d9: function(arg0, arg1) {
            const obj = arg1;
            const ret = typeof(obj) === 'string' ? obj : undefined;
            var ptr1 = isLikeNone(ret) ? 0 : passStringToWasm0(ret, wasm.__wbindgen_malloc, wasm.__wbindgen_realloc);
            var len1 = WASM_VECTOR_LEN;
            getDataViewMemory0().setInt32(arg0 + 4 * 1, len1, true);
            getDataViewMemory0().setInt32(arg0 + 4 * 0, ptr1, true);
        },
        __wbg___wbindgen_throw_41e9ee4f547fc59a: function(arg0, arg1) {
            throw new Error(getStringFromWasm0(arg0, arg1));
        },
        __wbg_failure_new: function(arg0) {
            const ret = Failure.__wrap(arg0);
            return ret;
        },
        __wbindgen_init_externref_table: function() {
            const table = wasm.__wbindgen_externrefs;
            const offset = table.grow(4);
            table.set(0, undefined);
            table.set(offset + 0, undefined);
            table.set(offset + 1, null);
            table.set(offset + 2, true);
            table.set(offset + 3, false);
        },
        memory: memory || new WebAssembly.Memory({initial:18,maximum:65536,shared:true}),
    };
    return {
        __proto__: null,
        "./threads-relaxed_bg.js": import0,
    };
}

const FailureFinalization = (typeof FinalizationRegistry === 'undefined')
    ? { register: () => {}, unregister: () => {} }
    : new FinalizationRegistry(ptr => wasm.__wbg_failure_free(ptr, 1));
const ModelInfoFinalization = (typeof FinalizationRegistry === 'undefined')
    ? { register: () => {}, unregister: () => {} }
    : new FinalizationRegistry(ptr => wasm.__wbg_modelinfo_free(ptr, 1));
const SessionInfoFinalization = (typeof FinalizationRegistry === 'undefined')
    ? { register: () => {}, unregister: () => {} }
    : new FinalizationRegistry(ptr => wasm.__wbg_sessioninfo_free(ptr, 1));

function addToExternrefTable0(obj) {
    const idx = wasm.__externref_table_alloc();
    wasm.__wbindgen_externrefs.set(idx, obj);
    return idx;
}

function getArrayF32FromWasm0(ptr, len) {
    ptr = ptr >>> 0;
    return getFloat32ArrayMemory0().subarray(ptr / 4, ptr / 4 + len);
}

function getArrayI32FromWasm0(ptr, len) {
    ptr = ptr >>> 0;
    return getInt32ArrayMemory0().subarray(ptr / 4, ptr / 4 + len);
}

function getArrayU32FromWasm0(ptr, len) {
    ptr = ptr >>> 0;
    return getUint32ArrayMemory0().subarray(ptr / 4, ptr / 4 + len);
}

function getArrayU8FromWasm0(ptr, len) {
    ptr = ptr >>> 0;
    return getUint8ArrayMemory0().subarray(ptr / 1, ptr / 1 + len);
}

let cachedDataViewMemory0 = null;
function getDataViewMemory0() {
    if (cachedDataViewMemory0 === null || cachedDataViewMemory0.buffer !== wasm.memory.buffer) {
        cachedDataViewMemory0 = new DataView(wasm.memory.buffer);
    }
    return cachedDataViewMemory0;
}

let cachedFloat32ArrayMemory0 = null;
function getFloat32ArrayMemory0() {
    if (cachedFloat32ArrayMemory0 === null || cachedFloat32ArrayMemory0.buffer !== wasm.memory.buffer) {
        cachedFloat32ArrayMemory0 = new Float32Array(wasm.memory.buffer);
    }
    return cachedFloat32ArrayMemory0;
}

let cachedFloat64ArrayMemory0 = null;
function getFloat64ArrayMemory0() {
    if (cachedFloat64ArrayMemory0 === null || cachedFloat64ArrayMemory0.buffer !== wasm.memory.buffer) {
        cachedFloat64ArrayMemory0 = new Float64Array(wasm.memory.buffer);
    }
    return cachedFloat64ArrayMemory0;
}

let cachedInt32ArrayMemory0 = null;
function getInt32ArrayMemory0() {
    if (cachedInt32ArrayMemory0 === null || cachedInt32ArrayMemory0.buffer !== wasm.memory.buffer) {
        cachedInt32ArrayMemory0 = new Int32Array(wasm.memory.buffer);
    }
    return cachedInt32ArrayMemory0;
}

function getStringFromWasm0(ptr, len) {
    return decodeText(ptr >>> 0, len);
}

let cachedUint32ArrayMemory0 = null;
function getUint32ArrayMemory0() {
    if (cachedUint32ArrayMemory0 === null || cachedUint32ArrayMemory0.buffer !== wasm.memory.buffer) {
        cachedUint32ArrayMemory0 = new Uint32Array(wasm.memory.buffer);
    }
    return cachedUint32ArrayMemory0;
}

let cachedUint8ArrayMemory0 = null;
function getUint8ArrayMemory0() {
    if (cachedUint8ArrayMemory0 === null || cachedUint8ArrayMemory0.buffer !== wasm.memory.buffer) {
        cachedUint8ArrayMemory0 = new Uint8Array(wasm.memory.buffer);
    }
    return cachedUint8ArrayMemory0;
}

function isLikeNone(x) {
    return x === undefined || x === null;
}

function passArray32ToWasm0(arg, malloc) {
    const ptr = malloc(arg.length * 4, 4) >>> 0;
    getUint32ArrayMemory0().set(arg, ptr / 4);
    WASM_VECTOR_LEN = arg.length;
    return ptr;
}

function passArray8ToWasm0(arg, malloc) {
    const ptr = malloc(arg.length * 1, 1) >>> 0;
    getUint8ArrayMemory0().set(arg, ptr / 1);
    WASM_VECTOR_LEN = arg.length;
    return ptr;
}

function passArrayF64ToWasm0(arg, malloc) {
    const ptr = malloc(arg.length * 8, 8) >>> 0;
    getFloat64ArrayMemory0().set(arg, ptr / 8);
    WASM_VECTOR_LEN = arg.length;
    return ptr;
}

function passArrayJsValueToWasm0(array, malloc) {
    const ptr = malloc(array.length * 4, 4) >>> 0;
    for (let i = 0; i < array.length; i++) {
        const add = addToExternrefTable0(array[i]);
        getDataViewMemory0().setUint32(ptr + 4 * i, add, true);
    }
    WASM_VECTOR_LEN = array.length;
    return ptr;
}

function passStringToWasm0(arg, malloc, realloc) {
    if (realloc === undefined) {
        const buf = cachedTextEncoder.encode(arg);
        const ptr = malloc(buf.length, 1) >>> 0;
        getUint8ArrayMemory0().subarray(ptr, ptr + buf.length).set(buf);
        WASM_VECTOR_LEN = buf.length;
        return ptr;
    }

    let len = arg.length;
    let ptr = malloc(len, 1) >>> 0;

    const mem = getUint8ArrayMemory0();

    let offset = 0;

    for (; offset < len; offset++) {
        const code = arg.charCodeAt(offset);
        if (code > 0x7F) break;
        mem[ptr + offset] = code;
    }
    if (offset !== len) {
        if (offset !== 0) {
            arg = arg.slice(offset);
        }
        ptr = realloc(ptr, len, len = offset + arg.length * 3, 1) >>> 0;
        const view = getUint8ArrayMemory0().subarray(ptr + offset, ptr + len);
        const ret = cachedTextEncoder.encodeInto(arg, view);

        offset += ret.written;
        ptr = realloc(ptr, len, offset, 1) >>> 0;
    }

    WASM_VECTOR_LEN = offset;
    return ptr;
}

function takeFromExternrefTable0(idx) {
    const value = wasm.__wbindgen_externrefs.get(idx);
    wasm.__externref_table_dealloc(idx);
    return value;
}

let cachedTextDecoder = (typeof TextDecoder !== 'undefined' ? new TextDecoder('utf-8', { ignoreBOM: true, fatal: true }) : undefined);
if (cachedTextDecoder) cachedTextDecoder.decode();

const MAX_SAFARI_DECODE_BYTES = 2146435072;
let numBytesDecoded = 0;
function decodeText(ptr, len) {
    numBytesDecoded += len;
    if (numBytesDecoded >= MAX_SAFARI_DECODE_BYTES) {
        cachedTextDecoder = new TextDecoder('utf-8', { ignoreBOM: true, fatal: true });
        cachedTextDecoder.decode();
        numBytesDecoded = len;
    }
    return cachedTextDecoder.decode(getUint8ArrayMemory0().slice(ptr, ptr + len));
}

const cachedTextEncoder = (typeof TextEncoder !== 'undefined' ? new TextEncoder() : undefined);

if (cachedTextEncoder) {
    cachedTextEncoder.encodeInto = function (arg, view) {
        const buf = cachedTextEncoder.encode(arg);
        view.set(buf);
        return {
            read: arg.length,
            written: buf.length
        };
    };
}

let WASM_VECTOR_LEN = 0;

let wasmModule, wasmInstance, wasm;
function __wbg_finalize_init(instance, module, thread_stack_size) {
    wasmInstance = instance;
    wasm = instance.exports;
    wasmModule = module;
    cachedDataViewMemory0 = null;
    cachedFloat32ArrayMemory0 = null;
    cachedFloat64ArrayMemory0 = null;
    cachedInt32ArrayMemory0 = null;
    cachedUint32ArrayMemory0 = null;
    cachedUint8ArrayMemory0 = null;
    if (typeof thread_stack_size !== 'undefined' && (typeof thread_stack_size !== 'number' || thread_stack_size === 0 || thread_stack_size % 65536 !== 0)) {
        throw new Error('invalid stack size');
    }

    wasm.__wbindgen_start(thread_stack_size);
    return wasm;
}

async function __wbg_load(module, imports) {
    if (typeof Response === 'function' && module instanceof Response) {
        if (!module.ok) {
            throw new Error(`failed to fetch Wasm: ${module.status} ${module.statusText} fetching '${module.url}'`);
        }

        if (typeof WebAssembly.instantiateStreaming === 'function') {
            try {
                return await WebAssembly.instantiateStreaming(module, imports);
            } catch (e) {
                const validResponse = expectedResponseType(module.type);

                if (validResponse && module.headers.get('Content-Type') !== 'application/wasm') {
                    console.warn("`WebAssembly.instantiateStreaming` failed because your server does not serve Wasm with `application/wasm` MIME type. Falling back to `WebAssembly.instantiate` which is slower. Original error:\n", e);

                } else { throw e; }
            }
        }

        const bytes = await module.arrayBuffer();
        return await WebAssembly.instantiate(bytes, imports);
    } else {
        const instance = await WebAssembly.instantiate(module, imports);

        if (instance instanceof WebAssembly.Instance) {
            return { instance, module };
        } else {
            return instance;
        }
    }

    function expectedResponseType(type) {
        switch (type) {
            case 'basic': case 'cors': case 'default': return true;
        }
        return false;
    }
}

function initSync(module, memory) {
    if (wasm !== undefined) return wasm;

    let thread_stack_size
    if (module !== undefined) {
        if (Object.getPrototypeOf(module) === Object.prototype) {
            ({module, memory, thread_stack_size} = module)
        } else {
            console.warn('using deprecated parameters for `initSync()`; pass a single object instead')
        }
    }

    const imports = __wbg_get_imports(memory);
    if (!(module instanceof WebAssembly.Module)) {
        module = new WebAssembly.Module(module);
    }
    const instance = new WebAssembly.Instance(module, imports);
    return __wbg_finalize_init(instance, module, thread_stack_size);
}

async function __wbg_init(module_or_path, memory) {
    if (wasm !== undefined) return wasm;

    let thread_stack_size
    if (module_or_path !== undefined) {
        if (Object.getPrototypeOf(module_or_path) === Object.prototype) {
            ({module_or_path, memory, thread_stack_size} = module_or_path)
        } else {
            console.warn('using deprecated parameters for the initialization function; pass a single object instead')
        }
    }

    if (module_or_path === undefined) {
        module_or_path = new URL('threads-relaxed_bg.wasm', import.meta.url);
    }
    const imports = __wbg_get_imports(memory);

    if (typeof module_or_path === 'string' || (typeof Request === 'function' && module_or_path instanceof Request) || (typeof URL === 'function' && module_or_path instanceof URL)) {
        module_or_path = fetch(module_or_path);
    }

    const { instance, module } = await __wbg_load(await module_or_path, imports);

    return __wbg_finalize_init(instance, module, thread_stack_size);
}

export { initSync, __wbg_init as default };
