// What the NEON kernel files share. Inline functions are static: each file may be compiled for another instruction set, and
// the linker must not merge them.
#pragma once

#include <arm_neon.h>

#include "backends/cpu/kernels.h"

namespace shiftadd {

namespace neon {

float prepare(const float* x, uint32_t quads, Precision precision, int16_t* base);
void build_tables(const int16_t* base, const int16_t* scales, uint32_t quads, uint32_t planes, Precision precision,
                  const uint8_t* ahead, LookupTables* tables);
float build_column_tables(const float* x, const int16_t* scales, uint32_t quads, uint32_t planes, Precision precision,
                          LookupTables* tables);
void accumulate(const uint8_t* blocks, const uint8_t* ahead, const LookupTables& tables, uint32_t quads, uint32_t planes,
                Precision precision, float s, float* y);
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

// True where a sum of values times zero is not zero: one of them was not finite.
static inline bool is_poisoned(float32x4_t sum) { return vminvq_u32(vceqq_f32(sum, vdupq_n_f32(0))) == 0; }

static inline int16x8_t round_eight(float32x4_t left, float32x4_t right) {  // nearest even
  return vcombine_s16(vmovn_s32(vcvtnq_s32_f32(left)), vmovn_s32(vcvtnq_s32_f32(right)));
}

// What rounding `columns` activations to at most kPanelRange multiplies with (inverse) and is undone by (scale, NaN when a
// value is not finite).
struct ActivationRange {
  float inverse, scale;
};

static inline ActivationRange find_range(const float* x, uint32_t columns) {
  float32x4_t largest = vdupq_n_f32(0), poison = largest;
  for (uint32_t c = 0; c < columns; c += 4) {
    const float32x4_t v = vld1q_f32(x + c);
    largest = vmaxq_f32(largest, vabsq_f32(v));
    poison = vaddq_f32(poison, vmulq_f32(v, vdupq_n_f32(0)));
  }
  if (is_poisoned(poison)) return {0, __builtin_nanf("")};
  const float most = vmaxvq_f32(largest);
  if (most < kTinyRange) return {0, 0};
  return {kPanelRange / most, most / kPanelRange};
}

// The values of up to 4 planes by code (bit p: sign of plane p): entries 0..7, then 8..15.
static inline int16x8x2_t make_levels(const int16_t* u, uint32_t stride, uint32_t planes) {
  static constexpr int16_t kSigns[4][16] = {{-1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1},
                                            {-1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1},
                                            {-1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1},
                                            {-1, -1, -1, -1, -1, -1, -1, -1, 1, 1, 1, 1, 1, 1, 1, 1}};
  int16x8x2_t levels = {{vdupq_n_s16(0), vdupq_n_s16(0)}};
  for (uint32_t p = 0; p < planes; ++p)
    for (uint32_t half = 0; half < 2; ++half)
      levels.val[half] = vmlaq_n_s16(levels.val[half], vld1q_s16(kSigns[p] + 8 * half), u[p * stride]);
  return levels;
}

// Codes of the 4 columns of a chunk for rows 0..15 and 16..31, from the sign nibbles of up to 4 planes.
struct Codes {
  uint8x16_t columns[4][2];
};

static inline Codes gather_codes(const uint8_t* chunk, uint32_t planes) {
  // Nibble to bits: column 0 at bit 0 and column 1 at bit 4, or columns 2 and 3; plane p is shifted up by p.
  static constexpr uint8_t kSpread01[16] = {0, 1, 16, 17, 0, 1, 16, 17, 0, 1, 16, 17, 0, 1, 16, 17};
  static constexpr uint8_t kSpread23[16] = {0, 0, 0, 0, 1, 1, 1, 1, 16, 16, 16, 16, 17, 17, 17, 17};
  const uint8x16_t spread_01 = vld1q_u8(kSpread01), spread_23 = vld1q_u8(kSpread23), mask = vdupq_n_u8(15);
  uint8x16_t codes_01[2] = {vdupq_n_u8(0), vdupq_n_u8(0)}, codes_23[2] = {vdupq_n_u8(0), vdupq_n_u8(0)};
  for (uint32_t p = planes; p-- > 0;) {  // the last plane is shifted most
    const uint8x16_t packed = vld1q_u8(chunk + 64 * p);
    const uint8x16_t nibbles[2] = {vandq_u8(packed, mask), vshrq_n_u8(packed, 4)};
    for (uint32_t half = 0; half < 2; ++half) {
      codes_01[half] = vaddq_u8(vaddq_u8(codes_01[half], codes_01[half]), vqtbl1q_u8(spread_01, nibbles[half]));
      codes_23[half] = vaddq_u8(vaddq_u8(codes_23[half], codes_23[half]), vqtbl1q_u8(spread_23, nibbles[half]));
    }
  }
  Codes codes;
  for (uint32_t half = 0; half < 2; ++half) {
    codes.columns[0][half] = vandq_u8(codes_01[half], mask);
    codes.columns[1][half] = vshrq_n_u8(codes_01[half], 4);
    codes.columns[2][half] = vandq_u8(codes_23[half], mask);
    codes.columns[3][half] = vshrq_n_u8(codes_23[half], 4);
  }
  return codes;
}

}  // namespace neon
}  // namespace shiftadd
