//! The C interface of the core (`core/c_api.h`) as functions for JavaScript. Nothing is decided here: handles are numbers,
//! failures are thrown as a [`Failure`], and `sdk/src/engine-wasm.ts` makes the interface of the SDK of it.
mod alloc;

use std::ffi::{c_char, c_void, CStr, CString};
use std::ptr::null;
use wasm_bindgen::prelude::*;

#[repr(C)]
struct ModelOptions {
    threads: i32,
    precision: i32,
    kv_type: i32,
    isa: *const c_char,
    backend: *const c_char,
    device: i32,
}

#[repr(C)]
struct FileBytes {
    path: *const c_char,
    data: *const u8,
    size: u64,
}

#[repr(C)]
struct RawModelInfo {
    isa: *const c_char,
    threads: i32,
    precision: i32,
    kv_type: i32,
    mapped_bytes: f64,
    heap_bytes: f64,
}

#[repr(C)]
struct Device {
    backend: *const c_char,
    isa: *const c_char,
    cores: i32,
}

#[repr(C)]
struct Sampling {
    temperature: f32,
    top_k: i32,
    top_p: f32,
    min_p: f32,
    repetition_penalty: f32,
    repetition_window: i32,
}

#[repr(C)]
struct RawSessionInfo {
    position: i32,
    context_size: i32,
    kv_cache_bytes: f64,
    scratch_bytes: f64,
    position_bytes: f64,
    beyond_switch: i32,
}

type Handle = *mut c_void;
/// The core polls it; JavaScript cannot set it while the core runs, and splits long calls instead.
const NEVER: *const i32 = null();

extern "C" {
    fn __wasm_call_ctors();
    fn shiftadd_lend_thread();
    fn shiftadd_lent_threads() -> u32;
    fn sa_version() -> i32;
    fn sa_last_error() -> *const c_char;
    fn sa_device_describe(isa: *const c_char, out: *mut Device) -> i32;
    fn sa_model_open_memory(spec: *const f64, spec_length: usize, files: *const FileBytes, file_count: usize, options: *const ModelOptions, out: *mut Handle) -> i32;
    fn sa_model_describe(model: Handle, out: *mut RawModelInfo) -> i32;
    fn sa_model_read_files(model: Handle, bytes: *mut f64) -> i32;
    fn sa_model_close(model: Handle);
    fn sa_session_open(model: Handle, context_size: i32, out: *mut Handle) -> i32;
    fn sa_session_close(session: Handle);
    fn sa_session_seed(session: Handle, seed: u64) -> i32;
    fn sa_session_append(session: Handle, tokens: *const i32, count: usize, cancel: *const i32) -> i32;
    fn sa_session_prefill(session: Handle, tokens: *const i32, count: usize, cancel: *const i32) -> i32;
    fn sa_session_prefill_logits(session: Handle, tokens: *const i32, count: usize, out: *mut f32, out_count: usize, cancel: *const i32) -> i32;
    fn sa_session_sample(session: Handle, sampling: *const Sampling, token: *mut i32) -> i32;
    fn sa_session_decode_draft(session: Handle, token: i32, draft: *const i32, count: usize, tokens: *mut i32, produced: *mut i32, cancel: *const i32) -> i32;
    fn sa_session_constrain(session: Handle, grammar: Handle, budget: i32) -> i32;
    fn sa_session_is_complete(session: Handle, complete: *mut i32) -> i32;
    fn sa_model_set_vocabulary(model: Handle, bytes: *const u8, byte_count: usize, ends: *const u32, count: usize, end_tokens: *const i32, end_count: usize) -> i32;
    fn sa_grammar_open(model: Handle, numbers: *const i32, count: usize, out: *mut Handle) -> i32;
    fn sa_grammar_close(grammar: Handle);
    fn sa_grammar_follow(grammar: Handle, text: *const u8, text_bytes: usize, budget: i32, tokens: *mut u32, word_count: usize, verdict: *mut i32, least: *mut i32) -> i32;
    fn sa_session_rewind(session: Handle, position: i32) -> i32;
    fn sa_session_logits(session: Handle, out: *mut f32, count: usize) -> i32;
    fn sa_session_evaluate(session: Handle, tokens: *const i32, count: usize, log_probabilities: *mut f32, cancel: *const i32) -> i32;
    fn sa_session_describe(session: Handle, out: *mut RawSessionInfo) -> i32;
    fn sa_session_save(session: Handle, first: i32, count: i32, out: *mut u8, bytes: usize) -> i32;
    fn sa_session_restore(session: Handle, tokens: *const i32, count: usize, saved: *const u8, bytes: usize, beyond_switch: i32) -> i32;
    fn sa_session_copy(session: Handle, from: Handle, tokens: *const i32, count: usize) -> i32;
    fn sa_session_embed(session: Handle, tokens: *const i32, count: usize, pooling: i32, out: *mut f32, count_out: usize, cancel: *const i32) -> i32;
}

