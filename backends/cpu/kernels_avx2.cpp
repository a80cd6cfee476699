// AVX2 + FMA + F16C kernels. Packed product: one 32-byte load holds two chunks x 32 rows; vpshufb looks both up at once
// (one table per 128-bit lane), and sums of bytes are widened to 16 bits two vectors at a time.
#include "backends/cpu/kernels.h"

#include <immintrin.h>

namespace shiftadd {
namespace {

using Bytes = __m256i;

inline Bytes load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline Bytes lookup(Bytes table, Bytes index) { return _mm256_shuffle_epi8(table, index); }
inline Bytes add8(Bytes a, Bytes b) { return _mm256_add_epi8(a, b); }
inline Bytes add16(Bytes a, Bytes b) { return _mm256_add_epi16(a, b); }
inline __m256 magnitude(__m256 v) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v); }

// Sums of bytes in 16-bit lanes. `whole` adds the vector as 16-bit lanes (wrapping), `odd` only its odd bytes; the even
// bytes are the difference, which saves one operation per vector.
struct ByteSum {
  Bytes whole = _mm256_setzero_si256(), odd = _mm256_setzero_si256();
  inline void add(Bytes v) {
    whole = add16(whole, v);
    odd = add16(odd, _mm256_srli_epi16(v, 8));
  }
  // Adds the two lanes (chunks) and gives the 16 row sums in order.
  inline Bytes rows() const {
    const Bytes even = _mm256_sub_epi16(whole, _mm256_slli_epi16(odd, 8));
    const __m128i e = _mm_add_epi16(_mm256_castsi256_si128(even), _mm256_extracti128_si256(even, 1));
    const __m128i o = _mm_add_epi16(_mm256_castsi256_si128(odd), _mm256_extracti128_si256(odd, 1));
    return _mm256_set_m128i(_mm_unpackhi_epi16(e, o), _mm_unpacklo_epi16(e, o));
  }
};

// y[0..15] += s * ((high - bias) << shift) + low)
inline void flush(Bytes low, Bytes high, int32_t bias, int shift, __m256 s, float* y) {
  for (int half = 0; half < 2; ++half) {
    const __m128i l = half ? _mm256_extracti128_si256(low, 1) : _mm256_castsi256_si128(low);
    const __m128i h = half ? _mm256_extracti128_si256(high, 1) : _mm256_castsi256_si128(high);
    const __m256i hi = _mm256_slli_epi32(_mm256_sub_epi32(_mm256_cvtepu16_epi32(h), _mm256_set1_epi32(bias)), shift);
    const __m256 sum = _mm256_cvtepi32_ps(_mm256_add_epi32(hi, _mm256_cvtepu16_epi32(l)));
    _mm256_storeu_ps(y + 8 * half, _mm256_add_ps(_mm256_loadu_ps(y + 8 * half), _mm256_mul_ps(s, sum)));
  }
}

template <uint32_t kPlanes>
void accumulate_exact(const uint8_t* tile_blocks, size_t tile_stride, const uint8_t* tables, uint32_t quads,
                      uint32_t tiles, float s, float* y) {
  const Bytes mask = _mm256_set1_epi8(15);
  const __m256 scale = _mm256_set1_ps(s);
  // A 16-bit lane sums at most 8 quads x 2 halves x 8 planes bytes of one row: 128 * 255 < 2^16, two lanes too.
  const int32_t bias = static_cast<int32_t>(quads * 4 * kPlanes) * 128;
  for (uint32_t tile = 0; tile < tiles; ++tile, tile_blocks += tile_stride, y += 32) {
    const uint8_t* blocks = tile_blocks;
    ByteSum low_a, high_a, low_b, high_b;  // a: rows 0..15 of the tile, b: rows 16..31
    const uint8_t* table = tables;
    for (uint32_t n = quads * kPlanes; n > 0; --n, blocks += 64, table += kTableBytes) {
      _mm_prefetch(reinterpret_cast<const char*>(blocks + 4096), _MM_HINT_T0);
      for (int half = 0; half < 64; half += 32) {
        const Bytes packed = load(blocks + half);
        const Bytes a = _mm256_and_si256(packed, mask);
        const Bytes b = _mm256_and_si256(_mm256_srli_epi16(packed, 4), mask);
        const Bytes low = load(table + half), high = load(table + 64 + half);
        low_a.add(lookup(low, a));
        high_a.add(lookup(high, a));
        low_b.add(lookup(low, b));
        high_b.add(lookup(high, b));
      }
    }
    flush(low_a.rows(), high_a.rows(), bias, 8, scale, y);
    flush(low_b.rows(), high_b.rows(), bias, 8, scale, y + 16);
  }
}

