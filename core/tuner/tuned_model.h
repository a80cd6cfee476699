// The two models that the tuner compares: the dense one as it is mapped, and beside it the packed one, whose matrices are
// decoded when they are needed. Matrices that were not set are the dense ones, and frozen; so are embedding and head.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "core/model.h"
#include "core/tuner/block_gradient.h"
#include "core/tuner/tuned_parameters.h"

namespace shiftadd {

class TunedModel {
 public:
  // The model must be dense; it must outlive this.
  static Status open(const Model& dense, std::unique_ptr<TunedModel>* out);

  const ModelSpec& spec() const { return model_.spec(); }
  Backend& backend() const { return model_.backend(); }
  ParameterSet& parameters() { return parameters_; }

  // Any matrix of the model (not norms), once each, before start.
  Status set_matrix(Role role, uint32_t layer, PackedWeights weights);
  // Registers the parameters, in the order of the layers whatever the order of set_matrix. Idempotent.
  void start();
  bool started() const { return started_; }
  // Weights follow the parameters. rounded: scales as the file stores them.
  void refresh(bool rounded);

  // tokens.size() x hidden_size.
  void embed_dense(std::span<const int32_t> tokens, float* out) const;
  void embed_packed(std::span<const int32_t> tokens, float* out) const;
  BlockWeights dense_block(uint32_t layer) const;
  // Decodes into memory that the next call reuses.
  BlockWeights packed_block(uint32_t layer);
  Factor dense_head() const;
  Factor packed_head();
  const float* dense_final_norm() const { return norms_.back().base.data(); }
  const float* packed_final_norm() const { return norms_.back().values.data(); }

  // Which matrices of a block have parameters, in the order of kMatrixRoles.
  void tuned_matrices(uint32_t layer, bool wanted[kBlockMatrices]) const;
  void project_matrix(uint32_t layer, size_t index, const float* d_weights);
  // d_gain: of the norm's gain, hidden_size.
  void project_norm(Role role, uint32_t layer, const float* d_gain);
  std::vector<ParameterRange> block_parameters(uint32_t layer) const;
  ParameterRange final_norm_parameters() const { return norms_.back().range; }

  // A matrix that was set, with its present scales.
  Status matrix(Role role, uint32_t layer, PackedWeights* out) const;
  // The present gains of a norm; out: hidden_size.
  Status gains(Role role, uint32_t layer, std::span<float> out) const;

 private:
  struct Norm {
    std::vector<float> base, values;
    ParameterRange range;
  };
  explicit TunedModel(const Model& model) : model_(model) {}
  // Null where there is no such matrix or norm.
  std::unique_ptr<TunedMatrix>* slot(Role role, uint32_t layer);
  Norm* norm(Role role, uint32_t layer);
  void load_norm(Buffer gains);

  const Model& model_;
  ParameterSet parameters_;
  std::vector<std::unique_ptr<TunedMatrix>> matrices_;  // [layer][kMatrixRoles], null where not set
  std::unique_ptr<TunedMatrix> embedding_, head_;
  std::vector<Norm> norms_;                             // [layer][attention, feed forward], then the final one
  std::vector<float> decoded_[kBlockMatrices], decoded_head_;
  bool started_ = false;
};

}  // namespace shiftadd
