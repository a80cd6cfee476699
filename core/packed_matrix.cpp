#include "core/packed_matrix.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "core/half.h"

namespace shiftadd {
namespace {

constexpr uint32_t kMaxDimension = 1u << 24;
constexpr int32_t kMaxScaleExponent = 100;   // keeps every term, product and sum inside the float range
constexpr float kMaxScale = 0x1p101f;        // above the largest code, 1.875 * 2^100
constexpr uint32_t kTermBits = 4;            // sign and gap of one later term
constexpr uint32_t kMaxFirst = 15;           // largest value of the 4-bit exponent field

// Mantissa of a code as a multiple of 2^-21 (three gaps of at most 7); the first term is 1.
int32_t mantissa(uint16_t code) {
  int32_t sum = 1 << 21, term = 1 << 21;
  for (int shift = 8; shift >= 0; shift -= kTermBits) {
    const uint32_t field = (code >> shift) & 15;
    if ((field & 7) == 0) break;
    term >>= field & 7;
    sum += field & 8 ? -term : term;
  }
  return sum;
}

// Visits the (block, row, column group) triples of a matrix in storage order; used by packing and unpacking.
template <class Visit>
void for_each_nibble(const PackedShape& shape, Visit visit) {
  for (uint32_t group = 0; group < shape.row_groups(); ++group) {
    const uint32_t first_row = group * shape.group_rows, rows = shape.rows_in(group);
    for (uint32_t k_block = 0; k_block < shape.k_blocks(); ++k_block) {
      size_t offset = shape.block_offset(group, k_block);
      for (uint32_t tile = 0; tile < shape.tiles_in(group); ++tile)
        for (uint32_t quad = 0; quad < shape.quads_in(k_block); ++quad)
          for (uint32_t plane = 0; plane < shape.planes; ++plane, offset += kBlockBytes)
            for (uint32_t j = 0; j < 4; ++j) {
              const uint32_t column = k_block * kKBlockColumns + quad * kQuadColumns + 4 * j;
              for (uint32_t r = 0; r < kTileRows; ++r) {
                const uint32_t row = tile * kTileRows + r;
                if (row < rows && column < shape.columns)
                  visit(first_row + row, column, plane, offset + 16 * j + (r & 15), r < 16 ? 0u : 4u);
              }
            }
    }
  }
}

}  // namespace

uint32_t PackedShape::quads_in(uint32_t k_block) const {
  const uint32_t first = k_block * (kKBlockColumns / kQuadColumns);
  const uint32_t left = quads() - first;
  return left < kKBlockColumns / kQuadColumns ? left : kKBlockColumns / kQuadColumns;
}

uint32_t PackedShape::rows_in(uint32_t row_group) const {
  const uint32_t left = rows - row_group * group_rows;
  return left < group_rows ? left : group_rows;
}

uint32_t PackedShape::tiles_in(uint32_t row_group) const { return (rows_in(row_group) + kTileRows - 1) / kTileRows; }

uint64_t PackedShape::plane_bytes() const {
  const uint64_t full = rows / group_rows, tiles_full = (group_rows + kTileRows - 1) / kTileRows;
  const uint64_t tiles_last = (rows % group_rows + kTileRows - 1) / kTileRows;
  return (full * tiles_full + tiles_last) * quads() * planes * kBlockBytes;
}

size_t PackedShape::block_offset(uint32_t row_group, uint32_t k_block) const {
  const size_t tiles_before = size_t{row_group} * ((group_rows + kTileRows - 1) / kTileRows);
  const size_t quads_before = size_t{k_block} * (kKBlockColumns / kQuadColumns);
  return (tiles_before * quads() + quads_before * tiles_in(row_group)) * planes * kBlockBytes;
}

Status PackedShape::check() const {
  if (rows == 0 || rows > kMaxDimension) return invalid_argument("packed matrix: rows must be 1 to 2^24");
  if (columns == 0 || columns > kMaxDimension) return invalid_argument("packed matrix: columns must be 1 to 2^24");
  if (planes == 0 || planes > kMaxPlanes) return invalid_argument("packed matrix: planes must be 1 to 8");
  if (group_rows == 0 || group_rows > kMaxDimension)
    return invalid_argument("packed matrix: group_rows must be 1 to 2^24");
  if (group_columns != 1 && group_columns != 8)
    return invalid_argument("packed matrix: group_columns must be 8 (block-wise) or 1 (column-wise)");
  if (scale_exponent < -kMaxScaleExponent || scale_exponent > kMaxScaleExponent)
    return invalid_argument("packed matrix: scale_exponent must be -100 to 100");
  // Of an address space of 32 bits.
  if (plane_bytes() > SIZE_MAX / 2 || scale_count() > SIZE_MAX / (2 * sizeof(float)))
    return invalid_argument("packed matrix: it is larger than the memory of this system can be");
  return ok_status();
}

float decode_scale(uint16_t code, int32_t scale_exponent) {
  const int32_t first = code >> 12;
  if (first == 0) return 0.0f;
  return std::ldexp(static_cast<float>(mantissa(code)), scale_exponent + first - static_cast<int32_t>(kMaxFirst) - 21);
}

bool valid_scale(uint16_t code) {
  if (code >> 12 == 0) return code == 0;
  bool ended = false;
  for (int shift = 8; shift >= 0; shift -= kTermBits) {
    const uint32_t field = (code >> shift) & 15;
    if (ended && field != 0) return false;
    if ((field & 7) == 0) {
      if (field != 0) return false;
      ended = true;
    }
  }
  return true;
}

bool valid_float_scale(float scale) { return scale >= 0 && scale <= kMaxScale; }

float PackedMatrix::scale(size_t index) const {
  return float_scales ? float_scales[index] : decode_scale(scales[index], shape.scale_exponent);
}

uint16_t encode_scale(float value, int32_t scale_exponent, uint32_t terms) {
  if (!(value > 0)) return 0;
  // The value in units of the largest first term, as a fraction in double: exact for every float.
  constexpr double kLargest = 1.875;
  const double wanted = std::ldexp(static_cast<double>(value), -scale_exponent);
  const double target = wanted < kLargest ? wanted : kLargest;
  // The first term may lie one power above or below the value; all later choices are greedy. The best of the starting
  // points is kept, and 0 only where it is nearer than both.
  uint16_t best_code = 0;
  double best_error = target;
  const int floor_log = std::ilogb(target);
  for (int first = floor_log; first <= floor_log + 1; ++first) {
    const int field = first + static_cast<int>(kMaxFirst);
    const int clamped = field < 1 ? 1 : field > static_cast<int>(kMaxFirst) ? static_cast<int>(kMaxFirst) : field;
    double term = std::ldexp(1.0, clamped - static_cast<int>(kMaxFirst)), rest = target - term;
    uint16_t code = static_cast<uint16_t>(clamped << 12);
    for (uint32_t k = 1; k < terms; ++k) {
      uint32_t best_gap = 0;
      double best_rest = std::fabs(rest);
      for (uint32_t gap = 1; gap <= 7; ++gap) {
        const double left = std::fabs(std::fabs(rest) - std::ldexp(term, -static_cast<int>(gap)));
        // A term that overshoots by as much as it mends still helps when another term follows.
        if (left < best_rest || (left == best_rest && k + 1 < terms)) best_rest = left, best_gap = gap;
      }
      if (best_gap == 0) break;
      term = std::ldexp(term, -static_cast<int>(best_gap));
      code = static_cast<uint16_t>(code | ((rest < 0 ? 8u : 0u) | best_gap) << (12 - kTermBits * k));
      rest += rest < 0 ? term : -term;
    }
    if (std::fabs(rest) <= best_error) best_error = std::fabs(rest), best_code = code;
  }
  return best_code;
}

int32_t scale_exponent_for(float largest) {
  if (!(largest > 0)) return 0;
  const int exponent = static_cast<int>(std::ceil(std::log2(static_cast<double>(largest))));
  return exponent < -kMaxScaleExponent ? -kMaxScaleExponent : exponent > kMaxScaleExponent ? kMaxScaleExponent : exponent;
}

void pack_planes(const PackedShape& shape, const uint8_t* codes, uint8_t* planes) {
  std::memset(planes, 0, shape.plane_bytes());
  for_each_nibble(shape, [&](uint32_t row, uint32_t column, uint32_t plane, size_t byte, uint32_t shift) {
    const uint8_t* code = codes + size_t{row} * shape.columns + column;
    uint32_t nibble = 0;
    for (uint32_t t = 0; t < 4 && column + t < shape.columns; ++t) nibble |= ((code[t] >> plane) & 1u) << t;
    planes[byte] = static_cast<uint8_t>(planes[byte] | nibble << shift);
  });
}

void unpack_planes(const PackedShape& shape, const uint8_t* planes, uint8_t* codes) {
  std::memset(codes, 0, size_t{shape.rows} * shape.columns);
  for_each_nibble(shape, [&](uint32_t row, uint32_t column, uint32_t plane, size_t byte, uint32_t shift) {
    uint8_t* code = codes + size_t{row} * shape.columns + column;
    const uint32_t nibble = static_cast<uint32_t>(planes[byte]) >> shift;
    for (uint32_t t = 0; t < 4 && column + t < shape.columns; ++t)
      code[t] = static_cast<uint8_t>(code[t] | ((nibble >> t) & 1u) << plane);
  });
}

void unpack_row(const PackedMatrix& matrix, uint32_t row, float* out) {
  const PackedShape& shape = matrix.shape;
  const uint32_t group = row / shape.group_rows, local = row % shape.group_rows;
  const uint32_t tile = local / kTileRows, r = local % kTileRows, shift = r < 16 ? 0 : 4;
  const float row_scale = matrix.row_scales ? half_to_float(matrix.row_scales[row]) : 1.0f;
  const size_t group_scales = size_t{group} * shape.column_groups() * shape.planes;
  for (uint32_t k_block = 0; k_block < shape.k_blocks(); ++k_block) {
    const uint32_t quads = shape.quads_in(k_block);
    const uint8_t* tile_blocks = matrix.planes + shape.block_offset(group, k_block) +
                                 size_t{tile} * quads * shape.planes * kBlockBytes;
    const uint32_t first = k_block * kKBlockColumns;
    for (uint32_t c = first; c < first + kKBlockColumns && c < shape.columns; ++c) {
      const uint32_t quad = (c - first) / kQuadColumns, j = c % kQuadColumns / 4, t = c % 4;
      const size_t scales = group_scales + size_t{c / shape.group_columns} * shape.planes;
      float sum = 0;
      for (uint32_t plane = 0; plane < shape.planes; ++plane) {
        const uint8_t byte = tile_blocks[(size_t{quad} * shape.planes + plane) * kBlockBytes + 16 * j + (r & 15)];
        const float scale = matrix.scale(scales + plane);
        sum += (byte >> shift >> t) & 1 ? scale : -scale;
      }
      out[c] = row_scale * sum;
    }
  }
}

}  // namespace shiftadd
