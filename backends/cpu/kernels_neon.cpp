// NEON kernels: the packed product. One 16-byte load holds one chunk x 32 rows; tbl looks 16 rows up at once, and sums of
// bytes are widened to 16 bits by the addition itself (saddw, uaddw).
#include "backends/cpu/kernels_neon.h"

namespace shiftadd::neon {
namespace {

inline void fetch(const uint8_t* p) {
  __builtin_prefetch(p);
  __builtin_prefetch(p + kFetchFar, 0, 2);
}

using Bytes = uint8x16_t;

inline Bytes load(const uint8_t* p) { return vld1q_u8(p); }
inline Bytes lookup(Bytes table, Bytes index) { return vqtbl1q_u8(table, index); }
inline float32x4_t flip(float32x4_t v, uint32x4_t signs) {
  return vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(v), signs));
}

// Sums of the low (unsigned) or high (signed) bytes of 16 rows. A lane sums at most 256 of them, which fits its 16 bits.
struct LowSum {
  uint16x8_t rows[2] = {vdupq_n_u16(0), vdupq_n_u16(0)};
  inline void add(Bytes v) {
    rows[0] = vaddw_u8(rows[0], vget_low_u8(v));
    rows[1] = vaddw_high_u8(rows[1], v);
  }
};

struct HighSum {
  int16x8_t rows[2] = {vdupq_n_s16(0), vdupq_n_s16(0)};
  inline void add(Bytes v) {
    rows[0] = vaddw_s8(rows[0], vget_low_s8(vreinterpretq_s8_u8(v)));
    rows[1] = vaddw_high_s8(rows[1], vreinterpretq_s8_u8(v));
  }
};

// y[0..3] += s * ((high << kShift) + low)
template <int kShift>
inline void flush_four(uint16x4_t low, int16x4_t high, float s, float* y) {
  const uint32x4_t sum = vaddw_u16(vreinterpretq_u32_s32(vshll_n_s16(high, kShift)), low);
  vst1q_f32(y, vaddq_f32(vld1q_f32(y), vmulq_n_f32(vcvtq_f32_s32(vreinterpretq_s32_u32(sum)), s)));
}

template <int kShift>
inline void flush(const LowSum& low, const HighSum& high, float s, float* y) {
  for (int half = 0; half < 2; ++half, y += 8) {
    flush_four<kShift>(vget_low_u16(low.rows[half]), vget_low_s16(high.rows[half]), s, y);
    flush_four<kShift>(vget_high_u16(low.rows[half]), vget_high_s16(high.rows[half]), s, y + 4);
  }
}

void accumulate_exact(const uint8_t* blocks, const uint8_t* ahead, const uint8_t* table, uint32_t count, float s, float* y) {
  const Bytes mask = vdupq_n_u8(15);
  LowSum low_a, low_b;  // a: rows 0..15 of the tile, b: rows 16..31
  HighSum high_a, high_b;
  for (; count > 0; --count, blocks += 64, ahead += 64, table += kTableBytes) {
    fetch(ahead);
    for (uint32_t j = 0; j < 4; ++j) {
      const Bytes packed = load(blocks + 16 * j), a = vandq_u8(packed, mask), b = vshrq_n_u8(packed, 4);
      const Bytes low = load(table + 16 * j), high = load(table + 64 + 16 * j);
      low_a.add(lookup(low, a));
      high_a.add(lookup(high, a));
      low_b.add(lookup(low, b));
      high_b.add(lookup(high, b));
    }
  }
  flush<8>(low_a, high_a, s, y);
  flush<8>(low_b, high_b, s, y + 16);
}

template <uint32_t kPlanes>
void accumulate_fast(const uint8_t* blocks, const uint8_t* ahead, const uint8_t* table, uint32_t quads, float s, float* y) {
  // Sixteen low entries of 4 bits fill a byte: so many chunks of kPlanes entries each are added unwidened.
  constexpr uint32_t kLowChunks = kPlanes == 1 ? 16 : kPlanes == 2 ? 8 : kPlanes <= 4 ? 4 : 2;
  constexpr uint32_t kLowQuads = kLowChunks < 4 ? 1 : kLowChunks / 4;
  const Bytes mask = vdupq_n_u8(15);
  LowSum low_a, low_b;
  HighSum high_a, high_b;
  for (uint32_t q = 0; q < quads;) {
    Bytes la = vdupq_n_u8(0), lb = la;
    for (const uint32_t end = q + kLowQuads < quads ? q + kLowQuads : quads; q < end; ++q) {
      for (uint32_t p = 0; p < kPlanes; ++p) fetch(ahead + 64 * p);
#pragma GCC unroll 1  // a chunk leaves registers to spare, four do not
      for (uint32_t j = 0; j < 4; ++j) {
        Bytes ha = vdupq_n_u8(0), hb = ha;
        for (uint32_t p = 0; p < kPlanes; ++p) {
          const Bytes packed = load(blocks + 64 * p + 16 * j), a = vandq_u8(packed, mask), b = vshrq_n_u8(packed, 4);
          const Bytes low = load(table + kTableBytes * p + 16 * j), high = load(table + kTableBytes * p + 64 + 16 * j);
          la = vaddq_u8(la, lookup(low, a));
          lb = vaddq_u8(lb, lookup(low, b));
          ha = p == 0 ? lookup(high, a) : vaddq_u8(ha, lookup(high, a));
          hb = p == 0 ? lookup(high, b) : vaddq_u8(hb, lookup(high, b));
        }
        high_a.add(ha);
        high_b.add(hb);
        if (kLowChunks == 2 && j == 1) {
          low_a.add(la);
          low_b.add(lb);
          la = lb = vdupq_n_u8(0);
        }
      }
      blocks += 64 * kPlanes, ahead += 64 * kPlanes, table += kTableBytes * kPlanes;
    }
    low_a.add(la);
    low_b.add(lb);
  }
  flush<4>(low_a, high_a, s, y);
  flush<4>(low_b, high_b, s, y + 16);
}

