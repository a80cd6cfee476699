// WebAssembly SIMD kernels: many tokens at once. Planes are decoded to 16-bit integers, panel[column / 2][row][column % 2],
// whose pairs are multiplied with a pair of activations and added in 32 bits. Here is also the table of the kernels.
#include "backends/wasm/kernels_simd128.h"

#include "core/float_math.h"

namespace shiftadd {
namespace simd128 {
namespace {

// The values of up to 4 planes by code (bit p: sign of plane p), as tables of their low and high bytes.
struct Levels {
  Vector low, high;
};

inline Levels make_levels(const int16_t* u, uint32_t stride, uint32_t planes) {
  static constexpr int16_t kSigns[4][16] = {{-1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1},
                                            {-1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1},
                                            {-1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1},
                                            {-1, -1, -1, -1, -1, -1, -1, -1, 1, 1, 1, 1, 1, 1, 1, 1}};
  Vector first = wasm_i16x8_splat(0), second = first;
  for (uint32_t p = 0; p < planes; ++p) {
    const Vector scale = wasm_i16x8_splat(u[p * stride]);
    first = wasm_i16x8_add(first, wasm_i16x8_mul(scale, load(kSigns[p])));
    second = wasm_i16x8_add(second, wasm_i16x8_mul(scale, load(kSigns[p] + 8)));
  }
  return {wasm_i8x16_shuffle(first, second, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30),
          wasm_i8x16_shuffle(first, second, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)};
}

// Codes of the 4 columns of a chunk for rows 0..15 and 16..31, from the sign nibbles of up to 4 planes.
struct Codes {
  Vector columns[4][2];
};

inline Codes gather_codes(const uint8_t* chunk, uint32_t planes) {
  // Nibble to bits: column 0 at bit 0 and column 1 at bit 4, or columns 2 and 3; plane p is shifted up by p.
  const Vector spread_01 = wasm_i8x16_make(0, 1, 16, 17, 0, 1, 16, 17, 0, 1, 16, 17, 0, 1, 16, 17);
  const Vector spread_23 = wasm_i8x16_make(0, 0, 0, 0, 1, 1, 1, 1, 16, 16, 16, 16, 17, 17, 17, 17);
  const Vector mask = wasm_i8x16_splat(15);
  Vector codes_01[2] = {wasm_i8x16_splat(0), wasm_i8x16_splat(0)}, codes_23[2] = {codes_01[0], codes_01[0]};
  for (uint32_t p = planes; p-- > 0;) {  // the last plane is shifted most
    const Vector packed = load(chunk + 64 * p);
    const Vector nibbles[2] = {wasm_v128_and(packed, mask), high_nibbles(packed)};
    for (uint32_t half = 0; half < 2; ++half) {
      codes_01[half] = wasm_i8x16_add(wasm_i8x16_add(codes_01[half], codes_01[half]), lookup(spread_01, nibbles[half]));
      codes_23[half] = wasm_i8x16_add(wasm_i8x16_add(codes_23[half], codes_23[half]), lookup(spread_23, nibbles[half]));
    }
  }
  Codes codes;
  for (uint32_t half = 0; half < 2; ++half) {
    codes.columns[0][half] = wasm_v128_and(codes_01[half], mask);
    codes.columns[1][half] = high_nibbles(codes_01[half]);
    codes.columns[2][half] = wasm_v128_and(codes_23[half], mask);
    codes.columns[3][half] = high_nibbles(codes_23[half]);
  }
  return codes;
}

// 16-bit values of 8 rows each.
struct Rows {
  Vector first, second;
};

inline Rows look_up(const Levels& levels, Vector code) {  // 16 rows
  const Vector low = lookup(levels.low, code), high = lookup(levels.high, code);
  return {wasm_i8x16_shuffle(low, high, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23),
          wasm_i8x16_shuffle(low, high, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)};
}

// panel: 8 rows of two columns
inline void store_pairs(Vector left, Vector right, int16_t* panel) {
  store(panel, wasm_i16x8_shuffle(left, right, 0, 8, 1, 9, 2, 10, 3, 11));
  store(panel + 8, wasm_i16x8_shuffle(left, right, 4, 12, 5, 13, 6, 14, 7, 15));
}

// kTokens x 16 rows: with two tokens 8 sums, 4 vectors of weights and the activations fit 16 registers.
template <uint32_t kTokens>
void product_rows(const int16_t* x, const int16_t* panel, uint32_t columns, const float* scale, float* y) {
  for (uint32_t half = 0; half < 2; ++half, panel += 32, y += 16) {
    Vector sum[kTokens][4];
    for (auto& token : sum)
      for (auto& part : token) part = wasm_i32x4_splat(0);
    const int16_t* weights = panel;
    for (uint32_t c = 0; c < columns; c += 2, weights += 2 * kPanelRows)
      for (uint32_t m = 0; m < kTokens; ++m) {
        const Vector pair = wasm_v128_load32_splat(x + m * kPanelColumns + c);
        for (uint32_t part = 0; part < 4; ++part)
          sum[m][part] = wasm_i32x4_add(sum[m][part], wasm_i32x4_dot_i16x8(pair, load(weights + 8 * part)));
      }
    for (uint32_t m = 0; m < kTokens; ++m)
      for (uint32_t part = 0; part < 4; ++part) {
        float* out = y + m * kPanelRows + 4 * part;
        store(out, add(load(out), multiply(splat(scale[m]), wasm_f32x4_convert_i32x4(sum[m][part]))));
      }
  }
}

}  // namespace

float round_activations(const float* x, uint32_t columns, int16_t* out) {
  Vector largest = splat(0), poison = largest;
  for (uint32_t c = 0; c < columns; c += 4) {
    const Vector v = load(x + c);
    largest = larger(largest, wasm_f32x4_abs(v));
    poison = add(poison, multiply(v, splat(0)));
  }
  if (is_poisoned(poison)) return __builtin_nanf("");
  const float most = largest_of(largest);
  const bool tiny = most < kTinyRange;
  const Vector inverse = splat(tiny ? 0 : kPanelRange / most);
  for (uint32_t c = 0; c < columns; c += 8)
    store(out + c, round_eight(multiply(load(x + c), inverse), multiply(load(x + c + 4), inverse)));
  return tiny ? 0 : most / kPanelRange;
}

void decode_panel(const uint8_t* blocks, const int16_t* scales, uint32_t quads, uint32_t planes, uint32_t group_columns,
                  int16_t* panel) {
  const uint32_t groups = 16 / group_columns, first_planes = planes < 4 ? planes : 4, more = planes - first_planes;
  for (uint32_t q = 0; q < quads; ++q, blocks += 64 * planes, scales += planes * groups) {
    Levels levels = {}, more_levels = {};
    for (uint32_t chunk = 0; chunk < 4; ++chunk) {
      const Codes codes = gather_codes(blocks + 16 * chunk, first_planes);
      const Codes more_codes = more ? gather_codes(blocks + 256 + 16 * chunk, more) : Codes{};
      for (uint32_t pair = 0; pair < 2; ++pair, panel += 2 * kPanelRows) {
        Rows rows[2][2];  // of a column, of rows 0..15 or 16..31
        for (uint32_t side = 0; side < 2; ++side) {
          const uint32_t c = 2 * pair + side, column = 4 * chunk + c;
          if (column % group_columns == 0) {
            const int16_t* u = scales + column / group_columns;
            levels = make_levels(u, groups, first_planes);
            if (more) more_levels = make_levels(u + 4 * groups, groups, more);
          }
          for (uint32_t half = 0; half < 2; ++half) {
            rows[side][half] = look_up(levels, codes.columns[c][half]);
            if (!more) continue;
            const Rows rest = look_up(more_levels, more_codes.columns[c][half]);
            rows[side][half] = {wasm_i16x8_add(rows[side][half].first, rest.first),
                                wasm_i16x8_add(rows[side][half].second, rest.second)};
          }
        }
        for (uint32_t half = 0; half < 2; ++half) {
          store_pairs(rows[0][half].first, rows[1][half].first, panel + 32 * half);
          store_pairs(rows[0][half].second, rows[1][half].second, panel + 32 * half + 16);
        }
      }
    }
  }
}

void panel_product(const int16_t* x, uint32_t tokens, const int16_t* panel, uint32_t columns, const float* scale, float* y) {
  for (; tokens >= 2; tokens -= 2, x += 2 * kPanelColumns, scale += 2, y += 2 * kPanelRows)
    product_rows<2>(x, panel, columns, scale, y);
  if (tokens) product_rows<1>(x, panel, columns, scale, y);
}

namespace {

float exponentiate(float* scores, size_t n) { return exponentiate_loop(scores, n); }
void gate(Activation activation, float* values, const float* up, size_t n) { gate_loop(activation, values, up, n); }
void soft_cap(float* x, size_t n, float cap) { soft_cap_loop(x, n, cap); }

}  // namespace
}  // namespace simd128

#if defined(__wasm_relaxed_simd__)
constexpr const char* kName = "relaxedsimd";
#else
constexpr const char* kName = "simd128";
#endif

const Kernels kKernelsSimd128 = {kName,
                                 simd128::prepare,
                                 simd128::build_tables,
                                 simd128::build_column_tables,
                                 simd128::accumulate,
                                 simd128::round_activations,
                                 simd128::decode_panel,
                                 simd128::panel_product,
                                 simd128::dot,
                                 simd128::score_keys,
                                 simd128::weigh_values,
                                 simd128::exponentiate,
                                 simd128::gate,
                                 simd128::soft_cap,
                                 simd128::dense_tile,
                                 simd128::widen_half,
                                 simd128::narrow_half};

}  // namespace shiftadd
