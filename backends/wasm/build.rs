// Compiles the C++ core with clang and hands the objects to the linker. `CXX_WASM` names another compiler, `SHIFTADD_RELAXED`
// asks for relaxed SIMD.
use std::{env, path::PathBuf, process::Command};

const SOURCES: &[&str] = &[
    "core/c_api.cpp",
    "core/c_api_grammar.cpp",
    "core/divergence.cpp",
    "core/gguf_blocks.cpp",
    "core/grammar/automaton.cpp",
    "core/grammar/constraint.cpp",
    "core/grammar/grammar.cpp",
    "core/grammar/token_automaton.cpp",
    "core/grammar/vocabulary.cpp",
    "core/model.cpp",
    "core/model_spec.cpp",
    "core/packed_matrix.cpp",
    "core/rotation.cpp",
    "core/sampler.cpp",
    "core/session.cpp",
    "core/tensor.cpp",
    "core/tensor_spec.cpp",
    "core/transformer.cpp",
    "backends/cpu/cpu_backend.cpp",
    "backends/cpu/cpu_features.cpp",
    "backends/cpu/cpu_weights.cpp",
    "backends/cpu/kernels_portable.cpp",
    "backends/cpu/packed_input.cpp",
    "backends/cpu/thread_pool.cpp",
    "backends/wasm/kernels_simd128.cpp",
    "backends/wasm/kernels_simd128_float.cpp",
    "backends/wasm/kernels_simd128_panel.cpp",
    "backends/wasm/cpp/platform.cpp",
    "backends/wasm/cpp/runtime.cpp",
];

// -ffp-contract=off as everywhere: the same bits as the other kernels. Only headers of libc++ are used, so that the module
// imports nothing.
const FLAGS: &str = "--target=wasm32-wasip1 -nostdlibinc \
    -isystem /usr/lib/llvm-22/include/wasm32-wasi/c++/v1 -isystem /usr/include/wasm32-wasi \
    -std=c++20 -O3 -Wall -Wextra -Wshadow -fno-exceptions -fno-rtti -fvisibility=hidden -ffunction-sections -fdata-sections \
    -fno-threadsafe-statics -fno-c++-static-destructors -ffp-contract=off -fno-math-errno -fno-trapping-math \
    -msimd128 -mbulk-memory -mnontrapping-fptoint -msign-ext -mmutable-globals";

fn main() {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").unwrap()).join("../..").canonicalize().unwrap();
    let out = PathBuf::from(env::var("OUT_DIR").unwrap());
    for name in ["CXX_WASM", "SHIFTADD_RELAXED"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    for folder in ["core", "backends/cpu", "backends/wasm"] {
        println!("cargo:rerun-if-changed={}", root.join(folder).display());
    }
    let mut flags: Vec<String> = FLAGS.split_whitespace().map(String::from).collect();
    flags.push(format!("-I{}", root.display()));
    flags.push(format!("-ffile-prefix-map={}=.", root.display()));
    if env::var_os("CARGO_FEATURE_THREADS").is_some() {
        flags.extend(["-matomics", "-mthread-model", "posix"].map(String::from));
    }
    if env::var_os("SHIFTADD_RELAXED").is_some() {
        flags.push("-mrelaxed-simd".into());
    }
    let compiler = env::var("CXX_WASM").unwrap_or("clang++-22".into());
    for source in SOURCES {
        let object = out.join(source.replace('/', "_")).with_extension("o");
        let mut command = Command::new(&compiler);
        command.args(&flags).arg("-c").arg(root.join(source)).arg("-o").arg(&object);
        let status = command.status().unwrap_or_else(|error| panic!("{compiler}: {error}"));
        assert!(status.success(), "{command:?}");
        println!("cargo:rustc-link-arg-cdylib={}", object.display());
    }
}
