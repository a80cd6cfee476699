// The tile of dense_product.h for AVX2 with FMA.
#include "core/tuner/dense_product_tile.h"

namespace shiftadd {

// Six rows by two vectors: 12 accumulators hide the latency of a fused multiply-add at two a cycle and leave room for two
// vectors of B and a broadcast among 16 registers.
void product_tile_avx2(const float* a, const float* b, size_t depth, float* c, size_t c_stride) {
  product_tile<32, 6, 2>(a, b, depth, c, c_stride);
}

}  // namespace shiftadd
