#include "core/tuner/tuner.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "core/finite.h"
#include "core/divergence.h"

namespace shiftadd {
namespace {

constexpr size_t kLogitRows = 128;  // rows of both logits at a time: the vocabulary is wide
constexpr uint32_t kMostRows = 1u << 20;

// In place; nothing without a rotation.
void change_basis(const ModelSpec& spec, Backend& backend, float* x, size_t rows, bool inverse) {
  if (spec.rotation.none()) return;
  backend.parallel(rows, [&](size_t row) {
    std::vector<float> scratch(spec.hidden_size);
    float* line = x + row * spec.hidden_size;
    spec.rotation.apply(line, line, scratch.data(), inverse);
  });
}

}  // namespace

Status Tuner::open(const Model& dense, std::unique_ptr<Tuner>* out) {
  std::unique_ptr<Tuner> tuner(new Tuner());
  SHIFTADD_TRY(TunedModel::open(dense, &tuner->model_));
  for (std::vector<float>& gain : tuner->d_gain_) gain.resize(dense.spec().hidden_size);
  *out = std::move(tuner);
  return ok_status();
}

Status Tuner::check_tokens(std::span<const int32_t> tokens, uint32_t windows, uint32_t window) const {
  const ModelSpec& spec = model_->spec();
  if (windows == 0 || window == 0 || tokens.size() != size_t{windows} * window || tokens.size() > kMostRows)
    return invalid_argument("tuning needs windows x window tokens, at most 2^20");
  if (window > spec.context_limit)
    return invalid_argument("the tuning window of " + std::to_string(window) + " tokens exceeds the context of " +
                            std::to_string(spec.context_limit));
  for (int32_t token : tokens)
    if (token < 0 || static_cast<uint32_t>(token) >= spec.vocabulary_size)
      return invalid_argument("tuning token " + std::to_string(token) + " is outside the vocabulary");
  return ok_status();
}

void Tuner::prepare(uint32_t windows, uint32_t window) {
  model_->start();
  model_->refresh(rounding_);
  if (block_ != nullptr && windows == windows_ && window == window_) return;
  block_.reset();  // frees its memory before the next takes some
  block_ = std::make_unique<BlockGradient>(model_->spec(), model_->backend(), windows, window);
  windows_ = windows;
  window_ = window;
}

Status Tuner::run_forward(std::span<const int32_t> tokens, Cancel cancel) {
  const ModelSpec& spec = model_->spec();
  const size_t count = tokens.size() * spec.hidden_size;
  inputs_.resize(spec.layers + 1);
  for (std::vector<float>& input : inputs_) input.resize(count);
  dense_hidden_.resize(count);
  dense_next_.resize(count);
  model_->embed_dense(tokens, dense_hidden_.data());
  model_->embed_packed(tokens, inputs_[0].data());
  for (uint32_t layer = 0; layer < spec.layers; ++layer) {
    if (cancel.requested()) return cancelled();
    block_->forward(model_->dense_block(layer), dense_hidden_.data(), dense_next_.data());
    std::swap(dense_hidden_, dense_next_);
    block_->forward(model_->packed_block(layer), inputs_[layer].data(), inputs_[layer + 1].data());
  }
  return ok_status();
}

Status Tuner::run_head(size_t rows, float* gradient, double* loss, Cancel cancel) {
  const ModelSpec& spec = model_->spec();
  Backend& backend = model_->backend();
  const size_t hidden = spec.hidden_size, vocabulary = spec.vocabulary_size;
  std::vector<float>& last = inputs_.back();
  change_basis(spec, backend, dense_hidden_.data(), rows, true);
  change_basis(spec, backend, last.data(), rows, true);
  std::vector<float> inverse(rows), dense(rows * hidden), packed(rows * hidden);
  std::vector<float> slope(gradient == nullptr ? 0 : rows * hidden);
  normalize_rows(backend, dense_hidden_.data(), model_->dense_final_norm(), rows, hidden, spec.norm_epsilon, inverse.data(),
                 dense.data());
  normalize_rows(backend, last.data(), model_->packed_final_norm(), rows, hidden, spec.norm_epsilon, inverse.data(),
                 packed.data());
  change_basis(spec, backend, dense.data(), rows, false);
  change_basis(spec, backend, packed.data(), rows, false);
  const Factor dense_head = model_->dense_head(), packed_head = model_->packed_head();
  Factor dense_out = dense_head, packed_out = packed_head;
  dense_out.transposed = packed_out.transposed = true;

  const size_t chunk = std::min(kLogitRows, rows);
  std::vector<float> dense_logits(chunk * vocabulary), packed_logits(chunk * vocabulary);
  std::vector<double> divergences(rows);
  DenseProduct product(&backend);
  for (size_t first = 0; first < rows; first += chunk) {
    if (cancel.requested()) return cancelled();
    const size_t part = std::min(chunk, rows - first);
    product.multiply(part, vocabulary, hidden, {dense.data() + first * hidden, hidden}, dense_out, dense_logits.data(),
                     vocabulary);
    product.multiply(part, vocabulary, hidden, {packed.data() + first * hidden, hidden}, packed_out, packed_logits.data(),
                     vocabulary);
    backend.parallel(part, [&](size_t row) {
      divergences[first + row] =
          divergence_gradient(dense_logits.data() + row * vocabulary, packed_logits.data() + row * vocabulary, vocabulary,
                              1.0f / static_cast<float>(rows));
    });
    if (gradient != nullptr)
      product.multiply(part, hidden, vocabulary, {packed_logits.data(), vocabulary}, packed_head,
                       slope.data() + first * hidden, hidden);
  }
  *loss = 0;
  for (double divergence : divergences) *loss += divergence / static_cast<double>(rows);
  if (gradient == nullptr) return ok_status();
  std::fill(gradient, gradient + rows * hidden, 0.0f);
  change_basis(spec, backend, slope.data(), rows, true);
  normalize_rows_gradient(backend, last.data(), model_->packed_final_norm(), inverse.data(), rows, hidden, slope.data(),
                          gradient, d_gain_[0].data());
  change_basis(spec, backend, gradient, rows, false);
  model_->project_norm(Role::final_norm, 0, d_gain_[0].data());
  return ok_status();
}

void Tuner::run_block_backward(uint32_t layer, const BlockWeights& weights, const float* input, float* gradient) {
  bool wanted[kBlockMatrices];
  model_->tuned_matrices(layer, wanted);
  block_->backward(weights, input, wanted, gradient, d_gain_[0].data(), d_gain_[1].data(),
                   [&](size_t index, const float* d_weights) { model_->project_matrix(layer, index, d_weights); });
  model_->project_norm(Role::attention_norm, layer, d_gain_[0].data());
  model_->project_norm(Role::feed_forward_norm, layer, d_gain_[1].data());
}

Status Tuner::check_finite(double loss, std::span<const ParameterRange> ranges) const {
  if (!std::isfinite(loss))
    return bad_format("the tuning loss is not finite; lower the learning rates or check the weights");
  for (const ParameterRange& range : ranges)
    if (!all_finite({model_->parameters().gradients(range), range.count}))
      return bad_format("a tuning gradient is not finite; lower the learning rates or check the weights");
  return ok_status();
}

Status Tuner::step(std::span<const int32_t> tokens, uint32_t windows, uint32_t window, const TuneRates& rates, double* loss,
                   Cancel cancel) {
  SHIFTADD_TRY(check_tokens(tokens, windows, window));
  for (float rate : rates.rates)
    if (!(rate >= 0 && rate <= 1)) return invalid_argument("learning rates must be 0 to 1");
  prepare(windows, window);
  SHIFTADD_TRY(run_forward(tokens, cancel));
  std::vector<float>& gradient = dense_next_;  // no longer needed
  double before = 0;
  SHIFTADD_TRY(run_head(tokens.size(), gradient.data(), &before, cancel));
  std::vector<ParameterRange> ranges{model_->final_norm_parameters()};
  for (uint32_t layer = model_->spec().layers; layer-- > 0;) {
    if (cancel.requested()) return cancelled();
    const BlockWeights weights = model_->packed_block(layer);
    block_->forward(weights, inputs_[layer].data(), inputs_[layer + 1].data());
    run_block_backward(layer, weights, inputs_[layer].data(), gradient.data());
    for (const ParameterRange& range : model_->block_parameters(layer)) ranges.push_back(range);
  }
  SHIFTADD_TRY(check_finite(before, ranges));
  model_->parameters().update(model_->backend(), rates, ++steps_, ranges);
  *loss = before;
  return ok_status();
}

Status Tuner::loss(std::span<const int32_t> tokens, uint32_t windows, uint32_t window, double* loss, Cancel cancel) {
  SHIFTADD_TRY(check_tokens(tokens, windows, window));
  prepare(windows, window);
  SHIFTADD_TRY(run_forward(tokens, cancel));
  return run_head(tokens.size(), nullptr, loss, cancel);
}

size_t Tuner::state_size() {
  model_->start();
  return 2 + model_->parameters().state_size();
}

Status Tuner::save_state(std::span<float> out) {
  if (out.size() != state_size()) return invalid_argument("the state needs room for state_size numbers");
  out[0] = static_cast<float>(steps_);
  out[1] = static_cast<float>(block_steps_);
  model_->parameters().save(out.data() + 2);
  return ok_status();
}

Status Tuner::load_state(std::span<const float> in) {
  if (in.size() != state_size()) return invalid_argument("the state has another size than that of these matrices");
  if (!all_finite(in) || in[0] < 0 || in[1] < 0 || in[0] > 1e7f || in[1] > 1e7f)
    return invalid_argument("the state is damaged");
  steps_ = static_cast<uint32_t>(in[0]);
  block_steps_ = static_cast<uint32_t>(in[1]);
  model_->parameters().load(in.data() + 2);
  return ok_status();
}

}  // namespace shiftadd