// Splits T of a chunk, entries 0..7 and 8..15, into 16 low and 16 high bytes: the low 8 or 4 bits, unsigned, and what is
// above them, signed.
inline void store_entries(int16x8_t first, int16x8_t second, bool exact, uint8_t* table) {
  const Bytes bytes[2] = {vreinterpretq_u8_s16(first), vreinterpretq_u8_s16(second)};
  const Bytes low = vuzp1q_u8(bytes[0], bytes[1]);
  vst1q_u8(table, exact ? low : vandq_u8(low, vdupq_n_u8(15)));
  vst1q_u8(table + 64, exact ? vuzp2q_u8(bytes[0], bytes[1])
                             : vreinterpretq_u8_s8(vshrn_high_n_s16(vshrn_n_s16(first, 4), second, 4)));
}

// Tables of 2 chunks whose columns have scales of their own. With s = v0 + v1 and d = v0 - v1 of a pair, the pair's four
// signed sums are -s, d, -d, s; an entry is one of the first pair (index bits 0, 1) plus one of the second (bits 2, 3).
inline void store_column_entries(int16x8_t v, bool exact, uint8_t* table) {
  const int16x8_t swapped = vrev32q_s16(v);
  const int16x8_t sum = vaddq_s16(v, swapped), difference = vsubq_s16(v, swapped);  // s01 s01 s23 s23 ...; d01 -d01 ...
  const int32x4_t left = vreinterpretq_s32_s16(vtrn1q_s16(vnegq_s16(sum), difference));  // -s01  d01 -s23  d23
  const int32x4_t right = vreinterpretq_s32_s16(vtrn2q_s16(difference, sum));            // -d01  s01 -d23  s23
  static constexpr uint8_t kLow[16] = {8, 9, 8, 9, 8, 9, 8, 9, 10, 11, 10, 11, 10, 11, 10, 11};
  const Bytes low = vld1q_u8(kLow), high = vaddq_u8(low, vdupq_n_u8(4));
  for (int chunk = 0; chunk < 2; ++chunk) {
    const int32x4_t sums = chunk ? vzip2q_s32(left, right) : vzip1q_s32(left, right);  // -s01 d01 -d01 s01 -s23 d23 -d23 s23
    const int16x8_t first = vreinterpretq_s16_s64(vdupq_laneq_s64(vreinterpretq_s64_s32(sums), 0));
    const Bytes bytes = vreinterpretq_u8_s32(sums);
    store_entries(vaddq_s16(first, vreinterpretq_s16_u8(lookup(bytes, low))),
                  vaddq_s16(first, vreinterpretq_s16_u8(lookup(bytes, high))), exact, table + 16 * chunk);
  }
}

// Per chunk of 16 values: the sum of its 4 magnitudes.
inline float32x4_t chunk_magnitudes(const float32x4_t v[4]) {
  return vpaddq_f32(vpaddq_f32(vabsq_f32(v[0]), vabsq_f32(v[1])), vpaddq_f32(vabsq_f32(v[2]), vabsq_f32(v[3])));
}

}  // namespace

