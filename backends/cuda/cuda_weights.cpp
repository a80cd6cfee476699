#include "backends/cuda/cuda_weights.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

#include "core/half.h"

namespace shiftadd {
namespace {

using namespace shiftadd_cuda;

constexpr uint32_t kRepackThreads = 256;
constexpr size_t kWindowBytes = size_t{4} << 20;  // through which a file's planes go where processor and GPU have one memory
// Warps of one product that fill a large GPU: 16 to 27 on each of 132 multiprocessors (design measurements on an H200).
constexpr uint32_t kWantedWarps = 2048;
constexpr uint32_t kResidentWarps = 24;  // of 80 registers, on a multiprocessor

template <class T>
const T* device_pointer(CudaAddress address) {
  return reinterpret_cast<const T*>(address);
}

}  // namespace

// ---- packed ----

CudaPackedWeights::~CudaPackedWeights() {
  for (CudaAddress address : {planes_, scales_, row_scales_}) device_.release(address);
}

Status CudaPackedWeights::load(const PackedMatrix& matrix) {
  const PackedShape& shape = matrix.shape;
  packed_.rows = shape.rows;
  packed_.columns = shape.columns;
  packed_.plane_count = shape.planes;
  packed_.group_rows = std::min(shape.group_rows, shape.rows);
  packed_.group_columns = shape.group_columns;
  packed_.row_groups = shape.row_groups();
  packed_.tiles_per_group = shape.tiles_in(0);
  packed_.tiles = (shape.row_groups() - 1) * shape.tiles_in(0) + shape.tiles_in(shape.row_groups() - 1);
  packed_.k_blocks = shape.k_blocks();
  SHIFTADD_TRY(load_planes(matrix));
  SHIFTADD_TRY(load_scales(matrix));
  device_.synchronize();
  return device_.failure();
}

// Copies the file's planes to where the GPU reads them, which reorders them.
Status CudaPackedWeights::load_planes(const PackedMatrix& matrix) {
  const PackedShape& shape = matrix.shape;
  const size_t words = size_t{packed_.tiles} * packed_.k_blocks * shape.planes * kUnitWords;
  SHIFTADD_TRY(device_.allocate(words * sizeof(uint32_t), &planes_));
  bytes_ += words * sizeof(uint32_t);
  packed_.planes = device_pointer<unsigned>(planes_);
  if (device_.integrated()) return load_through_window(matrix);
  CudaAddress file = 0;
  SHIFTADD_TRY(device_.allocate(shape.plane_bytes(), &file));
  device_.upload(matrix.planes, file, shape.plane_bytes());
  repack(shape, file, 0, packed_.row_groups);
  device_.synchronize();
  device_.release(file);
  return ok_status();
}

// Where processor and GPU have one memory: some row groups at a time, so that a matrix is never there twice. What the weights become
// is ordinary memory of the GPU: it does not cache what it shares with the processor, and weights of many tokens are read many times.
Status CudaPackedWeights::load_through_window(const PackedMatrix& matrix) {
  const PackedShape& shape = matrix.shape;
  const size_t group_bytes = size_t{packed_.tiles_per_group} * shape.quads() * shape.planes * kBlockBytes;
  const uint32_t at_once = static_cast<uint32_t>(std::clamp<size_t>(kWindowBytes / group_bytes, 1, packed_.row_groups));
  CudaWindow window;
  SHIFTADD_TRY(device_.open_window(at_once * group_bytes, &window));
  for (uint32_t first = 0; first < packed_.row_groups && device_.failure().ok(); first += at_once) {
    const uint32_t groups = std::min(at_once, packed_.row_groups - first);
    const size_t from = first * group_bytes, to = first + groups == packed_.row_groups ? shape.plane_bytes() : from + groups * group_bytes;
    std::memcpy(window.host, matrix.planes + from, to - from);
    repack(shape, window.address, first, groups);
    device_.synchronize();
  }
  device_.close_window(window);
  return device_.failure();
}

void CudaPackedWeights::repack(const PackedShape& shape, CudaAddress file, uint32_t first_group, uint32_t groups) {
  const uint32_t first_row = first_group * packed_.group_rows, first_tile = first_group * packed_.tiles_per_group;
  const bool last = first_group + groups == packed_.row_groups;
  const uint32_t tiles = last ? packed_.tiles - first_tile : groups * packed_.tiles_per_group;
  const size_t tile_words = size_t{packed_.k_blocks} * shape.planes * kUnitWords;
  const Repack repack{device_pointer<unsigned char>(file), reinterpret_cast<unsigned*>(planes_) + first_tile * tile_words,
                      last ? shape.rows - first_row : groups * packed_.group_rows, shape.quads(), shape.planes, packed_.group_rows, groups,
                      packed_.tiles_per_group, tiles, packed_.k_blocks};
  device_.launch(device_.kernel("repack_planes"), {(tiles * tile_words + kRepackThreads - 1) / kRepackThreads}, kRepackThreads, repack);
}

// [row group][column group][plane] becomes [row group][k-block][plane][column group of the k-block].
Status CudaPackedWeights::load_scales(const PackedMatrix& matrix) {
  const PackedShape& shape = matrix.shape;
  const uint32_t per_block = kBlockColumns / shape.group_columns;
  std::vector<float> scales(size_t{packed_.row_groups} * packed_.k_blocks * shape.planes * per_block, 0.0f);
  for (uint32_t row_group = 0; row_group < packed_.row_groups; ++row_group)
    for (uint32_t group = 0; group < shape.column_groups(); ++group)
      for (uint32_t plane = 0; plane < shape.planes; ++plane) {
        const size_t from = (size_t{row_group} * shape.column_groups() + group) * shape.planes + plane;
        const size_t unit = (size_t{row_group} * packed_.k_blocks + group / per_block) * shape.planes + plane;
        scales[unit * per_block + group % per_block] = matrix.scale(from);
      }
  SHIFTADD_TRY(device_.allocate(scales.size() * sizeof(float), &scales_));
  device_.upload(scales.data(), scales_, scales.size() * sizeof(float));
  bytes_ += scales.size() * sizeof(float);
  packed_.scales = device_pointer<float>(scales_);
  if (matrix.row_scales == nullptr) return ok_status();
  std::vector<float> row_scales(shape.rows);
  for (uint32_t r = 0; r < shape.rows; ++r) row_scales[r] = half_to_float(matrix.row_scales[r]);
  SHIFTADD_TRY(device_.allocate(row_scales.size() * sizeof(float), &row_scales_));
  device_.upload(row_scales.data(), row_scales_, row_scales.size() * sizeof(float));
  bytes_ += row_scales.size() * sizeof(float);
  packed_.row_scales = device_pointer<float>(row_scales_);
  return ok_status();
}

ProductPlan plan_product(const Packed& matrix, uint32_t tiles, int multiprocessors) {
  ProductPlan plan;
  while (plan.k_warps < kMaxWarps && plan.k_warps * 2 <= matrix.k_blocks && matrix.tiles * plan.k_warps < kWantedWarps)
    plan.k_warps *= 2;
  const uint32_t count = static_cast<uint32_t>(multiprocessors);
  // Tiles of the fullest multiprocessor; among equal ones the largest block: its warps read the same activations, from the first
  // cache after the first of them.
  const auto fullest = [&](uint32_t tile_warps) { return ((tiles + tile_warps - 1) / tile_warps + count - 1) / count * tile_warps; };
  for (uint32_t tile_warps = 2; tile_warps * plan.k_warps <= kMaxWarps; tile_warps *= 2)
    if (fullest(tile_warps) <= fullest(plan.tile_warps)) plan.tile_warps = tile_warps;
  // More blocks than 80 registers let run at once.
  const uint32_t blocks = (tiles + plan.tile_warps - 1) / plan.tile_warps;
  plan.wide = blocks > count * (kResidentWarps / (plan.tile_warps * plan.k_warps));
  return plan;
}

uint32_t PrefillPlan::tokens() const { return token_warps * (wide ? kWideGroups : kNarrowGroups) * kGroupTokens; }

uint32_t PrefillPlan::blocks(const Packed& matrix) const {
  return matrix.row_groups * ((matrix.tiles_per_group + tiles() - 1) / tiles());
}

// Two units of activations, and the totals of every warp.
uint32_t PrefillPlan::shared_bytes() const {
  const uint32_t totals = tiles() * kTileRows * tokens();
  return (2 * (tokens() / kGroupTokens) * kGroupWords + totals) * sizeof(uint32_t);
}

PrefillPlan plan_prefill(std::span<const Packed* const> matrices, uint32_t tokens, uint32_t multiprocessors) {
  uint32_t group_tiles = 1;
  for (const Packed* matrix : matrices) group_tiles = std::max(group_tiles, matrix->tiles_per_group);
  const auto blocks = [&](const PrefillPlan& plan) {
    size_t rows = 0;
    for (const Packed* matrix : matrices) rows += plan.blocks(*matrix);
    return rows * ((tokens + plan.tokens() - 1) / plan.tokens());
  };
  // The wide one loads and unpacks less for the same work, where its blocks are enough for half the GPU and its tiles exist.
  PrefillPlan wide;
  wide.wide = true;
  wide.token_warps = tokens > wide.tokens() ? 2 : 1;
  wide.tile_warps = std::min((group_tiles + kWideTiles - 1) / kWideTiles, kPrefillWarps / 2);
  if (group_tiles > 1 && 2 * blocks(wide) >= multiprocessors) return wide;
  PrefillPlan narrow;
  narrow.token_warps = tokens > narrow.tokens() ? 2 : 1;
  narrow.tile_warps = std::min(group_tiles, kPrefillWarps / 2);
  // Smaller blocks read the same activations again, but more of the GPU works.
  while (narrow.tile_warps > 1 && 4 * blocks(narrow) < 3 * size_t{multiprocessors}) narrow.tile_warps = (narrow.tile_warps + 1) / 2;
  return narrow;
}

// ---- dense ----

Status CudaDenseWeights::load(const DenseMatrix& matrix) {
  const bool halves = matrix.dtype == DType::f16 || matrix.dtype == DType::bf16;
  const size_t element = halves ? sizeof(uint16_t) : sizeof(float);
  bytes_ = size_t{matrix.rows} * matrix.columns * element;
  SHIFTADD_TRY(device_.allocate(bytes_, &data_));
  dense_ = {device_pointer<void>(data_), matrix.rows, matrix.columns, !halves ? 0u : matrix.dtype == DType::f16 ? 1u : 2u};
  const bool plain = !matrix.transposed && matrix.map.first == 0 && matrix.map.inner == 1 && matrix.map.middle == 1 &&
                     matrix.map.outer_stride == 1;
  if (plain && (halves || matrix.dtype == DType::f32)) {
    device_.upload(matrix.data, data_, bytes_);
  } else {
    // Any other order or format, row by row. Widening and narrowing a half again is exact.
    std::vector<float> line(matrix.columns);
    std::vector<uint16_t> narrow(halves ? matrix.columns : 0);
    for (uint32_t r = 0; r < matrix.rows; ++r) {
      read_row(matrix, r, line.data());
      for (size_t c = 0; c < narrow.size(); ++c)
        narrow[c] = matrix.dtype == DType::f16 ? float_to_half(line[c])
                                               : static_cast<uint16_t>(std::bit_cast<uint32_t>(line[c]) >> 16);
      const void* row = halves ? static_cast<const void*>(narrow.data()) : line.data();
      device_.upload(row, data_ + size_t{r} * matrix.columns * element, matrix.columns * element);
    }
  }
  device_.synchronize();
  return device_.failure();
}

}  // namespace shiftadd
