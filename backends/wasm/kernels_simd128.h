// What the WebAssembly kernel files share: names for the instructions, and small functions. Inline ones are static, as in the
// other kernel headers.
#pragma once

#include <wasm_simd128.h>

#include "backends/cpu/kernels.h"

namespace shiftadd {

namespace simd128 {

float prepare(const float* x, uint32_t quads, Precision precision, int16_t* base);
void build_tables(const int16_t* base, const int16_t* scales, uint32_t quads, uint32_t planes, Precision precision,
                  const uint8_t* ahead, LookupTables* tables);
float build_column_tables(const float* x, const int16_t* scales, uint32_t quads, uint32_t planes, Precision precision,
                          LookupTables* tables);
void accumulate(const uint8_t* blocks, const uint8_t* ahead, const LookupTables& tables, uint32_t quads, uint32_t planes,
                Precision precision, float s, float* y);
float round_activations(const float* x, uint32_t columns, int16_t* out);
void decode_panel(const uint8_t* blocks, const int16_t* scales, uint32_t quads, uint32_t planes, uint32_t group_columns,
                  int16_t* panel);
void panel_product(const int16_t* x, uint32_t tokens, const int16_t* panel, uint32_t columns, const float* scale, float* y);
float dot(const float* a, const float* b, size_t n);
void score_keys(const float* q, size_t q_stride, uint32_t rows, const void* keys, KvType type, uint32_t size,
                uint32_t panels, float scale, float* scores, size_t score_stride);
void weigh_values(const float* weights, size_t weight_stride, uint32_t rows, const void* values, KvType type,
                  uint32_t count, uint32_t size, float* out, size_t out_stride);
void dense_tile(const float* x, size_t x_stride, uint32_t rows, const float* panel, uint32_t k, float* y, size_t y_stride);
void widen_half(const uint16_t* half, float* out, size_t n);
void narrow_half(const float* in, uint16_t* half, size_t n);

using Vector = v128_t;

static inline Vector load(const void* p) { return wasm_v128_load(p); }
static inline void store(void* p, Vector v) { wasm_v128_store(p, v); }

// Index bytes are 0 to 15, for which the relaxed instructions give what the strict ones give, on every machine.
#if defined(__wasm_relaxed_simd__)
static inline Vector lookup(Vector table, Vector index) { return wasm_i8x16_relaxed_swizzle(table, index); }
#else
static inline Vector lookup(Vector table, Vector index) { return wasm_i8x16_swizzle(table, index); }
#endif

// The high nibble of every byte. A shift of bytes would be built by the engine of a shift of words and a mask made anew.
static inline Vector high_nibbles(Vector v) { return wasm_v128_and(wasm_u16x8_shr(v, 4), wasm_i8x16_splat(15)); }

// (a * b + 2^14) >> 15; never of two times -2^15, where the relaxed instruction is not defined.
#if defined(__wasm_relaxed_simd__)
static inline Vector multiply_high(Vector a, Vector b) { return wasm_i16x8_relaxed_q15mulr(a, b); }
#else
static inline Vector multiply_high(Vector a, Vector b) { return wasm_i16x8_q15mulr_sat(a, b); }
#endif

static inline Vector splat(float value) { return wasm_f32x4_splat(value); }
static inline Vector add(Vector a, Vector b) { return wasm_f32x4_add(a, b); }
static inline Vector multiply(Vector a, Vector b) { return wasm_f32x4_mul(a, b); }
static inline Vector larger(Vector a, Vector b) { return wasm_f32x4_pmax(a, b); }  // a NaN is seen by the poison

static inline float largest_of(Vector v) {
  const float a = wasm_f32x4_extract_lane(v, 0), b = wasm_f32x4_extract_lane(v, 1);
  const float c = wasm_f32x4_extract_lane(v, 2), d = wasm_f32x4_extract_lane(v, 3);
  const float left = a > b ? a : b, right = c > d ? c : d;
  return left > right ? left : right;
}

// True where a sum of values times zero is not zero: one of them was not finite.
static inline bool is_poisoned(Vector sum) { return wasm_v128_any_true(wasm_f32x4_ne(sum, splat(0))); }

// Rounded to nearest even, for magnitudes below 2^22: adding 1.5 * 2^23 leaves the integer in the low bits.
static inline Vector round_four(Vector v) {
  return wasm_i32x4_sub(add(v, splat(12582912.0f)), wasm_i32x4_splat(0x4b400000));
}
static inline Vector round_eight(Vector left, Vector right) { return wasm_i16x8_narrow_i32x4(round_four(left), round_four(right)); }

// Four halves in 16-bit lanes of which one half of the vector counts, widened; exact for all but NaN payloads.
static inline Vector widen_four(Vector half) {  // 32-bit lanes, each a half
  const Vector sign = wasm_i32x4_shl(wasm_v128_and(half, wasm_i32x4_splat(0x8000)), 16);
  const Vector magnitude = wasm_v128_and(half, wasm_i32x4_splat(0x7fff));
  // With the exponent field of a half the number is 2^-112 times what it should be, subnormal numbers included.
  const Vector finite = multiply(wasm_i32x4_shl(magnitude, 13), splat(0x1p112f));
  const Vector is_special = wasm_i32x4_gt(magnitude, wasm_i32x4_splat(0x7bff));
  return wasm_v128_or(wasm_v128_or(finite, sign), wasm_v128_and(is_special, wasm_i32x4_splat(0x7f800000)));
}
static inline Vector load_four(const float* p) { return wasm_v128_load(p); }
static inline Vector load_four(const uint16_t* p) { return widen_four(wasm_u32x4_load16x4(p)); }

}  // namespace simd128
}  // namespace shiftadd
