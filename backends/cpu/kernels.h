// The hot functions of the CPU backend, one table per instruction set. A kernel file includes this header and its
// intrinsics and nothing else; everything above the table is written once.
//
// The packed product is an integer definition, so that every table computes the same bits. Columns are cut into scale
// blocks of 128, 64 or 16 columns (scale_block_quads). rne is rounding to the nearest even integer, a chunk is 4 columns.
//
//   Activations, once per token:   X = max over chunks of the sum of |x|
//                                  B[chunk][i] = rne(R / X * (signed sum of the chunk's 4 values, + where bit of i is set))
//   Scales, once per matrix:       exact: S = max |scale|, U = 32767;  fast: S = max over groups of the sum over planes of
//   (per row group)                |scale|, U = 4083;  u[plane][group] = rne(U / S * scale)
//   Table entries:                 T[plane][chunk][i] = (B[chunk][i] * u[plane][group of chunk] + 2^14) >> 15
//   Product:                       y[r] += (X / R) * (S / U * 2^15) * float(sum over planes and chunks of T at r's signs)
//
// Column-wise scales differ inside a chunk, so that nothing can be prepared: t = x * u, A = max over chunks (exact: and
// planes, fast: of the sum over planes) of the sum of |t|, v = rne(Q / A * t), T = signed sum of 4 v, and A / Q takes the
// place of X / R * 2^15. Scale blocks are added in ascending order, multiply and add rounded separately; |sum| < 2^24, so its
// conversion to float is exact. In exact precision R = 32760 fills 16 bits. In fast precision R = 15000, so that entries
// *summed over planes* fit 12 bits and bytes can be added over planes before they are widened.
//
// Many tokens at once may take the panel product instead (fast precision only): weights w = sum of +-u over planes and
// activations rounded to 13 bits, both as integers, multiplied and summed exactly within a scale block.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/float_math.h"

namespace shiftadd {

enum class Precision : int32_t { exact = 0, fast = 1 };

// Element type of cached keys and values.
enum class KvType : int32_t { f32 = 0, f16 = 1, int8 = 2 };  // int8: of the CUDA backend

// Below this X the products of a block are treated as zero; it keeps R / X finite.
constexpr float kTinyRange = 1e-30f;
constexpr float kExactRange = 32760.0f;
constexpr float kFastRange = 15000.0f;
// Bounds of u. fast: B * sum of u >> 15 stays below 1876, so that the plane sum of floor(T / 16), 8 planes of flooring
// included, is a signed byte; and 128 columns of u sums and panel activations stay within 32 bits.
constexpr float kExactScale = 32767.0f;
constexpr float kFastScale = 4083.0f;
constexpr float kPanelRange = 4095.0f;
// Q of column-wise scales. fast: room for 8 planes x 4 columns of rounding.
constexpr float kExactColumnRange = 32760.0f;
constexpr float kFastColumnRange = 1850.0f;

constexpr uint32_t kMaxQuads = 8;        // quads of 16 columns in a scale block
constexpr uint32_t kMaxTablePlanes = 8;
constexpr uint32_t kTableBytes = 128;    // tables of one (quad, plane): 4 chunks x 16 entries x 2 bytes
constexpr uint32_t kQuadEntries = 64;    // B of one quad: 4 chunks x 16 entries
constexpr uint32_t kPanelRows = 32;      // rows of a panel: one tile
constexpr uint32_t kPanelColumns = 128;  // room for the columns of a scale block, in a token's rounded activations
constexpr uint32_t kKeyPanel = 16;       // positions of a key panel

// Quads that share one X and S. Every plane adds its own rounding error, all of them relative to the largest product of
// the block, and column-wise entries round four products: with more than 4 planes only shorter blocks keep an outlier's
// block below 0.02 % in exact precision.
constexpr uint32_t scale_block_quads(uint32_t planes, uint32_t group_columns) {
  return planes <= 4 ? 8 : group_columns == 8 ? 4 : 1;
}

// Blocks are fetched twice: from memory into the second cache this far ahead of `ahead`, then from there into the first.
constexpr size_t kFetchFar = 8192;

// Look-up tables of one (row group, scale block), split into two bytes; how is the kernel's own affair.
struct LookupTables {
  alignas(64) uint8_t bytes[kMaxQuads * kMaxTablePlanes * kTableBytes];
};

struct Kernels {
  const char* isa;

  // B of one scale block. x: quads * 16 floats, zero beyond the matrix. base receives per quad the entries 0..7 of its 4
  // chunks, then the entries 8..15. Returns X / R; 0 when X is tiny, NaN when a value is not finite.
  float (*prepare)(const float* x, uint32_t quads, Precision precision, int16_t* base);

