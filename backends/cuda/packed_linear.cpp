#include "backends/cuda/packed_linear.h"

#include <algorithm>
#include <string>

namespace shiftadd {
namespace {

using namespace shiftadd_cuda;

constexpr uint32_t kTokensAtOnce = 64;  // bounds the memory of rounded activations
constexpr unsigned kPrepareWarps = kThreads / kWarp;  // of a block

const Packed* packed_of(const LinearCall& call) { return static_cast<const CudaWeights*>(call.weights)->packed(); }
size_t units_per_token(const Packed& matrix) { return size_t{matrix.row_groups} * matrix.k_blocks * matrix.plane_count; }

}  // namespace

CudaAddress DeviceScratch::reserve(size_t bytes) {
  if (bytes <= bytes_ && address_ != 0) return address_;
  device_.release(address_);
  address_ = 0;
  const Status status = device_.allocate(bytes, &address_);
  bytes_ = status.ok() ? bytes : 0;
  if (!status.ok()) device_.fail(status);
  return address_;
}

CudaAddress DeviceScratch::reserve_cleared(size_t bytes) {
  if (bytes <= bytes_ && address_ != 0) return address_;
  const CudaAddress address = reserve(bytes);
  device_.clear(address, bytes_);
  return address;
}

PackedLinear::PackedLinear(CudaDevice& device) : device_(device), vectors_(device) {
  prepare_ = device.kernel("prepare_vectors");
  prepare_normalized_ = device.kernel("prepare_normalized");
  prepare_activated_ = device.kernel("prepare_activated");
  dense_ = device.kernel("dense_product");
  for (unsigned planes = 1; planes <= kMaxPlanes; ++planes) {
    const auto product = [&](const char* kind) { return device.kernel(("packed_product_" + std::to_string(planes) + kind).c_str()); };
    products_[planes - 1] = {product("_1"), product("_wide"), product("_4")};
  }
}

void PackedLinear::multiply(std::span<const LinearCall> calls, const PackedInput& input, uint32_t rows, float* residual) {
  LinearCall together[kMaxCalls];
  uint32_t count = 0, tiles = 0;
  const auto plan_of = [&](const Packed& matrix, uint32_t all) { return plan_product(matrix, all, device_.multiprocessors()); };
  const auto flush = [&] {
    if (count > 0)
      multiply_packed({together, count}, plan_of(*packed_of(together[0]), tiles), input, rows, Part::both, residual);
    count = tiles = 0;
  };
  for (const LinearCall& call : calls) {
    const auto& weights = static_cast<const CudaWeights&>(*call.weights);
    if (const Dense* dense = weights.dense()) {
      const Grid grid{(dense->rows + kThreads / kWarp - 1) / (kThreads / kWarp), (rows + kTokens - 1) / kTokens};
      device_.launch(dense_, grid, kThreads, *dense, input.x, rows, call.out.data);
      continue;
    }
    // Products share a launch when they have the same number of planes and of warps per tile.
    const Packed& matrix = *weights.packed();
    if (count > 0) {
      const Packed& first = *packed_of(together[0]);
      if (count == kMaxCalls || first.plane_count != matrix.plane_count ||
          plan_of(first, first.tiles).k_warps != plan_of(matrix, matrix.tiles).k_warps)
        flush();
    }
    together[count++] = call;
    tiles += matrix.tiles;
  }
  flush();
}

void PackedLinear::multiply_part(Part part, const ProductPlan& plan, const LinearCall& call, Buffer x, uint32_t rows) {
  multiply_packed({&call, 1}, plan, {x.data, nullptr, nullptr}, rows, part);
}

void PackedLinear::multiply_packed(std::span<const LinearCall> calls, const ProductPlan& plan, const PackedInput& input,
                                   uint32_t rows, Part part, float* residual) {
  const uint32_t columns = packed_of(calls[0])->columns, planes = packed_of(calls[0])->plane_count;
  size_t units_of_one = 0;
  for (const LinearCall& call : calls) units_of_one += units_per_token(*packed_of(call));
  const uint32_t most = std::min(rows, kTokensAtOnce);
  constexpr size_t kUnitBytes = (kVectorWords + 2) * sizeof(uint32_t);
  const CudaAddress memory = vectors_.reserve(units_of_one * most * kUnitBytes);
  for (uint32_t first = 0; first < rows; first += kTokensAtOnce) {
    PackedCalls launch{};
    launch.count = static_cast<unsigned>(calls.size());
    launch.x = input.x + size_t{first} * columns;
    launch.tokens = std::min(kTokensAtOnce, rows - first);
    launch.tile_warps = plan.tile_warps;
    launch.k_warps = plan.k_warps;
    const size_t units = units_of_one * launch.tokens;
    unsigned blocks = 0;
    for (size_t n = 0; n < calls.size(); ++n) {
      PackedCall& call = launch.call[n];
      call.matrix = *packed_of(calls[n]);
      call.residual = residual == nullptr ? nullptr : residual + size_t{first} * call.matrix.rows;
      call.vectors = reinterpret_cast<unsigned*>(memory) + size_t{launch.units} * kVectorWords;
      call.factors = reinterpret_cast<float*>(memory) + units * kVectorWords + size_t{launch.units} * 2;
      call.out = calls[n].out.data + size_t{first} * call.matrix.rows;
      call.first_block = blocks;
      call.first_unit = launch.units;
      launch.units += static_cast<unsigned>(units_per_token(call.matrix) * launch.tokens);
      blocks += (call.matrix.tiles + plan.tile_warps - 1) / plan.tile_warps;
    }
    const Grid input_grid{(units + kPrepareWarps - 1) / kPrepareWarps};
    if (part != Part::product) {
      if (input.norm != nullptr) {
        device_.launch(prepare_normalized_, input_grid, kThreads, launch, *input.norm);
      } else if (input.activation != nullptr) {
        InputActivation activation = *input.activation;
        if (activation.up != nullptr) activation.up += size_t{first} * columns;
        device_.launch(prepare_activated_, input_grid, kThreads, launch, activation);
      } else {
        device_.launch(prepare_, input_grid, kThreads, launch);
      }
    }
    if (part == Part::input) continue;
    const auto& product = products_[planes - 1];
    const unsigned threads = plan.tile_warps * plan.k_warps * kWarp;
    if (launch.tokens > 1) device_.launch(product.four, {blocks, (launch.tokens + kTokens - 1) / kTokens}, threads, launch);
    else device_.launch(plan.wide ? product.wide : product.one, {blocks}, threads, launch);
  }
}

}  // namespace shiftadd
