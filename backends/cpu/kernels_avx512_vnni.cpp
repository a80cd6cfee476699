// AVX-512 kernels for processors with VBMI and VNNI. vpermb looks all four 16-entry tables of a quad up at once and may
// reorder bytes for free: with the four chunks of a row side by side, vpdpbusd adds them straight into 32-bit row sums.
#include "backends/cpu/kernels_avx512.h"

namespace shiftadd {
namespace {

using Bytes = __m512i;

inline Bytes load(const void* p) { return _mm512_loadu_si512(p); }

// y[0..15] += s * ((high << shift) + low)
inline void flush(Bytes low, Bytes high, unsigned shift, __m512 s, float* y) {
  const __m512 sum = _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(high, shift), low));
  _mm512_storeu_ps(y, _mm512_add_ps(_mm512_loadu_ps(y), _mm512_mul_ps(s, sum)));
}

template <uint32_t kPlanes, bool kExact>
void accumulate_planes(const uint8_t* blocks, const uint8_t* ahead, const uint8_t* table, uint32_t quads,
                       float s, float* y) {
  // Byte 4 r + j of an index vector comes from byte 16 j + r of a block, and looks up table j: entries 16 j + nibble.
  alignas(64) uint8_t source[64], lanes[64];
  for (uint8_t r = 0; r < 16; ++r)
    for (uint8_t j = 0; j < 4; ++j) source[4 * r + j] = static_cast<uint8_t>(16 * j + r), lanes[4 * r + j] = static_cast<uint8_t>(16 * j);
  const Bytes order = load(source), table_of = load(lanes), mask = _mm512_set1_epi8(15), ones = _mm512_set1_epi8(1);
  const __m512 scale = _mm512_set1_ps(s);
  // Bytes that carry + 128 are added as unsigned ones; the sum starts with that taken away.
  const Bytes start = _mm512_set1_epi32(-128 * 4 * static_cast<int32_t>(quads * (kExact ? kPlanes : 1)));
  // a: rows 0..15 of the tile, b: rows 16..31. Two of each, taken in turns, halve the chain of dependent additions.
  Bytes low_a[2] = {}, low_b[2] = {}, high_a[2] = {start}, high_b[2] = {start};
  for (uint32_t q = 0; q < quads; ++q)
    for (uint32_t p = 0; p < kPlanes; ++p, blocks += 64, ahead += 64, table += kTableBytes) {
      x86::fetch(ahead);
      const Bytes packed = _mm512_permutexvar_epi8(order, load(blocks));
      // (x & mask) | table_of
      const Bytes a = _mm512_ternarylogic_epi32(packed, mask, table_of, 0xea);
      const Bytes b = _mm512_ternarylogic_epi32(_mm512_srli_epi16(packed, 4), mask, table_of, 0xea);
      const Bytes low = load(table), high = load(table + 64);
      low_a[p % 2] = _mm512_dpbusd_epi32(low_a[p % 2], _mm512_permutexvar_epi8(a, low), ones);
      low_b[p % 2] = _mm512_dpbusd_epi32(low_b[p % 2], _mm512_permutexvar_epi8(b, low), ones);
      const Bytes above_a = _mm512_permutexvar_epi8(a, high), above_b = _mm512_permutexvar_epi8(b, high);
      if (kExact || p == 0) {
        high_a[p % 2] = _mm512_dpbusd_epi32(high_a[p % 2], above_a, ones);
        high_b[p % 2] = _mm512_dpbusd_epi32(high_b[p % 2], above_b, ones);
      } else {
        high_a[p % 2] = _mm512_dpbusd_epi32(high_a[p % 2], ones, above_a);
        high_b[p % 2] = _mm512_dpbusd_epi32(high_b[p % 2], ones, above_b);
      }
    }
  flush(_mm512_add_epi32(low_a[0], low_a[1]), _mm512_add_epi32(high_a[0], high_a[1]), kExact ? 8 : 4, scale, y);
  flush(_mm512_add_epi32(low_b[0], low_b[1]), _mm512_add_epi32(high_b[0], high_b[1]), kExact ? 8 : 4, scale, y + 16);
}

void accumulate(const uint8_t* blocks, const uint8_t* ahead, const LookupTables& tables, uint32_t quads, uint32_t planes,
                Precision precision, float s, float* y) {
  using Accumulate = void (*)(const uint8_t*, const uint8_t*, const uint8_t*, uint32_t, float, float*);
  static constexpr Accumulate kByPlanes[2][kMaxTablePlanes] = {
      {accumulate_planes<1, false>, accumulate_planes<2, false>, accumulate_planes<3, false>, accumulate_planes<4, false>,
       accumulate_planes<5, false>, accumulate_planes<6, false>, accumulate_planes<7, false>, accumulate_planes<8, false>},
      {accumulate_planes<1, true>, accumulate_planes<2, true>, accumulate_planes<3, true>, accumulate_planes<4, true>,
       accumulate_planes<5, true>, accumulate_planes<6, true>, accumulate_planes<7, true>, accumulate_planes<8, true>}};
  kByPlanes[precision == Precision::exact][planes - 1](blocks, ahead, tables.bytes, quads, s, y);
}

inline __m512i add_products(__m512i sum, __m512i a, __m512i b) { return _mm512_dpwssd_epi32(sum, a, b); }

}  // namespace

const Kernels kKernelsAvx512Vnni = {"avx512vnni",
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
