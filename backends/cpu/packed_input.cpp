#include "backends/cpu/packed_input.h"

#include <algorithm>
#include <cmath>

namespace shiftadd {

void PackedInput::prepare(const Kernels& kernels, Precision precision, PackedInputKind kind, const float* x,
                          size_t stride, uint32_t rows, uint32_t quads, Parallel parallel) {
  rows_ = rows;
  quads_ = quads;
  blocks_ = (quads + kind.block_quads - 1) / kind.block_quads;
  const size_t size = size_t{rows} * (kind.panel ? size_t{blocks_} * kPanelColumns : size_t{quads} * kQuadEntries);
  if (values_.size() < size) values_.resize(size);
  if (scales_.size() < size_t{rows} * blocks_) scales_.resize(size_t{rows} * blocks_);
  parallel(rows, [&](size_t row) {
    const uint32_t m = static_cast<uint32_t>(row);
    for (uint32_t block = 0; block < blocks_; ++block) {
      const uint32_t quad = block * kind.block_quads, count = std::min(kind.block_quads, quads - quad);
      const float* from = x + row * stride + size_t{quad} * 16;
      float& scale = scales_[row * blocks_ + block];
      if (kind.panel) {
        int16_t* to = values_.data() + (size_t{block} * rows + m) * kPanelColumns;
        scale = kernels.round_activations(from, count * 16, to);
        if (std::isnan(scale)) std::fill(to, to + count * 16, int16_t{0});
      } else {
        scale = kernels.prepare(from, count, precision, values_.data() + (size_t{m} * quads + quad) * kQuadEntries);
      }
    }
  });
}

}  // namespace shiftadd
