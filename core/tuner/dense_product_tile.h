// The register tile behind dense_product.h, in the vector extension that GCC and Clang lower to whatever the target has.
// Each file that includes it compiles it for its own instruction set, with contraction into fused multiply-adds.
#pragma once

#include <cstddef>
#include <cstring>

namespace shiftadd {
namespace {

template <size_t kBytes, size_t kHeight, size_t kVectors>
void product_tile(const float* a, const float* b, size_t depth, float* c, size_t c_stride) {
  typedef float Vector __attribute__((vector_size(kBytes)));
  constexpr size_t kFloats = kBytes / sizeof(float);
  Vector sums[kHeight][kVectors] = {};
#pragma GCC unroll 12
  for (size_t i = 0; i < kHeight; ++i) {
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) __builtin_prefetch(c + i * c_stride + v * kFloats, 1);
  }
  for (size_t k = 0; k < depth; ++k) {
    Vector right[kVectors];
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) std::memcpy(&right[v], b + (k * kVectors + v) * kFloats, sizeof right[v]);
#pragma GCC unroll 12
    for (size_t i = 0; i < kHeight; ++i) {
      const float left = a[k * kHeight + i];
#pragma GCC unroll 4
      for (size_t v = 0; v < kVectors; ++v) sums[i][v] += left * right[v];
    }
  }
#pragma GCC unroll 12
  for (size_t i = 0; i < kHeight; ++i) {
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) {
      Vector value;
      std::memcpy(&value, c + i * c_stride + v * kFloats, sizeof value);
      value += sums[i][v];
      std::memcpy(c + i * c_stride + v * kFloats, &value, sizeof value);
    }
  }
}

}  // namespace
}  // namespace shiftadd
