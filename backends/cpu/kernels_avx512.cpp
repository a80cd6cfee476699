// AVX-512 (F, BW, DQ, VL) kernels: the AVX2 algorithm with one load per block. The four 128-bit lanes are the four
// chunks of a quad, so vpshufb looks up four tables at once.
#include "backends/cpu/kernels.h"

#include <immintrin.h>

namespace shiftadd {
namespace {

using Bytes = __m512i;

inline Bytes load(const void* p) { return _mm512_loadu_si512(p); }
inline Bytes lookup(Bytes table, Bytes index) { return _mm512_shuffle_epi8(table, index); }
inline Bytes add8(Bytes a, Bytes b) { return _mm512_add_epi8(a, b); }
inline Bytes add16(Bytes a, Bytes b) { return _mm512_add_epi16(a, b); }

// As in the AVX2 kernels: even bytes are what is left of the whole 16-bit lanes without the odd bytes.
struct ByteSum {
  Bytes whole = _mm512_setzero_si512(), odd = _mm512_setzero_si512();
  inline void add(Bytes v) {
    whole = add16(whole, v);
    odd = add16(odd, _mm512_srli_epi16(v, 8));
  }
  // Adds the four lanes (chunks), widened to 32 bits because four of them can pass 16, and gives 16 row sums in order.
  inline __m512i rows() const {
    const Bytes even = _mm512_sub_epi16(whole, _mm512_slli_epi16(odd, 8));
    const __m256i e = add_lanes(even), o = add_lanes(odd);  // rows 0 2 4 .. 14 and 1 3 .. 15
    const __m256i low = _mm256_unpacklo_epi32(e, o), high = _mm256_unpackhi_epi32(e, o);
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_permute2x128_si256(low, high, 0x20)),
                              _mm256_permute2x128_si256(low, high, 0x31), 1);
  }
  static inline __m256i add_lanes(Bytes v) {
    const __m512i left = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(v));          // chunks 0 and 1
    const __m512i right = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(v, 1));   // chunks 2 and 3
    const __m512i sum = _mm512_add_epi32(left, right);
    return _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64(sum, 1));
  }
};

inline void flush(__m512i low, __m512i high, int32_t bias, int shift, __m512 s, float* y) {
  const __m512i hi = _mm512_slli_epi32(_mm512_sub_epi32(high, _mm512_set1_epi32(bias)), static_cast<unsigned>(shift));
  const __m512 sum = _mm512_cvtepi32_ps(_mm512_add_epi32(hi, low));
  _mm512_storeu_ps(y, _mm512_add_ps(_mm512_loadu_ps(y), _mm512_mul_ps(s, sum)));
}

template <uint32_t kPlanes>
void accumulate_exact(const uint8_t* tile_blocks, size_t tile_stride, const uint8_t* tables, uint32_t quads,
                      uint32_t tiles, float s, float* y) {
  const Bytes mask = _mm512_set1_epi8(15);
  const __m512 scale = _mm512_set1_ps(s);
  const int32_t bias = static_cast<int32_t>(quads * 4 * kPlanes) * 128;
  for (uint32_t tile = 0; tile < tiles; ++tile, tile_blocks += tile_stride, y += 32) {
    const uint8_t* blocks = tile_blocks;
    ByteSum low_a, high_a, low_b, high_b;  // a: rows 0..15 of the tile, b: rows 16..31
    const uint8_t* table = tables;
    for (uint32_t n = quads * kPlanes; n > 0; --n, blocks += 64, table += kTableBytes) {
      _mm_prefetch(reinterpret_cast<const char*>(blocks + 4096), _MM_HINT_T0);
      const Bytes packed = load(blocks);
      const Bytes a = _mm512_and_si512(packed, mask);
      const Bytes b = _mm512_and_si512(_mm512_srli_epi16(packed, 4), mask);
      const Bytes low = load(table), high = load(table + 64);
      low_a.add(lookup(low, a));
      high_a.add(lookup(high, a));
      low_b.add(lookup(low, b));
      high_b.add(lookup(high, b));
    }
    flush(low_a.rows(), high_a.rows(), bias, 8, scale, y);
    flush(low_b.rows(), high_b.rows(), bias, 8, scale, y + 16);
  }
}