template <uint32_t kPlanes>
void accumulate_fast(const uint8_t* tile_blocks, size_t tile_stride, const uint8_t* tables, uint32_t quads,
                     uint32_t tiles, float s, float* y) {
  const Bytes mask = _mm256_set1_epi8(15);
  const __m256 scale = _mm256_set1_ps(s);
  const int32_t bias = static_cast<int32_t>(quads * 4) * 128;
  for (uint32_t tile = 0; tile < tiles; ++tile, tile_blocks += tile_stride, y += 32) {
    const uint8_t* blocks = tile_blocks;
    ByteSum low_a, high_a, low_b, high_b;
    const uint8_t* table = tables;
    for (uint32_t q = 0; q < quads; ++q, blocks += 64 * kPlanes, table += kTableBytes * kPlanes) {
      for (int half = 0; half < 64; half += 32) {
        Bytes la = _mm256_setzero_si256(), ha = la, lb = la, hb = la;
        for (uint32_t p = 0; p < kPlanes; ++p) {
          if (half == 0) _mm_prefetch(reinterpret_cast<const char*>(blocks + 64 * p + 4096), _MM_HINT_T0);
          const Bytes packed = load(blocks + 64 * p + half);
          const Bytes a = _mm256_and_si256(packed, mask);
          const Bytes b = _mm256_and_si256(_mm256_srli_epi16(packed, 4), mask);
          const Bytes low = load(table + kTableBytes * p + half), high = load(table + kTableBytes * p + 64 + half);
          la = add8(la, lookup(low, a));
          ha = add8(ha, lookup(high, a));
          lb = add8(lb, lookup(low, b));
          hb = add8(hb, lookup(high, b));
          if (p == 3 && kPlanes > 4) {  // four low entries of 6 bits fill a byte
            low_a.add(la);
            low_b.add(lb);
            la = lb = _mm256_setzero_si256();
          }
        }
        low_a.add(la);
        high_a.add(ha);
        low_b.add(lb);
        high_b.add(hb);
      }
    }
    flush(low_a.rows(), high_a.rows(), bias, 6, scale, y);
    flush(low_b.rows(), high_b.rows(), bias, 6, scale, y + 16);
  }
}

void accumulate(const uint8_t* blocks, size_t tile_stride, const LookupTables& tables, uint32_t quads, uint32_t planes,
                uint32_t tiles, Precision precision, float s, float* y) {
  using Accumulate = void (*)(const uint8_t*, size_t, const uint8_t*, uint32_t, uint32_t, float, float*);
  static constexpr Accumulate kExact[] = {accumulate_exact<1>, accumulate_exact<2>, accumulate_exact<3>,
                                          accumulate_exact<4>, accumulate_exact<5>, accumulate_exact<6>,
                                          accumulate_exact<7>, accumulate_exact<8>};
  static constexpr Accumulate kFast[] = {accumulate_fast<1>, accumulate_fast<2>, accumulate_fast<3>,
                                         accumulate_fast<4>, accumulate_fast<5>, accumulate_fast<6>,
                                         accumulate_fast<7>, accumulate_fast<8>};
  (precision == Precision::exact ? kExact : kFast)[planes - 1](blocks, tile_stride, tables.bytes, quads, tiles, s, y);
}

// The 16 integers of a quad to its four tables. With s = v0 + v1 and d = v0 - v1 of a pair, the pair's four signed sums
// are -s, d, -d, s; an entry is one of the first pair (index bits 0, 1) plus one of the second (bits 2, 3).
inline void store_tables(__m256i v, bool exact, bool first_plane, uint8_t* table) {
  const __m256i swap = _mm256_setr_epi8(2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13, 2, 3, 0, 1, 6, 7, 4, 5, 10,
                                        11, 8, 9, 14, 15, 12, 13);
  const __m256i other = _mm256_shuffle_epi8(v, swap);
  const __m256i sum = add16(v, other);                                // s01 s01 s23 s23, per chunk
  const __m256i difference = _mm256_sub_epi16(v, other);              // d01 -d01 d23 -d23
  const __m256i negative = _mm256_sub_epi16(_mm256_setzero_si256(), sum);
  // (-s01 d01 | -d01 s01) and the same for pair 23, as 4 lanes each: interleave the 16-bit lanes.
  const __m256i left = _mm256_blend_epi16(negative, difference, 0b10101010);   // -s01 -d01 -s23 -d23
  const __m256i right = _mm256_blend_epi16(sum, difference, 0b01010101);       //  d01  s01  d23  s23
  const __m256i low_chunk = _mm256_unpacklo_epi16(left, right);   // chunk 0 | 2: -s01 d01 -d01 s01 -s23 d23 -d23 s23
  const __m256i high_chunk = _mm256_unpackhi_epi16(left, right);  // chunk 1 | 3
  const __m256i first = _mm256_set1_epi64x(0x0706050403020100);                 // pair 01, index bits 0 and 1
  const __m256i second_low = _mm256_setr_epi8(8, 9, 8, 9, 8, 9, 8, 9, 10, 11, 10, 11, 10, 11, 10, 11, 8, 9, 8, 9, 8, 9,
                                              8, 9, 10, 11, 10, 11, 10, 11, 10, 11);
  const __m256i second_high = _mm256_setr_epi8(12, 13, 12, 13, 12, 13, 12, 13, 14, 15, 14, 15, 14, 15, 14, 15, 12, 13,
                                               12, 13, 12, 13, 12, 13, 14, 15, 14, 15, 14, 15, 14, 15);
  const __m256i bias = _mm256_set1_epi16(exact ? static_cast<short>(-32768) : first_plane ? 128 * 64 : 0);
  const __m256i byte = _mm256_set1_epi16(255), six = _mm256_set1_epi16(63);
  for (int odd = 0; odd < 2; ++odd) {
    const __m256i chunk = odd ? high_chunk : low_chunk;
    const __m256i pair = add16(_mm256_shuffle_epi8(chunk, first), bias);
    const __m256i x = add16(pair, _mm256_shuffle_epi8(chunk, second_low));   // entries 0..7 of both chunks
    const __m256i y = add16(pair, _mm256_shuffle_epi8(chunk, second_high));  // entries 8..15
    const __m256i part = exact ? byte : six;
    const __m256i low = _mm256_packus_epi16(_mm256_and_si256(x, part), _mm256_and_si256(y, part));
    const __m256i high = exact ? _mm256_packus_epi16(_mm256_srli_epi16(x, 8), _mm256_srli_epi16(y, 8))
                               : _mm256_packus_epi16(_mm256_and_si256(_mm256_srai_epi16(x, 6), byte),
                                                     _mm256_and_si256(_mm256_srai_epi16(y, 6), byte));
    uint8_t* at = table + 16 * odd;
    _mm_storeu_si128(reinterpret_cast<__m128i*>(at), _mm256_castsi256_si128(low));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(at + 32), _mm256_extracti128_si256(low, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(at + 64), _mm256_castsi256_si128(high));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(at + 96), _mm256_extracti128_si256(high, 1));
  }
}

