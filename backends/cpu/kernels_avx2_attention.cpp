// AVX2 + F16C kernels: attention over cached keys and values, and the gated activation. No fused multiply-add: the sums
// have the bits of the portable kernels.
#include <initializer_list>

#include "backends/cpu/kernels_x86.h"
#include "core/float_math.h"

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

// The operations of exp_float and exponentiate_loop in float_math.h, eight at a time.
static inline __m256 exp_eight(__m256 x) {
  x = _mm256_min_ps(_mm256_set1_ps(88.0f), _mm256_max_ps(_mm256_set1_ps(-87.0f), x));  // NaN stays NaN
  const __m256 shift = _mm256_set1_ps(12582912.0f);
  const __m256 rounded = _mm256_add_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)), shift);
  const __m256i n = _mm256_sub_epi32(_mm256_castps_si256(rounded), _mm256_set1_epi32(0x4b400000));
  const __m256 nf = _mm256_sub_ps(rounded, shift);
  const __m256 r = _mm256_add_ps(_mm256_sub_ps(x, _mm256_mul_ps(nf, _mm256_set1_ps(0.693359375f))),
                                 _mm256_mul_ps(nf, _mm256_set1_ps(2.12194440e-4f)));
  __m256 p = _mm256_set1_ps(1.9875691500e-4f);
  for (float coefficient : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
    p = _mm256_add_ps(_mm256_mul_ps(p, r), _mm256_set1_ps(coefficient));
  p = _mm256_add_ps(_mm256_add_ps(_mm256_mul_ps(p, _mm256_mul_ps(r, r)), r), _mm256_set1_ps(1.0f));
  return _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23)));
}

float exponentiate(float* scores, size_t n) {
  if (n < 16) return exponentiate_loop(scores, n);
  const size_t whole = n / 16 * 16;
  __m256 low = _mm256_loadu_ps(scores), high = _mm256_loadu_ps(scores + 8);
  __m256 first = _mm256_set1_ps(scores[0]);
  low = _mm256_max_ps(low, first), high = _mm256_max_ps(high, first);
  for (size_t i = 16; i < whole; i += 16) {
    low = _mm256_max_ps(_mm256_loadu_ps(scores + i), low);
    high = _mm256_max_ps(_mm256_loadu_ps(scores + i + 8), high);
  }
  float most = largest_of(_mm256_max_ps(low, high));
  for (size_t i = whole; i < n; ++i) most = scores[i] > most ? scores[i] : most;
  const __m256 largest = _mm256_set1_ps(most);
  __m256 left = _mm256_setzero_ps(), right = left;
  for (size_t i = 0; i < whole; i += 16) {
    const __m256 a = exp_eight(_mm256_sub_ps(_mm256_loadu_ps(scores + i), largest));
    const __m256 b = exp_eight(_mm256_sub_ps(_mm256_loadu_ps(scores + i + 8), largest));
    _mm256_storeu_ps(scores + i, a);
    _mm256_storeu_ps(scores + i + 8, b);
    left = _mm256_add_ps(left, a), right = _mm256_add_ps(right, b);
  }
  float lanes[16];
  _mm256_storeu_ps(lanes, left);
  _mm256_storeu_ps(lanes + 8, right);
  for (size_t i = whole; i < n; ++i) {
    scores[i] = exp_float(scores[i] - most);
    lanes[i - whole] += scores[i];
  }
  for (size_t half = 8; half > 0; half /= 2)
    for (size_t l = 0; l < half; ++l) lanes[l] += lanes[l + half];
  return lanes[0];
}

void gate(Activation activation, float* gate, const float* up, size_t n) {
  if (activation != Activation::silu || up == nullptr) return gate_loop(activation, gate, up, n);
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256 x = _mm256_loadu_ps(gate + i);
    const __m256 e = exp_eight(_mm256_xor_ps(x, _mm256_set1_ps(-0.0f)));
    const __m256 silu = _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1.0f), e));
    _mm256_storeu_ps(gate + i, _mm256_mul_ps(silu, _mm256_loadu_ps(up + i)));
  }
  gate_loop(activation, gate + i, up + i, n - i);
}

void soft_cap(float* x, size_t n, float cap) { soft_cap_loop(x, n, cap); }

}  // namespace shiftadd::x86