template <uint32_t kPlanes>
void accumulate_fast(const uint8_t* tile_blocks, size_t tile_stride, const uint8_t* tables, uint32_t quads,
                     uint32_t tiles, float s, float* y) {
  const Bytes mask = _mm512_set1_epi8(15);
  const __m512 scale = _mm512_set1_ps(s);
  const int32_t bias = static_cast<int32_t>(quads * 4) * 128;
  for (uint32_t tile = 0; tile < tiles; ++tile, tile_blocks += tile_stride, y += 32) {
    const uint8_t* blocks = tile_blocks;
    ByteSum low_a, high_a, low_b, high_b;
    const uint8_t* table = tables;
    for (uint32_t q = 0; q < quads; ++q) {
      Bytes la = _mm512_setzero_si512(), ha = la, lb = la, hb = la;
      for (uint32_t p = 0; p < kPlanes; ++p, blocks += 64, table += kTableBytes) {
        _mm_prefetch(reinterpret_cast<const char*>(blocks + 4096), _MM_HINT_T0);
        const Bytes packed = load(blocks);
        const Bytes a = _mm512_and_si512(packed, mask);
        const Bytes b = _mm512_and_si512(_mm512_srli_epi16(packed, 4), mask);
        const Bytes low = load(table), high = load(table + 64);
        la = add8(la, lookup(low, a));
        ha = add8(ha, lookup(high, a));
        lb = add8(lb, lookup(low, b));
        hb = add8(hb, lookup(high, b));
        if (p == 3 && kPlanes > 4) {  // four low entries of 6 bits fill a byte
          low_a.add(la);
          low_b.add(lb);
          la = lb = _mm512_setzero_si512();
        }
      }
      low_a.add(la);
      high_a.add(ha);
      low_b.add(lb);
      high_b.add(hb);
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

// The 16 integers of a quad, spread so that 128-bit lane j holds chunk j, to its four tables; see the AVX2 kernels.
inline void store_tables(__m256i v, bool exact, bool first_plane, uint8_t* table) {
  const __m512i chunks = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 0, 1, 1, 2, 2, 3, 3), _mm512_castsi256_si512(v));
  const __m512i swapped = _mm512_shufflehi_epi16(_mm512_shufflelo_epi16(chunks, 0b10110001), 0b10110001);
  const __m512i sum = add16(chunks, swapped);                     // s01 s01 s23 s23
  const __m512i difference = _mm512_sub_epi16(chunks, swapped);   // d01 -d01 d23 -d23
  const __m512i negative = _mm512_sub_epi16(_mm512_setzero_si512(), sum);
  const __m512i left = _mm512_mask_blend_epi16(0xaaaaaaaa, negative, difference);
  const __m512i right = _mm512_mask_blend_epi16(0x55555555, sum, difference);
  const __m512i signed_sums = _mm512_unpacklo_epi16(left, right);  // -s01 d01 -d01 s01 -s23 d23 -d23 s23
  const __m512i first = _mm512_set1_epi64(0x0706050403020100);
  const __m512i second_low =
      _mm512_broadcast_i32x4(_mm_setr_epi8(8, 9, 8, 9, 8, 9, 8, 9, 10, 11, 10, 11, 10, 11, 10, 11));
  const __m512i second_high =
      _mm512_broadcast_i32x4(_mm_setr_epi8(12, 13, 12, 13, 12, 13, 12, 13, 14, 15, 14, 15, 14, 15, 14, 15));
  const __m512i bias = _mm512_set1_epi16(exact ? static_cast<short>(-32768) : first_plane ? 128 * 64 : 0);
  const __m512i byte = _mm512_set1_epi16(255), six = _mm512_set1_epi16(63);
  const __m512i pair = add16(_mm512_shuffle_epi8(signed_sums, first), bias);
  const __m512i x = add16(pair, _mm512_shuffle_epi8(signed_sums, second_low));   // entries 0..7
  const __m512i y = add16(pair, _mm512_shuffle_epi8(signed_sums, second_high));  // entries 8..15
  const __m512i part = exact ? byte : six;
  const __m512i low = _mm512_packus_epi16(_mm512_and_si512(x, part), _mm512_and_si512(y, part));
  const __m512i high = exact ? _mm512_packus_epi16(_mm512_srli_epi16(x, 8), _mm512_srli_epi16(y, 8))
                             : _mm512_packus_epi16(_mm512_and_si512(_mm512_srai_epi16(x, 6), byte),
                                                   _mm512_and_si512(_mm512_srai_epi16(y, 6), byte));
  _mm512_storeu_si512(table, low);
  _mm512_storeu_si512(table + 64, high);
}

float build_tables(const float* x, const float* scales, size_t scale_stride, uint32_t quads, uint32_t planes,
                   uint32_t group_columns, Precision precision, LookupTables* tables) {
  const bool exact = precision == Precision::exact;
  alignas(64) float t[kMaxTablePlanes * kMaxQuads * 16];
  __m512 largest = _mm512_setzero_ps(), poison = _mm512_setzero_ps();
  for (uint32_t q = 0; q < quads; ++q) {
    const __m512 values = _mm512_loadu_ps(x + 16 * q);
    __m512 over_planes = _mm512_setzero_ps();
    for (uint32_t p = 0; p < planes; ++p) {
      const float* scale = scales + p * scale_stride;
      const __m512 factor =
          group_columns == 8
              ? _mm512_insertf32x8(_mm512_set1_ps(scale[2 * q]), _mm256_set1_ps(scale[2 * q + 1]), 1)
              : _mm512_loadu_ps(scale + 16 * q);
      const __m512 product = _mm512_mul_ps(factor, values);
      _mm512_store_ps(t + (p * quads + q) * 16, product);
      const __m512 a = _mm512_abs_ps(product);
      const __m512 pairs = _mm512_add_ps(a, _mm512_permute_ps(a, 0b10110001));
      const __m512 chunk = _mm512_add_ps(pairs, _mm512_permute_ps(pairs, 0b01001110));
      over_planes = _mm512_add_ps(over_planes, chunk);
      if (exact) largest = _mm512_max_ps(largest, chunk);
    }
    if (!exact) largest = _mm512_max_ps(largest, over_planes);
    poison = _mm512_add_ps(poison, _mm512_mul_ps(over_planes, _mm512_setzero_ps()));
  }
  if (_mm512_cmp_ps_mask(poison, _mm512_setzero_ps(), _CMP_NEQ_UQ)) return __builtin_nanf("");
  const float a = _mm512_reduce_max_ps(largest);
  if (a < kTinyRange) return 0;
  const float range = exact ? kExactRange : kFastRange;
  const __m512 inverse = _mm512_set1_ps(range / a);

  for (uint32_t q = 0; q < quads; ++q)
    for (uint32_t p = 0; p < planes; ++p) {
      const __m512i v = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_load_ps(t + (p * quads + q) * 16), inverse));
      store_tables(_mm512_cvtsepi32_epi16(v), exact, p == 0, tables->bytes + (q * planes + p) * kTableBytes);
    }
  return a / range;
}

