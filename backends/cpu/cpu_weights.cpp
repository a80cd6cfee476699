#include "backends/cpu/cpu_weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/half.h"

namespace shiftadd {
namespace {

constexpr uint32_t kDenseRows = 16;      // outputs of one dense item: the width of a dense panel
constexpr uint32_t kTableTokens = 16;    // tokens of one packed item: enough to reuse a row group's blocks from cache
constexpr uint32_t kMaxPanelTokens = 128;
constexpr uint32_t kItemTiles = 16;      // tiles of one packed item: larger row groups are split between threads
constexpr uint32_t kMaxBlocks = 8;       // scale blocks of a k-block
constexpr size_t kReadAhead = 512;       // bytes between the block that is used and the one that is fetched
constexpr uint32_t kFewTokens = 4;       // below this, building a dense panel costs more than it saves

// Tokens from which on the panel product is faster; a constant keeps results reproducible, see docs/decisions/0004.
constexpr uint32_t panel_tokens(uint32_t planes) { return planes <= 2 ? 48 : 16; }

}  // namespace

// ---- dense ----

size_t CpuDenseWeights::scratch_bytes() const {
  // A panel of 16 rows, one widened row and a tile of outputs for up to 128 tokens are bounded by this.
  return (size_t{matrix_.columns} * (kDenseRows + 1)) * sizeof(float);
}

size_t CpuDenseWeights::items(uint32_t) const { return (matrix_.rows + kDenseRows - 1) / kDenseRows; }

void CpuDenseWeights::read_row(uint32_t row, float* out) const {
  if (matrix_.dtype == DType::f16 && !matrix_.transposed) {  // most checkpoints; the same numbers, faster
    const auto* stored = static_cast<const uint16_t*>(matrix_.data) + matrix_.map.stored(row) * matrix_.columns;
    return kernels_.widen_half(stored, out, matrix_.columns);
  }
  shiftadd::read_row(matrix_, row, out);
}

void CpuDenseWeights::multiply_item(size_t item, const LinearInputView& input, float* out, void* scratch) const {
  const auto& [x, x_stride, rows, prepared] = input;
  const uint32_t columns = matrix_.columns, first = static_cast<uint32_t>(item) * kDenseRows;
  const uint32_t outputs = std::min(kDenseRows, matrix_.rows - first);
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
  for (uint32_t j = 0; j < kDenseRows; ++j) {
    if (j < outputs) read_row(first + j, line);
    else std::fill(line, line + columns, 0.0f);
    for (uint32_t c = 0; c < columns; ++c) panel[size_t{c} * kDenseRows + j] = line[c];
  }
  if (outputs == kDenseRows) {
    kernels_.dense_tile(x, x_stride, rows, panel, columns, out + first, matrix_.rows);
    return;
  }
  float tile[kDenseRows];
  for (uint32_t m = 0; m < rows; ++m) {
    kernels_.dense_tile(x + m * x_stride, x_stride, 1, panel, columns, tile, kDenseRows);
    std::memcpy(out + size_t{m} * matrix_.rows + first, tile, outputs * sizeof(float));
  }
}

// ---- packed ----

CpuPackedWeights::CpuPackedWeights(const Kernels& kernels, Precision precision, const PackedMatrix& matrix)
    : kernels_(kernels), precision_(precision), matrix_(matrix),
      block_quads_(scale_block_quads(matrix.shape.planes, matrix.shape.group_columns)) {
  const PackedShape& shape = matrix.shape;
  const uint32_t groups = shape.column_groups(), planes = shape.planes, per_quad = kQuadColumns / shape.group_columns;
  const bool exact = precision == Precision::exact;
  blocks_ = (shape.quads() + block_quads_ - 1) / block_quads_;
  scales_.assign(size_t{shape.row_groups()} * shape.quads() * planes * per_quad, 0);
  block_scales_.assign(size_t{shape.row_groups()} * blocks_, 0.0f);
  std::vector<float> decoded(size_t{block_quads_} * per_quad * planes);  // [group][plane] of one block
  for (uint32_t row_group = 0; row_group < shape.row_groups(); ++row_group)
    for (uint32_t block = 0; block < blocks_; ++block) {
      const uint32_t first = block * block_quads_ * per_quad, last = std::min(groups, first + block_quads_ * per_quad);
      const size_t scales = (size_t{row_group} * groups + first) * planes;
      float largest = 0;
      for (uint32_t g = 0; g < last - first; ++g) {
        float over_planes = 0;
        for (uint32_t p = 0; p < planes; ++p) {
          const float scale = matrix.scale(scales + g * planes + p);
          decoded[g * planes + p] = scale;
          over_planes = exact ? std::max(over_planes, std::fabs(scale)) : over_planes + std::fabs(scale);
        }
        largest = std::max(largest, over_planes);
      }
      if (largest == 0) continue;
      const float range = exact ? kExactScale : kFastScale;
      block_scales_[size_t{row_group} * blocks_ + block] = largest / range;
      for (uint32_t g = 0; g < last - first; ++g)
        for (uint32_t p = 0; p < planes; ++p) {
          const uint32_t quad = block * block_quads_ + g / per_quad;
          scales_[((size_t{row_group} * shape.quads() + quad) * planes + p) * per_quad + g % per_quad] =
              static_cast<int16_t>(std::lrint(double{decoded[g * planes + p]} * range / largest));
        }
    }
  if (matrix.row_scales) {
    row_scales_.resize(shape.rows);
    for (uint32_t r = 0; r < shape.rows; ++r) row_scales_[r] = half_to_float(matrix.row_scales[r]);
  }
}

size_t CpuPackedWeights::heap_bytes() const {
  return scales_.size() * sizeof(int16_t) + (block_scales_.size() + row_scales_.size()) * sizeof(float);
}

bool CpuPackedWeights::uses_panel(uint32_t rows) const {
  return precision_ == Precision::fast && rows >= panel_tokens(matrix_.shape.planes);
}

bool CpuPackedWeights::needs(uint32_t rows, PackedInputKind* kind) const {
  *kind = {uses_panel(rows), block_quads_};
  return kind->panel || matrix_.shape.group_columns == 8;
}

size_t CpuPackedWeights::scratch_bytes() const {
  const size_t tables = kMaxBlocks * sizeof(LookupTables) + size_t{kTableTokens} * kItemTiles * kTileRows * sizeof(float);
  const size_t panel = size_t{kMaxQuads} * kQuadColumns * kPanelRows * sizeof(int16_t) +
                       size_t{kMaxPanelTokens} * (kPanelRows + 1) * sizeof(float);
  return std::max(tables, panel);
}

// Tables: items count [token chunk][row group][part of the row group]. Panel: [token chunk][row group][tile].
size_t CpuPackedWeights::items(uint32_t rows) const {
  const size_t tiles = matrix_.shape.tiles_in(0), row_groups = matrix_.shape.row_groups();
  if (uses_panel(rows)) return tiles * row_groups * ((rows + kMaxPanelTokens - 1) / kMaxPanelTokens);
  return (tiles + kItemTiles - 1) / kItemTiles * row_groups * ((rows + kTableTokens - 1) / kTableTokens);
}

void CpuPackedWeights::multiply_item(size_t item, const LinearInputView& input, float* out, void* scratch) const {
  if (uses_panel(input.rows)) multiply_panel(item, input, out, scratch);
  else multiply_tables(item, input, out, scratch);
}

const int16_t* CpuPackedWeights::scales_of(uint32_t row_group, uint32_t quad) const {
  const PackedShape& shape = matrix_.shape;
  return scales_.data() +
         (size_t{row_group} * shape.quads() + quad) * shape.planes * (kQuadColumns / shape.group_columns);
}

void CpuPackedWeights::store(const float* sums, uint32_t first_row, uint32_t count, float* line) const {
  if (row_scales_.empty()) std::memcpy(line + first_row, sums, count * sizeof(float));
  else
    for (uint32_t r = 0; r < count; ++r) line[first_row + r] = row_scales_[first_row + r] * sums[r];
}

// Builds the tables of one scale block of one token and returns the scale of their sums; 0 when there is nothing to add.
float CpuPackedWeights::build(const LinearInputView& input, const PackedInput& prepared, uint32_t token, uint32_t row_group,
                              uint32_t quad, uint32_t quads, const uint8_t* ahead, LookupTables* tables) const {
  const uint32_t planes = matrix_.shape.planes, block = quad / block_quads_;
  const float block_scale = block_scales_[size_t{row_group} * blocks_ + block];
  const int16_t* scales = scales_of(row_group, quad);
  if (matrix_.shape.group_columns == 1)
    return block_scale * kernels_.build_column_tables(input.x + token * input.stride + size_t{quad} * kQuadColumns, scales,
                                                      quads, planes, precision_, tables);
  const float s = prepared.scale(token, block) * (block_scale * 32768.0f);
  if (!std::isnan(s) && s != 0)
    kernels_.build_tables(prepared.entries(token, quad), scales, quads, planes, precision_, ahead, tables);
  return s;
}

void CpuPackedWeights::multiply_tables(size_t item, const LinearInputView& input, float* out, void* scratch) const {
  const PackedShape& shape = matrix_.shape;
  const size_t parts = (shape.tiles_in(0) + kItemTiles - 1) / kItemTiles;
  const uint32_t first_tile = static_cast<uint32_t>(item % parts) * kItemTiles;
  const uint32_t row_group = static_cast<uint32_t>(item / parts % shape.row_groups());
  const uint32_t first_token = static_cast<uint32_t>(item / parts / shape.row_groups()) * kTableTokens;
  if (first_tile >= shape.tiles_in(row_group)) return;  // the last row group may have fewer parts
  const uint32_t tokens = std::min(kTableTokens, input.rows - first_token);
  const uint32_t tiles = std::min(kItemTiles, shape.tiles_in(row_group) - first_tile), padded_rows = tiles * kTileRows;
  LookupTables* tables = static_cast<LookupTables*>(scratch);  // one per scale block of a k-block
  float* sums = reinterpret_cast<float*>(tables + kMaxBlocks);  // [token][padded row]
  std::fill(sums, sums + size_t{tokens} * padded_rows, 0.0f);

  PackedInputKind kind;
  needs(input.rows, &kind);
  const PackedInput& prepared = input.prepared[kind.index()];
  const uint32_t group_tiles = shape.tiles_in(row_group);
  const uint8_t* k_blocks = matrix_.planes + shape.block_offset(row_group, 0);
  for (uint32_t first_quad = 0; first_quad < shape.quads(); first_quad += kKBlockQuads) {
    const uint32_t quads = std::min(kKBlockQuads, shape.quads() - first_quad);
    const size_t tile_bytes = size_t{quads} * shape.planes * kBlockBytes;
    const uint8_t* blocks = k_blocks + first_tile * tile_bytes;
    k_blocks += group_tiles * tile_bytes;
    for (uint32_t m = 0; m < tokens; ++m) {
      // The first token reads from memory: a steady stream runs ahead of it, fed by the table build for the first tile.
      // For the others the blocks are in the cache.
      const size_t lead = m == 0 ? kReadAhead : 0;
      float* y = sums + size_t{m} * padded_rows;
      float s[kMaxBlocks];
      for (uint32_t quad = 0, n = 0; quad < quads; quad += block_quads_, ++n)
        s[n] = build(input, prepared, first_token + m, row_group, first_quad + quad, std::min(block_quads_, quads - quad),
                     blocks + lead + size_t{quad} * shape.planes * kBlockBytes, &tables[n]);
      for (uint32_t tile = 0; tile < tiles; ++tile)
        for (uint32_t quad = 0, n = 0; quad < quads; quad += block_quads_, ++n) {
          const uint8_t* from = blocks + tile * tile_bytes + size_t{quad} * shape.planes * kBlockBytes;
          if (s[n] != 0)
            kernels_.accumulate(from, from + (tile == 0 ? 0 : lead), tables[n], std::min(block_quads_, quads - quad),
                                shape.planes, precision_, s[n], y + tile * kTileRows);
        }
    }
  }
  const uint32_t first_row = row_group * shape.group_rows + first_tile * kTileRows;
  const uint32_t count = std::min(padded_rows, shape.rows_in(row_group) - first_tile * kTileRows);
  for (uint32_t m = 0; m < tokens; ++m)
    store(sums + size_t{m} * padded_rows, first_row, count, out + size_t{first_token + m} * shape.rows);
}

void CpuPackedWeights::multiply_panel(size_t item, const LinearInputView& input, float* out, void* scratch) const {
  const PackedShape& shape = matrix_.shape;
  const uint32_t tile = static_cast<uint32_t>(item % shape.tiles_in(0));
  const uint32_t row_group = static_cast<uint32_t>(item / shape.tiles_in(0) % shape.row_groups());
  const uint32_t first_token = static_cast<uint32_t>(item / shape.tiles_in(0) / shape.row_groups()) * kMaxPanelTokens;
  if (tile >= shape.tiles_in(row_group)) return;  // the last row group may have fewer tiles
  const uint32_t tokens = std::min(kMaxPanelTokens, input.rows - first_token);
  int16_t* panel = static_cast<int16_t*>(scratch);
  float* sums = reinterpret_cast<float*>(panel + kMaxQuads * kQuadColumns * kPanelRows);  // [token][row of the tile]
  float* token_scales = sums + kMaxPanelTokens * kPanelRows;
  std::fill(sums, sums + size_t{tokens} * kPanelRows, 0.0f);

  PackedInputKind kind;
  needs(input.rows, &kind);
  const PackedInput& prepared = input.prepared[kind.index()];
  for (uint32_t block = 0; block < blocks_; ++block) {
    const uint32_t quad = block * block_quads_, k_block = quad / kKBlockQuads;
    const uint32_t quads = std::min(block_quads_, shape.quads() - quad), skipped = quad % kKBlockQuads;
    const uint8_t* blocks = matrix_.planes + shape.block_offset(row_group, k_block) +
                            (size_t{tile} * shape.quads_in(k_block) + skipped) * shape.planes * kBlockBytes;
    kernels_.decode_panel(blocks, scales_of(row_group, quad), quads, shape.planes, shape.group_columns, panel);
    const float block_scale = block_scales_[size_t{row_group} * blocks_ + block];
    for (uint32_t m = 0; m < tokens; ++m) token_scales[m] = prepared.scale(first_token + m, block) * block_scale;
    kernels_.panel_product(prepared.rounded(block, first_token), tokens, panel, quads * kQuadColumns, token_scales, sums);
  }
  const uint32_t first_row = row_group * shape.group_rows + tile * kTileRows;
  const uint32_t count = std::min(kTileRows, shape.rows_in(row_group) - tile * kTileRows);
  for (uint32_t m = 0; m < tokens; ++m)
    store(sums + size_t{m} * kPanelRows, first_row, count, out + size_t{first_token + m} * shape.rows);
}

void CpuPackedWeights::read_row(uint32_t row, float* out) const { unpack_row(matrix_, row, out); }

}  // namespace shiftadd
