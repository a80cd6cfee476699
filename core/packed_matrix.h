// A weight matrix as bit-planes with power-of-two scales: the layout in memory and in the model file, packing,
// unpacking and checking. docs/model-file.md specifies the same bytes.
//
//   W[r, c] = row_scale[r] * sum over planes i of scale[r / group_rows, c / group_columns, i] * sign_i[r, c]
//
// Planes are stored in blocks of 64 bytes = 32 rows x 16 columns x 1 plane, in the order in which a kernel reads them:
//   [row group][k-block of 128 columns][tile of 32 rows][quad of 16 columns][plane][64 bytes]
// Byte 16 j + r of a block (j = 0..3, r = 0..15) holds columns 4 j .. 4 j + 3 of the quad: the low nibble for row r of
// the tile, the high nibble for row r + 16. Bit t of a nibble is 1 where the sign at column 4 j + t is +1.
// Every row group starts a new tile; rows and columns beyond the matrix are padded with zero bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/status.h"

namespace shiftadd {

constexpr uint32_t kTileRows = 32;
constexpr uint32_t kQuadColumns = 16;
constexpr uint32_t kKBlockColumns = 128;
constexpr uint32_t kKBlockQuads = kKBlockColumns / kQuadColumns;
constexpr uint32_t kBlockBytes = 64;
constexpr uint32_t kMaxPlanes = 8;
constexpr uint32_t kMaxScaleTerms = 4;

struct PackedShape {
  uint32_t rows = 0;           // outputs
  uint32_t columns = 0;        // inputs
  uint32_t planes = 0;         // 1 to kMaxPlanes
  uint32_t group_rows = 0;     // rows that share a set of scales; the last group may be smaller
  uint32_t group_columns = 0;  // columns that share a set of scales: 8 (block-wise) or 1 (column-wise)
  int32_t scale_exponent = 0;  // exponent of the largest first term a scale code can express, see decode_scale
  bool has_row_scales = false;

  uint32_t row_groups() const { return (rows + group_rows - 1) / group_rows; }
  uint32_t column_groups() const { return (columns + group_columns - 1) / group_columns; }
  uint32_t k_blocks() const { return (columns + kKBlockColumns - 1) / kKBlockColumns; }
  uint32_t quads() const { return (columns + kQuadColumns - 1) / kQuadColumns; }
  uint32_t quads_in(uint32_t k_block) const;    // quads of one k-block: 8, fewer in the last
  uint32_t rows_in(uint32_t row_group) const;   // rows of one row group, without padding
  uint32_t tiles_in(uint32_t row_group) const;  // tiles of one row group
  uint64_t plane_bytes() const;                 // size of all blocks
  uint64_t scale_count() const { return uint64_t{row_groups()} * column_groups() * planes; }
  // Byte offset of the first block of (row group, k-block); its tiles follow each other.
  size_t block_offset(uint32_t row_group, uint32_t k_block) const;
  // Refuses shapes that are out of range or whose sizes overflow.
  Status check() const;
};

// A view of packed bytes; owns nothing.
struct PackedMatrix {
  PackedShape shape;
  const uint8_t* planes = nullptr;        // shape.plane_bytes() bytes, 64-byte aligned
  const uint16_t* scales = nullptr;       // scale codes [row group][column group][plane], or null with float_scales
  const uint16_t* row_scales = nullptr;   // IEEE half floats [rows], or null
  const float* float_scales = nullptr;    // in the place of codes: valid_float_scale values that codes cannot express

  float scale(size_t index) const;
};

// The same, owning its bytes: what the quantizer makes.
struct PackedWeights {
  PackedShape shape;
  std::vector<uint8_t> planes;
  std::vector<uint16_t> scales;
  std::vector<uint16_t> row_scales;

  PackedMatrix view() const {
    return {shape, planes.data(), scales.data(), row_scales.empty() ? nullptr : row_scales.data()};
  }
};

// A scale is a sum of up to four signed powers of two in 16 bits (most significant first):
//   4 bits e | sign, 3 bits g2 | sign, 3 bits g3 | sign, 3 bits g4
// e = 0: the scale is 0 (all other bits 0). Otherwise the first term is +2^(scale_exponent + e - 15) and term k is
// +-2^-gk times the magnitude of term k - 1; gk = 0 ends the sum (all later bits 0); sign bit 1 means minus.
float decode_scale(uint16_t code, int32_t scale_exponent);

// True when `code` is one that encode_scale can produce: no stray bits behind an ended sum.
bool valid_scale(uint16_t code);

// True for the floats that may stand in the place of scale codes: 0 to 2^101, which no code exceeds either, so that every
// product and sum stays inside the float range.
bool valid_float_scale(float scale);

// The representable scale nearest to `value` (>= 0) with at most `terms` (1 to 4) powers of two. Values below the
// smallest first term become 0 or that term, values above the largest become the largest.
uint16_t encode_scale(float value, int32_t scale_exponent, uint32_t terms);

// The smallest scale_exponent with which `largest` and everything below it can be encoded.
int32_t scale_exponent_for(float largest);

// Packs signs: bit i of codes[r * columns + c] is 1 where the sign of plane i at (r, c) is +1.
// `planes` receives shape.plane_bytes() bytes, padding included.
void pack_planes(const PackedShape& shape, const uint8_t* codes, uint8_t* planes);

// Inverse of pack_planes.
void unpack_planes(const PackedShape& shape, const uint8_t* planes, uint8_t* codes);

// Writes row `row` of the matrix as floats: `out` has shape.columns elements. Used by embedding look-ups.
void unpack_row(const PackedMatrix& matrix, uint32_t row, float* out);

}  // namespace shiftadd
