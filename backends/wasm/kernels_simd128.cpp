// WebAssembly SIMD kernels: the packed product. One 16-byte load holds one chunk x 32 rows; swizzle looks 16 rows up at once,
// and sums of bytes are widened to 16 bits. There is no fetching ahead: WebAssembly has no such instruction.
#include "backends/wasm/kernels_simd128.h"

namespace shiftadd::simd128 {
namespace {

inline Vector add8(Vector a, Vector b) { return wasm_i8x16_add(a, b); }
inline Vector add16(Vector a, Vector b) { return wasm_i16x8_add(a, b); }

// Sums of bytes in 16-bit lanes. `whole` adds the vector as 16-bit lanes (wrapping), `odd` only its odd bytes; the even
// bytes are the difference, which saves one operation per vector.
struct ByteSum {
  Vector whole = wasm_i16x8_splat(0), odd = whole;
  inline void add(Vector v) {
    whole = add16(whole, v);
    odd = add16(odd, wasm_u16x8_shr(v, 8));
  }
  inline Vector even() const { return wasm_i16x8_sub(whole, wasm_i16x8_shl(odd, 8)); }
};

// y[0..3] += s * (((high - bias) << shift) + low), for the low or high half of 16-bit lanes
inline void flush_four(Vector low, Vector high, Vector offset, int shift, Vector s, float* y) {
  const Vector sum = wasm_i32x4_add(wasm_i32x4_add(wasm_i32x4_shl(high, static_cast<uint32_t>(shift)), low), offset);
  store(y, add(load(y), multiply(s, wasm_f32x4_convert_i32x4(sum))));
}

// 16 rows, of which low and high hold the even and the odd ones
inline void flush(const ByteSum& low, const ByteSum& high, int32_t bias, int shift, float s, float* y) {
  const Vector offset = wasm_i32x4_splat(-bias * (1 << shift)), scale = splat(s);
  const Vector low_even = low.even(), high_even = high.even();
  const Vector low_first = wasm_i16x8_shuffle(low_even, low.odd, 0, 8, 1, 9, 2, 10, 3, 11);
  const Vector low_second = wasm_i16x8_shuffle(low_even, low.odd, 4, 12, 5, 13, 6, 14, 7, 15);
  const Vector high_first = wasm_i16x8_shuffle(high_even, high.odd, 0, 8, 1, 9, 2, 10, 3, 11);
  const Vector high_second = wasm_i16x8_shuffle(high_even, high.odd, 4, 12, 5, 13, 6, 14, 7, 15);
  flush_four(wasm_u32x4_extend_low_u16x8(low_first), wasm_u32x4_extend_low_u16x8(high_first), offset, shift, scale, y);
  flush_four(wasm_u32x4_extend_high_u16x8(low_first), wasm_u32x4_extend_high_u16x8(high_first), offset, shift, scale, y + 4);
  flush_four(wasm_u32x4_extend_low_u16x8(low_second), wasm_u32x4_extend_low_u16x8(high_second), offset, shift, scale, y + 8);
  flush_four(wasm_u32x4_extend_high_u16x8(low_second), wasm_u32x4_extend_high_u16x8(high_second), offset, shift, scale, y + 12);
}

void accumulate_exact(const uint8_t* blocks, const uint8_t* table, uint32_t count, float s, float* y) {
  const Vector mask = wasm_i8x16_splat(15);
  ByteSum low_a, low_b, high_a, high_b;  // a: rows 0..15 of the tile, b: rows 16..31
  const int32_t bias = static_cast<int32_t>(count) * 4 * 128;
  for (; count > 0; --count, blocks += 64, table += kTableBytes)
    for (uint32_t j = 0; j < 4; ++j) {
      const Vector packed = load(blocks + 16 * j), a = wasm_v128_and(packed, mask), b = high_nibbles(packed);
      const Vector low = load(table + 16 * j), high = load(table + 64 + 16 * j);
      low_a.add(lookup(low, a));
      high_a.add(lookup(high, a));
      low_b.add(lookup(low, b));
      high_b.add(lookup(high, b));
    }
  flush(low_a, high_a, bias, 8, s, y);
  flush(low_b, high_b, bias, 8, s, y + 16);
}

template <uint32_t kPlanes>
void accumulate_fast(const uint8_t* blocks, const uint8_t* table, uint32_t quads, float s, float* y) {
  // Sixteen low entries of 4 bits fill a byte: so many chunks of kPlanes entries each are added unwidened.
  constexpr uint32_t kLowChunks = kPlanes == 1 ? 16 : kPlanes == 2 ? 8 : kPlanes <= 4 ? 4 : 2;
  constexpr uint32_t kLowQuads = kLowChunks < 4 ? 1 : kLowChunks / 4;
  const Vector mask = wasm_i8x16_splat(15);
  const int32_t bias = static_cast<int32_t>(quads) * 4 * 128;
  ByteSum low_a, low_b, high_a, high_b;
  for (uint32_t q = 0; q < quads;) {
    Vector la = wasm_i8x16_splat(0), lb = la;
    for (const uint32_t end = q + kLowQuads < quads ? q + kLowQuads : quads; q < end; ++q) {
#pragma clang loop unroll(full)
      for (uint32_t j = 0; j < 4; ++j) {
        Vector ha = wasm_i8x16_splat(0), hb = ha;
#pragma clang loop unroll(full)
        for (uint32_t p = 0; p < kPlanes; ++p) {
          const Vector packed = load(blocks + 64 * p + 16 * j), a = wasm_v128_and(packed, mask), b = high_nibbles(packed);
          const Vector low = load(table + kTableBytes * p + 16 * j), high = load(table + kTableBytes * p + 64 + 16 * j);
          la = add8(la, lookup(low, a));
          lb = add8(lb, lookup(low, b));
          ha = p == 0 ? lookup(high, a) : add8(ha, lookup(high, a));
          hb = p == 0 ? lookup(high, b) : add8(hb, lookup(high, b));
        }
        high_a.add(ha);
        high_b.add(hb);
        if (kLowChunks == 2 && j == 1) {
          low_a.add(la);
          low_b.add(lb);
          la = lb = wasm_i8x16_splat(0);
        }
      }
      blocks += 64 * kPlanes, table += kTableBytes * kPlanes;
    }
    low_a.add(la);
    low_b.add(lb);
  }
  flush(low_a, high_a, bias, 4, s, y);
  flush(low_b, high_b, bias, 4, s, y + 16);
}

// Splits T of a chunk, entries 0..7 and 8..15, into 16 low and 16 high bytes, in the layout of the portable kernels.
inline void store_entries(Vector first, Vector second, bool exact, bool first_plane, uint8_t* table) {
  const Vector low = wasm_i8x16_shuffle(first, second, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  if (exact) {
    store(table, low);
    const Vector high = wasm_i8x16_shuffle(first, second, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    store(table + 64, wasm_v128_xor(high, wasm_i8x16_splat(-128)));
  } else {
    store(table, wasm_v128_and(low, wasm_i8x16_splat(15)));
    const Vector high = wasm_i8x16_narrow_i16x8(wasm_i16x8_shr(first, 4), wasm_i16x8_shr(second, 4));
    store(table + 64, first_plane ? wasm_v128_xor(high, wasm_i8x16_splat(-128)) : high);
  }
}

// Tables of 2 chunks whose columns have scales of their own. With s = v0 + v1 and d = v0 - v1 of a pair, the pair's four
// signed sums are -s, d, -d, s; an entry is one of the first pair (index bits 0, 1) plus one of the second (bits 2, 3).
inline void store_column_entries(Vector v, bool exact, bool first_plane, uint8_t* table) {
  const Vector swapped = wasm_i16x8_shuffle(v, v, 1, 0, 3, 2, 5, 4, 7, 6);
  const Vector sum = add16(v, swapped), difference = wasm_i16x8_sub(v, swapped);  // s01 s01 s23 s23 ...; d01 -d01 ...
  const Vector minus = wasm_i16x8_neg(sum);
  const Vector left = wasm_i16x8_shuffle(minus, difference, 0, 8, 2, 10, 4, 12, 6, 14);  // -s01  d01 -s23  d23
  const Vector right = wasm_i16x8_shuffle(difference, sum, 1, 9, 3, 11, 5, 13, 7, 15);   // -d01  s01 -d23  s23
  for (int chunk = 0; chunk < 2; ++chunk) {
    // -s01 d01 -d01 s01 -s23 d23 -d23 s23
    const Vector sums = chunk ? wasm_i32x4_shuffle(left, right, 2, 6, 3, 7) : wasm_i32x4_shuffle(left, right, 0, 4, 1, 5);
    const Vector first = wasm_i64x2_shuffle(sums, sums, 0, 0);
    const Vector low = wasm_i16x8_shuffle(sums, sums, 4, 4, 4, 4, 5, 5, 5, 5);
    const Vector high = wasm_i16x8_shuffle(sums, sums, 6, 6, 6, 6, 7, 7, 7, 7);
    store_entries(add16(first, low), add16(first, high), exact, first_plane, table + 16 * chunk);
  }
}

// Per chunk of 16 values: the sum of its 4 magnitudes.
inline Vector chunk_magnitudes(const Vector v[4]) {
  const Vector a = wasm_f32x4_abs(v[0]), b = wasm_f32x4_abs(v[1]), c = wasm_f32x4_abs(v[2]), d = wasm_f32x4_abs(v[3]);
  const Vector ab = add(wasm_i32x4_shuffle(a, b, 0, 2, 4, 6), wasm_i32x4_shuffle(a, b, 1, 3, 5, 7));  // (0 + 1) (2 + 3) of each
  const Vector cd = add(wasm_i32x4_shuffle(c, d, 0, 2, 4, 6), wasm_i32x4_shuffle(c, d, 1, 3, 5, 7));
  return add(wasm_i32x4_shuffle(ab, cd, 0, 2, 4, 6), wasm_i32x4_shuffle(ab, cd, 1, 3, 5, 7));
}

}  // namespace

float prepare(const float* x, uint32_t quads, Precision precision, int16_t* base) {
  Vector largest = splat(0), poison = largest;
  for (uint32_t q = 0; q < quads; ++q) {
    const Vector v[4] = {load(x + 16 * q), load(x + 16 * q + 4), load(x + 16 * q + 8), load(x + 16 * q + 12)};
    const Vector sums = chunk_magnitudes(v);
    largest = larger(largest, sums);
    poison = add(poison, multiply(sums, splat(0)));
  }
  if (is_poisoned(poison)) return __builtin_nanf("");
  const float most = largest_of(largest);
  if (most < kTinyRange) return 0;
  const float range = precision == Precision::exact ? kExactRange : kFastRange;
  const Vector inverse = splat(range / most);
  const Vector minus_even = wasm_u32x4_make(0x80000000, 0, 0x80000000, 0), minus_low = wasm_u32x4_make(0x80000000, 0x80000000, 0, 0);
  for (uint32_t chunk = 0; chunk < quads * 4; ++chunk, x += 4) {
    const Vector first = add(wasm_v128_xor(splat(x[0]), minus_even), wasm_v128_xor(splat(x[1]), minus_low));
    const Vector second = add(wasm_v128_xor(splat(x[2]), minus_even), wasm_v128_xor(splat(x[3]), minus_low));
    const Vector sums[4] = {add(first, wasm_i32x4_shuffle(second, second, 0, 0, 0, 0)),
                            add(first, wasm_i32x4_shuffle(second, second, 1, 1, 1, 1)),
                            add(first, wasm_i32x4_shuffle(second, second, 2, 2, 2, 2)),
                            add(first, wasm_i32x4_shuffle(second, second, 3, 3, 3, 3))};
    int16_t* entries = base + chunk / 4 * kQuadEntries + chunk % 4 * 8;
    store(entries, round_eight(multiply(sums[0], inverse), multiply(sums[1], inverse)));
    store(entries + 32, round_eight(multiply(sums[2], inverse), multiply(sums[3], inverse)));
  }
  return most / range;
}

void build_tables(const int16_t* base, const int16_t* scales, uint32_t quads, uint32_t planes, Precision precision,
                  const uint8_t*, LookupTables* tables) {
  const bool exact = precision == Precision::exact;
  uint8_t* table = tables->bytes;
  for (uint32_t q = 0; q < quads; ++q, base += kQuadEntries) {
    Vector entries[8];  // of chunks 0..3: entries 0..7, then 8..15
    for (uint32_t n = 0; n < 8; ++n) entries[n] = load(base + 8 * n);
    for (uint32_t p = 0; p < planes; ++p, scales += 2, table += kTableBytes)
      for (uint32_t j = 0; j < 4; ++j) {
        const Vector u = wasm_i16x8_splat(scales[j / 2]);
        store_entries(multiply_high(entries[j], u), multiply_high(entries[4 + j], u), exact, p == 0, table + 16 * j);
      }
  }
}

float build_column_tables(const float* x, const int16_t* scales, uint32_t quads, uint32_t planes, Precision precision,
                          LookupTables* tables) {
  const bool exact = precision == Precision::exact;
  float products[kMaxQuads * kMaxTablePlanes * 16];
  Vector largest = splat(0), poison = largest;
  for (uint32_t q = 0; q < quads; ++q) {
    Vector over_planes = splat(0);
    for (uint32_t p = 0; p < planes; ++p) {
      const size_t at = (q * planes + p) * 16;
      Vector product[4];
      for (uint32_t j = 0; j < 4; ++j) {
        product[j] = multiply(load(x + 16 * q + 4 * j), wasm_f32x4_convert_i32x4(wasm_i32x4_load16x4(scales + at + 4 * j)));
        store(products + at + 4 * j, product[j]);
      }
      const Vector sums = chunk_magnitudes(product);
      over_planes = add(over_planes, sums);
      if (exact) largest = larger(largest, sums);
    }
    if (!exact) largest = larger(largest, over_planes);
    poison = add(poison, multiply(over_planes, splat(0)));
  }
  if (is_poisoned(poison)) return __builtin_nanf("");
  const float most = largest_of(largest);
  if (most < kTinyRange) return 0;
  const float range = exact ? kExactColumnRange : kFastColumnRange;
  const Vector inverse = splat(range / most);
  for (uint32_t n = 0; n < quads * planes; ++n)
    for (uint32_t half = 0; half < 2; ++half) {
      const float* product = products + 16 * n + 8 * half;
      const Vector v = round_eight(multiply(load(product), inverse), multiply(load(product + 4), inverse));
      store_column_entries(v, exact, n % planes == 0, tables->bytes + n * kTableBytes + 32 * half);
    }
  return most / range;
}

void accumulate(const uint8_t* blocks, const uint8_t*, const LookupTables& tables, uint32_t quads, uint32_t planes,
                Precision precision, float s, float* y) {
  using Accumulate = void (*)(const uint8_t*, const uint8_t*, uint32_t, float, float*);
  static constexpr Accumulate kFast[] = {accumulate_fast<1>, accumulate_fast<2>, accumulate_fast<3>, accumulate_fast<4>,
                                         accumulate_fast<5>, accumulate_fast<6>, accumulate_fast<7>, accumulate_fast<8>};
  if (precision == Precision::exact) accumulate_exact(blocks, tables.bytes, quads * planes, s, y);
  else kFast[planes - 1](blocks, tables.bytes, quads, s, y);
}

}  // namespace shiftadd::simd128
