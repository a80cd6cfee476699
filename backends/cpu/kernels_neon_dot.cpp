// NEON kernels for processors with dot products (FEAT_DotProd): many tokens at once. sdot multiplies bytes only, but four
// times as many and twice as often as smlal, so that weights and activations of 13 bits are split into two signed bytes,
// v = 128 h + l with -64 <= l < 64, and three products make one:
//   sum of x w = 128 (127 H + K) - 127 L,  H = sum of xh wh,  K = sum of (xh + xl)(wh + wl),  L = sum of xl wl.
// Everything else is as in the NEON table: looked-up bytes of one vector belong to 16 rows, sdot would need 4 of one row.
#include "backends/cpu/kernels_neon.h"

namespace shiftadd {
namespace {

// H, K and L are summed one after the other in the same registers: ((127 H + K) * 128 / -127 + L) * -127. Division by an
// odd number is a multiplication modulo 2^32; the true sum fits 32 bits, so wrapping on the way is harmless.
constexpr uint32_t kMinus127 = 0u - 127u, kInverse = 0x10204081u;
static_assert(kInverse * kMinus127 == 1u);

constexpr uint32_t kQuartetBytes = 4 * kPanelRows;  // [row][4 columns]: high bytes of a panel's 4 columns, or low bytes

enum class Part { high, sum, low };

template <Part kPart>
inline int8x16_t load_part(const int8_t* high, uint32_t to_low) {
  if (kPart == Part::high) return vld1q_s8(high);
  if (kPart == Part::low) return vld1q_s8(high + to_low);
  return vaddq_s8(vld1q_s8(high), vld1q_s8(high + to_low));
}

// kTokens x 16 rows. The columns of a quad are unrolled: lanes are constants of the instruction.
template <uint32_t kTokens>
struct Sums {
  int32x4_t of[kTokens][4];

  template <Part kPart, int kLane>
  inline void add_quartet(const int8_t* weights, const int8x16_t (&x)[kTokens]) {
    for (uint32_t part = 0; part < 4; ++part) {
      const int8x16_t w = load_part<kPart>(weights + 2 * kQuartetBytes * kLane + 16 * part, kQuartetBytes);
      for (uint32_t m = 0; m < kTokens; ++m) of[m][part] = vdotq_laneq_s32(of[m][part], w, x[m], kLane);
    }
  }

  template <Part kPart>
  inline void add(const int16_t* x, const int8_t* weights, uint32_t columns) {
    for (uint32_t c = 0; c < columns; c += 16, weights += 8 * kQuartetBytes) {
      int8x16_t values[kTokens];
      for (uint32_t m = 0; m < kTokens; ++m)
        values[m] = load_part<kPart>(reinterpret_cast<const int8_t*>(x + m * kPanelColumns + c), 16);
      add_quartet<kPart, 0>(weights, values);
      add_quartet<kPart, 1>(weights, values);
      add_quartet<kPart, 2>(weights, values);
      add_quartet<kPart, 3>(weights, values);
    }
  }

