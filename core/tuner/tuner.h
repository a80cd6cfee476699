// Tunes the scales of a packed model and its norm gains against the dense model; the signs stay as they are.
//
// End to end (step): the loss is the mean over positions of KL(dense || packed). Both models run block by block, only the
// packed model's block inputs are kept, and every block is computed again in the backward pass. Memory: those inputs, one
// decoded block and its activations, 128 rows of both logits, the decoded head.
// Block by block (begin_blocks, block_step, next_block): the loss is the mean squared error of one block's output, with the
// packed prefix's hidden states as its input. Memory: the hidden states of all windows instead of the inputs and the head.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "core/session.h"
#include "core/tuner/tuned_model.h"

namespace shiftadd {

class Tuner {
 public:
  // dense: must be dense, on a backend whose weights are host memory, and outlive the tuner.
  static Status open(const Model& dense, std::unique_ptr<Tuner>* out);

  // See TunedModel. Matrices that are not set stay dense; embedding and head are in the loop but frozen.
  Status set_matrix(Role role, uint32_t layer, PackedWeights weights) {
    return model_->set_matrix(role, layer, std::move(weights));
  }
  Status matrix(Role role, uint32_t layer, PackedWeights* out) const { return model_->matrix(role, layer, out); }
  Status gains(Role role, uint32_t layer, std::span<float> out) const { return model_->gains(role, layer, out); }

  // One Adam step on windows x window tokens. loss: before the step, in nats per token. On any failure, also when the loss
  // or a gradient is not finite, nothing is changed.
  Status step(std::span<const int32_t> tokens, uint32_t windows, uint32_t window, const TuneRates& rates, double* loss,
              Cancel cancel);
  // The loss alone.
  Status loss(std::span<const int32_t> tokens, uint32_t windows, uint32_t window, double* loss, Cancel cancel);

  // Block by block: begins with the first block and all tokens that later steps choose from.
  Status begin_blocks(std::span<const int32_t> tokens, uint32_t windows, uint32_t window);
  // One Adam step of the present block on some of the windows. loss: mean squared error before the step.
  Status block_step(std::span<const uint32_t> chosen, const TuneRates& rates, double* loss, Cancel cancel);
  // Runs all windows through the present block of both models and goes on with the next.
  Status next_block(Cancel cancel);
  uint32_t present_block() const { return layer_; }

  // All that a killed job needs to go on with identical results, after the same set_matrix calls (and begin_blocks and
  // next_block calls): step counts, deltas, Adam moments.
  size_t state_size();
  Status save_state(std::span<float> out);
  Status load_state(std::span<const float> in);

  // For checks of gradients: off, scales are used as they are, not as the file stores them.
  void set_rounding(bool rounding) { rounding_ = rounding; }
  // Call start of it before the first use.
  TunedModel& model() { return *model_; }

 private:
  Tuner() = default;
  Status check_tokens(std::span<const int32_t> tokens, uint32_t windows, uint32_t window) const;
  void prepare(uint32_t windows, uint32_t window);
  // Fills inputs_ and the final hidden states of both models.
  Status run_forward(std::span<const int32_t> tokens, Cancel cancel);
  // The loss from the final hidden states; with `gradient` also its gradient by those of the packed model.
  Status run_head(size_t rows, float* gradient, double* loss, Cancel cancel);
  // The gradient of the block in place, its parameters' gradients on the way. After forward of the same block.
  void run_block_backward(uint32_t layer, const BlockWeights& weights, const float* input, float* gradient);
  // Whether the loss and the gradients of these parameters are finite.
  Status check_finite(double loss, std::span<const ParameterRange> ranges) const;

  std::unique_ptr<TunedModel> model_;
  std::unique_ptr<BlockGradient> block_;
  uint32_t windows_ = 0, window_ = 0;              // of block_
  std::vector<std::vector<float>> inputs_;         // of the packed model's blocks, then its final hidden states
  std::vector<float> dense_hidden_, dense_next_, d_gain_[2];
  uint32_t steps_ = 0;
  bool rounding_ = true;
  // Block by block.
  std::vector<float> dense_states_, packed_states_;  // [window][position][hidden_size], inputs of the present block
  uint32_t all_windows_ = 0, all_window_ = 0, layer_ = 0, block_steps_ = 0;
};

}  // namespace shiftadd
