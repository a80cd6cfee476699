// The two functions that the library shiftadd_cuda exports.
#include <cstdio>

#include "backends/cuda/cuda_library.h"

#define SHIFTADD_EXPORT extern "C" __attribute__((visibility("default")))

SHIFTADD_EXPORT int32_t shiftadd_cuda_interface() { return shiftadd::kCudaInterface; }

SHIFTADD_EXPORT int32_t shiftadd_cuda_open(const shiftadd::CudaOptions* options, shiftadd::Backend** backend, char* message,
                                           size_t message_size) {
  std::unique_ptr<shiftadd::Backend> made;
  const shiftadd::Status status = shiftadd::make_cuda_backend(*options, &made);
  std::snprintf(message, message_size, "%s", status.message.c_str());
  *backend = made.release();
  return static_cast<int32_t>(status.code);
}
