// NEON kernels: attention over cached keys and values, and the gated activation. No fused multiply-add: the sums have the
// bits of the portable kernels.
#include "backends/cpu/kernels_neon.h"
#include "core/float_math.h"

namespace shiftadd::neon {
namespace {

inline float32x4_t load_four(const float* p) { return vld1q_f32(p); }
inline float32x4_t load_four(const uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
inline float load_one(const float* p) { return *p; }
inline float load_one(const uint16_t* p) {
  return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(*p))), 0);
}

template <uint32_t kRows, uint32_t kPanels, class T>
void score_block(const float* q, size_t q_stride, const T* keys, uint32_t size, float scale, float* scores,
                 size_t score_stride) {
  float32x4_t sum[kRows][4 * kPanels];
  for (auto& row : sum)
    for (auto& part : row) part = vdupq_n_f32(0);
  for (uint32_t d = 0; d < size; ++d)
    for (uint32_t n = 0; n < 4 * kPanels; ++n) {
      const float32x4_t key = load_four(keys + (n / 4 * size + d) * kKeyPanel + n % 4 * 4);
      for (uint32_t m = 0; m < kRows; ++m) sum[m][n] = vaddq_f32(sum[m][n], vmulq_n_f32(key, q[m * q_stride + d]));
    }
  for (uint32_t m = 0; m < kRows; ++m)
    for (uint32_t n = 0; n < 4 * kPanels; ++n) vst1q_f32(scores + m * score_stride + 4 * n, vmulq_n_f32(sum[m][n], scale));
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
    score_rows<1, 4>(q, q_stride, keys, size, panels, scale, scores, score_stride);
}

template <uint32_t kRows, uint32_t kVectors, class T>
void weigh_block(const float* weights, size_t weight_stride, const T* values, uint32_t count, uint32_t size, float* out,
                 size_t out_stride) {
  float32x4_t sum[kRows][kVectors];
  for (uint32_t m = 0; m < kRows; ++m)
    for (uint32_t v = 0; v < kVectors; ++v) sum[m][v] = vld1q_f32(out + m * out_stride + 4 * v);
  for (uint32_t p = 0; p < count; ++p, values += size)
    for (uint32_t v = 0; v < kVectors; ++v) {
      const float32x4_t value = load_four(values + 4 * v);
      for (uint32_t m = 0; m < kRows; ++m)
        sum[m][v] = vaddq_f32(sum[m][v], vmulq_n_f32(value, weights[m * weight_stride + p]));
    }
  for (uint32_t m = 0; m < kRows; ++m)
    for (uint32_t v = 0; v < kVectors; ++v) vst1q_f32(out + m * out_stride + 4 * v, sum[m][v]);
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
    weigh_rows<3, 4>(weights, weight_stride, values, count, size, out, out_stride);
  for (; rows > 0; --rows, weights += weight_stride, out += out_stride)
    weigh_rows<1, 16>(weights, weight_stride, values, count, size, out, out_stride);
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

void gate(Activation activation, float* gate, const float* up, size_t n) { gate_loop(activation, gate, up, n); }

void soft_cap(float* x, size_t n, float cap) { soft_cap_loop(x, n, cap); }

}  // namespace shiftadd::neon
