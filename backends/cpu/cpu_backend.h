// The CPU backend: the operations of core/backend.h over a kernel table and a thread pool.
#pragma once

#include <memory>

#include "backends/cpu/kernels.h"
#include "core/backend.h"
#include "core/status.h"

namespace shiftadd {

struct CpuOptions {
  int threads = 0;            // 0: one per allowed core
  Precision precision = Precision::exact;
  KvType kv_type = KvType::f32;
  const char* isa = nullptr;  // null: the widest
};

Status make_cpu_backend(const CpuOptions& options, std::unique_ptr<Backend>* out);

}  // namespace shiftadd
