#include "backends/cpu/cpu_weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/half.h"

namespace shiftadd {
namespace {

constexpr uint32_t kPanelRows = 16;      // outputs of one dense item: the width of a dense panel
constexpr uint32_t kPackedTokens = 16;   // tokens of one packed item: enough to reuse a row group's blocks from cache
constexpr uint32_t kItemTiles = 16;      // tiles of one packed item: larger row groups are split between threads
constexpr uint32_t kFewTokens = 4;       // below this, building a dense panel costs more than it saves

}  // namespace

// ---- dense ----

size_t CpuDenseWeights::scratch_bytes() const {
  // A panel of 16 rows, one widened row and a tile of outputs for up to 128 tokens are bounded by this.
  return (size_t{matrix_.columns} * (kPanelRows + 1)) * sizeof(float);
}

size_t CpuDenseWeights::items(uint32_t) const { return (matrix_.rows + kPanelRows - 1) / kPanelRows; }

void CpuDenseWeights::read_row(uint32_t row, float* out) const {
  const size_t offset = size_t{row} * matrix_.columns;
  switch (matrix_.dtype) {
    case DType::f32:
      std::memcpy(out, static_cast<const float*>(matrix_.data) + offset, matrix_.columns * sizeof(float));
      return;
    case DType::f16:
      kernels_.widen_half(static_cast<const uint16_t*>(matrix_.data) + offset, out, matrix_.columns);
      return;
    case DType::bf16: {
      const uint16_t* source = static_cast<const uint16_t*>(matrix_.data) + offset;
      for (uint32_t c = 0; c < matrix_.columns; ++c) out[c] = bfloat16_to_float(source[c]);
    }
  }
}

void CpuDenseWeights::multiply_item(size_t item, const float* x, size_t x_stride, uint32_t rows, float* out,
                                    void* scratch) const {
  const uint32_t columns = matrix_.columns, first = static_cast<uint32_t>(item) * kPanelRows;
  const uint32_t outputs = std::min(kPanelRows, matrix_.rows - first);
  float* line = static_cast<float*>(scratch);
  if (rows < kFewTokens) {
    for (uint32_t j = 0; j < outputs; ++j) {
      read_row(first + j, line);
      for (uint32_t m = 0; m < rows; ++m)
        out[size_t{m} * matrix_.rows + first + j] = kernels_.dot(x + m * x_stride, line, columns);
    }
    return;
  }
  float* panel = line + columns;  // [column][16]
  for (uint32_t j = 0; j < kPanelRows; ++j) {
    if (j < outputs) read_row(first + j, line);
    else std::fill(line, line + columns, 0.0f);
    for (uint32_t c = 0; c < columns; ++c) panel[size_t{c} * kPanelRows + j] = line[c];
  }
  if (outputs == kPanelRows) {
    kernels_.dense_tile(x, x_stride, rows, panel, columns, out + first, matrix_.rows);
    return;
  }
  float tile[kPanelRows];
  for (uint32_t m = 0; m < rows; ++m) {
    kernels_.dense_tile(x + m * x_stride, x_stride, 1, panel, columns, tile, kPanelRows);
    std::memcpy(out + size_t{m} * matrix_.rows + first, tile, outputs * sizeof(float));
  }
}

// ---- packed ----

CpuPackedWeights::CpuPackedWeights(const Kernels& kernels, Precision precision, const PackedMatrix& matrix)
    : kernels_(kernels), precision_(precision), matrix_(matrix) {
  const PackedShape& shape = matrix.shape;
  const uint32_t groups = shape.column_groups(), per_k_block = kKBlockColumns / shape.group_columns;
  scales_.assign(size_t{shape.row_groups()} * shape.quads() * (kQuadColumns / shape.group_columns) * shape.planes, 0.0f);
  float* out = scales_.data();
  for (uint32_t row_group = 0; row_group < shape.row_groups(); ++row_group)
    for (uint32_t k_block = 0; k_block < shape.k_blocks(); ++k_block) {
      const uint32_t padded = shape.quads_in(k_block) * kQuadColumns / shape.group_columns;
      for (uint32_t plane = 0; plane < shape.planes; ++plane)
        for (uint32_t g = 0; g < padded; ++g, ++out) {
          const uint32_t group = k_block * per_k_block + g;
          if (group < groups)
            *out = decode_scale(matrix.scales[(size_t{row_group} * groups + group) * shape.planes + plane],
                                shape.scale_exponent);
        }
    }
  if (matrix.row_scales) {
    row_scales_.resize(shape.rows);
    for (uint32_t r = 0; r < shape.rows; ++r) row_scales_[r] = half_to_float(matrix.row_scales[r]);
  }
}

size_t CpuPackedWeights::heap_bytes() const { return (scales_.size() + row_scales_.size()) * sizeof(float); }

size_t CpuPackedWeights::scratch_bytes() const {
  return sizeof(LookupTables) + size_t{kPackedTokens} * kItemTiles * kTileRows * sizeof(float);
}

// Items count [token chunk][row group][part of the row group].
size_t CpuPackedWeights::items(uint32_t rows) const {
  const size_t parts = (matrix_.shape.tiles_in(0) + kItemTiles - 1) / kItemTiles;
  return parts * matrix_.shape.row_groups() * ((rows + kPackedTokens - 1) / kPackedTokens);
}

void CpuPackedWeights::multiply_item(size_t item, const float* x, size_t x_stride, uint32_t rows, float* out,
                                     void* scratch) const {
  const PackedShape& shape = matrix_.shape;
  const size_t parts = (shape.tiles_in(0) + kItemTiles - 1) / kItemTiles;
  const uint32_t first_tile = static_cast<uint32_t>(item % parts) * kItemTiles;
  const uint32_t row_group = static_cast<uint32_t>(item / parts % shape.row_groups());
  const uint32_t first_token = static_cast<uint32_t>(item / parts / shape.row_groups()) * kPackedTokens;
  if (first_tile >= shape.tiles_in(row_group)) return;  // the last row group may have fewer parts
  const uint32_t tokens = std::min(kPackedTokens, rows - first_token);
  const uint32_t tiles = std::min(kItemTiles, shape.tiles_in(row_group) - first_tile), padded_rows = tiles * kTileRows;
  LookupTables* tables = static_cast<LookupTables*>(scratch);
  float* sums = reinterpret_cast<float*>(tables + 1);  // [token][padded row]
  std::fill(sums, sums + size_t{tokens} * padded_rows, 0.0f);

  const uint32_t groups_per_quad = kQuadColumns / shape.group_columns, step = scale_block_quads(shape.planes);
  const float* scales = scales_.data() + size_t{row_group} * shape.quads() * groups_per_quad * shape.planes;
  for (uint32_t k_block = 0; k_block < shape.k_blocks(); ++k_block) {
    const uint32_t quads = shape.quads_in(k_block);
    const size_t tile_stride = size_t{quads} * shape.planes * kBlockBytes, scale_stride = size_t{quads} * groups_per_quad;
    const uint8_t* blocks = matrix_.planes + shape.block_offset(row_group, k_block) + first_tile * tile_stride;
    for (uint32_t quad = 0; quad < quads; quad += step) {
      const uint32_t count = std::min(step, quads - quad);
      for (uint32_t m = 0; m < tokens; ++m) {
        const float* values = x + (first_token + m) * x_stride + size_t{k_block} * kKBlockColumns + quad * kQuadColumns;
        float* y = sums + size_t{m} * padded_rows;
        const float s = kernels_.build_tables(values, scales + quad * groups_per_quad, scale_stride, count, shape.planes,
                                              shape.group_columns, precision_, tables);
        if (std::isnan(s)) std::fill(y, y + padded_rows, s);
        else if (s != 0)
          kernels_.accumulate(blocks + size_t{quad} * shape.planes * kBlockBytes, tile_stride, *tables, count,
                              shape.planes, tiles, precision_, s, y);
      }
    }
    scales += scale_stride * shape.planes;
  }

  const uint32_t skipped = first_tile * kTileRows, first_row = row_group * shape.group_rows + skipped;
  const uint32_t group_rows = std::min(padded_rows, shape.rows_in(row_group) - skipped);
  for (uint32_t m = 0; m < tokens; ++m) {
    const float* y = sums + size_t{m} * padded_rows;
    float* line = out + size_t{first_token + m} * shape.rows + first_row;
    if (row_scales_.empty()) std::memcpy(line, y, group_rows * sizeof(float));
    else
      for (uint32_t r = 0; r < group_rows; ++r) line[r] = row_scales_[first_row + r] * y[r];
  }
}

void CpuPackedWeights::read_row(uint32_t row, float* out) const { unpack_row(matrix_, row, out); }

}  // namespace shiftadd
