// What both AVX-512 kernel files share: the panel product for a given way to multiply and add pairs of 16-bit integers.
#pragma once

#include "backends/cpu/kernels_x86.h"

namespace shiftadd::x86 {

// sum[i] + a[2 i] * b[2 i] + a[2 i + 1] * b[2 i + 1]
using AddProducts = __m512i(__m512i sum, __m512i a, __m512i b);

template <AddProducts add_products, uint32_t kTokens>
void product_rows(const int16_t* x, const int16_t* panel, uint32_t columns, const float* scale, float* y) {
  __m512i sum[kTokens][2];
  for (uint32_t m = 0; m < kTokens; ++m) sum[m][0] = sum[m][1] = _mm512_setzero_si512();
  for (uint32_t c = 0; c < columns; c += 2, panel += 2 * kPanelRows) {
    const __m512i left = _mm512_loadu_si512(panel), right = _mm512_loadu_si512(panel + 32);
    for (uint32_t m = 0; m < kTokens; ++m) {
      int32_t pair;
      __builtin_memcpy(&pair, x + m * kPanelColumns + c, sizeof pair);
      const __m512i value = _mm512_set1_epi32(pair);
      sum[m][0] = add_products(sum[m][0], value, left);
      sum[m][1] = add_products(sum[m][1], value, right);
    }
  }
  for (uint32_t m = 0; m < kTokens; ++m) {
    const __m512 s = _mm512_set1_ps(scale[m]);
    // Lanes 0 and 2 of both hold rows 0..15, lanes 1 and 3 rows 16..31.
    const __m512i rows[2] = {_mm512_shuffle_i64x2(sum[m][0], sum[m][1], 0b10001000),
                             _mm512_shuffle_i64x2(sum[m][0], sum[m][1], 0b11011101)};
    for (uint32_t part = 0; part < 2; ++part) {
      float* out = y + m * kPanelRows + 16 * part;
      _mm512_storeu_ps(out, _mm512_add_ps(_mm512_loadu_ps(out), _mm512_mul_ps(s, _mm512_cvtepi32_ps(rows[part]))));
    }
  }
}

template <AddProducts add_products>
void panel_product_512(const int16_t* x, uint32_t tokens, const int16_t* panel, uint32_t columns,
                       const float* scale, float* y) {
  // Twelve tokens by 32 rows fill 24 of the 32 registers.
  for (; tokens >= 12; tokens -= 12, x += 12 * kPanelColumns, scale += 12, y += 12 * kPanelRows)
    product_rows<add_products, 12>(x, panel, columns, scale, y);
  for (; tokens >= 4; tokens -= 4, x += 4 * kPanelColumns, scale += 4, y += 4 * kPanelRows)
    product_rows<add_products, 4>(x, panel, columns, scale, y);
  for (; tokens > 0; --tokens, x += kPanelColumns, ++scale, y += kPanelRows)
    product_rows<add_products, 1>(x, panel, columns, scale, y);
}

// In kernels_avx512.cpp.
void build_tables_512(const int16_t* base, const int16_t* scales, uint32_t quads, uint32_t planes, Precision precision,
                      const uint8_t* ahead, LookupTables* tables);
void dense_tile_512(const float* x, size_t x_stride, uint32_t rows, const float* panel, uint32_t k, float* y,
                    size_t y_stride);

}  // namespace shiftadd::x86
