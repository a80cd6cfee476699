// Part of the core: finds and opens shiftadd_cuda.
#include "backends/cuda/cuda_library.h"

#include <dlfcn.h>

namespace shiftadd {
namespace {

constexpr size_t kMessageSize = 500;

std::string library_beside_this_file() {
  Dl_info info;
  const std::string name = "libshiftadd_cuda.so";
  if (dladdr(reinterpret_cast<const void*>(&open_cuda_library), &info) == 0 || info.dli_fname == nullptr) return name;
  const std::string file = info.dli_fname;
  const size_t slash = file.rfind('/');
  return slash == std::string::npos ? name : file.substr(0, slash + 1) + name;
}

// The functions of an opened library. It stays open: a backend's code must outlive it.
struct Library {
  ShiftaddCudaDescribe* describe = nullptr;
  ShiftaddCudaOpen* open = nullptr;
};

Status open_library(const char* path, Library* out) {
  const std::string file = path != nullptr ? path : library_beside_this_file();
  void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return not_found("the CUDA backend cannot be opened: " + std::string(dlerror()));
  const auto interface = reinterpret_cast<ShiftaddCudaInterface*>(dlsym(library, "shiftadd_cuda_interface"));
  out->describe = reinterpret_cast<ShiftaddCudaDescribe*>(dlsym(library, "shiftadd_cuda_describe"));
  out->open = reinterpret_cast<ShiftaddCudaOpen*>(dlsym(library, "shiftadd_cuda_open"));
  if (interface == nullptr || out->open == nullptr) return unsupported(file + " is not the CUDA backend");
  if (interface() != kCudaInterface)
    return unsupported(file + " has interface " + std::to_string(interface()) + " but this version needs " +
                       std::to_string(kCudaInterface));
  return ok_status();
}

}  // namespace

Status describe_cuda_device(const char* path, int32_t device, CudaDeviceInfo* out) {
  Library library;
  SHIFTADD_TRY(open_library(path, &library));
  char message[kMessageSize] = "";
  const auto code = static_cast<Code>(library.describe(device, out, message, sizeof message));
  return code == Code::ok ? ok_status() : Status{code, message};
}

Status open_cuda_library(const char* path, const CudaOptions& options, std::unique_ptr<Backend>* out) {
  Library library;
  SHIFTADD_TRY(open_library(path, &library));
  Backend* backend = nullptr;
  char message[kMessageSize] = "";
  const auto code = static_cast<Code>(library.open(&options, &backend, message, sizeof message));
  if (code != Code::ok) return {code, message};
  out->reset(backend);
  return ok_status();
}

}  // namespace shiftadd