float build_tables(const float* x, const float* scales, size_t scale_stride, uint32_t quads, uint32_t planes,
                   uint32_t group_columns, Precision precision, LookupTables* tables) {
  const bool exact = precision == Precision::exact;
  const uint32_t eights = quads * 2;
  alignas(32) float t[kMaxTablePlanes * kMaxQuads * 16];
  __m256 largest = _mm256_setzero_ps(), poison = _mm256_setzero_ps();
  for (uint32_t e = 0; e < eights; ++e) {
    const __m256 values = _mm256_loadu_ps(x + 8 * e);
    __m256 over_planes = _mm256_setzero_ps();
    for (uint32_t p = 0; p < planes; ++p) {
      const float* scale = scales + p * scale_stride;
      const __m256 product = _mm256_mul_ps(
          group_columns == 8 ? _mm256_broadcast_ss(scale + e) : _mm256_loadu_ps(scale + 8 * e), values);
      _mm256_store_ps(t + p * quads * 16 + 8 * e, product);
      const __m256 a = magnitude(product);
      const __m256 pairs = _mm256_add_ps(a, _mm256_permute_ps(a, 0b10110001));       // every lane: its pair's sum
      const __m256 chunk = _mm256_add_ps(pairs, _mm256_permute_ps(pairs, 0b01001110));  // every lane: its chunk's sum
      over_planes = _mm256_add_ps(over_planes, chunk);
      if (exact) largest = _mm256_max_ps(largest, chunk);
    }
    if (!exact) largest = _mm256_max_ps(largest, over_planes);
    poison = _mm256_add_ps(poison, _mm256_mul_ps(over_planes, _mm256_setzero_ps()));
  }
  if (_mm256_movemask_ps(_mm256_cmp_ps(poison, _mm256_setzero_ps(), _CMP_NEQ_UQ))) return __builtin_nanf("");
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(largest), _mm256_extractf128_ps(largest, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  const float a = _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
  if (a < kTinyRange) return 0;
  const float range = exact ? kExactRange : kFastRange;
  const __m256 inverse = _mm256_set1_ps(range / a);

  for (uint32_t q = 0; q < quads; ++q)
    for (uint32_t p = 0; p < planes; ++p) {
      const float* quad = t + (p * quads + q) * 16;
      const __m256i left = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_load_ps(quad), inverse));
      const __m256i right = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_load_ps(quad + 8), inverse));
      const __m256i v = _mm256_permute4x64_epi64(_mm256_packs_epi32(left, right), 0b11011000);
      store_tables(v, exact, p == 0, tables->bytes + (q * planes + p) * kTableBytes);
    }
  return a / range;
}

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

void axpy(float a, const float* x, float* y, size_t n) {
  const __m256 factor = _mm256_set1_ps(a);
  size_t i = 0;
  for (; i + 8 <= n; i += 8)
    _mm256_storeu_ps(y + i, _mm256_add_ps(_mm256_loadu_ps(y + i), _mm256_mul_ps(factor, _mm256_loadu_ps(x + i))));
  for (; i < n; ++i) y[i] += a * x[i];
}

template <uint32_t kRows>
void dense_rows(const float* x, size_t x_stride, const float* panel, uint32_t k, float* y, size_t y_stride) {
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

}  // namespace

const Kernels kKernelsAvx2 = {"avx2", build_tables, accumulate, dot, axpy, dense_tile, widen_half};

}  // namespace shiftadd