float prepare(const float* x, uint32_t quads, Precision precision, int16_t* base) {
  float32x4_t largest = vdupq_n_f32(0), poison = largest;
  for (uint32_t q = 0; q < quads; ++q) {
    const float32x4_t v[4] = {vld1q_f32(x + 16 * q), vld1q_f32(x + 16 * q + 4), vld1q_f32(x + 16 * q + 8),
                              vld1q_f32(x + 16 * q + 12)};
    const float32x4_t sums = chunk_magnitudes(v);
    largest = vmaxq_f32(largest, sums);
    poison = vaddq_f32(poison, vmulq_f32(sums, vdupq_n_f32(0)));
  }
  if (is_poisoned(poison)) return __builtin_nanf("");
  const float most = vmaxvq_f32(largest);
  if (most < kTinyRange) return 0;
  const float range = precision == Precision::exact ? kExactRange : kFastRange;
  const float32x4_t inverse = vdupq_n_f32(range / most);
  static constexpr uint32_t kMinusEven[4] = {0x80000000, 0, 0x80000000, 0}, kMinusLow[4] = {0x80000000, 0x80000000, 0, 0};
  const uint32x4_t minus_even = vld1q_u32(kMinusEven), minus_low = vld1q_u32(kMinusLow);
  for (uint32_t chunk = 0; chunk < quads * 4; ++chunk, x += 4) {
    const float32x4_t v = vld1q_f32(x);
    const float32x4_t first = vaddq_f32(flip(vdupq_laneq_f32(v, 0), minus_even), flip(vdupq_laneq_f32(v, 1), minus_low));
    const float32x4_t second = vaddq_f32(flip(vdupq_laneq_f32(v, 2), minus_even), flip(vdupq_laneq_f32(v, 3), minus_low));
    int16_t* entries = base + chunk / 4 * kQuadEntries + chunk % 4 * 8;
    vst1q_s16(entries, round_eight(vmulq_f32(vaddq_f32(first, vdupq_laneq_f32(second, 0)), inverse),
                                   vmulq_f32(vaddq_f32(first, vdupq_laneq_f32(second, 1)), inverse)));
    vst1q_s16(entries + 32, round_eight(vmulq_f32(vaddq_f32(first, vdupq_laneq_f32(second, 2)), inverse),
                                        vmulq_f32(vaddq_f32(first, vdupq_laneq_f32(second, 3)), inverse)));
  }
  return most / range;
}

void build_tables(const int16_t* base, const int16_t* scales, uint32_t quads, uint32_t planes, Precision precision,
                  const uint8_t* ahead, LookupTables* tables) {
  const bool exact = precision == Precision::exact;
  uint8_t* table = tables->bytes;
  for (uint32_t q = 0; q < quads; ++q, base += kQuadEntries) {
    int16x8_t entries[8];  // of chunks 0..3: entries 0..7, then 8..15
    for (uint32_t n = 0; n < 8; ++n) entries[n] = vld1q_s16(base + 8 * n);
    for (uint32_t p = 0; p < planes; ++p, scales += 2, ahead += 64, table += kTableBytes) {
      fetch(ahead);
      for (uint32_t j = 0; j < 4; ++j)
        // sqrdmulh: (2 b u + 2^15) >> 16
        store_entries(vqrdmulhq_n_s16(entries[j], scales[j / 2]), vqrdmulhq_n_s16(entries[4 + j], scales[j / 2]), exact,
                      table + 16 * j);
    }
  }
}

float build_column_tables(const float* x, const int16_t* scales, uint32_t quads, uint32_t planes, Precision precision,
                          LookupTables* tables) {
  const bool exact = precision == Precision::exact;
  float products[kMaxQuads * kMaxTablePlanes * 16];
  float32x4_t largest = vdupq_n_f32(0), poison = largest;
  for (uint32_t q = 0; q < quads; ++q) {
    float32x4_t over_planes = vdupq_n_f32(0);
    for (uint32_t p = 0; p < planes; ++p) {
      const size_t at = (q * planes + p) * 16;
      float32x4_t product[4];
      for (uint32_t j = 0; j < 4; ++j) {
        product[j] = vmulq_f32(vld1q_f32(x + 16 * q + 4 * j), vcvtq_f32_s32(vmovl_s16(vld1_s16(scales + at + 4 * j))));
        vst1q_f32(products + at + 4 * j, product[j]);
      }
      const float32x4_t sums = chunk_magnitudes(product);
      over_planes = vaddq_f32(over_planes, sums);
      if (exact) largest = vmaxq_f32(largest, sums);
    }
    if (!exact) largest = vmaxq_f32(largest, over_planes);
    poison = vaddq_f32(poison, vmulq_f32(over_planes, vdupq_n_f32(0)));
  }
  if (is_poisoned(poison)) return __builtin_nanf("");
  const float most = vmaxvq_f32(largest);
  if (most < kTinyRange) return 0;
  const float range = exact ? kExactColumnRange : kFastColumnRange;
  const float32x4_t inverse = vdupq_n_f32(range / most);
  for (uint32_t n = 0; n < quads * planes; ++n)
    for (uint32_t half = 0; half < 2; ++half) {
      const float* product = products + 16 * n + 8 * half;
      const int16x8_t v = round_eight(vmulq_f32(vld1q_f32(product), inverse), vmulq_f32(vld1q_f32(product + 4), inverse));
      store_column_entries(v, exact, tables->bytes + n * kTableBytes + 32 * half);
    }
  return most / range;
}

void accumulate(const uint8_t* blocks, const uint8_t* ahead, const LookupTables& tables, uint32_t quads, uint32_t planes,
                Precision precision, float s, float* y) {
  using Accumulate = void (*)(const uint8_t*, const uint8_t*, const uint8_t*, uint32_t, float, float*);
  static constexpr Accumulate kFast[] = {accumulate_fast<1>, accumulate_fast<2>, accumulate_fast<3>, accumulate_fast<4>,
                                         accumulate_fast<5>, accumulate_fast<6>, accumulate_fast<7>, accumulate_fast<8>};
  if (precision == Precision::exact) accumulate_exact(blocks, ahead, tables.bytes, quads * planes, s, y);
  else kFast[planes - 1](blocks, ahead, tables.bytes, quads, s, y);
}

}  // namespace shiftadd::neon
