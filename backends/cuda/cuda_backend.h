// The CUDA backend: the operations of core/backend.h as kernels on one stream. It lives in a library of its own,
// shiftadd_cuda, which the core opens when it is asked for (backends/cuda/cuda_library.h).
#pragma once

#include <memory>

#include "backends/cpu/kernels.h"
#include "core/backend.h"

namespace shiftadd {

struct CudaOptions {
  int device = 0;
  int threads = 0;  // of host-side stages; 0: one per allowed core
  KvType kv_type = KvType::f32;
};

Status make_cuda_backend(const CudaOptions& options, std::unique_ptr<Backend>* out);

}  // namespace shiftadd
