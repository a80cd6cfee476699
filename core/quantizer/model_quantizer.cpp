#include "core/quantizer/model_quantizer.h"

#include <algorithm>
#include <string>

#include "core/half.h"

namespace shiftadd {
namespace {

// Sums x^T x of one kind of linear input over all rows seen.
class Gram {
 public:
  void add(Backend& backend, Buffer x, uint32_t rows, uint32_t columns) {
    columns_ = columns;
    if (sums_.empty()) sums_.resize(size_t{columns} * columns);
    backend.add_gram(x, rows, columns, sums_.data());
    rows_ += rows;
  }
  // The mean, with the upper triangle mirrored.
  const float* finish() {
    const float factor = 1.0f / static_cast<float>(rows_);
    for (uint32_t r = 0; r < columns_; ++r)
      for (uint32_t c = r; c < columns_; ++c)
        sums_[size_t{c} * columns_ + r] = sums_[size_t{r} * columns_ + c] *= factor;
    return sums_.data();
  }

 private:
  std::vector<float> sums_;
  uint32_t columns_ = 0;
  uint64_t rows_ = 0;
};

class GramObserver final : public LinearObserver {
 public:
  explicit GramObserver(Backend& backend) : backend_(backend) {}
  void observe(LinearInput input, Buffer x, uint32_t rows, uint32_t columns) override {
    grams_[static_cast<size_t>(input)].add(backend_, x, rows, columns);
  }
  Gram& gram(LinearInput input) { return grams_[static_cast<size_t>(input)]; }

