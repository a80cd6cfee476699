// AVX2 + F16C kernels: attention over cached keys and values, and the gated activation. No fused multiply-add: the sums
// have the bits of the portable kernels.
#include "backends/cpu/float_math.h"
#include "backends/cpu/kernels_x86.h"

namespace shiftadd::x86 {
namespace {

inline __m256 load_eight(const float* p) { return _mm256_loadu_ps(p); }
inline __m256 load_eight(const uint16_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline float load_one(const float* p) { return *p; }
inline float load_one(const uint16_t* p) { return _cvtsh_ss(*p); }

template <uint32_t kRows, uint32_t kPanels, class T>
void score_block(const float* q, size_t q_stride, const T* keys, uint32_t size, float scale, float* scores,
                 size_t score_stride) {
  __m256 sum[kRows][2 * kPanels];
  for (auto& row : sum)
    for (auto& part : row) part = _mm256_setzero_ps();
  for (uint32_t d = 0; d < size; ++d) {
    __m256 key[2 * kPanels];
    for (uint32_t n = 0; n < 2 * kPanels; ++n)
      key[n] = load_eight(keys + (n / 2 * size + d) * kKeyPanel + n % 2 * 8);
    for (uint32_t m = 0; m < kRows; ++m) {
      const __m256 value = _mm256_broadcast_ss(q + m * q_stride + d);
      for (uint32_t n = 0; n < 2 * kPanels; ++n) sum[m][n] = _mm256_add_ps(sum[m][n], _mm256_mul_ps(value, key[n]));
    }
  }
  for (uint32_t m = 0; m < kRows; ++m)
    for (uint32_t n = 0; n < 2 * kPanels; ++n)
      _mm256_storeu_ps(scores + m * score_stride + 8 * n, _mm256_mul_ps(sum[m][n], _mm256_set1_ps(scale)));
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
  for (; rows >= 6; rows -= 6, q += 6 * q_stride, scores += 6 * score_stride)
    score_rows<6, 1>(q, q_stride, keys, size, panels, scale, scores, score_stride);
  for (; rows >= 3; rows -= 3, q += 3 * q_stride, scores += 3 * score_stride)
    score_rows<3, 2>(q, q_stride, keys, size, panels, scale, scores, score_stride);
  for (; rows > 0; --rows, q += q_stride, scores += score_stride)
    score_rows<1, 4>(q, q_stride, keys, size, panels, scale, scores, score_stride);
}

template <uint32_t kRows, uint32_t kVectors, class T>
void weigh_block(const float* weights, size_t weight_stride, const T* values, uint32_t count, uint32_t size, float* out,
                 size_t out_stride) {
  __m256 sum[kRows][kVectors];
  for (uint32_t m = 0; m < kRows; ++m)
    for (uint32_t v = 0; v < kVectors; ++v) sum[m][v] = _mm256_loadu_ps(out + m * out_stride + 8 * v);
  for (uint32_t p = 0; p < count; ++p, values += size) {
    __m256 value[kVectors];
    for (uint32_t v = 0; v < kVectors; ++v) value[v] = load_eight(values + 8 * v);
    for (uint32_t m = 0; m < kRows; ++m) {
      const __m256 weight = _mm256_broadcast_ss(weights + m * weight_stride + p);
      for (uint32_t v = 0; v < kVectors; ++v) sum[m][v] = _mm256_add_ps(sum[m][v], _mm256_mul_ps(weight, value[v]));
    }
  }
  for (uint32_t m = 0; m < kRows; ++m)
    for (uint32_t v = 0; v < kVectors; ++v) _mm256_storeu_ps(out + m * out_stride + 8 * v, sum[m][v]);
}

template <uint32_t kRows, uint32_t kVectors, class T>
void weigh_rows(const float* weights, size_t weight_stride, const T* values, uint32_t count, uint32_t size, float* out,
                size_t out_stride) {
  uint32_t d = 0;
  for (; d + 8 * kVectors <= size; d += 8 * kVectors)
    weigh_block<kRows, kVectors>(weights, weight_stride, values + d, count, size, out + d, out_stride);
  for (; d + 8 <= size; d += 8)
    weigh_block<kRows, 1>(weights, weight_stride, values + d, count, size, out + d, out_stride);
  for (uint32_t m = 0; m < kRows; ++m)
    for (uint32_t p = 0; d < size && p < count; ++p)
      for (uint32_t rest = d; rest < size; ++rest)
        out[m * out_stride + rest] += weights[m * weight_stride + p] * load_one(values + size_t{p} * size + rest);
}

template <class T>
void weigh_all(const float* weights, size_t weight_stride, uint32_t rows, const T* values, uint32_t count, uint32_t size,
               float* out, size_t out_stride) {
  for (; rows >= 6; rows -= 6, weights += 6 * weight_stride, out += 6 * out_stride)
    weigh_rows<6, 2>(weights, weight_stride, values, count, size, out, out_stride);
  for (; rows >= 3; rows -= 3, weights += 3 * weight_stride, out += 3 * out_stride)
    weigh_rows<3, 4>(weights, weight_stride, values, count, size, out, out_stride);
  for (; rows > 0; --rows, weights += weight_stride, out += out_stride)
    weigh_rows<1, 8>(weights, weight_stride, values, count, size, out, out_stride);
}

}  // namespace

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

float exponentiate(float* scores, size_t n) { return exponentiate_loop(scores, n); }

void gate(float* gate, const float* up, size_t n) { gate_loop(gate, up, n); }

}  // namespace shiftadd::x86
