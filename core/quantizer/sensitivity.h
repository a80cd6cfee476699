// What quantizing one matrix costs the whole model: the mean of KL(dense || dense but for that matrix) over positions of a
// few windows. The dense hidden states follow the quantizer from block to block, so that a matrix of block l is measured
// on the blocks from l on.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/model.h"
#include "core/session.h"
#include "core/transformer.h"

namespace shiftadd {

class Sensitivity {
 public:
  // Both must outlive this object; the cache holds one layer and at least a window.
  Sensitivity(const Model& model, Transformer& transformer, KvView cache)
      : model_(model), transformer_(transformer), cache_(cache) {}
  // tokens: windows x window. Runs the dense model once and keeps its log-probabilities of the measured positions.
  Status open(std::span<const int32_t> tokens, uint32_t windows, uint32_t window, Cancel cancel);
  // Moves the dense hidden states through block `layer`, the one they are before.
  Status advance(uint32_t layer, Cancel cancel);
  // In nats per position. `layer` must be the block that the hidden states are before; embedding and head always work.
  Status measure(Role role, uint32_t layer, const PackedMatrix& packed, Cancel cancel, double* kl);

 private:
  Status embed(std::vector<float>* hidden);
  Status run_layer(uint32_t layer, float* hidden, Cancel cancel);
  template <typename Visit>
  Status run(uint32_t first_layer, const std::vector<float>& hidden, Cancel cancel, const Visit& visit);

  const Model& model_;
  Transformer& transformer_;
  KvView cache_;
  std::vector<int32_t> tokens_;
  uint32_t windows_ = 0, window_ = 0;
  std::vector<float> hidden_;   // [window][position][hidden size], the input of the block in work
  std::vector<float> teacher_;  // logits of the dense model [measured position][vocabulary]
};

}  // namespace shiftadd
