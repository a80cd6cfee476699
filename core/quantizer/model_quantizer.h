// Quantizes a dense model block by block: runs the calibration windows through one block of the dense model, collects
// the Hessian of every linear input on the way, packs the block's matrices, and goes on with the block's output.
// Memory: the hidden states of all windows, and the Hessians and matrices of one block.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "core/model.h"
#include "core/quantizer/pipeline.h"
#include "core/quantizer/sensitivity.h"
#include "core/session.h"
#include "core/transformer.h"

namespace shiftadd {

struct QuantizedMatrix {
  PackedWeights weights;
  QuantizeReport report;
};

class ModelQuantizer {
 public:
  // tokens: windows x window ids. The model must be dense.
  static Status open(const Model& model, std::span<const int32_t> tokens, uint32_t windows, uint32_t window,
                     std::unique_ptr<ModelQuantizer>* out);

  // Before the first block: prepares measure() with the first tokens of the first windows.
  Status open_sensitivity(uint32_t windows, uint32_t window, Cancel cancel);

  // The matrices of a block: query, key, value, attention output, gate where the model is gated, up, down.
  std::vector<Role> block_roles() const;
  // The next block; settings in the order of block_roles(), one or more candidates for each matrix, as many for all.
  // Reports 0..1 within the call.
  using Report = std::function<void(double done)>;
  Status block(std::span<const QuantizeSettings> settings, const Report& report, Cancel cancel);
  // Goes on to the block after it without quantizing.
  Status skip(const Report& report, Cancel cancel);
  // After the last block: the embedding and, when the model has its own, the head; candidates as above.
  Status head(std::span<const QuantizeSettings> settings, const Report& report, Cancel cancel);
  // How many settings head() takes: 1 for a tied head, else 2.
  size_t head_matrices() const { return model_.has_own_head() ? 2 : 1; }
  // The matrices of the last call, in the order of its settings.
  std::span<const QuantizedMatrix> results() const { return results_; }
  // KL(dense || dense with result `index` in its place), see sensitivity.h.
  Status measure(size_t index, Cancel cancel, double* kl);

 private:
  explicit ModelQuantizer(const Model& model) : model_(model), transformer_(model) {}
  Status collect(uint32_t layer, LinearObserver* observer, double share, const Report& report, Cancel cancel);
  void forget_results();
  Status quantize(Role role, uint32_t layer, const float* hessian, std::span<const QuantizeSettings> candidates,
                  double from, double to, const Report& report, Cancel cancel);

  const Model& model_;
  Transformer transformer_;
  KvCache cache_;                       // one layer
  std::vector<int32_t> tokens_;         // of the calibration
  std::unique_ptr<Sensitivity> sensitivity_;
  std::vector<float> hidden_;   // [window][position][hidden size]
  uint32_t windows_ = 0, window_ = 0, next_layer_ = 0;
  bool failed_ = false;  // inside a block: the hidden states are neither before nor behind it
  bool head_done_ = false;
  std::vector<QuantizedMatrix> results_;
  std::vector<Role> result_roles_;
};

}  // namespace shiftadd
