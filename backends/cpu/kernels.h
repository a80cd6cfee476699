// The hot functions of the CPU backend, one table per instruction set. A kernel file includes this header and its
// intrinsics and nothing else; everything above the table is written once.
//
// The packed product is an integer definition, so that every table computes the same bits. For one row group and one
// scale block (128 columns for up to 4 planes, else 64), with t[p][c] = scale[p][group of c] * x[c]:
//
//   exact: A = max over planes and chunks of the sum of |t| over the chunk's 4 columns,  R = kExactRange
//   fast:  A = max over chunks of the sum of |t| over planes and the chunk's 4 columns,  R = kFastRange
//   v[p][c] = round_to_nearest_even(t[p][c] * (R / A)), an integer;  s = A / R
//   y[r] += s * float(sum over p, c of sign[p][r][c] * v[p][c])
//
// Scale blocks are added in ascending order, multiply and add rounded separately. In exact precision one table entry (a
// signed sum of the 4 integers of a chunk) fills 16 bits; in fast precision an entry *summed over planes* fills 14 bits,
// so that bytes can be added over planes before they are widened. |sum| < 2^24: the conversion to float is exact.
#pragma once

#include <cstddef>
#include <cstdint>

namespace shiftadd {

enum class Precision : int32_t { exact = 0, fast = 1 };

// Σ|v| over a chunk is at most R plus half a unit per rounding: 32760 + 2 < 2^15; fast: 7600 + 8 * 4 / 2 leaves the
// plane sum of floor(entry / 64) within a signed byte (-119 - 8 planes of flooring).
constexpr float kExactRange = 32760.0f;
constexpr float kFastRange = 7600.0f;
// Below this A the products of the block are treated as zero; it keeps R / A finite.
constexpr float kTinyRange = 1e-30f;

constexpr uint32_t kMaxQuads = 8;        // quads of 16 columns in a scale block
constexpr uint32_t kMaxTablePlanes = 8;
constexpr uint32_t kTableBytes = 128;    // tables of one (quad, plane): 4 chunks x 16 entries x 2 bytes

// Columns that share one s. Every plane adds its own rounding error, all of them relative to the largest product of the
// block: with more than 4 planes only shorter blocks keep an outlier's block below 0.02 % in exact precision.
constexpr uint32_t scale_block_quads(uint32_t planes) { return planes <= 4 ? 8 : 4; }

// Look-up tables of one (row group, scale block): for each quad and plane 64 low bytes [chunk][entry], then 64 high bytes.
// Entry i is the sum of the chunk's 4 integers, each with sign + where its bit of i is set. exact: entry + 2^15 is
// split into bytes; fast: low = entry & 63, high = entry >> 6, and plane 0 carries + 128 to keep plane sums unsigned.
struct LookupTables {
  alignas(64) uint8_t bytes[kMaxQuads * kMaxTablePlanes * kTableBytes];
};

struct Kernels {
  const char* isa;

  // x: quads * 16 floats, zero beyond the matrix. scales: [plane][column group], planes `scale_stride` floats apart.
  // Returns s; 0 when every product is zero, NaN when one is not finite.
  float (*build_tables)(const float* x, const float* scales, size_t scale_stride, uint32_t quads, uint32_t planes,
                        uint32_t group_columns, Precision precision, LookupTables* tables);

  // blocks: [tile][quad][plane][64 bytes], tiles `tile_stride` bytes apart. Adds s * sum to y[32 * tiles].
  void (*accumulate)(const uint8_t* blocks, size_t tile_stride, const LookupTables& tables, uint32_t quads,
                     uint32_t planes, uint32_t tiles, Precision precision, float s, float* y);

  // Sum of a[i] * b[i] in a fixed order: 16 lanes (i mod 16), products and sums rounded separately, then halves added:
  // 16 -> 8 -> 4 -> 2 -> 1.
  float (*dot)(const float* a, const float* b, size_t n);

  // y[i] += a * x[i], rounded separately.
  void (*axpy)(float a, const float* x, float* y, size_t n);

  // y[m * y_stride + j] = sum over k of x[m * x_stride + k] * panel[k * 16 + j], j < 16. The order of the sum is free:
  // dense products are for baselines, calibration and tests.
  void (*dense_tile)(const float* x, size_t x_stride, uint32_t rows, const float* panel, uint32_t k, float* y,
                     size_t y_stride);

  // Half floats to floats.
  void (*widen_half)(const uint16_t* half, float* out, size_t n);
};

extern const Kernels kKernelsPortable;
#if defined(__x86_64__) || defined(_M_X64)
extern const Kernels kKernelsAvx2;
extern const Kernels kKernelsAvx512;
#endif

}  // namespace shiftadd
