#include "core/tuner/block_gradient.h"

#include <algorithm>
#include <cmath>

#include "core/float_math.h"

namespace shiftadd {
namespace {

enum : size_t { kQuery, kKey, kValue, kOutput, kGate, kUp, kDown };

constexpr size_t kGainColumns = 32;  // columns of one item when gradients are summed over rows

inline float sigmoid(float x) { return 1.0f / (1.0f + exp_float(-x)); }

void add(Backend& backend, const float* x, const float* y, size_t rows, size_t columns, float* sum) {
  backend.parallel(rows, [&](size_t row) {
    for (size_t i = row * columns; i < (row + 1) * columns; ++i) sum[i] = x[i] + y[i];
  });
}

}  // namespace

void normalize_rows(Backend& backend, const float* x, const float* gain, size_t rows, size_t columns, float epsilon,
                    float* inverse, float* out) {
  backend.parallel(rows, [&](size_t row) {
    const float* in = x + row * columns;
    double squares = 0;
    for (size_t i = 0; i < columns; ++i) squares += double{in[i]} * in[i];
    inverse[row] = static_cast<float>(1 / std::sqrt(squares / static_cast<double>(columns) + double{epsilon}));
    for (size_t i = 0; i < columns; ++i) out[row * columns + i] = in[i] * inverse[row] * gain[i];
  });
}

void normalize_rows_gradient(Backend& backend, const float* x, const float* gain, const float* inverse, size_t rows,
                             size_t columns, float* d_out, float* d_x, float* d_gain) {
  backend.parallel((columns + kGainColumns - 1) / kGainColumns, [&](size_t item) {
    const size_t first = item * kGainColumns, last = std::min(columns, first + kGainColumns);
    std::fill(d_gain + first, d_gain + last, 0.0f);
    for (size_t row = 0; row < rows; ++row)
      for (size_t i = first; i < last; ++i) d_gain[i] += d_out[row * columns + i] * x[row * columns + i] * inverse[row];
  });
  // With u = gain * d_out and n = 1 / rms: d_x = n u - n^3 x mean(u x).
  backend.parallel(rows, [&](size_t row) {
    const float* in = x + row * columns;
    float* slope = d_out + row * columns;
    double sum = 0;
    for (size_t i = 0; i < columns; ++i) {
      slope[i] *= gain[i];
      sum += double{slope[i]} * in[i];
    }
    const double n = inverse[row];
    const float pull = static_cast<float>(n * n * n * sum / static_cast<double>(columns));
    for (size_t i = 0; i < columns; ++i) d_x[row * columns + i] += inverse[row] * slope[i] - pull * in[i];
  });
}

BlockGradient::BlockGradient(const ModelSpec& spec, Backend& backend, uint32_t windows, uint32_t window)
    : backend_(backend),
      batch_{{spec.heads, spec.kv_heads, spec.head_size, spec.attention_scale, 0, 0, {}}, windows, window},
      rows_(size_t{windows} * window),
      hidden_(spec.hidden_size),
      query_(size_t{spec.heads} * spec.head_size),
      key_(size_t{spec.kv_heads} * spec.head_size),
      feed_forward_(spec.feed_forward_size),
      epsilon_(spec.norm_epsilon),
      product_(&backend) {
  for (uint32_t position = 0; position < window; ++position)
    for (double frequency : spec.rotary[0].frequencies) {
      angles_.push_back(static_cast<float>(std::cos(position * frequency)));
      angles_.push_back(static_cast<float>(std::sin(position * frequency)));
    }
  for (std::vector<float>* buffer : {&normed_in_, &middle_, &normed_middle_, &d_normed_}) buffer->resize(rows_ * hidden_);
  for (std::vector<float>* buffer : {&inverse_in_, &inverse_middle_}) buffer->resize(rows_);
  for (std::vector<float>* buffer : {&q_, &attended_, &d_attended_, &dq_, &d_keys_, &d_values_})
    buffer->resize(rows_ * query_);
  for (std::vector<float>* buffer : {&k_, &v_, &dk_, &dv_}) buffer->resize(rows_ * key_);
  for (std::vector<float>* buffer : {&gate_, &up_, &activated_, &d_wide_, &d_up_}) buffer->resize(rows_ * feed_forward_);
  d_weights_.resize(hidden_ * std::max(feed_forward_, query_));
}

size_t BlockGradient::outputs(size_t index) const {
  if (index == kQuery) return query_;
  if (index == kKey || index == kValue) return key_;
  return index == kGate || index == kUp ? feed_forward_ : hidden_;
}
size_t BlockGradient::inputs(size_t index) const {
  return index == kOutput ? query_ : index == kDown ? feed_forward_ : hidden_;
}

void BlockGradient::linear(const BlockWeights& weights, size_t index, const float* x, float* y) {
  Factor w = weights.matrices[index];
  w.transposed = true;
  product_.multiply(rows_, outputs(index), inputs(index), {x, inputs(index)}, w, y, outputs(index));
}

void BlockGradient::linear_gradient(const BlockWeights& weights, size_t index, const float* x, const float* d_y,
                                    const bool* wanted, float* d_x, bool accumulate,
                                    FunctionRef<void(size_t, const float*)> on_matrix) {
  const size_t out = outputs(index), in = inputs(index);
  product_.multiply(rows_, in, out, {d_y, out}, weights.matrices[index], d_x, in, accumulate);
  if (!wanted[index]) return;
  product_.multiply(out, in, rows_, {d_y, out, true}, {x, in}, d_weights_.data(), in);
  on_matrix(index, d_weights_.data());
}

// direction -1 is the transpose of the rotation: its gradient.
void BlockGradient::rotate(float* x, size_t heads, float direction) {
  const size_t half = batch_.shape.head_size / 2;
  backend_.parallel(rows_, [&](size_t row) {
    const float* angles = angles_.data() + row % batch_.window * 2 * half;
    for (size_t head = 0; head < heads; ++head) {
      float* first = x + (row * heads + head) * 2 * half;
      for (size_t i = 0; i < half; ++i) {
        const float cosine = angles[2 * i], sine = direction * angles[2 * i + 1], a = first[i], b = first[half + i];
        first[i] = a * cosine - b * sine;
        first[half + i] = b * cosine + a * sine;
      }
    }
  });
}

void BlockGradient::forward(const BlockWeights& weights, const float* input, float* output) {
  normalize_rows(backend_, input, weights.attention_norm, rows_, hidden_, epsilon_, inverse_in_.data(), normed_in_.data());
  linear(weights, kQuery, normed_in_.data(), q_.data());
  linear(weights, kKey, normed_in_.data(), k_.data());
  linear(weights, kValue, normed_in_.data(), v_.data());
  rotate(q_.data(), batch_.shape.heads, 1);
  rotate(k_.data(), batch_.shape.kv_heads, 1);
  attend_windows(backend_, batch_, q_.data(), k_.data(), v_.data(), attended_.data());
  linear(weights, kOutput, attended_.data(), output);
  add(backend_, input, output, rows_, hidden_, middle_.data());

  normalize_rows(backend_, middle_.data(), weights.feed_forward_norm, rows_, hidden_, epsilon_, inverse_middle_.data(),
                 normed_middle_.data());
  linear(weights, kGate, normed_middle_.data(), gate_.data());
  linear(weights, kUp, normed_middle_.data(), up_.data());
  backend_.parallel(rows_, [&](size_t row) {
    const size_t first = row * feed_forward_, last = first + feed_forward_;
    // Two loops: in one, the compiler multiplies by the sigmoid of the clamped exponential as well, and every such product
    // is subnormal, which costs a hundred cycles.
    for (size_t i = first; i < last; ++i) activated_[i] = sigmoid(gate_[i]);
    for (size_t i = first; i < last; ++i) activated_[i] *= gate_[i] * up_[i];
  });
  linear(weights, kDown, activated_.data(), output);
  add(backend_, middle_.data(), output, rows_, hidden_, output);
}

void BlockGradient::backward(const BlockWeights& weights, const float* input, const bool wanted[kBlockMatrices],
                             float* gradient, float* d_attention_norm, float* d_feed_forward_norm,
                             FunctionRef<void(size_t index, const float* d_weights)> on_matrix) {
  // From here on `gradient` is that of the residual stream, to which every branch adds its part.
  linear_gradient(weights, kDown, activated_.data(), gradient, wanted, d_wide_.data(), false, on_matrix);
  backend_.parallel(rows_, [&](size_t row) {
    for (size_t i = row * feed_forward_; i < (row + 1) * feed_forward_; ++i) {
      const float x = gate_[i], s = sigmoid(x), slope = d_wide_[i];
      d_up_[i] = slope * x * s;
      d_wide_[i] = slope * up_[i] * s * (1 + x * (1 - s));
    }
  });
  linear_gradient(weights, kGate, normed_middle_.data(), d_wide_.data(), wanted, d_normed_.data(), false, on_matrix);
  linear_gradient(weights, kUp, normed_middle_.data(), d_up_.data(), wanted, d_normed_.data(), true, on_matrix);
  normalize_rows_gradient(backend_, middle_.data(), weights.feed_forward_norm, inverse_middle_.data(), rows_, hidden_,
                          d_normed_.data(), gradient, d_feed_forward_norm);

  linear_gradient(weights, kOutput, attended_.data(), gradient, wanted, d_attended_.data(), false, on_matrix);
  attend_windows_gradient(backend_, batch_, q_.data(), k_.data(), v_.data(), attended_.data(), d_attended_.data(),
                          dq_.data(), dk_.data(), dv_.data(), d_keys_.data(), d_values_.data());
  rotate(dq_.data(), batch_.shape.heads, -1);
  rotate(dk_.data(), batch_.shape.kv_heads, -1);
  linear_gradient(weights, kQuery, normed_in_.data(), dq_.data(), wanted, d_normed_.data(), false, on_matrix);
  linear_gradient(weights, kKey, normed_in_.data(), dk_.data(), wanted, d_normed_.data(), true, on_matrix);
  linear_gradient(weights, kValue, normed_in_.data(), dv_.data(), wanted, d_normed_.data(), true, on_matrix);
  normalize_rows_gradient(backend_, input, weights.attention_norm, inverse_in_.data(), rows_, hidden_, d_normed_.data(),
                          gradient, d_attention_norm);
}

}  // namespace shiftadd
