// AVX2 + FMA + F16C kernels: the packed product. One 32-byte load holds two chunks x 32 rows; vpshufb looks both up at once
// (one table per 128-bit lane), and sums of bytes are widened to 16 bits.
#include "backends/cpu/kernels_x86.h"

namespace shiftadd {
namespace {

using Bytes = __m256i;

inline Bytes load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline void store(void* p, Bytes v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }
inline Bytes lookup(Bytes table, Bytes index) { return _mm256_shuffle_epi8(table, index); }
inline Bytes add8(Bytes a, Bytes b) { return _mm256_add_epi8(a, b); }
inline Bytes add16(Bytes a, Bytes b) { return _mm256_add_epi16(a, b); }

// Sums of bytes in 16-bit lanes. `whole` adds the vector as 16-bit lanes (wrapping), `odd` only its odd bytes; the even
// bytes are the difference, which saves one operation per vector.
struct ByteSum {
  Bytes whole = _mm256_setzero_si256(), odd = _mm256_setzero_si256();
  inline void add(Bytes v) {
    whole = add16(whole, v);
    odd = add16(odd, _mm256_srli_epi16(v, 8));
  }
  inline Bytes even() const { return _mm256_sub_epi16(whole, _mm256_slli_epi16(odd, 8)); }
};

// The sums of rows 0..15 (a) and 16..31 (b) of a tile in 16-bit lanes, the chunks in the two 128-bit lanes of each added:
// rows 0-7 16-23, then 8-15 24-31. At most 128 bytes are added: below 2^15.
struct RowSums {
  Bytes first, second;
  RowSums(const ByteSum& a, const ByteSum& b) {
    const Bytes even = add_lanes(a.even(), b.even()), odd = add_lanes(a.odd, b.odd);
    first = _mm256_unpacklo_epi16(even, odd);
    second = _mm256_unpackhi_epi16(even, odd);
  }
  static inline Bytes add_lanes(Bytes a, Bytes b) {
    return add16(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31));
  }
};

// y[0..7] and y[16..23] += s * (((high - bias) << shift) + low)
inline void flush_half(Bytes low, Bytes high, int32_t bias, int shift, __m256 s, float* y) {
  const Bytes weights = _mm256_set1_epi32((1 << shift) | 1 << 16);  // of the pair (high, low)
  const Bytes offset = _mm256_set1_epi32(-bias * (1 << shift));
  const Bytes left = _mm256_add_epi32(_mm256_madd_epi16(_mm256_unpacklo_epi16(high, low), weights), offset);
  const Bytes right = _mm256_add_epi32(_mm256_madd_epi16(_mm256_unpackhi_epi16(high, low), weights), offset);
  const Bytes rows[2] = {_mm256_permute2x128_si256(left, right, 0x20), _mm256_permute2x128_si256(left, right, 0x31)};
  for (int part = 0; part < 2; ++part) {
    float* out = y + 16 * part;
    _mm256_storeu_ps(out, _mm256_add_ps(_mm256_loadu_ps(out), _mm256_mul_ps(s, _mm256_cvtepi32_ps(rows[part]))));
  }
}

inline void flush(const RowSums& low, const RowSums& high, int32_t bias, int shift, __m256 s, float* y) {
  flush_half(low.first, high.first, bias, shift, s, y);
  flush_half(low.second, high.second, bias, shift, s, y + 8);
}

// Ends a step of an unrolled loop: the compiler would mix several and run out of registers.
inline void keep_order(Bytes& a, Bytes& b, Bytes& c, Bytes& d) { asm("" : "+x"(a), "+x"(b), "+x"(c), "+x"(d)); }

template <uint32_t kPlanes>
void accumulate_exact(const uint8_t* blocks, const uint8_t* ahead, const uint8_t* table, uint32_t quads,
                      float s, float* y) {
  const Bytes mask = _mm256_set1_epi8(15);
  const __m256 scale = _mm256_set1_ps(s);
  // A 16-bit lane sums at most 8 quads x 2 halves x 8 planes bytes of one row: 128 * 255 < 2^16, two lanes too.
  const int32_t bias = static_cast<int32_t>(quads * 4 * kPlanes) * 128;
  ByteSum low_a, high_a, low_b, high_b;  // a: rows 0..15 of the tile, b: rows 16..31
  for (uint32_t n = quads * kPlanes; n > 0; --n, blocks += 64, ahead += 64, table += kTableBytes) {
    x86::fetch(ahead);
    for (int half = 0; half < 64; half += 32) {
      const Bytes packed = load(blocks + half);
      const Bytes a = _mm256_and_si256(packed, mask);
      const Bytes b = _mm256_and_si256(_mm256_srli_epi16(packed, 4), mask);
      const Bytes low = load(table + half), high = load(table + 64 + half);
      low_a.add(lookup(low, a));
      high_a.add(lookup(high, a));
      low_b.add(lookup(low, b));
      high_b.add(lookup(high, b));
      keep_order(low_a.whole, low_a.odd, low_b.whole, low_b.odd);
      keep_order(high_a.whole, high_a.odd, high_b.whole, high_b.odd);
    }
  }
  flush(RowSums(low_a, low_b), RowSums(high_a, high_b), bias, 8, scale, y);
}

template <uint32_t kPlanes>
void accumulate_fast(const uint8_t* blocks, const uint8_t* ahead, const uint8_t* table, uint32_t quads,
                     float s, float* y) {
  // Sixteen low entries of 4 bits fill a byte: that many quads (two halves of kPlanes entries each) are added unwidened.
  constexpr uint32_t kLowQuads = kPlanes <= 2 ? 4 : kPlanes <= 4 ? 2 : 1;
  const Bytes mask = _mm256_set1_epi8(15);
  const __m256 scale = _mm256_set1_ps(s);
  const int32_t bias = static_cast<int32_t>(quads * 4) * 128;
  ByteSum low_a, high_a, low_b, high_b;
  for (uint32_t q = 0; q < quads;) {
    Bytes la = _mm256_setzero_si256(), lb = la;
    for (const uint32_t end = q + kLowQuads < quads ? q + kLowQuads : quads; q < end;
         ++q, blocks += 64 * kPlanes, ahead += 64 * kPlanes, table += kTableBytes * kPlanes) {
      for (uint32_t p = 0; p < kPlanes; ++p) x86::fetch(ahead + 64 * p);
      for (int half = 0; half < 64; half += 32) {
        Bytes ha = _mm256_setzero_si256(), hb = ha;
        for (uint32_t p = 0; p < kPlanes; ++p) {
          const Bytes packed = load(blocks + 64 * p + half);
          const Bytes a = _mm256_and_si256(packed, mask);
          const Bytes b = _mm256_and_si256(_mm256_srli_epi16(packed, 4), mask);
          const Bytes low = load(table + kTableBytes * p + half), high = load(table + kTableBytes * p + 64 + half);
          la = add8(la, lookup(low, a));
          ha = add8(ha, lookup(high, a));
          lb = add8(lb, lookup(low, b));
          hb = add8(hb, lookup(high, b));
          keep_order(la, ha, lb, hb);
        }
        high_a.add(ha);
        high_b.add(hb);
      }
    }
    low_a.add(la);
    low_b.add(lb);
  }
  flush(RowSums(low_a, low_b), RowSums(high_a, high_b), bias, 4, scale, y);
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

// Splits T of two chunks, entries 0..7 and 8..15, into 32 low and 32 high bytes.
template <bool kExact>
inline void store_entries(Bytes first, Bytes second, bool first_plane, uint8_t* table) {
  constexpr int kLowBits = kExact ? 8 : 4;
  const Bytes part = _mm256_set1_epi16((1 << kLowBits) - 1);
  store(table, _mm256_packus_epi16(_mm256_and_si256(first, part), _mm256_and_si256(second, part)));
  const Bytes high = _mm256_packs_epi16(_mm256_srai_epi16(first, kLowBits), _mm256_srai_epi16(second, kLowBits));
  store(table + 64, kExact || first_plane ? _mm256_xor_si256(high, _mm256_set1_epi8(-128)) : high);
}

// Tables of a quad whose 16 columns have scales of their own. With s = v0 + v1 and d = v0 - v1 of a pair, the pair's four
// signed sums are -s, d, -d, s; an entry is one of the first pair (index bits 0, 1) plus one of the second (bits 2, 3).
template <bool kExact>
inline void store_column_entries(Bytes v, bool first_plane, uint8_t* table) {
  const Bytes swap = _mm256_setr_epi8(2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13, 2, 3, 0, 1, 6, 7, 4, 5, 10,
                                      11, 8, 9, 14, 15, 12, 13);
  const Bytes swapped = lookup(v, swap);
  const Bytes sum = add16(v, swapped), difference = _mm256_sub_epi16(v, swapped);  // s01 s01 s23 s23 ...; d01 -d01 ...
  const Bytes negative = _mm256_sub_epi16(_mm256_setzero_si256(), sum);
  const Bytes left = _mm256_blend_epi16(negative, difference, 0b10101010);  // -s01 -d01 -s23 -d23
  const Bytes right = _mm256_blend_epi16(sum, difference, 0b01010101);      //  d01  s01  d23  s23
  // Lane 0: chunk 0 or 1, lane 1: chunk 2 or 3: -s01 d01 -d01 s01 -s23 d23 -d23 s23.
  const Bytes even = _mm256_unpacklo_epi16(left, right), odd = _mm256_unpackhi_epi16(left, right);
  const Bytes pair = _mm256_set1_epi64x(0x0706050403020100);  // pair 01, index bits 0 and 1
  const Bytes low = _mm256_setr_epi8(8, 9, 8, 9, 8, 9, 8, 9, 10, 11, 10, 11, 10, 11, 10, 11, 8, 9, 8, 9, 8, 9, 8, 9, 10,
                                     11, 10, 11, 10, 11, 10, 11);
  const Bytes high = add8(low, _mm256_set1_epi8(4));
  for (int half = 0; half < 2; ++half) {
    const Bytes chunks = half ? _mm256_permute2x128_si256(even, odd, 0x31) : _mm256_permute2x128_si256(even, odd, 0x20);
    const Bytes first = lookup(chunks, pair);
    store_entries<kExact>(add16(first, lookup(chunks, low)), add16(first, lookup(chunks, high)), first_plane,
                          table + 32 * half);
  }
}

template <bool kExact>
void build(const int16_t* base, const int16_t* scales, uint32_t quads, uint32_t planes, const uint8_t* ahead,
           uint8_t* table) {
  for (uint32_t q = 0; q < quads; ++q, base += kQuadEntries) {
    const Bytes first_01 = load(base), first_23 = load(base + 16), second_01 = load(base + 32), second_23 = load(base + 48);
    const auto plane = [&](bool first) {
      x86::fetch(ahead);
      const Bytes left = _mm256_set1_epi16(scales[0]), right = _mm256_set1_epi16(scales[1]);
      store_entries<kExact>(_mm256_mulhrs_epi16(first_01, left), _mm256_mulhrs_epi16(second_01, left), first, table);
      store_entries<kExact>(_mm256_mulhrs_epi16(first_23, right), _mm256_mulhrs_epi16(second_23, right), first, table + 32);
      scales += 2, ahead += 64, table += kTableBytes;
    };
    plane(true);
    for (uint32_t p = 1; p < planes; ++p) plane(false);
  }
}

void build_tables(const int16_t* base, const int16_t* scales, uint32_t quads, uint32_t planes, Precision precision,
                  const uint8_t* ahead, LookupTables* tables) {
  if (precision == Precision::exact) build<true>(base, scales, quads, planes, ahead, tables->bytes);
  else build<false>(base, scales, quads, planes, ahead, tables->bytes);
}

}  // namespace

namespace x86 {

float prepare(const float* x, uint32_t quads, Precision precision, int16_t* base) {
  __m256 largest = _mm256_setzero_ps(), poison = largest;
  for (uint32_t e = 0; e < quads * 2; ++e) {
    const __m256 sums = chunk_magnitudes(_mm256_loadu_ps(x + 8 * e));
    largest = _mm256_max_ps(largest, sums);
    poison = _mm256_add_ps(poison, _mm256_mul_ps(sums, _mm256_setzero_ps()));
  }
  if (is_poisoned(poison)) return __builtin_nanf("");
  const float most = largest_of(largest);
  if (most < kTinyRange) return 0;
  const float range = precision == Precision::exact ? kExactRange : kFastRange;
  const __m256 inverse = _mm256_set1_ps(range / most);
  const __m256 minus_0 = _mm256_setr_ps(-0.0f, 0, -0.0f, 0, -0.0f, 0, -0.0f, 0);
  const __m256 minus_1 = _mm256_setr_ps(-0.0f, -0.0f, 0, 0, -0.0f, -0.0f, 0, 0);
  const __m256 minus_2 = _mm256_setr_ps(-0.0f, -0.0f, -0.0f, -0.0f, 0, 0, 0, 0);
  for (uint32_t chunk = 0; chunk < quads * 4; ++chunk, x += 4) {
    const __m256 first = _mm256_add_ps(_mm256_xor_ps(_mm256_broadcast_ss(x), minus_0),
                                       _mm256_xor_ps(_mm256_broadcast_ss(x + 1), minus_1));
    const __m256 third = _mm256_xor_ps(_mm256_broadcast_ss(x + 2), minus_2), fourth = _mm256_broadcast_ss(x + 3);
    const __m256 low = _mm256_add_ps(first, _mm256_sub_ps(third, fourth));
    const __m256 high = _mm256_add_ps(first, _mm256_add_ps(third, fourth));
    int16_t* entries = base + chunk / 4 * kQuadEntries + chunk % 4 * 8;
    store_rounded(_mm256_mul_ps(low, inverse), entries);
    store_rounded(_mm256_mul_ps(high, inverse), entries + 32);
  }
  return most / range;
}

float build_column_tables(const float* x, const int16_t* scales, uint32_t quads, uint32_t planes, Precision precision,
                          LookupTables* tables) {
  const bool exact = precision == Precision::exact;
  alignas(32) float products[kMaxQuads * kMaxTablePlanes * 16];
  __m256 largest = _mm256_setzero_ps(), poison = largest;
  for (uint32_t e = 0; e < quads * 2; ++e) {
    const __m256 values = _mm256_loadu_ps(x + 8 * e);
    __m256 over_planes = _mm256_setzero_ps();
    for (uint32_t p = 0; p < planes; ++p) {
      const size_t at = (e / 2 * planes + p) * 16 + e % 2 * 8;
      const __m128i u = _mm_loadu_si128(reinterpret_cast<const __m128i*>(scales + at));
      const __m256 product = _mm256_mul_ps(values, _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(u)));
      _mm256_store_ps(products + at, product);
      const __m256 sums = chunk_magnitudes(product);
      over_planes = _mm256_add_ps(over_planes, sums);
      if (exact) largest = _mm256_max_ps(largest, sums);
    }
    if (!exact) largest = _mm256_max_ps(largest, over_planes);
    poison = _mm256_add_ps(poison, _mm256_mul_ps(over_planes, _mm256_setzero_ps()));
  }
  if (is_poisoned(poison)) return __builtin_nanf("");
  const float most = largest_of(largest);
  if (most < kTinyRange) return 0;
  const float range = exact ? kExactColumnRange : kFastColumnRange;
  const __m256 inverse = _mm256_set1_ps(range / most);
  for (uint32_t n = 0; n < quads * planes; ++n) {
    const __m256i left = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_load_ps(products + 16 * n), inverse));
    const __m256i right = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_load_ps(products + 16 * n + 8), inverse));
    const Bytes v = _mm256_permute4x64_epi64(_mm256_packs_epi32(left, right), 0b11011000);
    uint8_t* table = tables->bytes + n * kTableBytes;
    if (exact) store_column_entries<true>(v, n % planes == 0, table);
    else store_column_entries<false>(v, n % planes == 0, table);
  }
  return most / range;
}

}  // namespace x86

const Kernels kKernelsAvx2 = {"avx2",
                              x86::prepare,
                              build_tables,
                              x86::build_column_tables,
                              accumulate,
                              x86::round_activations,
                              x86::decode_panel,
                              x86::panel_product,
                              x86::dot,
                              x86::score_keys,
                              x86::weigh_values,
                              x86::exponentiate,
                              x86::gate,
                              x86::soft_cap,
                              x86::dense_tile,
                              x86::widen_half,
                              x86::narrow_half};

}  // namespace shiftadd
