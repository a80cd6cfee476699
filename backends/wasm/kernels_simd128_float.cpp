// WebAssembly SIMD kernels: float operations and attention over cached keys and values. Nothing is fused: the sums have the
// bits of the portable kernels.
#include "backends/wasm/kernels_simd128.h"
#include "core/half.h"

namespace shiftadd::simd128 {
namespace {

inline float load_one(const float* p) { return *p; }
inline float load_one(const uint16_t* p) { return half_to_float(*p); }

template <uint32_t kRows, uint32_t kPanels, class T>
void score_block(const float* q, size_t q_stride, const T* keys, uint32_t size, float scale, float* scores,
                 size_t score_stride) {
  Vector sum[kRows][4 * kPanels];
  for (auto& row : sum)
    for (auto& part : row) part = splat(0);
  for (uint32_t d = 0; d < size; ++d)
    for (uint32_t n = 0; n < 4 * kPanels; ++n) {
      const Vector key = load_four(keys + (n / 4 * size + d) * kKeyPanel + n % 4 * 4);
      for (uint32_t m = 0; m < kRows; ++m) sum[m][n] = add(sum[m][n], multiply(key, splat(q[m * q_stride + d])));
    }
  for (uint32_t m = 0; m < kRows; ++m)
    for (uint32_t n = 0; n < 4 * kPanels; ++n) store(scores + m * score_stride + 4 * n, multiply(sum[m][n], splat(scale)));
}

// kRows rows over all panels, kPanels at a time: enough independent sums to hide the latency of an addition.
template <uint32_t kRows, uint32_t kPanels, class T>
void score_rows(const float* q, size_t q_stride, const T* keys, uint32_t size, uint32_t panels, float scale, float* scores,
                size_t score_stride) {
  const size_t panel = size_t{size} * kKeyPanel;
  uint32_t n = 0;
  for (; n + kPanels <= panels; n += kPanels)
    score_block<kRows, kPanels>(q, q_stride, keys + n * panel, size, scale, scores + n * kKeyPanel, score_stride);
  for (; n < panels; ++n)
    score_block<kRows, 1>(q, q_stride, keys + n * panel, size, scale, scores + n * kKeyPanel, score_stride);
}

template <class T>
void score_all(const float* q, size_t q_stride, uint32_t rows, const T* keys, uint32_t size, uint32_t panels, float scale,
               float* scores, size_t score_stride) {
  for (; rows >= 3; rows -= 3, q += 3 * q_stride, scores += 3 * score_stride)
    score_rows<3, 1>(q, q_stride, keys, size, panels, scale, scores, score_stride);
  for (; rows > 0; --rows, q += q_stride, scores += score_stride)
    score_rows<1, 2>(q, q_stride, keys, size, panels, scale, scores, score_stride);
}

template <uint32_t kRows, uint32_t kVectors, class T>
void weigh_block(const float* weights, size_t weight_stride, const T* values, uint32_t count, uint32_t size, float* out,
                 size_t out_stride) {
  Vector sum[kRows][kVectors];
  for (uint32_t m = 0; m < kRows; ++m)
    for (uint32_t v = 0; v < kVectors; ++v) sum[m][v] = load(out + m * out_stride + 4 * v);
  for (uint32_t p = 0; p < count; ++p, values += size)
    for (uint32_t v = 0; v < kVectors; ++v) {
      const Vector value = load_four(values + 4 * v);
      for (uint32_t m = 0; m < kRows; ++m)
        sum[m][v] = add(sum[m][v], multiply(value, splat(weights[m * weight_stride + p])));
    }
  for (uint32_t m = 0; m < kRows; ++m)
    for (uint32_t v = 0; v < kVectors; ++v) store(out + m * out_stride + 4 * v, sum[m][v]);
}

template <uint32_t kRows, uint32_t kVectors, class T>
void weigh_rows(const float* weights, size_t weight_stride, const T* values, uint32_t count, uint32_t size, float* out,
                size_t out_stride) {
  uint32_t d = 0;
  for (; d + 4 * kVectors <= size; d += 4 * kVectors)
    weigh_block<kRows, kVectors>(weights, weight_stride, values + d, count, size, out + d, out_stride);
  for (; d + 4 <= size; d += 4)
    weigh_block<kRows, 1>(weights, weight_stride, values + d, count, size, out + d, out_stride);
  for (uint32_t m = 0; m < kRows; ++m)
    for (uint32_t p = 0; d < size && p < count; ++p)
      for (uint32_t rest = d; rest < size; ++rest)
        out[m * out_stride + rest] += weights[m * weight_stride + p] * load_one(values + size_t{p} * size + rest);
}

template <class T>
void weigh_all(const float* weights, size_t weight_stride, uint32_t rows, const T* values, uint32_t count, uint32_t size,
               float* out, size_t out_stride) {
  for (; rows >= 3; rows -= 3, weights += 3 * weight_stride, out += 3 * out_stride)
    weigh_rows<3, 2>(weights, weight_stride, values, count, size, out, out_stride);
  for (; rows > 0; --rows, weights += weight_stride, out += out_stride)
    weigh_rows<1, 8>(weights, weight_stride, values, count, size, out, out_stride);
}

template <uint32_t kRows>
void dense_rows(const float* x, size_t x_stride, const float* panel, uint32_t k, float* y, size_t y_stride) {
  Vector sum[kRows][4];
  for (auto& row : sum)
    for (auto& part : row) part = splat(0);
  for (uint32_t i = 0; i < k; ++i, panel += 16)
    for (uint32_t m = 0; m < kRows; ++m) {
      const Vector value = splat(x[m * x_stride + i]);
      for (uint32_t v = 0; v < 4; ++v) sum[m][v] = add(sum[m][v], multiply(value, load(panel + 4 * v)));
    }
  for (uint32_t m = 0; m < kRows; ++m)
    for (uint32_t v = 0; v < 4; ++v) store(y + m * y_stride + 4 * v, sum[m][v]);
}

}  // namespace

float dot(const float* a, const float* b, size_t n) {
  Vector sum[4] = {splat(0), splat(0), splat(0), splat(0)};
  size_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (size_t v = 0; v < 4; ++v) sum[v] = add(sum[v], multiply(load(a + i + 4 * v), load(b + i + 4 * v)));
  if (i < n) {
    float left[16] = {}, right[16] = {};
    for (size_t l = 0; i + l < n; ++l) left[l] = a[i + l], right[l] = b[i + l];
    // Adding the zero products of the missing lanes leaves every sum as it is.
    for (size_t v = 0; v < 4; ++v) sum[v] = add(sum[v], multiply(load(left + 4 * v), load(right + 4 * v)));
  }
  const Vector four = add(add(sum[0], sum[2]), add(sum[1], sum[3]));
  const Vector two = add(four, wasm_i64x2_shuffle(four, four, 1, 1));
  return wasm_f32x4_extract_lane(two, 0) + wasm_f32x4_extract_lane(two, 1);
}

void score_keys(const float* q, size_t q_stride, uint32_t rows, const void* keys, KvType type, uint32_t size,
                uint32_t panels, float scale, float* scores, size_t score_stride) {
  if (type == KvType::f32)
    score_all(q, q_stride, rows, static_cast<const float*>(keys), size, panels, scale, scores, score_stride);
  else score_all(q, q_stride, rows, static_cast<const uint16_t*>(keys), size, panels, scale, scores, score_stride);
}

void weigh_values(const float* weights, size_t weight_stride, uint32_t rows, const void* values, KvType type,
                  uint32_t count, uint32_t size, float* out, size_t out_stride) {
  if (type == KvType::f32)
    weigh_all(weights, weight_stride, rows, static_cast<const float*>(values), count, size, out, out_stride);
  else weigh_all(weights, weight_stride, rows, static_cast<const uint16_t*>(values), count, size, out, out_stride);
}

void dense_tile(const float* x, size_t x_stride, uint32_t rows, const float* panel, uint32_t k, float* y, size_t y_stride) {
  // Three rows by 16 outputs fill 12 of the 16 registers.
  for (; rows >= 3; rows -= 3, x += 3 * x_stride, y += 3 * y_stride) dense_rows<3>(x, x_stride, panel, k, y, y_stride);
  for (; rows > 0; --rows, x += x_stride, y += y_stride) dense_rows<1>(x, x_stride, panel, k, y, y_stride);
}

void widen_half(const uint16_t* half, float* out, size_t n) {
  size_t i = 0;
  for (; i + 4 <= n; i += 4) store(out + i, load_four(half + i));
  for (; i < n; ++i) out[i] = half_to_float(half[i]);
}

void narrow_half(const float* in, uint16_t* half, size_t n) {
  for (size_t i = 0; i < n; ++i) half[i] = float_to_half(in[i]);
}

}  // namespace shiftadd::simd128