  // Tables of groups of 8 columns. scales: u as [quad][plane][2]. Meanwhile fetches quads * planes blocks at `ahead`.
  void (*build_tables)(const int16_t* base, const int16_t* scales, uint32_t quads, uint32_t planes, Precision precision,
                       const uint8_t* ahead, LookupTables* tables);

  // Tables of groups of 1 column. scales: u as [quad][plane][16]. Returns A / Q; 0 when A is tiny, NaN as above.
  float (*build_column_tables)(const float* x, const int16_t* scales, uint32_t quads, uint32_t planes,
                               Precision precision, LookupTables* tables);

  // Adds s * sum of one tile, blocks [quad][plane][64 bytes], to y[32]. Meanwhile fetches as many blocks at `ahead`.
  void (*accumulate)(const uint8_t* blocks, const uint8_t* ahead, const LookupTables& tables, uint32_t quads,
                     uint32_t planes, Precision precision, float s, float* y);

  // x rounded to integers of at most kPanelRange: out[c] = rne(x[c] * kPanelRange / max |x|), or split as panel_product of
  // the same table wants them, in the same room. Returns max |x| / kPanelRange; 0 (and zeros) when it is tiny, NaN when a
  // value is not finite.
  float (*round_activations)(const float* x, uint32_t columns, int16_t* out);

  // One tile of one scale block as integers w, panel[column / 2][row][column % 2], or as panel_product of the same table
  // wants them, in the same room.
  void (*decode_panel)(const uint8_t* blocks, const int16_t* scales, uint32_t quads, uint32_t planes,
                       uint32_t group_columns, int16_t* panel);

  // y[m * kPanelRows + r] += scale[m] * float(sum over columns of x[m * kPanelColumns + c] * w[r][c]), r < 32; scale[m] rounded
  // and the product rounded before the sum.
  void (*panel_product)(const int16_t* x, uint32_t tokens, const int16_t* panel, uint32_t columns,
                        const float* scale, float* y);

  // Sum of a[i] * b[i] in a fixed order: 16 lanes (i mod 16), products and sums rounded separately, then halves added:
  // 16 -> 8 -> 4 -> 2 -> 1.
  float (*dot)(const float* a, const float* b, size_t n);

  // scores[m * score_stride + 16 n + j] = scale * (sum over d of q[m * q_stride + d] * keys[n][d][j]), d ascending, products
  // and sums rounded separately. keys: `panels` panels of [size][16].
  void (*score_keys)(const float* q, size_t q_stride, uint32_t rows, const void* keys, KvType type, uint32_t size,
                     uint32_t panels, float scale, float* scores, size_t score_stride);

  // out[m * out_stride + d] += weights[m * weight_stride + p] * values[p][d] for p = 0 .. count - 1 in this order, rounded
  // separately. values: [count][size].
  void (*weigh_values)(const float* weights, size_t weight_stride, uint32_t rows, const void* values, KvType type,
                       uint32_t count, uint32_t size, float* out, size_t out_stride);

  // scores[i] = e^(scores[i] - largest score); returns their sum in the order of dot().
  float (*exponentiate)(float* scores, size_t n);

  // gate[i] = activation(gate[i]) * up[i], without the product where `up` is null; formulas: core/float_math.h.
  void (*gate)(Activation activation, float* gate, const float* up, size_t n);

  // x[i] = cap * tanh(x[i] / cap)
  void (*soft_cap)(float* x, size_t n, float cap);

  // y[m * y_stride + j] = sum over k of x[m * x_stride + k] * panel[k * 16 + j], j < 16. The order of the sum is free:
  // dense products are for baselines, calibration and tests.
  void (*dense_tile)(const float* x, size_t x_stride, uint32_t rows, const float* panel, uint32_t k, float* y,
                     size_t y_stride);

  // Half floats to floats, and back, rounded to nearest even.
  void (*widen_half)(const uint16_t* half, float* out, size_t n);
  void (*narrow_half)(const float* in, uint16_t* half, size_t n);
};

extern const Kernels kKernelsPortable;
#if defined(__x86_64__) || defined(_M_X64)
extern const Kernels kKernelsAvx2;
extern const Kernels kKernelsAvx512;
extern const Kernels kKernelsAvx512Vnni;
#elif defined(__aarch64__)
extern const Kernels kKernelsNeon;
extern const Kernels kKernelsNeonDot;
#elif defined(__wasm_simd128__)
extern const Kernels kKernelsSimd128;
#endif

}  // namespace shiftadd
