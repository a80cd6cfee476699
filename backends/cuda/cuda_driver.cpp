#include "backends/cuda/cuda_driver.h"

#include <dlfcn.h>

namespace shiftadd {
namespace {

constexpr int kOutOfMemory = 2;  // CUDA_ERROR_OUT_OF_MEMORY

}  // namespace

Status CudaDriver::open() {
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return not_found("there is no NVIDIA driver: libcuda.so.1 cannot be opened");
#define SHIFTADD_CUDA_FIND(name, symbol, arguments)                      \
  name = reinterpret_cast<int(*) arguments>(dlsym(library, symbol));     \
  if (name == nullptr) return unsupported("the NVIDIA driver is too old: it has no " symbol);
  SHIFTADD_CUDA_FUNCTIONS(SHIFTADD_CUDA_FIND)
#undef SHIFTADD_CUDA_FIND
  return check(init(0), "the NVIDIA driver does not start");
}

Status CudaDriver::check(int result, const char* what) const {
  if (result == 0) return ok_status();
  const char* text = nullptr;
  if (error_string(result, &text) != 0 || text == nullptr) text = "unknown error";
  return {result == kOutOfMemory ? Code::out_of_memory : Code::device_failed, std::string(what) + ": " + text};
}

}  // namespace shiftadd
