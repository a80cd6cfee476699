// One transformer block on whole windows, forward and backward, in fp32 on the host. The same operations as
// Transformer::run_block.
#pragma once

#include <cstdint>
#include <vector>

#include "core/model_spec.h"
#include "core/tuner/attention_gradient.h"
#include "core/tuner/dense_product.h"

namespace shiftadd {

constexpr Role kMatrixRoles[] = {Role::query, Role::key, Role::value, Role::attention_output,
                                 Role::gate,  Role::up,  Role::down};
constexpr size_t kBlockMatrices = 7;

// Weights of a block as the product takes them: outputs x inputs, row-major.
struct BlockWeights {
  Factor matrices[kBlockMatrices];  // in the order of kMatrixRoles
  const float* attention_norm = nullptr;
  const float* feed_forward_norm = nullptr;
};

// Root mean square norm: out = x * inverse * gain, inverse[row] = 1 / sqrt(mean(x^2) + epsilon).
void normalize_rows(Backend& backend, const float* x, const float* gain, size_t rows, size_t columns, float epsilon,
                    float* inverse, float* out);
// d_x += the gradient of x; d_gain = the gradient of the gain. d_out is overwritten.
void normalize_rows_gradient(Backend& backend, const float* x, const float* gain, const float* inverse, size_t rows,
                             size_t columns, float* d_out, float* d_x, float* d_gain);

class BlockGradient {
 public:
  BlockGradient(const ModelSpec& spec, Backend& backend, uint32_t windows, uint32_t window);

  // output = block(input), both rows x hidden_size and distinct. Keeps what backward needs.
  void forward(const BlockWeights& weights, const float* input, float* output);

  // After forward with the same weights and input. gradient: that of the output, replaced by that of the input.
  // `on_matrix(index, d_weights)` gets the gradient of each matrix for which `wanted[index]`; valid during the call only.
  void backward(const BlockWeights& weights, const float* input, const bool wanted[kBlockMatrices], float* gradient,
                float* d_attention_norm, float* d_feed_forward_norm,
                FunctionRef<void(size_t index, const float* d_weights)> on_matrix);

 private:
  size_t outputs(size_t index) const;
  size_t inputs(size_t index) const;
  void linear(const BlockWeights& weights, size_t index, const float* x, float* y);
  // d_x (+)= d_y W, and the gradient of W.
  void linear_gradient(const BlockWeights& weights, size_t index, const float* x, const float* d_y, const bool* wanted,
                       float* d_x, bool accumulate, FunctionRef<void(size_t, const float*)> on_matrix);
  void rotate(float* x, size_t heads, float direction);

  Backend& backend_;
  AttentionBatch batch_;
  size_t rows_, hidden_, query_, key_, feed_forward_;
  float epsilon_;
  DenseProduct product_;
  std::vector<float> angles_;  // [position][head_size / 2] pairs (cosine, sine)
  // Of the last forward pass, rows x their width.
  std::vector<float> normed_in_, inverse_in_, q_, k_, v_, attended_, middle_, normed_middle_, inverse_middle_, gate_, up_,
      activated_;
  // Of the backward pass.
  std::vector<float> d_wide_, d_up_, d_normed_, d_attended_, dq_, dk_, dv_, d_keys_, d_values_, d_weights_;
};

}  // namespace shiftadd
