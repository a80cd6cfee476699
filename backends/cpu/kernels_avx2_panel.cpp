// AVX2 kernels: many tokens at once. Planes are decoded to 16-bit integers, which vpmaddwd multiplies and adds in pairs.
#include "backends/cpu/kernels_x86.h"

namespace shiftadd::x86 {
namespace {

inline __m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline void store(void* p, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }

// The values of up to 4 planes by code (bit p: sign of plane p), as two byte tables that repeat in both lanes.
struct Levels {
  __m256i low, high;
};

inline Levels make_levels(const int16_t* u, uint32_t stride, uint32_t planes) {
  const __m256i signs[4] = {
      _mm256_set1_epi32(0x0001ffff), _mm256_set1_epi64x(0x00010001ffffffff),
      _mm256_setr_epi64x(-1, 0x0001000100010001, -1, 0x0001000100010001),
      _mm256_setr_epi64x(-1, -1, 0x0001000100010001, 0x0001000100010001)};
  __m256i levels = _mm256_setzero_si256();
  for (uint32_t p = 0; p < planes; ++p)
    levels = _mm256_add_epi16(levels, _mm256_sign_epi16(_mm256_set1_epi16(u[p * stride]), signs[p]));
  const __m256i low = _mm256_and_si256(levels, _mm256_set1_epi16(255)), high = _mm256_srli_epi16(levels, 8);
  // Each lane packs its eight levels twice; the quarters 0 and 2 are the sixteen in order.
  return {_mm256_permute4x64_epi64(_mm256_packus_epi16(low, low), 0b10001000),
          _mm256_permute4x64_epi64(_mm256_packus_epi16(high, high), 0b10001000)};
}

// Codes of the 4 columns of a chunk for 32 rows, from the sign nibbles of up to 4 planes.
struct Codes {
  __m256i columns[4];
};

inline Codes gather_codes(const uint8_t* chunk, uint32_t planes) {
  const __m128i mask = _mm_set1_epi8(15);
  // Nibble to bits: column 0 at bit 0 and column 1 at bit 4, or columns 2 and 3; plane p is shifted up by p.
  const __m256i spread_01 = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(0, 1, 16, 17, 0, 1, 16, 17, 0, 1, 16, 17, 0, 1, 16, 17));
  const __m256i spread_23 = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(0, 0, 0, 0, 1, 1, 1, 1, 16, 16, 16, 16, 17, 17, 17, 17));
  __m256i codes_01 = _mm256_setzero_si256(), codes_23 = codes_01;
  for (uint32_t p = planes; p-- > 0;) {  // the last plane is shifted most
    const __m128i packed = _mm_loadu_si128(reinterpret_cast<const __m128i*>(chunk + 64 * p));
    const __m256i nibbles =
        _mm256_set_m128i(_mm_and_si128(_mm_srli_epi16(packed, 4), mask), _mm_and_si128(packed, mask));
    codes_01 = _mm256_add_epi8(_mm256_add_epi8(codes_01, codes_01), _mm256_shuffle_epi8(spread_01, nibbles));
    codes_23 = _mm256_add_epi8(_mm256_add_epi8(codes_23, codes_23), _mm256_shuffle_epi8(spread_23, nibbles));
  }
  const __m256i low = _mm256_set1_epi8(15);
  return {{_mm256_and_si256(codes_01, low), _mm256_and_si256(_mm256_srli_epi16(codes_01, 4), low),
           _mm256_and_si256(codes_23, low), _mm256_and_si256(_mm256_srli_epi16(codes_23, 4), low)}};
}

// The 16-bit values of one column: rows 0-7 16-23, then rows 8-15 24-31.
struct Column {
  __m256i first, second;
};

inline Column look_up(const Levels& levels, __m256i code) {
  const __m256i low = _mm256_shuffle_epi8(levels.low, code), high = _mm256_shuffle_epi8(levels.high, code);
  return {_mm256_unpacklo_epi8(low, high), _mm256_unpackhi_epi8(low, high)};
}

