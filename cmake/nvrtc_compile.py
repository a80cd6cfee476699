"""usage: nvrtc_compile.py NVIDIA_DIR sm_87|compute_80 INCLUDE_DIR FILE.cu OUT

Compiles CUDA C++ with libnvrtc 12.6 alone: no nvcc, no host compiler, no GPU. NVIDIA_DIR holds cuda_nvrtc/ of the wheel."""
import ctypes as C
import sys

root, arch, include, source, out = sys.argv[1:6]
lib = C.CDLL(f'{root}/cuda_nvrtc/lib/libnvrtc.so.12')
options = [o.encode() for o in (f'-arch={arch}', '-std=c++17', '-fmad=false', f'-I{include}')]
program, size = C.c_void_p(), C.c_size_t()
lib.nvrtcCreateProgram(C.byref(program), open(source, 'rb').read(), source.encode(), 0, None, None)
failed = lib.nvrtcCompileProgram(program, len(options), (C.c_char_p * len(options))(*options))


def get(what):
    getattr(lib, f'nvrtcGet{what}Size')(program, C.byref(size))
    buffer = C.create_string_buffer(size.value)
    getattr(lib, f'nvrtcGet{what}')(program, buffer)
    return buffer.raw


sys.stderr.write(get('ProgramLog').rstrip(b'\0\n').decode())
if failed:
    sys.exit(f'\nNVRTC failed: {failed}')
data = get('CUBIN') if arch.startswith('sm_') else get('PTX').rstrip(b'\0')
if not data:
    sys.exit('NVRTC gave no image')
open(out, 'wb').write(data)
