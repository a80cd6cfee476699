// The register-tiled product behind panel_product.h. Each file that includes it compiles it for its own instruction set, so
// everything is local to the file. Products and sums are rounded separately and in one order: the bits do not depend on it.
#pragma once

#include <cstddef>
#include <cstring>

#include "core/quantizer/lanes.h"

namespace shiftadd {
namespace {

// Six rows by two vectors are 12 accumulators: enough to hide the latency of a fused multiply-add at two a cycle, and
// with two vectors of B and one broadcast they fit the 16 registers of AVX2.
constexpr size_t kTileHeight = 6;
// Depth after which the accumulators go to memory: keeps the strips of A and B in the level-1 cache.
constexpr size_t kDepth = 128;

template <typename T, size_t kHeight>
void tile(const T* a, size_t a_stride, const T* b, size_t b_stride, size_t depth, T factor, T* c, size_t c_stride) {
  Lanes<T> sums[kHeight][2] = {};
  for (size_t k = 0; k < depth; ++k) {
    Lanes<T> left, right;
    std::memcpy(&left, b + k * b_stride, sizeof left);
    std::memcpy(&right, b + k * b_stride + kLanes<T>, sizeof right);
    for (size_t i = 0; i < kHeight; ++i) {
      const T scalar = a[k * a_stride + i];
      sums[i][0] += scalar * left;
      sums[i][1] += scalar * right;
    }
  }
  for (size_t i = 0; i < kHeight; ++i) {
    for (size_t half = 0; half < 2; ++half) {
      T* target = c + i * c_stride + half * kLanes<T>;
      Lanes<T> value;
      std::memcpy(&value, target, sizeof value);
      value += factor * sums[i][half];
      std::memcpy(target, &value, sizeof value);
    }
  }
}

template <typename T, size_t kHeight>
void strip(const T* a, size_t a_stride, const T* b, size_t b_stride, size_t depth, T factor, T* c, size_t c_stride,
           size_t width) {
  for (size_t j = 0; j < width; j += 2 * kLanes<T>) {
    tile<T, kHeight>(a, a_stride, b + j, b_stride, depth, factor, c + j, c_stride);
  }
}

template <typename T>
void product(const T* a, size_t a_stride, const T* b, size_t b_stride, size_t depth, T factor, T* c, size_t c_stride,
             size_t height, size_t width) {
  for (size_t k = 0; k < depth; k += kDepth) {
    const size_t part = depth - k < kDepth ? depth - k : kDepth;
    const T* a_part = a + k * a_stride;
    const T* b_part = b + k * b_stride;
    size_t i = 0;
    for (; i + kTileHeight <= height; i += kTileHeight) {
      strip<T, kTileHeight>(a_part + i, a_stride, b_part, b_stride, part, factor, c + i * c_stride, c_stride, width);
    }
    if (i + 4 <= height) {
      strip<T, 4>(a_part + i, a_stride, b_part, b_stride, part, factor, c + i * c_stride, c_stride, width);
      i += 4;
    }
    if (i + 2 <= height) {
      strip<T, 2>(a_part + i, a_stride, b_part, b_stride, part, factor, c + i * c_stride, c_stride, width);
      i += 2;
    }
    if (i < height) {
      strip<T, 1>(a_part + i, a_stride, b_part, b_stride, part, factor, c + i * c_stride, c_stride, width);
    }
  }
}

}  // namespace
}  // namespace shiftadd
