// NEON kernels: float operations.
#include "backends/cpu/kernels_neon.h"

namespace shiftadd::neon {
namespace {

inline float16x4_t load_half(const uint16_t* p) { return vreinterpret_f16_u16(vld1_u16(p)); }

template <uint32_t kRows>
void dense_rows(const float* x, size_t x_stride, const float* panel, uint32_t k, float* y, size_t y_stride) {
  float32x4_t sum[kRows][4];
  for (auto& row : sum)
    for (auto& part : row) part = vdupq_n_f32(0);
  for (uint32_t i = 0; i < k; ++i, panel += 16)
    for (uint32_t m = 0; m < kRows; ++m)
      for (uint32_t v = 0; v < 4; ++v) sum[m][v] = vfmaq_n_f32(sum[m][v], vld1q_f32(panel + 4 * v), x[m * x_stride + i]);
  for (uint32_t m = 0; m < kRows; ++m)
    for (uint32_t v = 0; v < 4; ++v) vst1q_f32(y + m * y_stride + 4 * v, sum[m][v]);
}

}  // namespace

float dot(const float* a, const float* b, size_t n) {
  float32x4_t sum[4] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};
  size_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (size_t v = 0; v < 4; ++v)
      sum[v] = vaddq_f32(sum[v], vmulq_f32(vld1q_f32(a + i + 4 * v), vld1q_f32(b + i + 4 * v)));
  if (i < n) {
    float left[16] = {}, right[16] = {};
    for (size_t l = 0; i + l < n; ++l) left[l] = a[i + l], right[l] = b[i + l];
    // Adding the zero products of the missing lanes leaves every sum as it is.
    for (size_t v = 0; v < 4; ++v) sum[v] = vaddq_f32(sum[v], vmulq_f32(vld1q_f32(left + 4 * v), vld1q_f32(right + 4 * v)));
  }
  const float32x4_t four = vaddq_f32(vaddq_f32(sum[0], sum[2]), vaddq_f32(sum[1], sum[3]));
  const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
  return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

void dense_tile(const float* x, size_t x_stride, uint32_t rows, const float* panel, uint32_t k, float* y,
                size_t y_stride) {
  // Four rows by 16 outputs: 16 sums hide the latency; with six rows compilers keep sums in memory.
  for (; rows >= 4; rows -= 4, x += 4 * x_stride, y += 4 * y_stride)
    dense_rows<4>(x, x_stride, panel, k, y, y_stride);
  for (; rows > 0; --rows, x += x_stride, y += y_stride) dense_rows<1>(x, x_stride, panel, k, y, y_stride);
}

void widen_half(const uint16_t* half, float* out, size_t n) {
  size_t i = 0;
  for (; i + 4 <= n; i += 4) vst1q_f32(out + i, vcvt_f32_f16(load_half(half + i)));
  for (; i < n; ++i) out[i] = vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(half[i]))), 0);
}

void narrow_half(const float* in, uint16_t* half, size_t n) {
  size_t i = 0;
  for (; i + 4 <= n; i += 4) vst1_u16(half + i, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(in + i))));
  for (; i < n; ++i) half[i] = vget_lane_u16(vreinterpret_u16_f16(vcvt_f16_f32(vdupq_n_f32(in[i]))), 0);
}

}  // namespace shiftadd::neon
