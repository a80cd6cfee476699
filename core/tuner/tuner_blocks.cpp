// The block-by-block part of Tuner.
#include <algorithm>

#include "core/tuner/tuner.h"

namespace shiftadd {

Status Tuner::begin_blocks(std::span<const int32_t> tokens, uint32_t windows, uint32_t window) {
  SHIFTADD_TRY(check_tokens(tokens, windows, window));
  model_->start();
  const size_t count = tokens.size() * model_->spec().hidden_size;
  dense_states_.resize(count);
  packed_states_.resize(count);
  model_->embed_dense(tokens, dense_states_.data());
  model_->embed_packed(tokens, packed_states_.data());
  all_windows_ = windows;
  all_window_ = window;
  layer_ = block_steps_ = 0;
  return ok_status();
}

Status Tuner::block_step(std::span<const uint32_t> chosen, const TuneRates& rates, double* loss, Cancel cancel) {
  if (all_windows_ == 0) return invalid_argument("begin the blocks first");
  if (layer_ >= model_->spec().layers) return invalid_argument("all blocks are tuned already");
  if (chosen.empty() || chosen.size() > all_windows_) return invalid_argument("choose at least one of the windows");
  for (uint32_t index : chosen)
    if (index >= all_windows_) return invalid_argument("there is no such window");
  for (float rate : rates.rates)
    if (!(rate >= 0 && rate <= 1)) return invalid_argument("learning rates must be 0 to 1");
  prepare(static_cast<uint32_t>(chosen.size()), all_window_);
  const size_t size = size_t{all_window_} * model_->spec().hidden_size, count = size * chosen.size();
  inputs_.resize(2);
  for (std::vector<float>* buffer : {&inputs_[0], &inputs_[1], &dense_hidden_, &dense_next_}) buffer->resize(count);
  for (size_t i = 0; i < chosen.size(); ++i) {
    std::copy_n(dense_states_.data() + chosen[i] * size, size, dense_hidden_.data() + i * size);
    std::copy_n(packed_states_.data() + chosen[i] * size, size, inputs_[0].data() + i * size);
  }
  if (cancel.requested()) return cancelled();
  block_->forward(model_->dense_block(layer_), dense_hidden_.data(), dense_next_.data());
  const BlockWeights weights = model_->packed_block(layer_);
  block_->forward(weights, inputs_[0].data(), inputs_[1].data());
  std::vector<float>& gradient = inputs_[1];
  double squares = 0;
  for (size_t i = 0; i < count; ++i) {
    const float error = gradient[i] - dense_next_[i];
    squares += double{error} * error;
    gradient[i] = 2 * error / static_cast<float>(count);
  }
  if (cancel.requested()) return cancelled();
  run_block_backward(layer_, weights, inputs_[0].data(), gradient.data());
  const double before = squares / static_cast<double>(count);
  const std::vector<ParameterRange> ranges = model_->block_parameters(layer_);
  SHIFTADD_TRY(check_finite(before, ranges));
  model_->parameters().update(model_->backend(), rates, ++block_steps_, ranges);
  *loss = before;
  return ok_status();
}

Status Tuner::next_block(Cancel cancel) {
  if (all_windows_ == 0) return invalid_argument("begin the blocks first");
  if (layer_ >= model_->spec().layers) return invalid_argument("all blocks are tuned already");
  prepare(1, all_window_);
  const size_t size = size_t{all_window_} * model_->spec().hidden_size;
  // Into copies: a cancelled call leaves the present block where it is.
  std::vector<float> dense(dense_states_.size()), packed(packed_states_.size());
  const BlockWeights dense_weights = model_->dense_block(layer_), packed_weights = model_->packed_block(layer_);
  for (size_t first = 0; first < dense.size(); first += size) {
    if (cancel.requested()) return cancelled();
    block_->forward(dense_weights, dense_states_.data() + first, dense.data() + first);
    block_->forward(packed_weights, packed_states_.data() + first, packed.data() + first);
  }
  dense_states_ = std::move(dense);
  packed_states_ = std::move(packed);
  ++layer_;
  block_steps_ = 0;
  return ok_status();
}

}  // namespace shiftadd
