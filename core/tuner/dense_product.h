// The one fp32 matrix product of the tuner. Both factors are packed into panels first, so that A B, A B^T and A^T B run the
// same kernel. Work is split over tiles of the result only and sums run in one order: the bits do not depend on the number
// of threads (they may differ between instruction sets with and without fused multiply-add).
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "core/backend.h"
#include "core/tensor.h"

namespace shiftadd {

// A factor as it lies in memory: row-major with `stride` elements between rows; transposed: the stored matrix is the
// transpose of the factor.
struct Factor {
  const void* data = nullptr;
  size_t stride = 0;
  bool transposed = false;
  DType dtype = DType::f32;
};

// c[height][width] += sum over k < depth of a[k][i] * b[k][j].
struct ProductKernel {
  const char* isa;
  size_t height, width;
  void (*tile)(const float* a, const float* b, size_t depth, float* c, size_t c_stride);
};

// Those that this processor can run, the widest last.
std::span<const ProductKernel> product_kernels();

class DenseProduct {
 public:
  // backend null: on the calling thread.
  explicit DenseProduct(Backend* backend, const ProductKernel& kernel = product_kernels().back())
      : backend_(backend), kernel_(kernel) {}

  // C = A B, or C += A B; A: rows x depth, B: depth x columns, C row-major.
  void multiply(size_t rows, size_t columns, size_t depth, const Factor& a, const Factor& b, float* c, size_t c_stride,
                bool accumulate = false);

 private:
  void parallel(size_t count, FunctionRef<void(size_t)> work);

  Backend* backend_;
  const ProductKernel& kernel_;
  std::vector<float> a_panels_, b_panels_;  // grown as needed
};

}  // namespace shiftadd