template <uint32_t kTokens>
void product_rows(const int16_t* x, const int16_t* panel, uint32_t columns, const float* scale, float* y) {
  for (uint32_t half = 0; half < 2; ++half) {  // stored rows 0-7 16-23, then 8-15 24-31
    __m256i sum[kTokens][2];
    for (uint32_t m = 0; m < kTokens; ++m) sum[m][0] = sum[m][1] = _mm256_setzero_si256();
    const int16_t* weights = panel + 32 * half;
#pragma GCC unroll 4
    for (uint32_t c = 0; c < columns; c += 2, weights += 2 * kPanelRows) {
      const __m256i left = load(weights), right = load(weights + 16);
      for (uint32_t m = 0; m < kTokens; ++m) {
        int32_t pair;
        __builtin_memcpy(&pair, x + m * kPanelColumns + c, sizeof pair);
        const __m256i value = _mm256_set1_epi32(pair);
        sum[m][0] = _mm256_add_epi32(sum[m][0], _mm256_madd_epi16(value, left));
        sum[m][1] = _mm256_add_epi32(sum[m][1], _mm256_madd_epi16(value, right));
      }
    }
    for (uint32_t m = 0; m < kTokens; ++m) {
      const __m256 s = _mm256_set1_ps(scale[m]);
      const __m256i rows[2] = {_mm256_permute2x128_si256(sum[m][0], sum[m][1], 0x20),
                               _mm256_permute2x128_si256(sum[m][0], sum[m][1], 0x31)};
      for (uint32_t part = 0; part < 2; ++part) {
        float* out = y + m * kPanelRows + 8 * half + 16 * part;
        _mm256_storeu_ps(out, _mm256_add_ps(_mm256_loadu_ps(out), _mm256_mul_ps(s, _mm256_cvtepi32_ps(rows[part]))));
      }
    }
  }
}

}  // namespace

float round_activations(const float* x, uint32_t columns, int16_t* out) {
  __m256 largest = _mm256_setzero_ps(), poison = largest;
  for (uint32_t c = 0; c < columns; c += 8) {
    const __m256 v = _mm256_loadu_ps(x + c);
    largest = _mm256_max_ps(largest, _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v));
    poison = _mm256_add_ps(poison, _mm256_mul_ps(v, _mm256_setzero_ps()));
  }
  if (is_poisoned(poison)) return __builtin_nanf("");
  const float most = largest_of(largest);
  const bool tiny = most < kTinyRange;
  const __m256 inverse = _mm256_set1_ps(tiny ? 0 : kPanelRange / most);
  for (uint32_t c = 0; c < columns; c += 8) store_rounded(_mm256_mul_ps(_mm256_loadu_ps(x + c), inverse), out + c);
  return tiny ? 0 : most / kPanelRange;
}

void decode_panel(const uint8_t* blocks, const int16_t* scales, uint32_t quads, uint32_t planes, uint32_t group_columns,
                  int16_t* panel) {
  const uint32_t groups = 16 / group_columns, first_planes = planes < 4 ? planes : 4, more = planes - first_planes;
  for (uint32_t q = 0; q < quads; ++q, blocks += 64 * planes, scales += planes * groups) {
    Levels levels[2];
    for (uint32_t chunk = 0; chunk < 4; ++chunk) {
      const Codes codes = gather_codes(blocks + 16 * chunk, first_planes);
      const Codes more_codes = more ? gather_codes(blocks + 256 + 16 * chunk, more) : Codes{};
      for (uint32_t pair = 0; pair < 2; ++pair, panel += 2 * kPanelRows) {
        Column column[2];
        for (uint32_t side = 0; side < 2; ++side) {
          const uint32_t c = 2 * pair + side, group = (4 * chunk + c) / group_columns;
          if (group_columns == 1 || (c == 0 && chunk % 2 == 0)) {
            levels[0] = make_levels(scales + group, groups, first_planes);
            if (more) levels[1] = make_levels(scales + 4 * groups + group, groups, more);
          }
          column[side] = look_up(levels[0], codes.columns[c]);
          if (more) {
            const Column rest = look_up(levels[1], more_codes.columns[c]);
            column[side] = {_mm256_add_epi16(column[side].first, rest.first),
                            _mm256_add_epi16(column[side].second, rest.second)};
          }
        }
        store(panel, _mm256_unpacklo_epi16(column[0].first, column[1].first));
        store(panel + 16, _mm256_unpackhi_epi16(column[0].first, column[1].first));
        store(panel + 32, _mm256_unpacklo_epi16(column[0].second, column[1].second));
        store(panel + 48, _mm256_unpackhi_epi16(column[0].second, column[1].second));
      }
    }
  }
}

void panel_product(const int16_t* x, uint32_t tokens, const int16_t* panel, uint32_t columns,
                   const float* scale, float* y) {
  // Six tokens by 16 rows fill 12 of the 16 registers.
  for (; tokens >= 6; tokens -= 6, x += 6 * kPanelColumns, scale += 6, y += 6 * kPanelRows)
    product_rows<6>(x, panel, columns, scale, y);
  for (; tokens >= 2; tokens -= 2, x += 2 * kPanelColumns, scale += 2, y += 2 * kPanelRows)
    product_rows<2>(x, panel, columns, scale, y);
  if (tokens) product_rows<1>(x, panel, columns, scale, y);
}

}  // namespace shiftadd::x86
