// AVX-512 (F, BW, DQ, VL) kernels: the AVX2 algorithm with one load per block. The four 128-bit lanes are the four
// chunks of a quad, so vpshufb looks up four tables at once.
#include "backends/cpu/kernels_avx512.h"

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
void accumulate_exact(const uint8_t* blocks, const uint8_t* ahead, const uint8_t* table, uint32_t quads,
                      float s, float* y) {
  const Bytes mask = _mm512_set1_epi8(15);
  const __m512 scale = _mm512_set1_ps(s);
  const int32_t bias = static_cast<int32_t>(quads * 4 * kPlanes) * 128;
  ByteSum low_a, high_a, low_b, high_b;  // a: rows 0..15 of the tile, b: rows 16..31
  for (uint32_t n = quads * kPlanes; n > 0; --n, blocks += 64, ahead += 64, table += kTableBytes) {
    x86::fetch(ahead);
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

template <uint32_t kPlanes>
void accumulate_fast(const uint8_t* blocks, const uint8_t* ahead, const uint8_t* table, uint32_t quads,
                     float s, float* y) {
  constexpr uint32_t kLowQuads = kPlanes == 1 ? 8 : kPlanes == 2 ? 8 : kPlanes == 3 ? 5 : kPlanes == 4 ? 4 : 2;
  const Bytes mask = _mm512_set1_epi8(15);
  const __m512 scale = _mm512_set1_ps(s);
  const int32_t bias = static_cast<int32_t>(quads * 4) * 128;
  ByteSum low_a, high_a, low_b, high_b;
  for (uint32_t q = 0; q < quads;) {
    Bytes la = _mm512_setzero_si512(), lb = la;  // up to 16 low entries of 4 bits fill a byte
    for (const uint32_t end = q + kLowQuads < quads ? q + kLowQuads : quads; q < end; ++q) {
      Bytes ha = _mm512_setzero_si512(), hb = ha;
      for (uint32_t p = 0; p < kPlanes; ++p, blocks += 64, ahead += 64, table += kTableBytes) {
        x86::fetch(ahead);
        const Bytes packed = load(blocks);
        const Bytes a = _mm512_and_si512(packed, mask);
        const Bytes b = _mm512_and_si512(_mm512_srli_epi16(packed, 4), mask);
        const Bytes low = load(table), high = load(table + 64);
        la = add8(la, lookup(low, a));
        ha = add8(ha, lookup(high, a));
        lb = add8(lb, lookup(low, b));
        hb = add8(hb, lookup(high, b));
      }
      high_a.add(ha);
      high_b.add(hb);
    }
    low_a.add(la);
    low_b.add(lb);
  }
  flush(low_a.rows(), high_a.rows(), bias, 4, scale, y);
  flush(low_b.rows(), high_b.rows(), bias, 4, scale, y + 16);
}

void accumulate(const uint8_t* blocks, const uint8_t* ahead, const LookupTables& tables, uint32_t quads, uint32_t planes,
                Precision precision, float s, float* y) {
  using Accumulate = void (*)(const uint8_t*, const uint8_t*, const uint8_t*, uint32_t, float, float*);
  static constexpr Accumulate kExact[] = {accumulate_exact<1>, accumulate_exact<2>, accumulate_exact<3>,
                                          accumulate_exact<4>, accumulate_exact<5>, accumulate_exact<6>,
                                          accumulate_exact<7>, accumulate_exact<8>};
  static constexpr Accumulate kFast[] = {accumulate_fast<1>, accumulate_fast<2>, accumulate_fast<3>,
                                         accumulate_fast<4>, accumulate_fast<5>, accumulate_fast<6>,
                                         accumulate_fast<7>, accumulate_fast<8>};
  (precision == Precision::exact ? kExact : kFast)[planes - 1](blocks, ahead, tables.bytes, quads, s, y);
}

inline __m512i add_products(__m512i sum, __m512i a, __m512i b) {
  return _mm512_add_epi32(sum, _mm512_madd_epi16(a, b));
}

}  // namespace

namespace x86 {

void build_tables_512(const int16_t* base, const int16_t* scales, uint32_t quads, uint32_t planes, Precision precision,
                      const uint8_t* ahead, LookupTables* tables) {
  const bool exact = precision == Precision::exact;
  const Bytes part = _mm512_set1_epi16(exact ? 255 : 15);
  uint8_t* table = tables->bytes;
  for (uint32_t q = 0; q < quads; ++q, base += kQuadEntries) {
    const Bytes first = load(base), second = load(base + 32);  // entries 0..7 and 8..15 of the four chunks
    for (uint32_t p = 0; p < planes; ++p, scales += 2, ahead += 64, table += kTableBytes) {
      x86::fetch(ahead);
      const Bytes u = _mm512_inserti64x4(_mm512_set1_epi16(scales[0]), _mm256_set1_epi16(scales[1]), 1);
      const Bytes x = _mm512_mulhrs_epi16(first, u), y = _mm512_mulhrs_epi16(second, u);
      const Bytes high = exact ? _mm512_packs_epi16(_mm512_srai_epi16(x, 8), _mm512_srai_epi16(y, 8))
                               : _mm512_packs_epi16(_mm512_srai_epi16(x, 4), _mm512_srai_epi16(y, 4));
      const Bytes bias = _mm512_set1_epi8(exact || p == 0 ? -128 : 0);
      _mm512_storeu_si512(table, _mm512_packus_epi16(_mm512_and_si512(x, part), _mm512_and_si512(y, part)));
      _mm512_storeu_si512(table + 64, _mm512_xor_si512(high, bias));
    }
  }
}

template <uint32_t kRows>
static void dense_rows(const float* x, size_t x_stride, const float* panel, uint32_t k, float* y, size_t y_stride) {
  __m512 sum[kRows];
  for (uint32_t m = 0; m < kRows; ++m) sum[m] = _mm512_setzero_ps();
  for (uint32_t i = 0; i < k; ++i, panel += 16) {
    const __m512 weights = _mm512_loadu_ps(panel);
    for (uint32_t m = 0; m < kRows; ++m) sum[m] = _mm512_fmadd_ps(_mm512_set1_ps(x[m * x_stride + i]), weights, sum[m]);
  }
  for (uint32_t m = 0; m < kRows; ++m) _mm512_storeu_ps(y + m * y_stride, sum[m]);
}

void dense_tile_512(const float* x, size_t x_stride, uint32_t rows, const float* panel, uint32_t k, float* y,
                    size_t y_stride) {
  for (; rows >= 12; rows -= 12, x += 12 * x_stride, y += 12 * y_stride)
    dense_rows<12>(x, x_stride, panel, k, y, y_stride);
  for (; rows >= 4; rows -= 4, x += 4 * x_stride, y += 4 * y_stride)
    dense_rows<4>(x, x_stride, panel, k, y, y_stride);
  for (; rows > 0; --rows, x += x_stride, y += y_stride) dense_rows<1>(x, x_stride, panel, k, y, y_stride);
}

}  // namespace x86

const Kernels kKernelsAvx512 = {"avx512",
                                x86::prepare,
                                x86::build_tables_512,
                                x86::build_column_tables,
                                accumulate,
                                x86::round_activations,
                                x86::decode_panel,
                                x86::panel_product_512<add_products>,
                                x86::dot,
                                x86::score_keys,
                                x86::weigh_values,
                                x86::exponentiate,
                                x86::gate,
                                x86::soft_cap,
                                x86::dense_tile_512,
                                x86::widen_half,
                                x86::narrow_half};

}  // namespace shiftadd
