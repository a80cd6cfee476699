// AVX2 + FMA + F16C kernels: float operations.
#include "backends/cpu/kernels_x86.h"

namespace shiftadd::x86 {

float dot(const float* a, const float* b, size_t n) {
  __m256 low = _mm256_setzero_ps(), high = low;
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    low = _mm256_add_ps(low, _mm256_mul_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i)));
    high = _mm256_add_ps(high, _mm256_mul_ps(_mm256_loadu_ps(a + i + 8), _mm256_loadu_ps(b + i + 8)));
  }
  if (i < n) {
    alignas(32) float left[16] = {}, right[16] = {};
    for (size_t l = 0; i + l < n; ++l) left[l] = a[i + l], right[l] = b[i + l];
    // Adding the zero products of the missing lanes leaves every sum as it is.
    low = _mm256_add_ps(low, _mm256_mul_ps(_mm256_load_ps(left), _mm256_load_ps(right)));
    high = _mm256_add_ps(high, _mm256_mul_ps(_mm256_load_ps(left + 8), _mm256_load_ps(right + 8)));
  }
  const __m256 eight = _mm256_add_ps(low, high);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

template <uint32_t kRows>
static void dense_rows(const float* x, size_t x_stride, const float* panel, uint32_t k, float* y, size_t y_stride) {
  __m256 sum[kRows][2];
  for (uint32_t m = 0; m < kRows; ++m) sum[m][0] = sum[m][1] = _mm256_setzero_ps();
  for (uint32_t i = 0; i < k; ++i, panel += 16) {
    const __m256 left = _mm256_loadu_ps(panel), right = _mm256_loadu_ps(panel + 8);
    for (uint32_t m = 0; m < kRows; ++m) {
      const __m256 value = _mm256_broadcast_ss(x + m * x_stride + i);
      sum[m][0] = _mm256_fmadd_ps(value, left, sum[m][0]);
      sum[m][1] = _mm256_fmadd_ps(value, right, sum[m][1]);
    }
  }
  for (uint32_t m = 0; m < kRows; ++m) {
    _mm256_storeu_ps(y + m * y_stride, sum[m][0]);
    _mm256_storeu_ps(y + m * y_stride + 8, sum[m][1]);
  }
}

void dense_tile(const float* x, size_t x_stride, uint32_t rows, const float* panel, uint32_t k, float* y,
                size_t y_stride) {
  // Six rows by 16 outputs fill 12 of the 16 registers.
  for (; rows >= 6; rows -= 6, x += 6 * x_stride, y += 6 * y_stride)
    dense_rows<6>(x, x_stride, panel, k, y, y_stride);
  for (; rows >= 2; rows -= 2, x += 2 * x_stride, y += 2 * y_stride)
    dense_rows<2>(x, x_stride, panel, k, y, y_stride);
  if (rows) dense_rows<1>(x, x_stride, panel, k, y, y_stride);
}

void widen_half(const uint16_t* half, float* out, size_t n) {
  size_t i = 0;
  for (; i + 8 <= n; i += 8)
    _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(half + i))));
  for (; i < n; ++i) out[i] = _cvtsh_ss(half[i]);
}

void narrow_half(const float* in, uint16_t* half, size_t n) {
  size_t i = 0;
  for (; i + 8 <= n; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(half + i), _mm256_cvtps_ph(_mm256_loadu_ps(in + i), _MM_FROUND_TO_NEAREST_INT));
  for (; i < n; ++i) half[i] = _cvtss_sh(in[i], _MM_FROUND_TO_NEAREST_INT);
}

}  // namespace shiftadd::x86
