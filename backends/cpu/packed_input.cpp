#include "backends/cpu/packed_input.h"

#include <algorithm>
#include <cmath>

namespace shiftadd {

void PackedInput::prepare(const Kernels& kernels, Precision precision, PackedInputKind kind, const float* x,
                          size_t stride, uint32_t rows, uint32_t quads, Parallel parallel) {
  quads_ = quads;
  quad_values_ = kind.panel ? 16 : kQuadEntries;
  blocks_ = (quads + kind.block_quads - 1) / kind.block_quads;
  if (values_.size() < rows * this->stride()) values_.resize(rows * this->stride());
  if (scales_.size() < size_t{rows} * blocks_) scales_.resize(size_t{rows} * blocks_);
  parallel(rows, [&](size_t row) {
    for (uint32_t block = 0; block < blocks_; ++block) {
      const uint32_t quad = block * kind.block_quads, count = std::min(kind.block_quads, quads - quad);
      const float* from = x + row * stride + size_t{quad} * 16;
      int16_t* to = values_.data() + (row * quads_ + quad) * quad_values_;
      float& scale = scales_[row * blocks_ + block];
      if (kind.panel) {
        scale = kernels.round_activations(from, count * 16, to);
        if (std::isnan(scale)) std::fill(to, to + count * 16, int16_t{0});
      } else {
        scale = kernels.prepare(from, count, precision, to);
      }
    }
  });
}

}  // namespace shiftadd