float dot(const float* a, const float* b, size_t n) {
  __m512 lanes = _mm512_setzero_ps();
  size_t i = 0;
  for (; i + 16 <= n; i += 16)
    lanes = _mm512_add_ps(lanes, _mm512_mul_ps(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i)));
  if (i < n) {
    const __mmask16 rest = static_cast<__mmask16>((1u << (n - i)) - 1);
    lanes = _mm512_add_ps(lanes, _mm512_mul_ps(_mm512_maskz_loadu_ps(rest, a + i), _mm512_maskz_loadu_ps(rest, b + i)));
  }
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps(lanes, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

void axpy(float a, const float* x, float* y, size_t n) {
  const __m512 factor = _mm512_set1_ps(a);
  size_t i = 0;
  for (; i + 16 <= n; i += 16)
    _mm512_storeu_ps(y + i, _mm512_add_ps(_mm512_loadu_ps(y + i), _mm512_mul_ps(factor, _mm512_loadu_ps(x + i))));
  for (; i < n; ++i) y[i] += a * x[i];
}

template <uint32_t kRows>
void dense_rows(const float* x, size_t x_stride, const float* panel, uint32_t k, float* y, size_t y_stride) {
  __m512 sum[kRows];
  for (uint32_t m = 0; m < kRows; ++m) sum[m] = _mm512_setzero_ps();
  for (uint32_t i = 0; i < k; ++i, panel += 16) {
    const __m512 weights = _mm512_loadu_ps(panel);
    for (uint32_t m = 0; m < kRows; ++m) sum[m] = _mm512_fmadd_ps(_mm512_set1_ps(x[m * x_stride + i]), weights, sum[m]);
  }
  for (uint32_t m = 0; m < kRows; ++m) _mm512_storeu_ps(y + m * y_stride, sum[m]);
}

void dense_tile(const float* x, size_t x_stride, uint32_t rows, const float* panel, uint32_t k, float* y,
                size_t y_stride) {
  for (; rows >= 12; rows -= 12, x += 12 * x_stride, y += 12 * y_stride)
    dense_rows<12>(x, x_stride, panel, k, y, y_stride);
  for (; rows >= 4; rows -= 4, x += 4 * x_stride, y += 4 * y_stride)
    dense_rows<4>(x, x_stride, panel, k, y, y_stride);
  for (; rows > 0; --rows, x += x_stride, y += y_stride) dense_rows<1>(x, x_stride, panel, k, y, y_stride);
}

void widen_half(const uint16_t* half, float* out, size_t n) {
  size_t i = 0;
  for (; i + 16 <= n; i += 16)
    _mm512_storeu_ps(out + i, _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(half + i))));
  for (; i < n; ++i) out[i] = _cvtsh_ss(half[i]);
}

}  // namespace

const Kernels kKernelsAvx512 = {"avx512", build_tables, accumulate, dot, axpy, dense_tile, widen_half};

}  // namespace shiftadd
