// The door between the core and the library shiftadd_cuda, which is opened when a GPU is asked for, so that a machine without
// one loads nothing. The library is built from the same sources: what crosses is a Backend, so its interface version must
// match exactly.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "backends/cuda/cuda_backend.h"

namespace shiftadd {

// Raise it with every change of core/backend.h, core/status.h and CudaOptions.
constexpr int32_t kCudaInterface = 5;

// What the driver says of a GPU without work being begun on it.
struct CudaDeviceInfo {
  int32_t count = 0;       // GPUs of this machine
  int32_t capability = 0;  // 87: compute capability 8.7
  int32_t multiprocessors = 0;
  int32_t integrated = 0;  // 1: shares its memory with the processor
  char name[200] = "";
  char uuid[48] = "";  // "GPU-..." as NVML writes it
};

extern "C" {
using ShiftaddCudaInterface = int32_t();
// Returns a Code. backend receives a Backend* that the caller deletes, message a sentence when there is none.
using ShiftaddCudaDescribe = int32_t(int32_t device, CudaDeviceInfo* out, char* message, size_t message_size);
using ShiftaddCudaOpen = int32_t(const CudaOptions* options, Backend** backend, char* message, size_t message_size);
}

// Whether the library, the driver and the GPU of this index are there; not_found or unsupported says what is missing.
Status describe_cuda_device(const char* path, int32_t device, CudaDeviceInfo* out);

// Opens the library at `path` (null: libshiftadd_cuda.so beside the file this code is in), and a backend from it.
Status open_cuda_library(const char* path, const CudaOptions& options, std::unique_ptr<Backend>* out);

}  // namespace shiftadd