  inline void multiply(uint32_t by) {
    for (auto& token : of)
      for (auto& part : token) part = vreinterpretq_s32_u32(vmulq_n_u32(vreinterpretq_u32_s32(part), by));
  }
};

template <uint32_t kTokens>
void product_rows(const int16_t* x, const int8_t* panel, uint32_t columns, const float* scale, float* y) {
  for (uint32_t half = 0; half < 2; ++half, panel += 64, y += 16) {
    Sums<kTokens> sums;
    for (auto& token : sums.of)
      for (auto& part : token) part = vdupq_n_s32(0);
    sums.template add<Part::high>(x, panel, columns);
    sums.multiply(127);
    sums.template add<Part::sum>(x, panel, columns);
    sums.multiply(128 * kInverse);
    sums.template add<Part::low>(x, panel, columns);
    sums.multiply(kMinus127);
    for (uint32_t m = 0; m < kTokens; ++m)
      for (uint32_t part = 0; part < 4; ++part) {
        float* out = y + m * kPanelRows + 4 * part;
        vst1q_f32(out, vaddq_f32(vld1q_f32(out), vmulq_n_f32(vcvtq_f32_s32(sums.of[m][part]), scale[m])));
      }
  }
}

// 16 values in two vectors of bytes.
struct Split {
  int8x16_t high, low;
};

inline Split split(int16x8_t first, int16x8_t second) {
  const int16x8_t high[2] = {vrshrq_n_s16(first, 7), vrshrq_n_s16(second, 7)};
  // The low byte of v - 128 h is that of v with 128 h, a multiple of 128, taken away.
  const int16x8_t low[2] = {vsubq_s16(first, vshlq_n_s16(high[0], 7)), vsubq_s16(second, vshlq_n_s16(high[1], 7))};
  return {vcombine_s8(vmovn_s16(high[0]), vmovn_s16(high[1])), vcombine_s8(vmovn_s16(low[0]), vmovn_s16(low[1]))};
}

inline Split look_up(const Split& levels, uint8x16_t code) {
  return {vqtbl1q_s8(levels.high, code), vqtbl1q_s8(levels.low, code)};
}

inline Split add(Split a, Split b) {
  const int8x16_t low = vaddq_s8(a.low, b.low), carry = vrshrq_n_s8(low, 7);
  return {vaddq_s8(vaddq_s8(a.high, b.high), carry), vsubq_s8(low, vshlq_n_s8(carry, 7))};
}

// Per 16 columns: their high bytes, then their low bytes.
float round_activations(const float* x, uint32_t columns, int16_t* out) {
  const neon::ActivationRange range = neon::find_range(x, columns);
  if (range.scale != range.scale) return range.scale;
  for (uint32_t c = 0; c < columns; c += 16) {
    float32x4_t v[4];
    for (uint32_t n = 0; n < 4; ++n) v[n] = vmulq_n_f32(vld1q_f32(x + c + 4 * n), range.inverse);
    const Split bytes = split(neon::round_eight(v[0], v[1]), neon::round_eight(v[2], v[3]));
    vst1q_s8(reinterpret_cast<int8_t*>(out + c), bytes.high);
    vst1q_s8(reinterpret_cast<int8_t*>(out + c + 8), bytes.low);
  }
  return range.scale;
}

// Per 4 columns: high bytes [row][4], then low bytes.
void decode_panel(const uint8_t* blocks, const int16_t* scales, uint32_t quads, uint32_t planes, uint32_t group_columns,
                  int16_t* panel) {
  const uint32_t groups = 16 / group_columns, first_planes = planes < 4 ? planes : 4, more = planes - first_planes;
  int8_t* out = reinterpret_cast<int8_t*>(panel);
  for (uint32_t q = 0; q < quads; ++q, blocks += 64 * planes, scales += planes * groups) {
    Split levels = {}, more_levels = {};
    for (uint32_t c = 0; c < 16; c += 4, out += 2 * kQuartetBytes) {
      const neon::Codes codes = neon::gather_codes(blocks + 4 * c, first_planes);
      const neon::Codes more_codes = more ? neon::gather_codes(blocks + 256 + 4 * c, more) : neon::Codes{};
      int8x16x4_t high[2], low[2];  // [half of the rows].val[column]
      for (uint32_t column = 0; column < 4; ++column) {
        if ((c + column) % group_columns == 0) {
          const int16_t* u = scales + (c + column) / group_columns;
          const int16x8x2_t first = neon::make_levels(u, groups, first_planes);
          levels = split(first.val[0], first.val[1]);
          if (more) {
            const int16x8x2_t rest = neon::make_levels(u + 4 * groups, groups, more);
            more_levels = split(rest.val[0], rest.val[1]);
          }
        }
        for (uint32_t half = 0; half < 2; ++half) {
          Split rows = look_up(levels, codes.columns[column][half]);
          if (more) rows = add(rows, look_up(more_levels, more_codes.columns[column][half]));
          high[half].val[column] = rows.high;
          low[half].val[column] = rows.low;
        }
      }
      for (uint32_t half = 0; half < 2; ++half) {
        vst4q_s8(out + 64 * half, high[half]);
        vst4q_s8(out + kQuartetBytes + 64 * half, low[half]);
      }
    }
  }
}

void panel_product(const int16_t* x, uint32_t tokens, const int16_t* panel, uint32_t columns,
                   const float* scale, float* y) {
  const int8_t* bytes = reinterpret_cast<const int8_t*>(panel);
  for (; tokens >= 4; tokens -= 4, x += 4 * kPanelColumns, scale += 4, y += 4 * kPanelRows)
    product_rows<4>(x, bytes, columns, scale, y);
  for (; tokens > 0; --tokens, x += kPanelColumns, ++scale, y += kPanelRows)
    product_rows<1>(x, bytes, columns, scale, y);
}

}  // namespace

const Kernels kKernelsNeonDot = {"neondot",
                                 neon::prepare,
                                 neon::build_tables,
                                 neon::build_column_tables,
                                 neon::accumulate,
                                 round_activations,
                                 decode_panel,
                                 panel_product,
                                 neon::dot,
                                 neon::score_keys,
                                 neon::weigh_values,
                                 neon::exponentiate,
                                 neon::gate,
                                 neon::soft_cap,
                                 neon::dense_tile,
                                 neon::widen_half,
                                 neon::narrow_half};

}  // namespace shiftadd