 private:
  Backend& backend_;
  Gram grams_[4];
};

LinearInput input_of(Role role) {
  switch (role) {
    case Role::attention_output: return LinearInput::attention_output;
    case Role::gate: case Role::up: return LinearInput::feed_forward;
    case Role::down: return LinearInput::down;
    default: return LinearInput::attention;
  }
}

std::vector<float> widen(const DenseMatrix& matrix, Backend& backend) {
  std::vector<float> floats(size_t{matrix.rows} * matrix.columns);
  backend.parallel(matrix.rows, [&](size_t row) {
    read_row(matrix, static_cast<uint32_t>(row), &floats[row * matrix.columns]);
  });
  return floats;
}

}  // namespace

Status ModelQuantizer::open(const Model& model, std::span<const int32_t> tokens, uint32_t windows, uint32_t window,
                            std::unique_ptr<ModelQuantizer>* out) {
  const ModelSpec& spec = model.spec();
  if (windows == 0 || window == 0 || tokens.size() != size_t{windows} * window)
    return invalid_argument("calibration needs windows x window tokens");
  if (window > spec.context_limit)
    return invalid_argument("the calibration window of " + std::to_string(window) + " tokens exceeds the context of " +
                            std::to_string(spec.context_limit));
  for (int32_t token : tokens)
    if (token < 0 || static_cast<uint32_t>(token) >= spec.vocabulary_size)
      return invalid_argument("calibration token " + std::to_string(token) + " is outside the vocabulary");
  for (const TensorSpec& tensor : spec.tensors)
    if (tensor.packed) return unsupported("the model is packed already: quantize its dense checkpoint");

  std::unique_ptr<ModelQuantizer> quantizer(new ModelQuantizer(model));
  SHIFTADD_TRY(quantizer->transformer_.allocate());
  SHIFTADD_TRY(quantizer->cache_.allocate(model, 1, window));
  quantizer->windows_ = windows;
  quantizer->window_ = window;
  quantizer->tokens_.assign(tokens.begin(), tokens.end());
  quantizer->hidden_.resize(tokens.size() * spec.hidden_size);
  quantizer->transformer_.set_beyond_switch(spec.rotary_switch > 0 && window > spec.rotary_switch);
  for (size_t done = 0; done < tokens.size();) {
    const uint32_t position = static_cast<uint32_t>(done % window), rows = std::min(Transformer::kMaxRows, window - position);
    quantizer->transformer_.embed(tokens.data() + done, position, rows);
    quantizer->transformer_.get_hidden(quantizer->hidden_.data() + done * spec.hidden_size, rows);
    done += rows;
  }
  *out = std::move(quantizer);
  return ok_status();
}

std::vector<Role> ModelQuantizer::block_roles() const {
  std::vector<Role> roles = {Role::query, Role::key, Role::value, Role::attention_output};
  if (model_.spec().gated) roles.push_back(Role::gate);
  roles.insert(roles.end(), {Role::up, Role::down});
  return roles;
}

Status ModelQuantizer::open_sensitivity(uint32_t windows, uint32_t window, Cancel cancel) {
  if (next_layer_ > 0 || sensitivity_) return invalid_argument("measuring is prepared once, before the first block");
  if (windows > windows_ || window > window_)
    return invalid_argument("measuring takes its windows from those of the calibration");
  std::vector<int32_t> tokens;
  for (uint32_t w = 0; w < windows; ++w)
    tokens.insert(tokens.end(), tokens_.begin() + w * window_, tokens_.begin() + w * window_ + window);
  auto sensitivity = std::make_unique<Sensitivity>(model_, transformer_, cache_.layer(0));
  SHIFTADD_TRY(sensitivity->open(tokens, windows, window, cancel));
  sensitivity_ = std::move(sensitivity);
  return ok_status();
}

// Moves the hidden states through the block; `observer` may be null. Reports up to `share`.
Status ModelQuantizer::collect(uint32_t layer, LinearObserver* observer, double share, const Report& report,
                               Cancel cancel) {
  if (failed_) return invalid_argument("an earlier step failed: open another quantizer");
  failed_ = true;
  if (sensitivity_ && layer > 0) SHIFTADD_TRY(sensitivity_->advance(layer - 1, cancel));
  const size_t hidden_size = model_.spec().hidden_size;
  for (uint32_t w = 0; w < windows_; ++w) {
    for (uint32_t position = 0; position < window_; position += Transformer::kMaxRows) {
      if (cancel.requested()) return cancelled();
      const uint32_t rows = std::min(Transformer::kMaxRows, window_ - position);
      float* hidden = hidden_.data() + (size_t{w} * window_ + position) * hidden_size;
      transformer_.set_hidden(hidden, rows);
      transformer_.run_block(layer, cache_.layer(0), position, rows, observer);
      transformer_.get_hidden(hidden, rows);
    }
    report(share * (w + 1) / windows_);
  }
  return ok_status();
}

Status ModelQuantizer::quantize(Role role, uint32_t layer, const float* hessian,
                                std::span<const QuantizeSettings> candidates, double from, double to,
                                const Report& report, Cancel cancel) {
  const DenseMatrix* matrix = model_.dense(role, layer);
  Backend& backend = model_.backend();
  const std::vector<float> weights = widen(*matrix, backend);
  for (size_t i = 0; i < candidates.size(); ++i) {
    QuantizedMatrix result;
    Status status = quantize_matrix(
        weights.data(), matrix->rows, matrix->columns, hessian, candidates[i],
        [&](size_t count, const std::function<void(size_t)>& work) { backend.parallel(count, work); },
        [&](double done) {
          report(from + (to - from) * (static_cast<double>(i) + done) / static_cast<double>(candidates.size()));
          return cancel.requested();
        },
        &result.weights, &result.report);
    if (!status.ok()) {
      status.message = "matrix " + std::to_string(results_.size() / candidates.size()) + ": " + status.message;
      return status;
    }
    results_.push_back(std::move(result));
    result_roles_.push_back(role);
  }
  return ok_status();
}

Status ModelQuantizer::block(std::span<const QuantizeSettings> settings, const Report& report, Cancel cancel) {
  if (next_layer_ >= model_.spec().layers) return invalid_argument("all blocks are quantized already");
  const std::vector<Role> roles = block_roles();
  const size_t matrices = roles.size();
  if (settings.empty() || settings.size() % matrices != 0)
    return invalid_argument("a block needs settings for " + std::to_string(matrices) + " matrices, as many candidates for each");
  forget_results();
  GramObserver observer(model_.backend());
  SHIFTADD_TRY(collect(next_layer_, &observer, 0.5, report, cancel));
  const float* hessians[4];
  for (uint32_t input = 0; input < 4; ++input) hessians[input] = observer.gram(static_cast<LinearInput>(input)).finish();
  const size_t candidates = settings.size() / matrices;
  for (size_t i = 0; i < matrices; ++i) {
    const double from = 0.5 + 0.5 * static_cast<double>(i) / static_cast<double>(matrices);
    const double to = 0.5 + 0.5 * static_cast<double>(i + 1) / static_cast<double>(matrices);
    const Role role = roles[i];
    SHIFTADD_TRY(quantize(role, next_layer_, hessians[static_cast<size_t>(input_of(role))],
                          settings.subspan(i * candidates, candidates), from, to, report, cancel));
  }
  ++next_layer_;
  failed_ = false;
  return ok_status();
}

Status ModelQuantizer::skip(const Report& report, Cancel cancel) {
  if (next_layer_ >= model_.spec().layers) return invalid_argument("there is no further block");
  forget_results();
  SHIFTADD_TRY(collect(next_layer_, nullptr, 1, report, cancel));
  ++next_layer_;
  failed_ = false;
  return ok_status();
}

Status ModelQuantizer::measure(size_t index, Cancel cancel, double* kl) {
  if (!sensitivity_) return invalid_argument("measuring was not prepared");
  if (failed_) return invalid_argument("the last step failed: there is nothing to measure");
  if (index >= results_.size()) return invalid_argument("there is no such quantized matrix");
  return sensitivity_->measure(result_roles_[index], next_layer_ - 1, results_[index].weights.view(), cancel, kl);
}

void ModelQuantizer::forget_results() {
  results_.clear();
  result_roles_.clear();
}

Status ModelQuantizer::head(std::span<const QuantizeSettings> settings, const Report& report, Cancel cancel) {
  if (next_layer_ < model_.spec().layers) return invalid_argument("quantize every block before the head");
  if (head_done_) return invalid_argument("the head is quantized already");
  const bool own_head = model_.has_own_head();
  if (settings.empty() || settings.size() % head_matrices() != 0)
    return invalid_argument("the head needs settings for the embedding, and for the head when it is not tied");
  forget_results();
  Gram gram;
  const size_t hidden_size = model_.spec().hidden_size, total = size_t{windows_} * window_;
  for (size_t done = 0; done < total;) {
    if (cancel.requested()) return cancelled();
    const uint32_t rows = static_cast<uint32_t>(std::min<size_t>(Transformer::kMaxRows, total - done));
    transformer_.set_hidden(hidden_.data() + done * hidden_size, rows);
    gram.add(model_.backend(), transformer_.final_hidden(0, rows), rows, model_.spec().embedding_size);
    done += rows;
    report(0.2 * static_cast<double>(done) / static_cast<double>(total));
  }
  const float* hessian = gram.finish();
  const size_t candidates = settings.size() / head_matrices();
  // An embedding that is only read by rows has no linear input: a plain fit.
  SHIFTADD_TRY(quantize(Role::embedding, 0, own_head ? nullptr : hessian, settings.first(candidates), 0.2,
                        own_head ? 0.6 : 1, report, cancel));
  if (own_head) SHIFTADD_TRY(quantize(Role::head, 0, hessian, settings.last(candidates), 0.6, 1, report, cancel));
  head_done_ = true;
  return ok_status();
}

}  // namespace shiftadd