/// C++ static constructors: once, before any other export.
#[wasm_bindgen(start, private)]
fn start() {
    unsafe { __wasm_call_ctors() }
}

/// A status of the C interface other than 0, and its sentence.
#[wasm_bindgen]
pub struct Failure {
    pub status: i32,
    message: String,
}

#[wasm_bindgen]
impl Failure {
    #[wasm_bindgen(getter)]
    pub fn message(&self) -> String {
        self.message.clone()
    }
}

fn text(pointer: *const c_char) -> String {
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

fn check(status: i32) -> Result<(), Failure> {
    if status == 0 {
        return Ok(());
    }
    Err(Failure { status, message: text(unsafe { sa_last_error() }) })
}

fn optional(text: &Option<CString>) -> *const c_char {
    text.as_ref().map_or(null(), |text| text.as_ptr())
}

fn c_text(text: String) -> Result<CString, Failure> {
    CString::new(text).map_err(|_| Failure { status: 1, message: "a name has a zero byte".into() })
}

#[wasm_bindgen]
pub fn version() -> i32 {
    unsafe { sa_version() }
}

/// The instruction set that `isa` names, or the one that is chosen without.
#[wasm_bindgen]
pub fn instruction_set(isa: Option<String>) -> Result<String, Failure> {
    let isa = isa.map(c_text).transpose()?;
    let mut device = Device { backend: null(), isa: null(), cores: 0 };
    check(unsafe { sa_device_describe(optional(&isa), &mut device) })?;
    Ok(text(device.isa))
}

/// Room for the bytes of a file, aligned to 64; 0 when there is none. `release` frees it.
#[wasm_bindgen]
pub fn allocate(bytes: usize) -> usize {
    unsafe { alloc::shiftadd_rust_alloc(bytes, 64) as usize }
}

#[wasm_bindgen]
pub fn release(address: usize) {
    unsafe { alloc::shiftadd_rust_free(address as *mut u8) }
}

/// Works for the models of other threads and never returns.
#[wasm_bindgen]
pub fn lend_thread() {
    unsafe { shiftadd_lend_thread() }
}

/// How many threads have been lent.
#[wasm_bindgen]
pub fn lent_threads() -> u32 {
    unsafe { shiftadd_lent_threads() }
}

/// `addresses` and `sizes` say where the files of `paths` are in this memory; they stay there until the model is closed.
#[wasm_bindgen]
pub fn open_model(spec: &[f64], paths: Vec<String>, addresses: &[u32], sizes: &[u32], threads: i32, precision: i32, kv_type: i32, isa: Option<String>) -> Result<usize, Failure> {
    let paths = paths.into_iter().map(c_text).collect::<Result<Vec<_>, _>>()?;
    let isa = isa.map(c_text).transpose()?;
    let files: Vec<FileBytes> = paths
        .iter()
        .zip(addresses.iter().zip(sizes))
        .map(|(path, (&address, &size))| FileBytes { path: path.as_ptr(), data: address as *const u8, size: size.into() })
        .collect();
    let options = ModelOptions { threads, precision, kv_type, isa: optional(&isa), backend: null(), device: 0 };
    let mut model: Handle = std::ptr::null_mut();
    check(unsafe { sa_model_open_memory(spec.as_ptr(), spec.len(), files.as_ptr(), files.len(), &options, &mut model) })?;
    Ok(model as usize)
}

#[wasm_bindgen]
pub struct ModelInfo {
    isa: String,
    pub threads: i32,
    pub precision: i32,
    pub kv_type: i32,
    pub mapped_bytes: f64,
    pub heap_bytes: f64,
}

#[wasm_bindgen]
impl ModelInfo {
    #[wasm_bindgen(getter)]
    pub fn isa(&self) -> String {
        self.isa.clone()
    }
}

#[wasm_bindgen]
pub fn describe_model(model: usize) -> Result<ModelInfo, Failure> {
    let mut info = RawModelInfo { isa: null(), threads: 0, precision: 0, kv_type: 0, mapped_bytes: 0.0, heap_bytes: 0.0 };
    check(unsafe { sa_model_describe(model as Handle, &mut info) })?;
    Ok(ModelInfo { isa: text(info.isa), threads: info.threads, precision: info.precision, kv_type: info.kv_type, mapped_bytes: info.mapped_bytes, heap_bytes: info.heap_bytes })
}

/// Reads all weights once and returns their bytes: what limits a decode step.
#[wasm_bindgen]
pub fn read_files(model: usize) -> Result<f64, Failure> {
    let mut bytes = 0.0;
    check(unsafe { sa_model_read_files(model as Handle, &mut bytes) })?;
    Ok(bytes)
}

#[wasm_bindgen]
pub fn close_model(model: usize) {
    unsafe { sa_model_close(model as Handle) }
}

#[wasm_bindgen]
pub fn open_session(model: usize, context_size: i32) -> Result<usize, Failure> {
    let mut session: Handle = std::ptr::null_mut();
    check(unsafe { sa_session_open(model as Handle, context_size, &mut session) })?;
    Ok(session as usize)
}

#[wasm_bindgen]
pub fn close_session(session: usize) {
    unsafe { sa_session_close(session as Handle) }
}

#[wasm_bindgen]
pub fn seed(session: usize, seed: u64) -> Result<(), Failure> {
    check(unsafe { sa_session_seed(session as Handle, seed) })
}

#[wasm_bindgen]
pub fn append(session: usize, tokens: &[i32]) -> Result<(), Failure> {
    check(unsafe { sa_session_append(session as Handle, tokens.as_ptr(), tokens.len(), NEVER) })
}

#[wasm_bindgen]
pub fn prefill(session: usize, tokens: &[i32]) -> Result<(), Failure> {
    check(unsafe { sa_session_prefill(session as Handle, tokens.as_ptr(), tokens.len(), NEVER) })
}

#[wasm_bindgen]
pub fn prefill_logits(session: usize, tokens: &[i32], vocabulary: usize) -> Result<Vec<f32>, Failure> {
    let mut out = vec![0.0; tokens.len() * vocabulary];
    check(unsafe { sa_session_prefill_logits(session as Handle, tokens.as_ptr(), tokens.len(), out.as_mut_ptr(), out.len(), NEVER) })?;
    Ok(out)
}

#[wasm_bindgen]
pub fn sample(session: usize, temperature: f32, top_k: i32, top_p: f32, min_p: f32, repetition_penalty: f32, repetition_window: i32) -> Result<i32, Failure> {
    let sampling = Sampling { temperature, top_k, top_p, min_p, repetition_penalty, repetition_window };
    let mut token = 0;
    check(unsafe { sa_session_sample(session as Handle, &sampling, &mut token) })?;
    Ok(token)
}

#[wasm_bindgen]
pub fn decode_draft(session: usize, token: i32, draft: &[i32]) -> Result<Vec<i32>, Failure> {
    let mut tokens = vec![0; draft.len() + 1];
    let mut produced = 0;
    check(unsafe { sa_session_decode_draft(session as Handle, token, draft.as_ptr(), draft.len(), tokens.as_mut_ptr(), &mut produced, NEVER) })?;
    tokens.truncate(produced as usize);
    Ok(tokens)
}

/// `grammar` 0: no constraint.
#[wasm_bindgen]
pub fn constrain(session: usize, grammar: usize, budget: i32) -> Result<(), Failure> {
    check(unsafe { sa_session_constrain(session as Handle, grammar as Handle, budget) })
}

#[wasm_bindgen]
pub fn is_complete(session: usize) -> Result<bool, Failure> {
    let mut complete = 0;
    check(unsafe { sa_session_is_complete(session as Handle, &mut complete) })?;
    Ok(complete != 0)
}

#[wasm_bindgen]
pub fn set_vocabulary(model: usize, bytes: &[u8], ends: &[u32], end_tokens: &[i32]) -> Result<(), Failure> {
    check(unsafe { sa_model_set_vocabulary(model as Handle, bytes.as_ptr(), bytes.len(), ends.as_ptr(), ends.len(), end_tokens.as_ptr(), end_tokens.len()) })
}

#[wasm_bindgen]
pub fn open_grammar(model: usize, numbers: &[i32]) -> Result<usize, Failure> {
    let mut grammar: Handle = std::ptr::null_mut();
    check(unsafe { sa_grammar_open(model as Handle, numbers.as_ptr(), numbers.len(), &mut grammar) })?;
    Ok(grammar as usize)
}

#[wasm_bindgen]
pub fn close_grammar(grammar: usize) {
    unsafe { sa_grammar_close(grammar as Handle) }
}

/// The verdict, the tokens to the end and the words of the mask, in this order.
#[wasm_bindgen]
pub fn follow_grammar(grammar: usize, text: &[u8], budget: i32, vocabulary: usize) -> Result<Vec<u32>, Failure> {
    let mut out = vec![0u32; 2 + vocabulary.div_ceil(32)];
    let (mut verdict, mut least) = (0, 0);
    check(unsafe { sa_grammar_follow(grammar as Handle, text.as_ptr(), text.len(), budget, out.as_mut_ptr().add(2), out.len() - 2, &mut verdict, &mut least) })?;
    out[0] = verdict as u32;
    out[1] = least as u32;
    Ok(out)
}

#[wasm_bindgen]
pub fn rewind(session: usize, position: i32) -> Result<(), Failure> {
    check(unsafe { sa_session_rewind(session as Handle, position) })
}

#[wasm_bindgen]
pub fn logits(session: usize, vocabulary: usize) -> Result<Vec<f32>, Failure> {
    let mut out = vec![0.0; vocabulary];
    check(unsafe { sa_session_logits(session as Handle, out.as_mut_ptr(), out.len()) })?;
    Ok(out)
}

#[wasm_bindgen]
pub fn evaluate(session: usize, tokens: &[i32]) -> Result<Vec<f32>, Failure> {
    let mut out = vec![0.0; tokens.len().saturating_sub(1)];
    check(unsafe { sa_session_evaluate(session as Handle, tokens.as_ptr(), tokens.len(), out.as_mut_ptr(), NEVER) })?;
    Ok(out)
}

#[wasm_bindgen]
pub struct SessionInfo {
    pub position: i32,
    pub context_size: i32,
    pub kv_cache_bytes: f64,
    pub scratch_bytes: f64,
    pub position_bytes: f64,
    pub beyond_switch: i32,
}

#[wasm_bindgen]
pub fn describe_session(session: usize) -> Result<SessionInfo, Failure> {
    let mut info = RawSessionInfo { position: 0, context_size: 0, kv_cache_bytes: 0.0, scratch_bytes: 0.0, position_bytes: 0.0, beyond_switch: 0 };
    check(unsafe { sa_session_describe(session as Handle, &mut info) })?;
    let RawSessionInfo { position, context_size, kv_cache_bytes, scratch_bytes, position_bytes, beyond_switch } = info;
    Ok(SessionInfo { position, context_size, kv_cache_bytes, scratch_bytes, position_bytes, beyond_switch })
}

#[wasm_bindgen]
pub fn save_positions(session: usize, first: i32, count: i32) -> Result<Vec<u8>, Failure> {
    let info = describe_session(session)?;
    // The core refuses positions that there are not.
    let mut out = vec![0; count.clamp(0, info.position) as usize * info.position_bytes as usize];
    check(unsafe { sa_session_save(session as Handle, first, count, out.as_mut_ptr(), out.len()) })?;
    Ok(out)
}

#[wasm_bindgen]
pub fn restore_positions(session: usize, tokens: &[i32], saved: &[u8], beyond_switch: bool) -> Result<(), Failure> {
    check(unsafe { sa_session_restore(session as Handle, tokens.as_ptr(), tokens.len(), saved.as_ptr(), saved.len(), beyond_switch.into()) })
}

#[wasm_bindgen]
pub fn copy_session(session: usize, from: usize, tokens: &[i32]) -> Result<(), Failure> {
    check(unsafe { sa_session_copy(session as Handle, from as Handle, tokens.as_ptr(), tokens.len()) })
}

#[wasm_bindgen]
pub fn embed(session: usize, tokens: &[i32], pooling: i32, embedding: usize) -> Result<Vec<f32>, Failure> {
    let mut out = vec![0.0; embedding];
    check(unsafe { sa_session_embed(session as Handle, tokens.as_ptr(), tokens.len(), pooling, out.as_mut_ptr(), out.len(), NEVER) })?;
    Ok(out)
}
