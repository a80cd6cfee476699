#include "backends/cuda/packed_linear.h"

#include <algorithm>
#include <string>

namespace shiftadd {
namespace {

using namespace shiftadd_cuda;

constexpr uint32_t kTokensAtOnce = 64;  // bounds the memory of rounded activations
constexpr unsigned kPrepareWarps = kThreads / kWarp;  // of a block
// Rounded activations of many tokens: 2 MB for each multiprocessor, so that a launch has blocks for all of them.
constexpr size_t kManyBytes = size_t{2} << 20;

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
  prepare_many_ = device.kernel("prepare_bytes");
  for (const bool wide : {false, true}) {
    prefill_[wide] = device.kernel(wide ? "packed_prefill_wide" : "packed_prefill_narrow");
    PrefillPlan largest;
    largest.wide = wide;
    largest.tile_warps = kPrefillWarps / 2;
    largest.token_warps = 2;
    device.allow_shared_memory(prefill_[wide], largest.shared_bytes());
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
  uint32_t tiles = 0;
  for (const LinearCall& call : calls) tiles += packed_of(call)->tiles;
  const bool plain = input.norm == nullptr && input.activation == nullptr && residual == nullptr;
  if (plain && (many_from_ > 0 ? rows >= many_from_ : is_worth_prefill(rows, tiles)))
    return multiply_many(calls, plan, input.x, rows, part);
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

void PackedLinear::multiply_many(std::span<const LinearCall> calls, const ProductPlan& plan, const float* x, uint32_t rows,
                                 Part part) {
  constexpr size_t kUnitBytes = kGroupWords * sizeof(uint32_t);
  const Packed* matrices[kMaxCalls];
  size_t units = 0;  // of one token group
  for (size_t n = 0; n < calls.size(); ++n) units += units_per_token(*(matrices[n] = packed_of(calls[n])));
  const uint32_t columns = matrices[0]->columns, multiprocessors = static_cast<uint32_t>(device_.multiprocessors());
  const PrefillPlan prefill = plan_prefill({matrices, calls.size()}, rows, multiprocessors);
  const uint32_t block_groups = prefill.tokens() / kGroupTokens;
  // As many whole blocks of tokens at once as the memory holds, but at least one.
  const size_t bound = kManyBytes * multiprocessors;
  const size_t most = std::max<size_t>(bound / (units * kUnitBytes) / block_groups, 1) * block_groups;
  const uint32_t groups = static_cast<uint32_t>(std::min<size_t>(most, (rows + kGroupTokens - 1) / kGroupTokens));
  unsigned* memory = reinterpret_cast<unsigned*>(vectors_.reserve(units * groups * kUnitBytes));
  for (uint32_t first = 0; first < rows; first += groups * kGroupTokens) {
    PackedCalls launch{};
    launch.count = static_cast<unsigned>(calls.size());
    launch.x = x + size_t{first} * columns;
    launch.tokens = std::min(groups * kGroupTokens, rows - first);
    launch.tile_warps = prefill.tile_warps;
    launch.k_warps = plan.k_warps;
    const uint32_t used_groups = (launch.tokens + kGroupTokens - 1) / kGroupTokens;
    unsigned blocks = 0;
    size_t used = 0;
    for (size_t n = 0; n < calls.size(); ++n) {
      PackedCall& call = launch.call[n];
      call.matrix = *matrices[n];
      call.vectors = memory + used;
      call.out = calls[n].out.data + size_t{first} * call.matrix.rows;
      call.first_block = blocks;
      call.first_unit = launch.units;
      launch.units += call.matrix.row_groups * call.matrix.k_blocks * used_groups;
      blocks += prefill.blocks(call.matrix);
      used += units_per_token(call.matrix) * used_groups * kGroupWords;
    }
    if (part != Part::product) device_.launch(prepare_many_, {launch.units}, kGroupTokens * kWarp, launch);
    if (part == Part::input) continue;
    device_.launch_shared(prefill_[prefill.wide], {blocks, (launch.tokens + prefill.tokens() - 1) / prefill.tokens()},
                          prefill.tile_warps * prefill.token_warps * kWarp, prefill.shared_bytes(), launch);
  }
}

}  // namespace shiftadd
