// What the x86 kernel files share: functions of the AVX2 files that wider instruction sets use as they are. Inline ones are
// static: each file is compiled for another instruction set, and the linker must not merge them.
#pragma once

#include <immintrin.h>

#include "backends/cpu/kernels.h"

namespace shiftadd {

namespace x86 {

float prepare(const float* x, uint32_t quads, Precision precision, int16_t* base);
// Tables in the layout of the portable kernels.
float build_column_tables(const float* x, const int16_t* scales, uint32_t quads, uint32_t planes, Precision precision,
                          LookupTables* tables);
float round_activations(const float* x, uint32_t columns, int16_t* out);
// Rows of a panel are stored in the order 0-3 16-19 4-7 20-23 8-11 24-27 12-15 28-31: what unpacking bytes gives.
void decode_panel(const uint8_t* blocks, const int16_t* scales, uint32_t quads, uint32_t planes, uint32_t group_columns,
                  int16_t* panel);
void panel_product(const int16_t* x, uint32_t tokens, const int16_t* panel, uint32_t columns,
                   const float* scale, float* y);
float dot(const float* a, const float* b, size_t n);
void score_keys(const float* q, size_t q_stride, uint32_t rows, const void* keys, KvType type, uint32_t size,
                uint32_t panels, float scale, float* scores, size_t score_stride);
void weigh_values(const float* weights, size_t weight_stride, uint32_t rows, const void* values, KvType type,
                  uint32_t count, uint32_t size, float* out, size_t out_stride);
float exponentiate(float* scores, size_t n);
void gate(Activation activation, float* gate, const float* up, size_t n);
void soft_cap(float* x, size_t n, float cap);
void dense_tile(const float* x, size_t x_stride, uint32_t rows, const float* panel, uint32_t k, float* y, size_t y_stride);
void widen_half(const uint16_t* half, float* out, size_t n);
void narrow_half(const float* in, uint16_t* half, size_t n);

static inline void fetch(const uint8_t* p) {
  _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0);
  _mm_prefetch(reinterpret_cast<const char*>(p + kFetchFar), _MM_HINT_T1);
}

static inline float largest_of(__m256 v) {
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

// Every lane: the sum of the magnitudes of its 4-column chunk.
static inline __m256 chunk_magnitudes(__m256 v) {
  const __m256 a = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v);
  const __m256 pairs = _mm256_add_ps(a, _mm256_permute_ps(a, 0b10110001));
  return _mm256_add_ps(pairs, _mm256_permute_ps(pairs, 0b01001110));
}

// True where a sum of values times zero is not zero: one of them was not finite.
static inline bool is_poisoned(__m256 sum) {
  return _mm256_movemask_ps(_mm256_cmp_ps(sum, _mm256_setzero_ps(), _CMP_NEQ_UQ)) != 0;
}

// Eight floats to 16-bit integers, rounded to nearest even.
static inline void store_rounded(__m256 v, int16_t* out) {
  const __m256i whole = _mm256_cvtps_epi32(v);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out),
                   _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1)));
}

}  // namespace x86
}  // namespace shiftadd
