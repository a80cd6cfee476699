// Activations as packed products read them, made once per linear() and shared by all matrices with the same input.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "backends/cpu/kernels.h"
#include "core/function_ref.h"

namespace shiftadd {

// What a matrix needs: entries for look-up tables or integers for the panel product, in scale blocks of 8, 4 or 1 quads.
struct PackedInputKind {
  bool panel = false;
  uint32_t block_quads = 8;
  static constexpr uint32_t kCount = 6;
  uint32_t index() const { return (panel ? 3 : 0) + (block_quads == 8 ? 2 : block_quads / 4); }
};

class PackedInput {
 public:
  using Parallel = FunctionRef<void(size_t count, FunctionRef<void(size_t)> work)>;

  // x: rows x stride, zero-padded to `quads` quads.
  void prepare(const Kernels& kernels, Precision precision, PackedInputKind kind, const float* x, size_t stride,
               uint32_t rows, uint32_t quads, Parallel parallel);

  // Entries of one row's quads from `quad` on: [quad][kQuadEntries].
  const int16_t* entries(uint32_t row, uint32_t quad) const {
    return values_.data() + (size_t{row} * quads_ + quad) * kQuadEntries;
  }
  // Rounded activations of one scale block for all rows from `row` on: [row][kPanelColumns].
  const int16_t* rounded(uint32_t block, uint32_t row) const {
    return values_.data() + (size_t{block} * rows_ + row) * kPanelColumns;
  }
  // Of the values of scale block `block`; NaN where an activation is not finite, 0 where all are tiny.
  float scale(uint32_t row, uint32_t block) const { return scales_[size_t{row} * blocks_ + block]; }

 private:
  std::vector<int16_t> values_;  // grows to the largest input, then stays
  std::vector<float> scales_;
  uint32_t rows_ = 0, quads_ = 0, blocks_ = 0;
};

}  // namespace shiftadd
