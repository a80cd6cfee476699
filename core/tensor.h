// Element types and a non-owning view of a dense row-major matrix.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/half.h"

namespace shiftadd {

enum class DType : uint32_t { f32 = 0, f16 = 1, bf16 = 2 };

inline size_t dtype_bytes(DType dtype) { return dtype == DType::f32 ? 4 : 2; }

struct DenseMatrix {
  DType dtype = DType::f32;
  uint32_t rows = 0;
  uint32_t columns = 0;
  const void* data = nullptr;  // rows x columns, aligned to the element size
};

inline float element(const DenseMatrix& matrix, size_t index) {
  if (matrix.dtype == DType::f32) return static_cast<const float*>(matrix.data)[index];
  const uint16_t bits = static_cast<const uint16_t*>(matrix.data)[index];
  return matrix.dtype == DType::f16 ? half_to_float(bits) : bfloat16_to_float(bits);
}

}  // namespace shiftadd
