#include "core/quantizer/sensitivity.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>

#include "core/divergence.h"
#include "core/finite.h"

namespace shiftadd {
namespace {

// Of every step of Transformer::kMaxRows tokens the last positions are measured: they have seen most, and the vocabulary
// is too wide to measure all.
constexpr uint32_t kMeasuredRows = 32;
constexpr size_t kMostTeacherBytes = size_t{1} << 31;

}  // namespace

Status Sensitivity::open(std::span<const int32_t> tokens, uint32_t windows, uint32_t window, Cancel cancel) {
  if (windows == 0 || window == 0 || tokens.size() != size_t{windows} * window || window > cache_.capacity)
    return invalid_argument("measuring needs windows x window tokens, no longer than those of the calibration");
  tokens_.assign(tokens.begin(), tokens.end());
  windows_ = windows;
  window_ = window;
  const size_t vocabulary = model_.spec().vocabulary_size;
  const uint32_t steps = (window + Transformer::kMaxRows - 1) / Transformer::kMaxRows;
  const size_t floats = size_t{windows} * steps * kMeasuredRows * vocabulary;
  if (floats * sizeof(float) > kMostTeacherBytes)
    return invalid_argument("measuring on so many tokens takes more than " + std::to_string(kMostTeacherBytes >> 20) +
                            " MB; measure on fewer");
  teacher_.reserve(floats);
  SHIFTADD_TRY(embed(&hidden_));
  SHIFTADD_TRY(run(0, hidden_, cancel, [&](const std::vector<float>& logits) {
    teacher_.insert(teacher_.end(), logits.begin(), logits.end());
  }));
  if (!all_finite(teacher_)) return bad_format("the dense model has logits that are not finite");
  return ok_status();
}

Status Sensitivity::embed(std::vector<float>* hidden) {
  const size_t hidden_size = model_.spec().hidden_size;
  hidden->resize(tokens_.size() * hidden_size);
  for (size_t done = 0; done < tokens_.size();) {
    const uint32_t position = static_cast<uint32_t>(done % window_), rows = std::min(Transformer::kMaxRows, window_ - position);
    transformer_.embed(tokens_.data() + done, position, rows);
    transformer_.get_hidden(hidden->data() + done * hidden_size, rows);
    done += rows;
  }
  return ok_status();
}

// One window through one block, in place.
Status Sensitivity::run_layer(uint32_t layer, float* hidden, Cancel cancel) {
  for (uint32_t position = 0; position < window_; position += Transformer::kMaxRows) {
    if (cancel.requested()) return cancelled();
    const uint32_t rows = std::min(Transformer::kMaxRows, window_ - position);
    float* part = hidden + size_t{position} * model_.spec().hidden_size;
    transformer_.set_hidden(part, rows);
    transformer_.run_block(layer, cache_, position, rows);
    transformer_.get_hidden(part, rows);
  }
  return ok_status();
}

Status Sensitivity::advance(uint32_t layer, Cancel cancel) {
  const size_t floats = size_t{window_} * model_.spec().hidden_size;
  for (uint32_t w = 0; w < windows_; ++w) SHIFTADD_TRY(run_layer(layer, hidden_.data() + w * floats, cancel));
  return ok_status();
}

// visit(logits of the measured rows of one step), steps in order.
template <typename Visit>
Status Sensitivity::run(uint32_t first_layer, const std::vector<float>& hidden, Cancel cancel, const Visit& visit) {
  const size_t hidden_size = model_.spec().hidden_size, floats = window_ * hidden_size;
  std::vector<float> states(floats), logits;
  for (uint32_t w = 0; w < windows_; ++w) {
    std::copy_n(hidden.begin() + static_cast<ptrdiff_t>(w * floats), floats, states.begin());
    for (uint32_t layer = first_layer; layer < model_.spec().layers; ++layer)
      SHIFTADD_TRY(run_layer(layer, states.data(), cancel));
    for (uint32_t position = 0; position < window_; position += Transformer::kMaxRows) {
      if (cancel.requested()) return cancelled();
      const uint32_t rows = std::min(Transformer::kMaxRows, window_ - position);
      const uint32_t measured = std::min(rows, kMeasuredRows);
      transformer_.set_hidden(states.data() + position * hidden_size, rows);
      logits.resize(size_t{measured} * model_.spec().vocabulary_size);
      transformer_.logits(rows - measured, rows, logits.data());
      visit(logits);
    }
  }
  return ok_status();
}

Status Sensitivity::measure(Role role, uint32_t layer, const PackedMatrix& packed, Cancel cancel, double* kl) {
  const bool in_block = role != Role::embedding && role != Role::head;
  const size_t vocabulary = model_.spec().vocabulary_size;
  Weights* prepared = nullptr;
  SHIFTADD_TRY(model_.backend().prepare(packed, &prepared));
  const std::unique_ptr<Weights> owner(prepared);
  transformer_.substitute(model_.weights(role, layer), prepared);
  std::vector<float> embedded;
  Status status = in_block ? ok_status() : embed(&embedded);
  size_t measured = 0;
  double sum = 0;
  if (status.ok()) {
    status = run(in_block ? layer : 0, in_block ? hidden_ : embedded, cancel, [&](const std::vector<float>& logits) {
      const float* teacher = teacher_.data() + measured * vocabulary;
      std::vector<double> rows(logits.size() / vocabulary);
      model_.backend().parallel(rows.size(), [&](size_t row) {
        rows[row] = divergence(teacher + row * vocabulary, logits.data() + row * vocabulary, vocabulary);
      });
      for (double row : rows) sum += row;
      measured += rows.size();
    });
  }
  transformer_.substitute(nullptr, nullptr);
  SHIFTADD_TRY(status);
  // A width that breaks the model is never worth its bytes.
  *kl = std::isfinite(sum) ? std::max(0.0, sum / static_cast<double>(measured)) : 1e30;
  return ok_status();
}

}  // namespace shiftadd
