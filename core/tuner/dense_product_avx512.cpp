// The tile of dense_product.h for AVX-512.
#include "core/tuner/dense_product_tile.h"

namespace shiftadd {

// Twelve rows by two vectors: 24 accumulators of 32 registers, two loads of B for 24 fused multiply-adds.
void product_tile_avx512(const float* a, const float* b, size_t depth, float* c, size_t c_stride) {
  product_tile<64, 12, 2>(a, b, depth, c, c_stride);
}

}  // namespace shiftadd
