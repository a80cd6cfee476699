#include "core/tuner/attention_gradient.h"

#include <algorithm>
#include <vector>

#include "core/float_math.h"
#include "core/tuner/dense_product.h"

namespace shiftadd {
namespace {

constexpr size_t kQueryRows = 128;  // queries at a time: keys behind the last of them are not computed

// One (window, head): where its rows start and how far apart they are.
struct Head {
  size_t window, head_size, query_stride, key_stride, query_offset, key_offset;

  Head(const AttentionBatch& batch, size_t item)
      : window(batch.window), head_size(batch.shape.head_size), query_stride(batch.shape.heads * head_size),
        key_stride(batch.shape.kv_heads * head_size) {
    const size_t w = item / batch.shape.heads, head = item % batch.shape.heads;
    const size_t key_head = head / (batch.shape.heads / batch.shape.kv_heads);
    query_offset = w * window * query_stride + head * head_size;
    key_offset = w * window * key_stride + key_head * head_size;
  }
};

// probabilities[r][0 .. last) = softmax(scale * q[first + r] k') over keys up to the query itself, then zeros.
void attention_weights(DenseProduct& product, const Head& head, const float* q, const float* k, float scale, size_t first,
                       size_t last, float* probabilities) {
  const size_t rows = last - first;
  product.multiply(rows, last, head.head_size, {q + first * head.query_stride, head.query_stride},
                   {k, head.key_stride, true}, probabilities, last);
  for (size_t r = 0; r < rows; ++r) {
    float* row = probabilities + r * last;
    const size_t seen = first + r + 1;
    for (size_t j = 0; j < seen; ++j) row[j] *= scale;
    const float factor = 1.0f / exponentiate_loop(row, seen);
    for (size_t j = 0; j < seen; ++j) row[j] *= factor;
    std::fill(row + seen, row + last, 0.0f);
  }
}

}  // namespace

void attend_windows(Backend& backend, const AttentionBatch& batch, const float* q, const float* k, const float* v,
                    float* out) {
  backend.parallel(size_t{batch.windows} * batch.shape.heads, [&](size_t item) {
    const Head head(batch, item);
    DenseProduct product(nullptr);
    std::vector<float> probabilities(std::min(kQueryRows, head.window) * head.window);
    for (size_t first = 0; first < head.window; first += kQueryRows) {
      const size_t last = std::min(head.window, first + kQueryRows);
      attention_weights(product, head, q + head.query_offset, k + head.key_offset, batch.shape.scale, first, last,
                        probabilities.data());
      product.multiply(last - first, head.head_size, last, {probabilities.data(), last},
                       {v + head.key_offset, head.key_stride}, out + head.query_offset + first * head.query_stride,
                       head.query_stride);
    }
  });
}

void attend_windows_gradient(Backend& backend, const AttentionBatch& batch, const float* q, const float* k, const float* v,
                             const float* out, const float* d_out, float* dq, float* dk, float* dv, float* d_key_heads,
                             float* d_value_heads) {
  const float scale = batch.shape.scale;
  backend.parallel(size_t{batch.windows} * batch.shape.heads, [&](size_t item) {
    const Head head(batch, item);
    const size_t stride = head.query_stride, size = head.head_size;
    DenseProduct product(nullptr);
    std::vector<float> probabilities(std::min(kQueryRows, head.window) * head.window), slopes(probabilities.size());
    for (size_t r = 0; r < head.window; ++r) {
      std::fill_n(d_key_heads + head.query_offset + r * stride, size, 0.0f);
      std::fill_n(d_value_heads + head.query_offset + r * stride, size, 0.0f);
    }
    for (size_t first = 0; first < head.window; first += kQueryRows) {
      const size_t last = std::min(head.window, first + kQueryRows), rows = last - first;
      const size_t block = head.query_offset + first * stride;
      attention_weights(product, head, q + head.query_offset, k + head.key_offset, scale, first, last,
                        probabilities.data());
      // dV += P' dO, dP = dO V'.
      product.multiply(last, size, rows, {probabilities.data(), last, true}, {d_out + block, stride},
                       d_value_heads + head.query_offset, stride, true);
      product.multiply(rows, last, size, {d_out + block, stride}, {v + head.key_offset, head.key_stride, true},
                       slopes.data(), last);
      // dS = P (dP - sum over keys of P dP) * scale; the sum is the inner product of dO and O.
      for (size_t r = 0; r < rows; ++r) {
        float mean = 0;
        for (size_t i = 0; i < size; ++i) mean += d_out[block + r * stride + i] * out[block + r * stride + i];
        float* slope = slopes.data() + r * last;
        const float* probability = probabilities.data() + r * last;
        for (size_t j = 0; j < last; ++j) slope[j] = probability[j] * (slope[j] - mean) * scale;
      }
      // dQ = dS K, dK += dS' Q.
      product.multiply(rows, size, last, {slopes.data(), last}, {k + head.key_offset, head.key_stride}, dq + block, stride);
      product.multiply(last, size, rows, {slopes.data(), last, true}, {q + block, stride},
                       d_key_heads + head.query_offset, stride, true);
    }
  });
  const size_t size = batch.shape.head_size, heads = batch.shape.heads, shared = heads / batch.shape.kv_heads;
  backend.parallel(size_t{batch.windows} * batch.window, [&](size_t row) {
    for (size_t head = 0; head < batch.shape.kv_heads; ++head)
      for (size_t i = 0; i < size; ++i) {
        float key = 0, value = 0;
        for (size_t h = head * shared; h < (head + 1) * shared; ++h) {
          key += d_key_heads[(row * heads + h) * size + i];
          value += d_value_heads[(row * heads + h) * size + i];
        }
        dk[(row * batch.shape.kv_heads + head) * size + i] = key;
        dv[(row * batch.shape.kv_heads + head) * size + i] = value;
      }
  });
}

}  // namespace shiftadd
