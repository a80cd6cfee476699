// NEON kernels: many tokens at once. Planes are decoded to 16-bit integers, panel[column][row], which smlal multiplies with
// one activation per vector and adds in 32 bits. Here is also the table of NEON.
#include "backends/cpu/kernels_neon.h"

namespace shiftadd {
namespace {

// kTokens x 16 rows. The columns of an eighth are unrolled: lanes are constants of the instruction.
template <uint32_t kTokens>
struct Sums {
  int32x4_t of[kTokens][4];

  template <int kLane>
  inline void add_column(const int16_t* weights, const int16x8_t (&x)[kTokens]) {
    const int16x8_t left = vld1q_s16(weights + kLane * kPanelRows), right = vld1q_s16(weights + kLane * kPanelRows + 8);
    for (uint32_t m = 0; m < kTokens; ++m) {
      of[m][0] = vmlal_laneq_s16(of[m][0], vget_low_s16(left), x[m], kLane);
      of[m][1] = vmlal_high_laneq_s16(of[m][1], left, x[m], kLane);
      of[m][2] = vmlal_laneq_s16(of[m][2], vget_low_s16(right), x[m], kLane);
      of[m][3] = vmlal_high_laneq_s16(of[m][3], right, x[m], kLane);
    }
  }
};

template <uint32_t kTokens>
void product_rows(const int16_t* x, const int16_t* panel, uint32_t columns, const float* scale, float* y) {
  for (uint32_t half = 0; half < 2; ++half, panel += 16, y += 16) {
    Sums<kTokens> sums;
    for (auto& token : sums.of)
      for (auto& part : token) part = vdupq_n_s32(0);
    for (uint32_t c = 0; c < columns; c += 8) {
      int16x8_t values[kTokens];
      for (uint32_t m = 0; m < kTokens; ++m) values[m] = vld1q_s16(x + m * kPanelColumns + c);
      const int16_t* weights = panel + c * kPanelRows;
      sums.template add_column<0>(weights, values);
      sums.template add_column<1>(weights, values);
      sums.template add_column<2>(weights, values);
      sums.template add_column<3>(weights, values);
      sums.template add_column<4>(weights, values);
      sums.template add_column<5>(weights, values);
      sums.template add_column<6>(weights, values);
      sums.template add_column<7>(weights, values);
    }
    for (uint32_t m = 0; m < kTokens; ++m)
      for (uint32_t part = 0; part < 4; ++part) {
        float* out = y + m * kPanelRows + 4 * part;
        vst1q_f32(out, vaddq_f32(vld1q_f32(out), vmulq_n_f32(vcvtq_f32_s32(sums.of[m][part]), scale[m])));
      }
  }
}

float round_activations(const float* x, uint32_t columns, int16_t* out) {
  const neon::ActivationRange range = neon::find_range(x, columns);
  if (range.scale != range.scale) return range.scale;
  for (uint32_t c = 0; c < columns; c += 8)
    vst1q_s16(out + c, neon::round_eight(vmulq_n_f32(vld1q_f32(x + c), range.inverse),
                                         vmulq_n_f32(vld1q_f32(x + c + 4), range.inverse)));
  return range.scale;
}

// The 16-bit values of one column in two byte tables.
struct LevelBytes {
  uint8x16_t low, high;
};

inline LevelBytes split(int16x8x2_t levels) {
  const uint8x16_t first = vreinterpretq_u8_s16(levels.val[0]), second = vreinterpretq_u8_s16(levels.val[1]);
  return {vuzp1q_u8(first, second), vuzp2q_u8(first, second)};
}

inline int16x8x2_t look_up(const LevelBytes& levels, uint8x16_t code) {  // 16 rows
  const uint8x16_t low = vqtbl1q_u8(levels.low, code), high = vqtbl1q_u8(levels.high, code);
  return {{vreinterpretq_s16_u8(vzip1q_u8(low, high)), vreinterpretq_s16_u8(vzip2q_u8(low, high))}};
}

void decode_panel(const uint8_t* blocks, const int16_t* scales, uint32_t quads, uint32_t planes, uint32_t group_columns,
                  int16_t* panel) {
  const uint32_t groups = 16 / group_columns, first_planes = planes < 4 ? planes : 4, more = planes - first_planes;
  for (uint32_t q = 0; q < quads; ++q, blocks += 64 * planes, scales += planes * groups) {
    LevelBytes levels = {}, more_levels = {};
    for (uint32_t c = 0; c < 16; c += 4) {
      const neon::Codes codes = neon::gather_codes(blocks + 4 * c, first_planes);
      const neon::Codes more_codes = more ? neon::gather_codes(blocks + 256 + 4 * c, more) : neon::Codes{};
      for (uint32_t column = 0; column < 4; ++column, panel += kPanelRows) {
        if ((c + column) % group_columns == 0) {
          const int16_t* u = scales + (c + column) / group_columns;
          levels = split(neon::make_levels(u, groups, first_planes));
          if (more) more_levels = split(neon::make_levels(u + 4 * groups, groups, more));
        }
        for (uint32_t half = 0; half < 2; ++half) {
          int16x8x2_t rows = look_up(levels, codes.columns[column][half]);
          if (more) {
            const int16x8x2_t rest = look_up(more_levels, more_codes.columns[column][half]);
            rows = {{vaddq_s16(rows.val[0], rest.val[0]), vaddq_s16(rows.val[1], rest.val[1])}};
          }
          vst1q_s16(panel + 16 * half, rows.val[0]);
          vst1q_s16(panel + 16 * half + 8, rows.val[1]);
        }
      }
    }
  }
}

void panel_product(const int16_t* x, uint32_t tokens, const int16_t* panel, uint32_t columns,
                   const float* scale, float* y) {
  // Four tokens by 16 rows: 16 sums, 4 vectors of activations (the multiplication reads them from the lower 16 registers).
  for (; tokens >= 4; tokens -= 4, x += 4 * kPanelColumns, scale += 4, y += 4 * kPanelRows)
    product_rows<4>(x, panel, columns, scale, y);
  for (; tokens > 0; --tokens, x += kPanelColumns, ++scale, y += kPanelRows)
    product_rows<1>(x, panel, columns, scale, y);
}

}  // namespace

const Kernels kKernelsNeon = {"neon",
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
